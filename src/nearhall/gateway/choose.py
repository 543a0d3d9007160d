"""Which variant of a model answers a request here: what the policy is asked, what it says, and what is told of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from math import inf

from nearhall.gateway.cap import PowerCap
from nearhall.gateway.metering.stats import Stats
from nearhall.gateway.models.model import Model
from nearhall.gateway.models.models import Models
from nearhall.gateway.models.variants import State, Variant
from nearhall.gateway.queues.lanes import Lane
from nearhall.gateway.queues.slots import Slots
from nearhall.gateway.queues.turns import Turns
from nearhall.gateway.workloads import Rules, Workloads
from nearhall.policy.admit import queue_full
from nearhall.policy.route import MARGIN_MS
from nearhall.policy.variant import Form, Held, Pick, pick_variant, steps_of

RETEST_S = 30.0
"""A variant that requests step down from because it takes too long is tried again after this: what it once took may have been a
bad moment, and one late answer in half a minute is what finding out may cost."""
HELD_MAX = 1024
"""Pairs of workload and model whose stay below is remembered: workloads and models are bounded, and names are not for clients."""

_NEW = Held()


@dataclass(slots=True, kw_only=True)
class Wanted:
    """A request, as far as the choice depends on it. Times are on the monotonic clock, in seconds."""

    rules: Rules
    due_s: float
    input_bytes: int
    now_s: float
    elsewhere: bool = False
    """It asks for what only another engine may do."""
    lost: Collection[Variant] = ()
    """What it has found to be gone already."""

    @property
    def plain(self) -> bool:
        """Whether every variant of the model may answer it."""
        return not self.elsewhere and not self.lost


@dataclass(slots=True)
class Choosing:
    """Chooses, and remembers which workloads are kept stepped down."""

    models: Models
    stats: Stats
    cap: PowerCap
    _held: dict[tuple[str, str], Held] = field(default_factory=dict[tuple[str, str], Held])

    def step_down(self, now_s: float) -> float:
        """The power cap in force, 0 to 1."""
        return self.cap.step_down(now_s)

    def choose(self, model: Model, wanted: Wanted) -> tuple[Variant | None, Variant | None, str]:
        """The variant that answers, the better one that it stands in for, and why.

        Where none that is loaded is good enough: the one that has to be loaded first; None where there is no such one either.
        """
        allowed_ms = (wanted.due_s - wanted.now_s) * 1e3
        allowed_ms -= MARGIN_MS if allowed_ms > 2 * MARGIN_MS else 0.0
        key = (wanted.rules.workload, model.entry.name)
        held = self._held.get(key, _NEW)
        floor = model.default.quality if wanted.rules.quality_min is None else wanted.rules.quality_min
        step_down = self.step_down(wanted.now_s)
        if not wanted.plain:
            return self._among_some(model, wanted, allowed_ms, floor, step_down)
        if step_down == 0 and not held.down and (usual := _usual_in_time(model, floor, allowed_ms, wanted)) is not None:
            return usual, None, ""
        pick = pick_variant(
            [_form(each, wanted) for each in model.ranked],
            default=model.default.name,
            allowed_ms=allowed_ms,
            quality_min=floor,
            step_down=step_down,
            held=held,
            now_s=wanted.now_s,
        )
        if pick.held is not held:
            self._keep(key, held, pick)
        return self._taken(model, pick, wanted, floor)

    def _among_some(
        self, model: Model, wanted: Wanted, allowed_ms: float, floor: float, step_down: float
    ) -> tuple[Variant | None, Variant | None, str]:
        """The same where not every variant may answer: what such a request finds says nothing of the workload's others.

        What only engines do is asked of the engines alone. They stand in for nobody then, so that of the floors of quality only
        the one that a workload states holds.
        """
        some = [each for each in model.ranked if each.elsewhere or not wanted.elsewhere]
        if not some:
            return None, None, ""
        default = model.default if model.default in some else next(v for v in model.variants.values() if v in some)
        floor = 0.0 if wanted.elsewhere and wanted.rules.quality_min is None else floor
        pick = pick_variant(
            [_form(each, wanted) for each in some],
            default=default.name,
            allowed_ms=allowed_ms,
            quality_min=floor,
            step_down=step_down,
            held=_NEW,
            now_s=wanted.now_s,
        )
        return self._taken(model, pick, wanted, floor)

    def _taken(self, model: Model, pick: Pick, wanted: Wanted, floor: float) -> tuple[Variant | None, Variant | None, str]:
        first = None if pick.wanted is None else model.variants[pick.wanted.id]
        if first is not None and pick.chosen is not None:
            self.models.want(model, first)
        if pick.chosen is None:
            return first or _standby(model, wanted, floor), None, ""
        chosen = model.variants[pick.chosen.id]
        lost = None if pick.stepped_from is None else model.variants[pick.stepped_from.id]
        if lost is not None and pick.why == "deadline":
            _retest(lost, wanted)
        chosen.passed_since_s = inf
        return chosen, lost, pick.why

    def _keep(self, key: tuple[str, str], before: Held, pick: Pick) -> None:
        """Remembers the policy's state, and says when a workload steps down and comes back."""
        if key in self._held or len(self._held) < HELD_MAX:
            self._held[key] = pick.held
        if pick.held.down == before.down or pick.chosen is None:
            return
        workload, model = key
        if pick.held.down and pick.stepped_from is not None:
            text = f"workload {workload} steps down from {pick.stepped_from.id} to {pick.chosen.id} of {model}: overload"
            self.models.say("stepped_down", text, "warning")
        elif not pick.held.down:
            self.models.say("stepped_up", f"workload {workload} is back at {pick.chosen.id} of {model}")


