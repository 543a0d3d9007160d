"""The models of this gateway: what the repository holds, what is loaded, and how it got there, while requests go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import cast

from nearhall.core.errors import NearhallError, Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.core.tensor import Tensor, TensorSpec
from nearhall.gateway.forward import close_body
from nearhall.gateway.lanes import Lane
from nearhall.gateway.repository import Entry, read_entry, scan
from nearhall.gateway.samples import warm_up_samples
from nearhall.gateway.slots import Slots
from nearhall.policy.admit import Estimate
from nearhall.ports.clock import Clock
from nearhall.ports.runtime import ChatAsk, ChatMessage, ChatRuntime, ForwardRequest, ModelFile, TensorRuntime, UpstreamRuntime
from nearhall.wire.telemetry import Event, ModelState

log = logging.getLogger("nearhall.gateway")

Runtime = TensorRuntime | ChatRuntime | UpstreamRuntime
Opener = Callable[[ModelFile], Runtime]
"""Opens the runtime that a file names, blocking, in a thread; raises PermanentError or InputError."""

WARM_UPS = 3
"""The first run allocates, the second settles; the last one is the estimate."""
LOOK_S = 1.0
"""Between looks for an upstream server that is away: it is only asked while nobody else may ask it."""
CHAT_WARM_UP_S_MAX = 120.0
REOPEN_S = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Waits before a broken runtime is opened again; the last one repeats. A broken file must not keep a core busy."""


class State(Enum):
    """Where a model stands; the values are those of `wire.telemetry.ModelState`."""

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


@dataclass(frozen=True, slots=True)
class Chat:
    """A loaded language model."""

    runtime: ChatRuntime
    slots: Slots


@dataclass(frozen=True, slots=True)
class Upstream:
    """Another server behind our admission."""

    runtime: UpstreamRuntime
    slots: Slots


Served = Tensors | Chat | Upstream
UPSTREAM_SLOTS = 64
"""Requests in flight to one upstream server; it queues for itself, we only bound what we hold open."""


