"""A model's variants as this gateway holds them: what each is loaded as, what it costs, and whether it is at work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf

from nearhall.core.evidence import Kind
from nearhall.core.tensor import TensorSpec
from nearhall.gateway.models.placing import MAIN, Charge
from nearhall.gateway.models.repository import VariantEntry
from nearhall.gateway.queues.lanes import Lane
from nearhall.gateway.queues.slots import Slots
from nearhall.gateway.queues.turns import Turns
from nearhall.policy.memory import NoRoom, Resident
from nearhall.policy.variant import Form
from nearhall.ports.runtime import ChatRuntime, UpstreamRuntime
from nearhall.wire.oip import FORMS_KEPT


class State(Enum):
    """Where a variant stands; the values are those of `wire.telemetry.ModelState`."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True)
class Tensors:
    """A loaded tensor model."""

    lane: Lane
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    device: str = "cpu"
    """Where it runs; a runtime that does not say runs on the CPU."""
    fitting: set[object] = field(default_factory=set[object], compare=False)
    """Forms of requests (`InferRequest.form`) that were found to fit the model."""

    def fits(self, form: object) -> None:
        """Notes that requests of this form fit."""
        if len(self.fitting) >= FORMS_KEPT:
            self.fitting.clear()
        self.fitting.add(form)


@dataclass(frozen=True, slots=True)
class Chat:
    """A loaded language model."""

    runtime: ChatRuntime
    slots: Turns


@dataclass(frozen=True, slots=True)
class Upstream:
    """Another server behind our admission."""

    runtime: UpstreamRuntime
    slots: Slots


Served = Tensors | Chat | Upstream


class Variant:
    """One variant and its state. Only `Models` changes it."""

    def __init__(self, entry: VariantEntry, *, pinned: bool = False) -> None:
        self.entry = entry
        self.key = f"{entry.file.model}/{entry.file.variant}"
        """Its name among all variants of all models."""
        self.header = entry.file.variant.encode()
        self.pinned = pinned
        self.quality = 0.0
        """As measured; 1 for a default variant that nobody measured, which is then the reference; 0 for any other."""
        self.state = State.UNLOADED
        self.detail = ""
        self.served: Served | None = None
        self.loaded_s = 0.0
        """When it became ready, seconds since 1970 UTC."""
        self.on_demand = True
        """A request for it may load it; not so once somebody has unloaded it on purpose."""
        self.charge: Charge | None = None
        """What it is charged with since it was loaded, until its memory is free again."""
        self.coming: Charge | None = None
        """The same for what is being loaded, from when room was made for it; the old one may serve meanwhile."""
        self.load_s = entry.load_s
        """What loading took, or is guessed to take."""
        self.loading_until_s = inf
        """When it should be ready; monotonic. Infinite while it is not being loaded."""
        self.opening = False
        """A form of it is being opened, perhaps beside the one that serves."""
        self.leaving = False
        """It has been told to make room: nothing new is sent to it."""
        self.worths: dict[str, float] = {}
        """By the memory that it holds some of."""
        self.used_s = 0.0
        self.stays_until_s = 0.0
        self.passed_since_s = inf
        """Since when requests step down from it because their deadline is too short for it; monotonic."""
        self.refused: NoRoom | None = None
        self.refused_until_s = -inf
        """There was no room for it, and until then nobody looks again."""
        self.waiters = 0
        """Requests that wait for it to be loaded."""
        self.settled = asyncio.Event()
        """Set when a load that somebody waits for has ended, well or not."""
        self.loads = 0
        self.evictions = 0

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.entry.file.variant

    @property
    def elsewhere(self) -> bool:
        """Whether another server answers, which may do what our own runtimes do not."""
        return self.entry.file.runtime == "upstream"

    @property
    def ready(self) -> bool:
        """Whether it answers now: loaded, and its process or server alive."""
        served = self.served
        if served is None or self.state is not State.READY or self.leaving:
            return False
        return isinstance(served, Tensors) or served.runtime.alive

    @property
    def queue(self) -> Lane | Slots | Turns | None:
        """Where requests to it wait; None while it is not loaded."""
        served = self.served
        if served is None:
            return None
        return served.lane if isinstance(served, Tensors) else served.slots

    @property
    def loadable(self) -> bool:
        """Whether a request may have it loaded, or has it loaded now."""
        if self.state is State.LOADING:
            return self.loading_until_s < inf
        return self.state is State.UNLOADED and self.on_demand and not self.entry.fault

    @property
    def charges(self) -> tuple[Charge, ...]:
        """All that it is charged with."""
        return tuple(each for each in (self.charge, self.coming) if each is not None)

    @property
    def places(self) -> set[str]:
        """Whose memory it holds some of."""
        return {place for each in self.charges for place in each.places}

    def mib_in(self, place: str) -> float:
        """What it is charged with of one memory."""
        return sum(each.mib_in(place) for each in self.charges)

    def coming_in(self, place: str) -> float:
        """The part of it that it does not hold yet: of what is being loaded, or opened anew."""
        opened_anew = self.charge if self.state is State.LOADING and self.served is None else None
        waiting = self.coming or opened_anew
        return 0.0 if waiting is None else waiting.mib_in(place)

    @property
    def held_mib(self) -> float:
        """What it is charged with of main memory."""
        return self.mib_in(MAIN)

    @property
    def held_kind(self) -> Kind:
        """Where that figure is from."""
        return self.charges[0].main_kind if self.charges else self.entry.memory_kind

    @property
    def on_device(self) -> Charge:
        """What it is charged with of a device's memory, if it is on one."""
        return next((each for each in self.charges if each.device), Charge())

    @property
    def memory_mib(self) -> float:
        """What it holds, or is expected to hold once it is loaded."""
        return self.held_mib or self.entry.memory_mib

    @property
    def memory_kind(self) -> Kind:
        """Where that figure is from."""
        return self.held_kind if self.held_mib else self.entry.memory_kind

    @property
    def busy(self) -> bool:
        """Whether requests wait for it or run on it, or it is just coming or going."""
        if self.state is State.LOADING or self.opening or self.leaving or self.waiters:
            return True
        queue = self.queue
        return queue is not None and (queue.busy or queue.waiting > 0)

    def form(self, *, ready: bool = False, own_ms: float = inf, expected_ms: float = inf) -> Form:
        """As the policy of variants sees it."""
        return Form(
            id=self.name,
            quality=self.quality,
            joules=self.entry.joules,
            mib=self.entry.memory_mib,
            ready=ready,
            loadable=self.loadable,
            own_ms=own_ms,
            expected_ms=expected_ms,
        )

    def resident(self, place: str) -> Resident:
        """As the policy of memory sees it, in one memory."""
        return Resident(
            id=self.key,
            mib=self.mib_in(place),
            worth=self.worths.get(place, 0.0),
            used_s=self.used_s,
            stays_until_s=self.stays_until_s,
            pinned=self.pinned,
            busy=self.busy,
        )
