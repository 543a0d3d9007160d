"""What a fleet built in phases is worth: a pilot of a handful, then waves, with the right to stop after the pilot.

Each site is worth its own horizon from the day it is built, discounted to today. All sites share the draws: what is uncertain is
taken to be wrong at all of them alike, so the pilot tells something of the rest and size alone does not make a fleet safe.

After the pilot each kind of site is judged as `decide` judges it: the rest of it is built where by then it pays as surely as the
plan asks, and else nothing more of it is bought.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from nearhall.core.errors import InputError
from nearhall.planner.money.cashflow import Convention, Flows, discount_factors, npv_usd
from nearhall.planner.samples.draws import Samples

TOLD = 0.7
"""How well a pilot's result follows the truth of the rest, as a correlation (assumed; `decide` computes it from measurements)."""
GROUPS = 20
"""The result is read in so many steps: finer ones would learn from the draws' noise."""
SURE = 0.8
"""As `decision.min_p_npv_positive` has it where a plan says nothing."""
LEARNING_TOP = 0.5
PARTS_A_YEAR = 4
"""Money in steps is told for each quarter of a year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Sites that are built together."""

    name: str
    start_year: float
    sites: Mapping[str, int]
    """How many of each kind."""
    waits: bool = False
    """A pilot of kinds that are built only if what is asked before turns out well."""

    @property
    def count(self) -> int:
        """How many together."""
        return sum(self.sites.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseValue:
    """What a phase is worth today."""

    phase: Phase
    npv_usd: Samples
    """Of all its sites."""
    by_kind_usd: Mapping[str, Samples]
    """Of those of each kind."""
    capex_factor: float
    """What a site of it costs to build over one of the pilot."""
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutValue:
    """What the whole is worth today, shape (samples,) each."""

    phases: tuple[PhaseValue, ...]
    all_usd: Samples
    """Everything is built, whatever the pilot says."""
    with_option_usd: Samples
    """The rest of a kind is built only where its pilot has made it sure enough."""
    goes_on: Mapping[str, NDArray[np.bool_]]
    """By kind: in which cases the rest of it is built, shape (samples,)."""
    by_kind_usd: Mapping[str, Samples]
    """`with_option_usd` of each kind."""

    @property
    def p_stop(self) -> float:
        """How likely nothing more is built after the pilot; 0 where there is nothing more."""
        more: NDArray[np.bool_] = np.logical_or.reduce(list(self.goes_on.values()))
        return float(np.mean(~more)) if len(self.phases) > 1 else 0.0

    @property
    def over_all_usd(self) -> float:
        """What building in steps adds to the mean over building all; negative where being sure costs more than it saves."""
        return float(self.with_option_usd.mean() - self.all_usd.mean())


def phases_of(
    *, sites: Mapping[str, int], pilot_sites: int, pilot_years: float, waves: Sequence[float], waiting: Collection[str] = ()
) -> tuple[Phase, ...]:
    """A pilot now, then waves a year apart, each a share of the remaining sites; waves without a whole site fall out.

    `sites` counts each kind. Every kind has a site in the pilot while it is large enough for that; beyond that kinds take part
    by their number. Kinds that are `waiting` for an answer have a pilot of their own, as large.
    """
    left = dict(sites)
    phases: list[Phase] = []
    for waits in (False, True):
        kinds = {kind: n if (kind in waiting) is waits else 0 for kind, n in sites.items()}
        pilot = _drawn(kinds, min(pilot_sites, sum(kinds.values())), least=1)
        if any(pilot.values()):
            name = "pilot, if the answers are good" if waits else "pilot"
            phases.append(Phase(name=name, start_year=0.0, sites=pilot, waits=waits))
        left = {kind: n - pilot[kind] for kind, n in left.items()}
    rest = sum(left.values())
    ends = [round(rest * share) for share in np.cumsum([0.0, *waves]).tolist()]
    for index in range(len(waves)):
        wave = _drawn(left, ends[index + 1] - ends[index])
        left = {kind: n - wave[kind] for kind, n in left.items()}
        if any(wave.values()):
            phases.append(Phase(name=f"wave {index + 1}", start_year=pilot_years + index, sites=wave))
    return tuple(phases)


def _drawn(left: Mapping[str, int], number: int, *, least: int = 0) -> dict[str, int]:
    """So many of what is left, by largest remainders; each kind `least` times first, the most numerous ones before others."""
    taken = dict.fromkeys(left, 0)
    for kind in sorted(left, key=lambda k: -left[k]):
        taken[kind] = min(least, left[kind], number - sum(taken.values()))
    over = number - sum(taken.values())
    room = {kind: left[kind] - taken[kind] for kind in left}
    whole = sum(room.values()) or 1
    shares = {kind: over * n / whole for kind, n in room.items()}
    for kind, share in shares.items():
        taken[kind] += int(share)
    for kind in sorted(shares, key=lambda k: int(shares[k]) - shares[k])[: number - sum(taken.values())]:
        taken[kind] += 1
    return taken


def learned_factor(*, before: int, sites: int, reference: int, learning: float) -> float:
    """What a site costs to build, over one of the first `reference` sites, when `before` are built and `sites` follow.

    Wright's law (1936): each doubling of the number built takes `learning` off the cost; the mean over the phase's sites.
    """
    if not 0.0 <= learning < LEARNING_TOP:
        raise InputError(f"learning of {learning:g}", where="rollout", right="a share from 0 to 0.5 for each doubling")
    power = log2(1.0 - learning)
    built = np.arange(before + 1, before + sites + 1, dtype=np.float64)
    return float(np.mean((np.maximum(built, reference) / reference) ** power))


def value_rollout(
    phases: Sequence[Phase],
    gains: Mapping[str, Flows],
    *,
    rate: float,
    noise: Mapping[str, Samples],
    convention: Convention = "mid",
    learning: float = 0.0,
    told: float = TOLD,
    sure: float = SURE,
) -> RolloutValue:
    """What the phases are worth.

    `gains`: by kind a site's gain over the hub, shape (samples, years + 1), column 0 what building it takes; `noise`, by kind,
    are standard normals of streams of their own, shape (samples,): by how much the pilot's result misleads. The rest of a kind is
    built where it pays with probability `sure` by what is known then.
    """
    if not phases or phases[0].count < 1:
        raise InputError("no pilot", where="rollout", right="a first phase of at least one site")
    if not 0.0 <= told <= 1.0:
        raise InputError(f"a pilot that tells {told:g}", where="rollout", right="a correlation from 0 to 1")
    values = _phase_values(phases, gains, rate, convention, learning)
    kinds = [kind for kind in phases[0].sites if any(phase.sites[kind] for phase in phases)]
    goes_on: dict[str, NDArray[np.bool_]] = {}
    by_kind: dict[str, Samples] = {}
    for kind in kinds:
        first, rest = values[0].by_kind_usd[kind], sum((value.by_kind_usd[kind] for value in values[1:]), np.zeros(1))
        rest = rest + np.zeros_like(first)
        goes_on[kind] = _goes_on(rest, told * _scores(rest) + (1.0 - told**2) ** 0.5 * noise[kind], sure)
        by_kind[kind] = first + np.where(goes_on[kind], rest, 0.0)
    return RolloutValue(
        phases=tuple(values),
        all_usd=np.sum([value.npv_usd for value in values], axis=0),
        with_option_usd=np.sum(list(by_kind.values()), axis=0),
        goes_on=goes_on,
        by_kind_usd=by_kind,
    )


def cash_in_steps(value: RolloutValue, gains: Mapping[str, Flows], *, rate: float, convention: Convention = "mid") -> Flows:
    """Money in less money out up to each quarter of a year, as of today, if the rest is built only after a good pilot.

    Shape (samples, quarters + 1), today first; the last column is `with_option_usd`. Within a year the money comes evenly.
    """
    years = max(flows.shape[1] - 1 for flows in gains.values())
    quarters = ceil(PARTS_A_YEAR * (years + max(v.phase.start_year for v in value.phases)))
    when = np.arange(quarters + 1, dtype=np.float64) / PARTS_A_YEAR
    worth = np.zeros((len(value.all_usd), quarters + 1))
    for index, phase in enumerate(value.phases):
        today = (1.0 + rate) ** -phase.phase.start_year
        for kind in value.goes_on:
            n = phase.phase.sites[kind] * today * (1.0 if index == 0 else value.goes_on[kind][:, None])
            upto = np.cumsum(gains[kind] * discount_factors(gains[kind].shape[1] - 1, rate=rate, convention=convention), axis=1)
            upto -= (1.0 - phase.capex_factor) * gains[kind][:, :1]
            worth += n * _upto(upto, when - phase.phase.start_year)
    return worth


def _upto(by_year: Flows, when: NDArray[np.float64]) -> Flows:
    """What is known at whole years, read between them; nothing before the beginning."""
    inside = np.clip(when, 0.0, by_year.shape[1] - 1)
    low = np.floor(inside).astype(np.intp)
    high = np.minimum(low + 1, by_year.shape[1] - 1)
    return np.where(when < 0.0, 0.0, by_year[:, low] + (inside - low) * (by_year[:, high] - by_year[:, low]))


def _phase_values(
    phases: Sequence[Phase], gains: Mapping[str, Flows], rate: float, convention: Convention, learning: float
) -> list[PhaseValue]:
    today = {kind: npv_usd(flows, rate=rate, convention=convention) for kind, flows in gains.items()}
    values: list[PhaseValue] = []
    before = 0
    for phase in phases:
        factor = learned_factor(before=before, sites=phase.count, reference=phases[0].count, learning=learning)
        then = (1.0 + rate) ** -phase.start_year
        worth = {kind: then * n * (today[kind] - (1.0 - factor) * gains[kind][:, 0]) for kind, n in phase.sites.items()}
        when = "now" if phase.start_year == 0 else f"after {phase.start_year:g} years"
        noun = "site" if phase.count == 1 else "sites"
        words = f"{phase.name}: {phase.count} {noun} {when}" + (f", {1 - factor:.0%} cheaper to build" if factor < 0.995 else "")
        whole = np.sum(list(worth.values()), axis=0)
        values.append(PhaseValue(phase=phase, npv_usd=whole, by_kind_usd=worth, capex_factor=factor, words=words))
        before += phase.count
    return values


def _scores(values: Samples) -> Samples:
    """Standard normals in the order of the values."""
    rank = np.empty(len(values))
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return np.asarray(ndtri((rank + 0.5) / len(values)), dtype=np.float64)


def _goes_on(rest: Samples, result: Samples, sure: float) -> NDArray[np.bool_]:
    """True where the pilot's result is at least as good as the one from which on the rest always pays with that probability."""
    groups = np.array_split(np.argsort(result, kind="stable"), min(GROUPS, len(result)))
    enough = [float(np.mean(rest[group] > 0.0)) >= sure for group in groups]
    cut = max((index + 1 for index, does in enumerate(enough) if not does), default=0)
    goes_on = np.zeros(len(rest), dtype=np.bool_)
    for group in groups[cut:]:
        goes_on[group] = True
    return goes_on
