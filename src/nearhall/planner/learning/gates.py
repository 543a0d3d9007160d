"""The conditions that must hold of a new site before a plan is scaled, each with its probability and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nearhall.planner.learning.beliefs import Learned
from nearhall.planner.learning.told import chance, percent, sites_told
from nearhall.planner.learning.update import CONFLICT_Z
from nearhall.planner.samples.draws import Samples

PILOTS = "pilots"
"""The gate that counts sites; the others tell what the sites say."""

P_WITHIN_LIMIT = 0.9
"""A hard limit holds when a new site keeps it with this probability."""
P_BEYOND_LIMIT = 0.5
"""A hard limit fails when a new site is likelier beyond it than within."""
NPV_STOP = 0.2
"""Below this probability of a gain nothing more is measured."""

CostOf = Callable[[Mapping[str, Samples], str], Samples]
"""(samples by belief's name, workload) -> USD per request in its SLO at a new site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """As the plan's `decision` has them."""

    min_p_npv_positive: float = 0.8
    min_p_slo: float = 0.95
    min_p_pue_below: Mapping[float, float] = field(default_factory=dict[float, float])
    pilots_min: int = 3
    min_p_per_request: float = 0.8
    """That a request in its SLO takes fewer joules, and costs less, than by hub and network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One workload served by the hub over the network; `inf` where that may not be, or keeps no SLO. Shapes (samples,)."""

    workload: str
    joules_per_request_in_slo: Samples
    usd_per_request_in_slo: Samples
    none: str = "the hub may not or cannot answer it"
    """Where the figures are `inf`: why there is nothing to compare with."""

    @property
    def answers(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(np.isfinite(self.joules_per_request_in_slo).any())


@dataclass(frozen=True, slots=True, kw_only=True)
class HardLimit:
    """What no site may exceed, whatever it earns: a breaker, a cooling capacity."""

    belief: str
    """Its name."""
    most: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One condition."""

    name: str
    topic: str
    """The condition in a few words, for a picture's row."""
    words: str
    probability: float | None
    """None for what is counted, not estimated."""
    needed: float | None
    """A probability, or a number of sites; None where neither is meant."""
    needed_words: str
    """With its unit."""
    holds: bool
    stops: bool = False
    """It fails so clearly that measuring more is of no use."""
    count: int | None = None
    """How many there are, of what is counted."""
    counts: bool = True
    """False where there is nothing to compare with: it then speaks neither for nor against."""
    beliefs: tuple[str, ...] = ()
    """What it stands on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """All that gates are judged by."""

    learned: Sequence[Learned]
    npv: Samples
    """Of a new site, after the pilots."""
    usd_per_request: CostOf | None
    rivals: Sequence[Rival]
    limits: Sequence[HardLimit]
    thresholds: Thresholds
    unpriced: Sequence[str] = ()
    """Workloads that only a site can answer, of which the plan does not say what that is worth."""
    rehearsed: frozenset[str] = frozenset()
    """Sites with virtual instruments: they are no pilots, whatever they showed."""

    @property
    def after(self) -> dict[str, Samples]:
        """Samples of a new site by belief's name."""
        return {item.belief.name: item.samples_after for item in self.learned}

    def of(self, measure: str, workload: str | None = None) -> list[Learned]:
        """The beliefs about a measure."""
        return [
            item
            for item in self.learned
            if item.belief.measure.of == measure and (workload is None or item.belief.measure.workload in {workload, None})
        ]


def gates(standing: Standing) -> tuple[Gate, ...]:
    """All gates, in the order in which a person asks."""
    return (
        _pilots(standing),
        *_conflicts(standing),
        _npv(standing),
        *_slo(standing),
        *_per_request(standing),
        *_pue(standing),
        *_limits(standing),
    )


def _pilots(standing: Standing) -> Gate:
    """As few as the least measured of what the decision rests on: requests in time, and their energy."""
    decisive = [*standing.of("slo_share"), *standing.of("joules_per_request_in_slo")] or list(standing.learned)
    least = min(decisive, key=lambda item: len(_real(standing, item)), default=None)
    count, needed = (0 if least is None else len(_real(standing, least))), standing.thresholds.pilots_min
    of = "" if least is None else f" for {least.belief.words}"
    virtual = 0 if least is None else len(least.sites) - count
    return Gate(
        name=PILOTS,
        topic="enough pilot sites",
        words=f"{count} of {needed} pilot sites accepted{of}" + (f"; {virtual} more rehearsed it" if virtual else ""),
        probability=None,
        needed=float(needed),
        needed_words=sites_told(needed),
        holds=count >= needed,
        count=count,
        beliefs=() if least is None else (least.belief.name,),
    )


def _real(standing: Standing, item: Learned) -> list[str]:
    return [site for site in item.sites if site not in standing.rehearsed]


def _conflicts(standing: Standing) -> list[Gate]:
    """One for each belief that pilots contradict, or one that holds; none while nothing was measured."""
    if not any(item.z is not None for item in standing.learned):
        return []
    needed = f"none of |z| > {CONFLICT_Z:g}"
    found = [
        Gate(
            name="conflict",
            topic=f"{item.belief.words}: pilots and plan agree",
            words=f"{item.belief.words}: pilots lie {abs(item.z or 0.0):.1f} standard deviations from the plan; look why",
            probability=None,
            needed=None,
            needed_words=needed,
            holds=False,
            beliefs=(item.belief.name,),
        )
        for item in standing.learned
        if item.conflict
    ]
    within = f"no figure of the pilots lies more than {CONFLICT_Z:g} standard deviations from the plan"
    agree = Gate(
        name="conflict",
        topic="pilots and plan agree",
        words=within,
        probability=None,
        needed=None,
        needed_words=needed,
        holds=True,
    )
    return found or [agree]


def _probable(
    name: str, topic: str, says: str, probability: float, needed: float, *, stops: bool = False, beliefs: tuple[str, ...] = ()
) -> Gate:
    """A gate that holds when what it says is probable enough."""
    return Gate(
        name=name,
        topic=topic,
        words=f"{says} with probability {chance(probability)} ({percent(needed)} needed)",
        probability=probability,
        needed=needed,
        needed_words=percent(needed),
        holds=probability >= needed,
        stops=stops,
        beliefs=beliefs,
    )


def _npv(standing: Standing) -> Gate:
    positive = _p(standing.npv > 0)
    needed = standing.thresholds.min_p_npv_positive
    if standing.unpriced and positive < needed:
        names = ", ".join(standing.unpriced)
        return Gate(
            name="npv",
            topic="pays, if its answers are worth it",
            words=f"what only a site can answer has no worth in the plan ({names}): value_usd_per_year says it",
            probability=None,
            needed=None,
            needed_words="a worth",
            holds=False,
        )
    alone = bool(standing.rivals) and not any(rival.answers for rival in standing.rivals)
    against = "having none (no hub may or can answer)" if alone else "the hub"
    return _probable(
        "npv",
        f"pays against {'having none' if alone else 'the hub'}",
        f"a new site pays against {against}",
        positive,
        needed,
        stops=positive < NPV_STOP,
    )


def _slo(standing: Standing) -> list[Gate]:
    needed = standing.thresholds.min_p_slo
    found: list[Gate] = []
    for item in standing.of("slo_share"):
        share = float(item.samples_after.mean())
        keeps = f"keeps the SLO of {item.belief.measure.workload}"
        found.append(
            Gate(
                name=f"slo:{item.belief.measure.workload}",
                topic=keeps,
                words=f"a new site {keeps} in {100.0 * share:.1f} % of blocks ({percent(needed)} needed)",
                probability=share,
                needed=needed,
                needed_words=percent(needed),
                holds=share >= needed,
                beliefs=(item.belief.name,),
            )
        )
    return found


def _per_request(standing: Standing) -> list[Gate]:
    found: list[Gate] = []
    for rival in standing.rivals:
        if not rival.answers:
            found.append(_no_comparison(rival))
            continue
        joules = next(iter(standing.of("joules_per_request_in_slo", rival.workload)), None)
        if joules is not None:
            better = _p(joules.samples_after <= rival.joules_per_request_in_slo)
            found.append(_against(standing, rival, "joules", better, (joules.belief.name,)))
        if standing.usd_per_request is not None:
            usd = standing.usd_per_request(standing.after, rival.workload)
            better = _p(usd <= rival.usd_per_request_in_slo)
            found.append(_against(standing, rival, "cost", better, ()))
    return found


def _no_comparison(rival: Rival) -> Gate:
    return Gate(
        name=f"hub:{rival.workload}",
        topic=f"{rival.workload} against the hub",
        words=f"no comparison for {rival.workload}: {rival.none}",
        probability=None,
        needed=None,
        needed_words="",
        holds=False,
        counts=False,
    )


def _against(standing: Standing, rival: Rival, name: str, better: float, beliefs: tuple[str, ...]) -> Gate:
    does = {"joules": "takes no more joules", "cost": "costs no more"}[name]
    return _probable(
        f"{name}:{rival.workload}",
        f"{name} of a {rival.workload} request against the hub",
        f"a request of {rival.workload} in its SLO {does} than by hub and network",
        better,
        standing.thresholds.min_p_per_request,
        beliefs=beliefs,
    )


def _pue(standing: Standing) -> list[Gate]:
    return [
        _probable(
            f"pue:{most:g}",
            f"PUE over a year below {most:g}",
            f"a new site's PUE over a year is below {most:g}",
            _p(item.samples_after < most),
            needed,
            beliefs=(item.belief.name,),
        )
        for item in standing.of("pue")
        for most, needed in sorted(standing.thresholds.min_p_pue_below.items())
    ]


def _limits(standing: Standing) -> list[Gate]:
    found: list[Gate] = []
    units = {item.belief.name: item.belief.unit for item in standing.learned}
    for limit in standing.limits:
        within = _p(standing.after[limit.belief] <= limit.most)
        keeps = f"stays within {limit.words} ({limit.most:,.4g} {units[limit.belief]})"
        found.append(
            _probable(
                f"limit:{limit.belief}",
                keeps,
                f"a new site {keeps}",
                within,
                P_WITHIN_LIMIT,
                stops=within < 1.0 - P_BEYOND_LIMIT,
                beliefs=(limit.belief,),
            )
        )
    return found


def _p(holds: np.ndarray) -> float:
    """The share of samples of which it holds."""
    return float(np.count_nonzero(holds)) / len(holds)
