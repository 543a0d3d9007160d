"""The data plane's parts, put together once: what every request handler is given, and where a request goes."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.body import Body
from nearhall.gateway.exchange import Exchange
from nearhall.gateway.forward import HubLink
from nearhall.gateway.lanes import Lane
from nearhall.gateway.models import Model, Models, Tensors
from nearhall.gateway.probes import Probes
from nearhall.gateway.settings import Limits
from nearhall.gateway.slots import Slots
from nearhall.gateway.stats import Stats
from nearhall.gateway.workloads import Rules, Workloads
from nearhall.policy.admit import queue_full
from nearhall.policy.route import Ask, Decision, LocalState, Refuse, route
from nearhall.ports.clock import Clock

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
    workloads: Workloads
    models: Models
    stats: Stats
    hub: HubLink | None
    probes: Probes
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
    body: Body
    input_bytes: int = 0
    """Of what the model is given: requests are expected to take as long as others of their size."""

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
        limits = [ms for ms in (self.rules.deadline_ms, self.rules.target_ms) if ms is not None]
        return self.exchange.first_byte_s + min(limits) / 1e3 if limits else inf


@dataclass(slots=True)
class Lost:
    """What this very request has found to be gone, so that it is not tried twice."""

    runtime: bool = False
    hub: bool = False


def queue_of(model: Model) -> Lane | Slots | None:
    """Where requests to a loaded model wait."""
    if model.served is None:
        return None
    return model.served.lane if isinstance(model.served, Tensors) else model.served.slots


def place(call: Call, lost: Lost) -> Decision:
    """Where this request goes now; counted. Raises Refusal with words where it goes nowhere."""
    decision = decide(call, lost)
    queue = None if call.model is None else queue_of(call.model)
    if queue is not None and decision.reason in _BY_ESTIMATE:
        queue.passed_over(call.input_bytes)
    if isinstance(decision, Refuse):
        raise _refused(call, decision)
    if not call.exchange.ask.probe:
        call.plane.stats.decided(call.rules.workload, decision.reason)
    return decision


def decide(call: Call, lost: Lost) -> Decision:
    """Where this request would go now; nothing is counted or noted."""
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


def _local(call: Call, lost: Lost) -> LocalState:
    model = call.model
    if model is None:
        return LocalState(present=False)
    queue = queue_of(model)
    if queue is None or lost.runtime or not model.ready:
        return LocalState(present=True)
    return LocalState(
        present=True,
        ready=True,
        queue_full=queue_full(queue.waiting, queue.limit),
        expected_ms=queue.expected_ms(call.due_s, call.rules.priority, call.input_bytes),
    )


def _refused(call: Call, refuse: Refuse) -> Refusal:
    if not call.exchange.ask.probe:
        call.plane.stats.decided(call.rules.workload, refuse.reason)
    text = _SAYS[refuse.reason].format(model=call.name[:64], residency=call.rules.residency)
    after = refuse.retry_after_ms
    return Refusal(refuse.reason, text, retry_after_ms=None if after is None else max(RETRY_MS_MIN, after))