class Model:
    """One model and its state. Only `Models` changes it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.state = State.UNLOADED
        self.detail = ""
        self.served: Served | None = None
        self.loaded_s = 0.0
        """When it became ready, seconds since 1970 UTC."""
        self.failures = 0

    @property
    def ready(self) -> bool:
        """Whether it answers now: loaded, and its process or server alive."""
        if self.state is not State.READY or self.served is None:
            return False
        return isinstance(self.served, Tensors) or self.served.runtime.alive

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """As the loaded file says; as documented while it is not loaded."""
        return self.served.inputs if isinstance(self.served, Tensors) else self.entry.inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """The same for outputs."""
        return self.served.outputs if isinstance(self.served, Tensors) else self.entry.outputs


class Models:
    """Loads, unloads and finds models."""

    def __init__(self, folder: Path, opener: Opener, *, queue_length: int, clock: Clock, tell: Callable[[Event], None]) -> None:
        self._folder = folder
        self._opener = opener
        self._queue_length = queue_length
        self._clock = clock
        self._tell = tell
        self._models = {name: Model(entry) for name, entry in scan(folder).items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._small: list[asyncio.Task[None]] = []
        self._busy: dict[str, asyncio.Lock] = {}

    def all(self) -> Sequence[Model]:
        """Every model of the repository, by name."""
        return [self._models[name] for name in sorted(self._models)]

    def find(self, name: str, version: str | None = None) -> Model | None:
        """The model, None if it is not here; raises Refusal(MODEL_UNKNOWN) for a version that is not served."""
        model = self._models.get(name)
        if model is not None and version is not None and version != model.entry.version:
            served = model.entry.version or "none"
            raise Refusal(Reason.MODEL_UNKNOWN, f"version {version[:64]!r} of model {name!r} is not served; served: {served}")
        return model

    def start(self) -> None:
        """Begins to load everything in the background; a runtime's models one after the other, since they share its library."""
        small: dict[str, list[str]] = {}
        for name, model in self._models.items():
            if not model.entry.chat:
                small.setdefault(model.entry.runtime, []).append(name)
        for model in self._models.values():
            model.state = State.LOADING
        self._small = [self._spawn(self._load_in_turn(names)) for names in small.values()]
        for name, model in self._models.items():
            if model.entry.chat:
                self._spawn(self._load_in_turn([name]))

    async def until_settled(self) -> None:
        """Returns once every model but the language models is ready or has failed."""
        if self._small:
            await asyncio.wait(self._small)

    @property
    def settled(self) -> bool:
        """Whether every model but the language models is ready or has failed: what `/v2/health/ready` says."""
        return all(model.entry.chat or model.state is not State.LOADING for model in self._models.values())

    async def load(self, name: str) -> None:
        """Reads the model's folder again and loads it; the old one serves until the new one is ready. Raises Refusal."""
        entry = await asyncio.to_thread(read_entry, self._folder / name) if _plain(name) else None
        if entry is None:
            raise Refusal(Reason.MODEL_UNKNOWN, f"there is no model {name[:64]!r} in the repository")
        model = self._models.setdefault(name, Model(entry))
        await self._load(model, entry)
        if model.state is not State.READY:
            raise Refusal(Reason.BAD_REQUEST, f"model {name!r} did not load: {model.detail}")

    async def unload(self, name: str) -> None:
        """Takes a model out of service; what waits for it is sent to the hub or refused. Raises Refusal(MODEL_UNKNOWN)."""
        model = self._models.get(name)
        if model is None:
            raise Refusal(Reason.MODEL_UNKNOWN, f"there is no model {name[:64]!r} in the repository")
        async with self._lock(name):
            served, model.served = model.served, None
            model.state, model.detail = State.UNLOADED, "unloaded on request"
            await _close(served)

    async def close(self) -> None:
        """Ends loading and frees every runtime."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self._models.values():
            served, model.served = model.served, None
            model.state = State.UNLOADED
            await _close(served)

    def states(self) -> list[ModelState]:
        """For telemetry."""
        return [
            ModelState(
                name=model.entry.name,
                version=model.entry.version,
                variant=model.entry.variant,
                runtime=model.entry.runtime,
                state=(State.LOADING if model.state is State.READY and not model.ready else model.state).value,
                detail=model.detail,
                memory_mib=model.entry.memory_mib,
                p50_ms=model.served.lane.estimate.service_ms if isinstance(model.served, Tensors) else None,
            )
            for model in self.all()
        ]

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _lock(self, name: str) -> asyncio.Lock:
        return self._busy.setdefault(name, asyncio.Lock())

    async def _load_in_turn(self, names: Sequence[str]) -> None:
        for name in names:
            await self._load(self._models[name], self._models[name].entry)

    async def _load(self, model: Model, entry: Entry) -> None:
        name = entry.name
        async with self._lock(name):
            if model.served is None:
                model.state, model.detail = State.LOADING, ""
            try:
                served = await self._open(entry)
            except (NearhallError, OSError, ImportError, TimeoutError) as error:
                model.detail = str(error) or type(error).__name__
                if model.served is None:
                    model.state = State.FAILED
                    self._say("model_failed", f"model {name} does not load: {model.detail}", "error")
                return
            old, model.served = model.served, served
            model.entry, model.state, model.detail, model.loaded_s = entry, State.READY, "", self._clock.utc()
            self._say("model_ready", f"model {name} is ready ({entry.runtime}, variant {entry.variant})", "info")
            await _close(old)

    async def _open(self, entry: Entry) -> Served:
        if entry.file is None:
            raise Refusal(Reason.BAD_REQUEST, entry.fault)
        runtime = await asyncio.to_thread(self._opener, entry.file)
        if entry.file.runtime == "upstream":
            slots = Slots(count=UPSTREAM_SLOTS, limit=self._queue_length, clock=self._clock)
            upstream = cast("UpstreamRuntime", runtime)
            _ignore(self._spawn(_look_for(upstream)))
            return Upstream(upstream, slots)
        if entry.chat:
            return await self._open_chat(cast("ChatRuntime", runtime))
        return await self._open_tensors(entry, cast("TensorRuntime", runtime))

    async def _open_chat(self, runtime: ChatRuntime) -> Chat:
        """Generates once: the first answer after loading takes ten times as long as the second."""
        slots = Slots(count=int(getattr(runtime, "slots", 1)), limit=self._queue_length, clock=self._clock)
        ask = ChatAsk(messages=[ChatMessage(role="user", content="Hello")], max_tokens=4)
        try:
            for _ in range(2):
                begun, first = self._clock.monotonic(), None
                async with asyncio.timeout(CHAT_WARM_UP_S_MAX):
                    async for _ in runtime.generate(ask):
                        first = first if first is not None else (self._clock.monotonic() - begun) * 1e3
                slots.first_token = Estimate(first) if first is not None else slots.first_token
        except BaseException:
            await runtime.close()
            raise
        return Chat(runtime, slots)

    async def _open_tensors(self, entry: Entry, runtime: TensorRuntime) -> Tensors:
        sample, first_ms = await asyncio.to_thread(self._warm_up, runtime, entry)
        model = entry.name
        lane = Lane(
            runtime,
            sample=sample,
            first=Estimate(first_ms),
            limit=self._queue_length,
            clock=self._clock,
            broken=lambda why: _ignore(self._spawn(self._reopen(model, why))),
            name=model,
        )
        return Tensors(lane, runtime.inputs, runtime.outputs)

    def _warm_up(self, runtime: TensorRuntime, entry: Entry) -> tuple[Sequence[Tensor] | None, float]:
        """An input that the model took, and what a settled run with it takes, ms; a model that takes none of ours is let be."""
        for sample in warm_up_samples(runtime.inputs, entry.examples):
            took = 0.0
            try:
                for _ in range(WARM_UPS):
                    begun = self._clock.monotonic()
                    runtime.run(sample, ())
                    took = (self._clock.monotonic() - begun) * 1e3
            except NearhallError as error:
                log.info("warm-up: %s", error)
                continue
            return sample, took
        return None, 0.0

    async def _reopen(self, name: str, why: str) -> None:
        """Opens a broken runtime anew, again and again with growing waits, until it loads or is unloaded."""
        model = self._models[name]
        if model.state is not State.READY:
            return
        served, model.served = model.served, None
        model.state, model.detail = State.LOADING, f"its runtime broke: {why}"
        self._say("model_failed", f"the runtime of model {name} broke and is opened anew: {why}", "error")
        await _close(served)
        for attempt in range(1_000_000):
            await asyncio.sleep(REOPEN_S[min(attempt, len(REOPEN_S) - 1)])
            if self._settled_meanwhile(model):
                return
            await self._load(model, model.entry)

    def _settled_meanwhile(self, model: Model) -> bool:
        """Whether somebody loaded or unloaded the model while its reopening waited."""
        return model.state is State.UNLOADED or model.served is not None

    def _say(self, kind: str, text: str, level: str) -> None:
        log.log(logging.ERROR if level == "error" else logging.INFO, "%s", text)
        self._tell(Event(at_s=self._clock.utc(), kind=kind, text=text, level=level))


async def _look_for(upstream: UpstreamRuntime) -> None:
    """Asks a server that is away every `LOOK_S` whether it is back; any answer at all means yes."""
    ask = ForwardRequest(method="GET", path="/v2/health/live", headers=(), body=b"", timeout_s=LOOK_S)
    while True:
        await asyncio.sleep(LOOK_S)
        if upstream.alive:
            continue
        with suppress(TemporaryError, TimeoutError):
            await close_body((await upstream.forward(ask)).body)


def _ignore(_: object) -> None:
    """The task is kept in `_tasks`; nobody waits for it."""


def _plain(name: str) -> bool:
    """Whether a name from a client is one folder's name and no path."""
    return bool(name) and "/" not in name and "\\" not in name and not name.startswith(".") and "\0" not in name


async def _close(served: Served | None) -> None:
    match served:
        case None:
            return
        case Tensors(lane=lane):
            await asyncio.to_thread(lane.close)
        case Chat(runtime=runtime) | Upstream(runtime=runtime):
            await runtime.close()
