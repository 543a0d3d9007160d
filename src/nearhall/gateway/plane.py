"""The data plane's parts, put together once: what every request handler is given, and where a request goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.body import Rest
from nearhall.gateway.choose import Choosing, Wanted
from nearhall.gateway.exchange import ClientGoneError, Exchange, Expired, Header
from nearhall.gateway.forward import HubLink
from nearhall.gateway.metering.energy import EnergyBook
from nearhall.gateway.metering.statistics import ModelCounter
from nearhall.gateway.metering.stats import Stats
from nearhall.gateway.models.model import Model
from nearhall.gateway.models.models import Models
from nearhall.gateway.models.variants import Variant
from nearhall.gateway.probes import Probes
from nearhall.gateway.queues.lanes import STRAIN_MAX, Lane
from nearhall.gateway.queues.loop_watch import LoopWatch
from nearhall.gateway.queues.slots import Slots
from nearhall.gateway.queues.turns import Talk, Turns
from nearhall.gateway.settings import Limits
from nearhall.gateway.workloads import Rules, Workloads
from nearhall.policy.admit import beyond_ms, queue_full, way_ms
from nearhall.policy.memory import NoRoom
from nearhall.policy.route import Ask, AwaitModel, Decision, ForwardToHub, LocalState, Refuse, ServeLocal, route
from nearhall.ports.clock import Clock
from nearhall.wire import headers as names
from nearhall.wire.oip_json import Numbers
from nearhall.wire.openai_params import Beyond

TRIES_MAX = 2
"""Variants of its model that one request may be given to."""
RETRY_MS_MIN = 50
"""A client that comes back at once starves the workers: an immediate-retry storm took a trial to a quarter of its limit."""

_BY_ESTIMATE = frozenset({Reason.DEADLINE, Reason.HUB_DEADLINE})
_SAYS: dict[Reason, str] = {
    Reason.MODEL_UNKNOWN: "model {model!r} is not known here; GET /v1/models or POST /v2/repository/index lists what is",
    Reason.MODEL_NOT_READY: "model {model!r} is not ready here (loading, or its runtime is down), and no other place may answer",
    Reason.RESIDENCY: "model {model!r} is not at this site, and the residency {residency} keeps the data from leaving it",
    Reason.HUB_UNREACHABLE: "only the hub could answer for model {model!r}, and it cannot be reached",
    Reason.DEADLINE: "no allowed place can answer for model {model!r} in time",
    Reason.QUEUE_FULL: "the queue of model {model!r} is full",
    Reason.DRAINING: "this gateway is being stopped",
}


@dataclass(slots=True, kw_only=True)
class Plane:
    """Everything a handler may use."""

    node: bytes
    limits: Limits
    clock: Clock
    loop: LoopWatch
    workloads: Workloads
    models: Models
    stats: Stats
    hub: HubLink | None
    probes: Probes
    choosing: Choosing
    energy: EnergyBook
    numbers: Numbers | None = None
    """Reads long arrays of numbers out of JSON; None: they are decoded with the rest of a request."""
    load_report: bool = False
    """Whether `GET /control/load` is answered to everybody."""
    draining: bool = False


@dataclass(slots=True)
class Call:
    """One request to one model, as far as it is understood."""

    plane: Plane
    exchange: Exchange
    rules: Rules
    name: str
    """The model's, as the client wrote it."""
    model: Model | None
    """None: not here."""
    body: Rest
    input_bytes: int = 0
    """Of what the model is given: requests are expected to take as long as others of their size."""
    talk: Talk | None = None
    """What is asked of a language model; None of any other."""
    variant: Variant | None = None
    """Which form of the model answers, if it is answered here; set by `place`."""
    stepped_from: Variant | None = None
    """The better one that it stands in for."""
    stepped_why: str = ""
    why_not: str = ""
    """Why the model is not loaded, in words."""
    waited_s: float = 0.0
    """For the model to be loaded."""
    broke: str = ""
    """How the last runtime broke that was given this request."""
    beyond: Beyond | None = None
    """What only another engine may do of what is asked."""
    foreseen_ms: float = 0.0
    """When its lane would have its answer, by its own reckoning, in milliseconds after the first byte; of one that is due."""

    def variant_headers(self) -> list[Header]:
        """Which variant answers here, and for which better one."""
        if self.variant is None:
            return []
        if self.stepped_from is None:
            return [(names.VARIANT, self.variant.header)]
        return [(names.VARIANT, self.variant.header), (names.STEPPED_DOWN, self.stepped_from.header)]

    def spent_ms(self) -> float:
        """Milliseconds since the request's first byte."""
        return self.exchange.elapsed_ms()

    @property
    def deadline_s(self) -> float | None:
        """The client's own deadline, on the monotonic clock."""
        return None if self.rules.deadline_ms is None else self.exchange.first_byte_s + self.rules.deadline_ms / 1e3

    @property
    def left_ms(self) -> float | None:
        """What is left of it."""
        return None if self.rules.deadline_ms is None else self.rules.deadline_ms - self.spent_ms()

    @property
    def due_s(self) -> float:
        """When the answer is due, on the monotonic clock; infinite without deadline and target."""
        deadline_ms, target_ms = self.rules.deadline_ms, self.rules.target_ms
        if deadline_ms is None and target_ms is None:
            return inf
        limit_ms = min(inf if deadline_ms is None else deadline_ms, inf if target_ms is None else target_ms)
        return self.exchange.first_byte_s + limit_ms / 1e3


