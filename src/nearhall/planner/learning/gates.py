"""The conditions that must hold of a new site before a plan is scaled, each with its probability and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nearhall.planner.learning.beliefs import Learned
from nearhall.planner.samples.draws import Samples

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
    words: str
    probability: float | None
    """None for what is counted, not estimated."""
    needed: float
    holds: bool
    stops: bool = False
    """It fails so clearly that measuring more is of no use."""
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
    least = min(decisive, key=lambda item: len(item.sites), default=None)
    count, needed = (0 if least is None else len(least.sites)), standing.thresholds.pilots_min
    of = "" if least is None else f" for {least.belief.words}"
    return Gate(
        name="pilots",
        words=f"{count} of {needed} pilot sites accepted{of}",
        probability=None,
        needed=float(needed),
        holds=count >= needed,
        beliefs=() if least is None else (least.belief.name,),
    )


def _conflicts(standing: Standing) -> list[Gate]:
    return [
        Gate(
            name="conflict",
            words=f"{item.belief.words}: pilots lie {abs(item.z or 0.0):.1f} standard deviations from the plan; look why",
            probability=None,
            needed=0.0,
            holds=False,
            beliefs=(item.belief.name,),
        )
        for item in standing.learned
        if item.conflict
    ]


def _npv(standing: Standing) -> Gate:
    positive = _p(standing.npv > 0)
    needed = standing.thresholds.min_p_npv_positive
    return Gate(
        name="npv",
        words=f"a new site gains over the hub with probability {positive:.0%}, {needed:.0%} needed",
        probability=positive,
        needed=needed,
        holds=positive >= needed,
        stops=positive < NPV_STOP,
    )


def _slo(standing: Standing) -> list[Gate]:
    needed = standing.thresholds.min_p_slo
    found: list[Gate] = []
    for item in standing.of("slo_share"):
        share = float(item.samples_after.mean())
        found.append(
            Gate(
                name=f"slo:{item.belief.measure.workload}",
                words=f"a new site keeps the SLO of {item.belief.measure.workload} in {share:.1%} of blocks, {needed:.0%} needed",
                probability=share,
                needed=needed,
                holds=share >= needed,
                beliefs=(item.belief.name,),
            )
        )
    return found


def _per_request(standing: Standing) -> list[Gate]:
    found: list[Gate] = []
    for rival in standing.rivals:
        joules = next(iter(standing.of("joules_per_request_in_slo", rival.workload)), None)
        if joules is not None:
            better = _p(joules.samples_after <= rival.joules_per_request_in_slo)
            found.append(_against(standing, rival, "joules", better, (joules.belief.name,)))
        if standing.usd_per_request is not None:
            usd = standing.usd_per_request(standing.after, rival.workload)
            better = _p(usd <= rival.usd_per_request_in_slo)
            found.append(_against(standing, rival, "cost", better, ()))
    return found


def _against(standing: Standing, rival: Rival, name: str, better: float, beliefs: tuple[str, ...]) -> Gate:
    needed = standing.thresholds.min_p_per_request
    does = {"joules": "takes no more joules", "cost": "costs no more"}[name]
    alone = not bool(np.isfinite(rival.joules_per_request_in_slo).any())
    than = "hub and network, which cannot or may not keep the SLO" if alone else "by hub and network"
    return Gate(
        name=f"{name}:{rival.workload}",
        words=f"a request of {rival.workload} in its SLO {does} than {than}, with probability {better:.0%}; {needed:.0%} needed",
        probability=better,
        needed=needed,
        holds=better >= needed,
        beliefs=beliefs,
    )


def _pue(standing: Standing) -> list[Gate]:
    found: list[Gate] = []
    for item in standing.of("pue"):
        for most, needed in sorted(standing.thresholds.min_p_pue_below.items()):
            below = _p(item.samples_after < most)
            found.append(
                Gate(
                    name=f"pue:{most:g}",
                    words=f"a new site's PUE over a year is below {most:g} with probability {below:.0%}, {needed:.0%} needed",
                    probability=below,
                    needed=needed,
                    holds=below >= needed,
                    beliefs=(item.belief.name,),
                )
            )
    return found


def _limits(standing: Standing) -> list[Gate]:
    found: list[Gate] = []
    after = standing.after
    for limit in standing.limits:
        within = _p(after[limit.belief] <= limit.most)
        found.append(
            Gate(
                name=f"limit:{limit.belief}",
                words=f"{limit.words}: a new site stays within {limit.most:g} with probability {within:.0%}",
                probability=within,
                needed=P_WITHIN_LIMIT,
                holds=within >= P_WITHIN_LIMIT,
                stops=within < 1.0 - P_BEYOND_LIMIT,
                beliefs=(limit.belief,),
            )
        )
    return found


def _p(holds: np.ndarray) -> float:
    """The share of samples of which it holds."""
    return float(np.count_nonzero(holds)) / len(holds)
