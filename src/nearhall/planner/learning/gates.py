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

ENOUGH = "enough pilot sites"
"""Its topic where all figures come from as many."""

P_WITHIN_LIMIT = 0.9
"""A hard limit holds when a new site keeps it with this probability."""
P_BEYOND_LIMIT = 0.5
"""A hard limit fails when a new site is likelier beyond it than within."""
NPV_STOP = 0.2
"""Below this probability of a gain nothing more is measured."""

SamplesOf = Callable[[Mapping[str, Samples]], Samples]
"""Samples of a new site by belief's name, each of shape (samples,) -> a figure of that site, same shape."""
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
    usd_per_request_in_slo: SamplesOf
    """It hangs on how many requests a site turns out to have, as the bill of a line does."""
    network_joules_in_slo: Samples | None = None
    """Part of those joules: what the network between takes, which nobody meters."""
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
    name: str = ""
    """The gate's; the belief's where nothing is said."""
    unit: str = ""
    """Of `most`; the belief's where nothing is said."""
    of: SamplesOf | None = None
    """What must stay within; the belief itself where nothing is said."""
    more: tuple[str, ...] = ()
    """Other beliefs that `of` stands on."""

    @property
    def beliefs(self) -> tuple[str, ...]:
        """All that it stands on."""
        return (self.belief, *self.more)


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
    score: Samples | None = field(default=None, compare=False, repr=False)
    """Samples whose mean is the probability; None for what is counted."""


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
    npv_slopes: Mapping[str, float] = field(default_factory=dict[str, float])
    """By belief that the return hangs on: whether it rises (above 0) or falls with it."""
    cost_beliefs: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """By workload: what the cost of a request hangs on, at the site or by the hub."""

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
    others = (
        *_conflicts(standing),
        _npv(standing),
        *_slo(standing),
        *_per_request(standing),
        *_pue(standing),
        *_limits(standing),
    )
    return (_pilots(standing, others), *others)


def _pilots(standing: Standing, others: Sequence[Gate]) -> Gate:
    """As few as the least measured of what the decision rests on: all that the return or another condition hangs on."""
    named = {name for gate in others if gate.counts for name in gate.beliefs} | standing.npv_slopes.keys()
    decisive = [item for item in standing.learned if item.belief.name in named] or list(standing.learned)
    counts = [real_sites(item) for item in decisive]
    count, needed = min(counts, default=0), standing.thresholds.pilots_min
    wanting = [item for item, sites in zip(decisive, counts, strict=True) if sites == count < needed]
    return Gate(
        name=PILOTS,
        topic=ENOUGH if count == max(counts, default=0) else "each figure from enough pilot sites",
        words=_pilots_words(count, needed, wanting, most=max(counts, default=0)),
        probability=None,
        needed=float(needed),
        needed_words=sites_told(needed),
        holds=count >= needed,
        count=count,
        beliefs=tuple(item.belief.name for item, sites in zip(decisive, counts, strict=True) if sites < needed),
    )


def _pilots_words(count: int, needed: int, wanting: Sequence[Learned], *, most: int) -> str:
    have = "no pilot site" if count == 0 else sites_told(count)
    if not wanting or count == most:
        rehearsed = max((len(item.sites) for item in wanting), default=0) if count == 0 else 0
        more = f", {rehearsed} rehearsed" if rehearsed else ""
        return f"{have} {'count' if count > 1 else 'counts'}{' yet' if count == 0 else ''}: {needed} needed{more}"
    others = len(wanting) - 1
    figures = (
        f"{wanting[0].belief.words}{f' and {others} more figures' if others > 1 else ' and one more figure' if others else ''}"
    )
    return f"{have} {'have' if count > 1 else 'has'} measured {figures}: {needed} needed"


def real_sites(item: Learned) -> int:
    """How many sites it is known from: a rehearsal is no pilot, whatever it showed."""
    return 0 if item.rehearsed else len(item.sites)


BETTER_LOW = {"it_power_w", "it_peak_w", "feed_power_w", "joules_per_request_in_slo", "sent_bytes_per_day", "pue"}
"""Measures of which less is better, where the return does not say it."""


def favourable(standing: Standing, item: Learned) -> bool | None:
    """Whether the pilots lie on the side that speaks for more sites; None where that cannot be told."""
    if item.z is None:
        return None
    slope = standing.npv_slopes.get(item.belief.name)
    if slope is None:
        measure = item.belief.measure.of
        slope = -1.0 if measure in BETTER_LOW else 1.0 if measure == "slo_share" else 0.0
    return None if slope == 0.0 else (slope > 0.0) is (item.z > 0.0)