def steps(models: Models, workloads: Workloads) -> list[float]:
    """The values of the power cap's `step_down` at which another variant begins to answer some workload."""
    found: set[float] = set()
    for model in models.all():
        if model.judged:
            forms = [variant.form(ready=variant.ready) for variant in model.ranked]
            for floor in workloads.floors(model.entry.name):
                least = model.default.quality if floor is None else floor
                found |= steps_of(forms, default=model.default.name, quality_min=least)
    return sorted(found)


def _usual_in_time(model: Model, floor: float, allowed_ms: float, wanted: Wanted) -> Variant | None:
    """What `pick_variant` says of nearly every request, without asking about the variants that do not matter then."""
    for each in model.ranked:
        if each.quality >= floor and (each.ready or each is model.default):
            queue = each.queue
            if queue is None or not each.ready or _expected_ms(queue, wanted) > allowed_ms:
                return None
            each.passed_since_s = inf
            return each
    return None


def _standby(model: Model, wanted: Wanted, floor: float) -> Variant | None:
    """What is worth loading while the default variant is an engine that is away: loading that again would not bring it back."""
    if not model.default.elsewhere or model.default.state is not State.READY:
        return None
    some = (each for each in model.ranked if each.quality >= floor and (each.elsewhere or not wanted.elsewhere))
    return next((each for each in some if each.loadable and each not in wanted.lost), None)


def _retest(lost: Variant, wanted: Wanted) -> None:
    lost.passed_since_s = min(lost.passed_since_s, wanted.now_s)
    if wanted.now_s - lost.passed_since_s > RETEST_S and lost.queue is not None:
        lost.queue.passed_over(wanted.input_bytes)


def _form(variant: Variant, wanted: Wanted) -> Form:
    if variant in wanted.lost:
        return replace(variant.form(), loadable=False)
    queue = variant.queue
    if queue is None or not variant.ready:
        took_ms = variant.entry.latency_ms  # 0 where nobody measured it: loading it is how to find out
        return variant.form(own_ms=took_ms, expected_ms=took_ms)
    return variant.form(ready=True, own_ms=queue.own_ms(wanted.input_bytes), expected_ms=_expected_ms(queue, wanted))


def _expected_ms(queue: Lane | Slots | Turns, wanted: Wanted) -> float:
    if queue_full(queue.waiting, queue.limit):
        return inf
    return queue.expected_ms(wanted.due_s, wanted.rules.priority, wanted.input_bytes)