@dataclass(slots=True)
class Lost:
    """What this very request has found to be gone, so that it is not tried twice."""

    variants: list[Variant] = field(default_factory=list["Variant"])
    hub: bool = False

    @property
    def here(self) -> bool:
        """Whether it is not tried here again: a request that brings runtimes down is not carried through all of them."""
        return len(self.variants) >= TRIES_MAX


def check_able(model: Model | None, beyond: Beyond | None) -> None:
    """Raises Refusal for what only another engine may do, where none answers for the model. A model that is not here passes."""
    if model is not None and beyond is not None and not model.engines:
        raise beyond.refusal()


def queue_of(model: Model) -> Lane | Slots | Turns | None:
    """Where requests to a loaded model wait: those to the variant that stands for it."""
    return model.front.queue


def counted(call: Call) -> ModelCounter:
    """The counters of the model that is asked for."""
    return call.plane.stats.counter(call.name, "" if call.model is None else call.model.entry.version)


def place(call: Call, lost: Lost) -> Decision:
    """Where this request goes now, and to which variant; counted. Raises Refusal with words where it goes nowhere.

    What it says to wait for is waited for by `loaded`; then it is asked again.
    """
    decision = decide(call, lost)
    if isinstance(decision, Refuse):
        raise refused(call, decision)
    if not isinstance(decision, AwaitModel):
        count(call, decision)
    return decision


def decide(call: Call, lost: Lost) -> Decision:
    """Where this request would go now; nothing is counted. A variant that it needs begins to load."""
    plane, rules = call.plane, call.rules
    if plane.draining:
        return Refuse(Reason.DRAINING, 1000)
    ask = Ask(
        residency=rules.residency,
        deadline_ms=call.left_ms,
        target_ms=None if rules.target_ms is None else rules.target_ms - call.spent_ms(),
    )
    stated = rules.deadline_ms is not None
    hub = plane.hub.state(call.name, deadline_stated=stated, lost=lost.hub) if plane.hub is not None else None
    return route(ask, _local(call, lost), hub)


def count(call: Call, decision: ServeLocal | ForwardToHub) -> None:
    """Notes that the request goes where it was decided."""
    if decision.reason in _BY_ESTIMATE:
        _pass_over(call)
    if isinstance(decision, ServeLocal) and call.variant is not None:
        call.plane.models.memory.touch(call.variant)
    if call.exchange.ask.probe:
        return
    stats, workload = call.plane.stats, call.rules.workload
    variant = call.variant if isinstance(decision, ServeLocal) else None
    stats.decided(workload, decision.reason, None if variant is None else variant.key)
    if variant is not None and call.stepped_from is not None:
        stats.stepped_down(workload, call.stepped_from.key, call.stepped_why)


async def loaded(call: Call, decision: AwaitModel) -> None:
    """Waits for a model that is being loaded; raises Refusal where that takes longer than was thought, ClientGoneError."""
    variant, plane = call.variant, call.plane
    if variant is None:
        return
    begun = plane.clock.monotonic()
    left_ms = call.left_ms
    timeout_s = plane.limits.load_wait_s if left_ms is None else max(0.0, left_ms) / 1e3
    try:
        await plane.models.until_loaded(variant, timeout_s)
    except TimeoutError as error:
        text = f"variant {variant.name} of model {call.name[:64]!r} is still being loaded"
        if left_ms is None:
            raise Refusal(Reason.MODEL_NOT_READY, text, retry_after_ms=round(decision.answers_in_ms)) from error
        raise Expired(Reason.DEADLINE, text, retry_after_ms=None) from error
    finally:
        call.waited_s += plane.clock.monotonic() - begun
    if call.exchange.gone():
        raise ClientGoneError