def _conflicts(standing: Standing) -> list[Gate]:
    """One for each belief that pilots contradict, or one that holds; none while nothing was measured."""
    if not any(item.z is not None for item in standing.learned):
        return []
    needed = f"none of |z| > {CONFLICT_Z:g}"
    found = [
        Gate(
            name="conflict",
            topic=f"{item.belief.words}: pilots and plan agree",
            words=_conflict_words(standing, item),
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


def _conflict_words(standing: Standing, item: Learned) -> str:
    z = item.z or 0.0
    side = "above" if z > 0 else "below"
    speaks = {True: "better than planned", False: "worse than planned", None: "other than planned"}[favourable(standing, item)]
    return (
        f"{item.belief.words}: pilots lie {abs(z):.1f} standard deviations {side} the plan, which is {speaks}; "
        "the plan or a meter is wrong, look which before you build"
    )


def _probable(
    name: str, topic: str, says: str, holds: np.ndarray, needed: float, *, stop_below: float = 0.0, beliefs: tuple[str, ...] = ()
) -> Gate:
    """A gate that holds when what it says is probable enough; `holds` tells of each sample whether it does."""
    probability = _p(holds)
    return Gate(
        name=name,
        topic=topic,
        words=f"{says} with probability {chance(probability)} ({percent(needed)} needed)",
        probability=probability,
        needed=needed,
        needed_words=percent(needed),
        holds=probability >= needed,
        stops=probability < stop_below,
        beliefs=beliefs,
        score=holds.astype(np.float64),
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
        standing.npv > 0,
        needed,
        stop_below=NPV_STOP,
        beliefs=tuple(standing.npv_slopes),
    )


def _slo(standing: Standing) -> list[Gate]:
    needed = standing.thresholds.min_p_slo
    found: list[Gate] = []
    for item in standing.of("slo_share"):
        share = float(item.samples_after.mean())
        keeps, often = f"keeps the SLO of {item.belief.measure.workload}", f"in {100.0 * share:.1f} % of quarters of an hour"
        found.append(
            Gate(
                name=f"slo:{item.belief.measure.workload}",
                topic=keeps,
                words=f"a new site {keeps} {often}, on average ({percent(needed)} needed)",
                probability=share,
                needed=needed,
                needed_words=percent(needed),
                holds=share >= needed,
                beliefs=(item.belief.name,),
                score=item.samples_after,
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
            better = joules.samples_after <= rival.joules_per_request_in_slo
            network = _network_words(rival, joules.samples_after)
            found.append(_against(standing, rival, "joules", better, (joules.belief.name,), more=network))
        if standing.usd_per_request is not None:
            usd = standing.usd_per_request(standing.after, rival.workload)
            better = usd <= rival.usd_per_request_in_slo(standing.after)
            found.append(_against(standing, rival, "cost", better, standing.cost_beliefs.get(rival.workload, ())))
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


def _network_words(rival: Rival, joules: Samples) -> str:
    """How much of the rival's energy is a network's average, and what would be without it: that part is assumed."""
    if rival.network_joules_in_slo is None:
        return ""
    without = rival.joules_per_request_in_slo - rival.network_joules_in_slo
    share = float(np.median(rival.network_joules_in_slo / rival.joules_per_request_in_slo))
    alone = chance(_p(joules <= without))
    return f" (the network's {percent(share)} of that is assumed: against the hub alone it does with {alone})"


def _against(
    standing: Standing, rival: Rival, name: str, better: np.ndarray, beliefs: tuple[str, ...], *, more: str = ""
) -> Gate:
    does = {"joules": "takes no more joules", "cost": "costs no more"}[name]
    return _probable(
        f"{name}:{rival.workload}",
        f"{name} of a {rival.workload} request against the hub",
        f"a request of {rival.workload} in its SLO {does} than by hub and network{more}",
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
            item.samples_after < most,
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
        figure = standing.after[limit.belief] if limit.of is None else limit.of(standing.after)
        keeps = f"stays within {limit.words} ({limit.most:,.4g} {limit.unit or units[limit.belief]})"
        found.append(
            _probable(
                f"limit:{limit.name or limit.belief}",
                keeps,
                f"a new site {keeps}",
                figure <= limit.most,
                P_WITHIN_LIMIT,
                stop_below=1.0 - P_BEYOND_LIMIT,
                beliefs=limit.beliefs,
            )
        )
    return found


def _p(holds: np.ndarray) -> float:
    """The share of samples of which it holds."""
    return float(np.count_nonzero(holds)) / len(holds)