def _local(call: Call, lost: Lost) -> LocalState:
    model = call.model
    if model is None:
        return LocalState(present=False)
    call.why_not = ""
    variant = _variant(call, model, lost)
    if variant is None:
        if call.beyond is None or not _engines(call):
            call.why_not = f"no variant of it that could be loaded reaches the workload's quality_min, {call.rules.quality_min:g}"
        return LocalState(present=True)
    if variant in lost.variants or lost.here:
        return LocalState(present=True)
    queue = variant.queue
    if queue is None or not variant.ready:
        return _coming(call, model, variant)
    due_s, priority = call.due_s, call.rules.priority
    aside_ms = 0.0
    if isinstance(queue, Turns):
        expected_ms = queue.expected_ms(due_s, priority, call.input_bytes, call.talk)
    else:
        expected_ms = queue.expected_ms(due_s, priority, call.input_bytes)
        if due_s < inf and isinstance(queue, Lane):
            call.foreseen_ms = call.spent_ms() + expected_ms
            aside_ms = _aside_ms(queue, priority, (due_s - call.exchange.first_byte_s) * 1e3)
    return LocalState(
        present=True,
        ready=True,
        queue_full=queue_full(queue.waiting, queue.limit),
        expected_ms=expected_ms + beyond_ms(turn_ms=call.plane.loop.lag_ms, aside_ms=aside_ms, rank=priority),
    )


def _variant(call: Call, model: Model, lost: Lost) -> Variant | None:
    """Which variant is to answer, noted in the call; None where none is good enough for the workload."""
    if model.judged:
        wanted = Wanted(
            rules=call.rules,
            due_s=call.due_s,
            input_bytes=call.input_bytes,
            now_s=call.plane.clock.monotonic(),
            elsewhere=call.beyond is not None,
            lost=lost.variants,
        )
        call.variant, call.stepped_from, call.stepped_why = call.plane.choosing.choose(model, wanted)
    else:
        call.variant = model.default
    if call.variant is None and call.rules.quality_min is None:
        # It has failed, or was unloaded on purpose, and nothing may stand in for it.
        call.variant = model.default if call.beyond is None else next(iter(model.engines), None)
    return call.variant


def _engines(call: Call) -> list[Variant]:
    """The engines that may answer for the workload, ready or not."""
    floor = call.rules.quality_min or 0.0
    return [] if call.model is None else [each for each in call.model.engines if each.quality >= floor]


def _aside_ms(lane: Lane, rank: int, limit_ms: float) -> float:
    """What the lane's reckoning missed of late, and the room that is left to the first rank."""
    return lane.missed_ms() + way_ms(lane.strain(), limit_ms) if rank else 0.0


def _coming(call: Call, model: Model, variant: Variant) -> LocalState:
    """A variant that is not loaded: it is loaded now, if it may be and there is room for it."""
    loads_in_ms = call.plane.models.want(model, variant)
    if loads_in_ms is None:
        call.why_not = variant.detail
        return LocalState(present=True)
    if isinstance(loads_in_ms, NoRoom):
        call.why_not = loads_in_ms.why
        retry_s = loads_in_ms.retry_s
        return LocalState(present=True, retry_after_ms=None if retry_s is None else round(retry_s * 1e3))
    return LocalState(
        present=True,
        answers_in_ms=loads_in_ms + variant.entry.latency_ms,
        wait_ms_max=call.plane.limits.load_wait_s * 1e3,
    )


def _pass_over(call: Call) -> None:
    """The estimate sent the request elsewhere, or nowhere: it ages until it is put to the test."""
    queue = None if call.variant is None else call.variant.queue
    if queue is not None:
        queue.passed_over(call.input_bytes)


def refused(call: Call, refuse: Refuse) -> Refusal:
    """The refusal in words, counted."""
    if refuse.reason in _BY_ESTIMATE:
        _pass_over(call)
        if not call.rules.priority and call.variant is not None and isinstance(call.variant.queue, Lane):
            call.variant.queue.strained(STRAIN_MAX)
    if not call.exchange.ask.probe:
        call.plane.stats.decided(call.rules.workload, refuse.reason)
    text = _SAYS[refuse.reason].format(model=call.name[:64], residency=call.rules.residency)
    own = call.model is not None and any(not each.elsewhere for each in call.model.variants.values())
    if refuse.reason is Reason.MODEL_NOT_READY and call.beyond is not None and own and not call.why_not:
        engines = ", ".join(each.name for each in _engines(call))
        text = (
            f"model {call.name[:64]!r} cannot answer this now: only another engine could (variant {engines}), and none of "
            f"those is ready; of its own runtime: {call.beyond.message}"
        )
    elif refuse.reason is Reason.MODEL_NOT_READY and call.broke:
        text = f"model {call.name[:64]!r} broke off under this request, and no other place may answer: {call.broke}"
    elif refuse.reason is Reason.MODEL_NOT_READY and call.why_not:
        text = f"model {call.name[:64]!r} is not loaded here, and no other place may answer: {call.why_not}"
    after = refuse.retry_after_ms
    return Refusal(refuse.reason, text, retry_after_ms=None if after is None else max(RETRY_MS_MIN, after))
