"""How much less many sites draw together than the sum of their own peaks, against their number and how alike they are.

    P_i(t) = idle + swing x day(t) x exp(s g_i(t) - s^2 / 2)
    g_i(t) = sqrt(common) C(t) + sqrt(regional) R(t) + sqrt(1 - common - regional) E_i(t)

C, R and E are standard normals that persist for some hours; the factor has mean 1 whatever s is. Nothing is cut off at the top:
a cap is reached by all sites in the same hour, and coincidence comes out near 1 for whatever correlation is put in.
Coincidence = max over t of the sum of P_i / sum over i of the max over t of P_i.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.core.errors import InputError

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

STEPS_PER_H, HOURS, DAYS = 4, 24, 7
STEPS = STEPS_PER_H * HOURS * DAYS
BLOCK = 1024
"""Sites at a time: a block of 672 steps is 2.8 MB and has a few copies; 10,000 sites never stand in memory at once."""
SITES_MAX = 100_000
SITES_TOLD = 256
"""A fleet's deviation from its mean hardly changes beyond so many sites: a sixteenth of what they have for themselves is left."""
VOLATILITY = 0.35
"""s: standard deviation of the logarithm of a quarter of an hour's load about its day (assumed; a meter tells yours)."""
PERSISTENCE_H = 2.0
"""After so long a deviation from the day has faded to 1/e (assumed)."""
_COMMON, _REGIONAL, _OWN = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadKind:
    """Sites of one kind."""

    count: int
    """How many are planned: the mix from which any number of sites is taken."""
    idle_w: float
    """Drawn at any load."""
    swing_w: float
    """What the load adds, mean over the day."""
    day: tuple[float, ...]
    """24 hours; only the shape counts."""

    def __post_init__(self) -> None:
        """Refuses what no site is."""
        if self.count < 1 or self.idle_w < 0 or self.swing_w < 0 or self.idle_w + self.swing_w <= 0:
            raise InputError("a kind of site without load", where="fleet", right="a count of 1 or more and watts of 0 or more")
        if len(self.day) != HOURS or min(self.day) < 0 or max(self.day) <= 0:
            raise InputError("a day that is none", where="fleet", right="24 hours, none below 0, one above")


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How alike sites' deviations from their day are, as parts of the variance."""

    common: float
    regional: float = 0.2
    """Held to what `common` leaves."""
    regions: int = 8

    def __post_init__(self) -> None:
        """Refuses parts of more than one variance."""
        if not 0.0 <= self.common <= 1.0 or not 0.0 <= self.regional <= 1.0 or self.regions < 1:
            right = "common and regional from 0 to 1, one region or more"
            raise InputError(f"likeness of {self.common:g} and {self.regional:g}", where="correlation", right=right)

    @property
    def loadings(self) -> tuple[float, float, float]:
        """Square roots of the three parts."""
        regional = min(self.regional, 1.0 - self.common)
        return self.common**0.5, regional**0.5, max(1.0 - self.common - regional, 0.0) ** 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Coincidence:
    """Of `n` sites with this much in common, over the runs."""

    n: int
    common: float
    p10: float
    p50: float
    p90: float
    peak_w_p50: float
    """The highest quarter of an hour of a week, all together."""
    peak_w_p90: float


def coincidence_curve(
    kinds: Sequence[LoadKind],
    *,
    numbers: Sequence[int],
    likenesses: Sequence[Likeness],
    seed: int,
    runs: int = 20,
    volatility: float = VOLATILITY,
) -> tuple[Coincidence, ...]:
    """Coincidence by likeness and number of sites, in the order given for likenesses and ascending for numbers.

    The same random numbers serve all of them, and smaller fleets are parts of larger ones: what differs is what was changed.
    """
    fleet = _Fleet.of(kinds, numbers=numbers, volatility=volatility)
    found = np.empty((len(likenesses), runs, len(fleet.numbers), 2))
    for run in range(runs):
        for index, (totals, own_peaks) in enumerate(_totals(fleet, likenesses, seed=seed, run=run)):
            peaks = totals.max(axis=1)
            found[index, run, :, 0] = np.minimum(peaks / own_peaks, 1.0)
            found[index, run, :, 1] = peaks
    return tuple(
        _coincidence(fleet.numbers[at], likeness.common, found[index, :, at])
        for index, likeness in enumerate(likenesses)
        for at in range(len(fleet.numbers))
    )


def fleet_day_w(
    kinds: Sequence[LoadKind],
    *,
    likeness: Likeness,
    seed: int,
    runs: int = 20,
    quantile: float = 0.9,
    volatility: float = VOLATILITY,
) -> Floats:
    """What all sites draw together by hour of the day, shape (24,): its highest quarter, at a quantile over days and runs."""
    fleet = _Fleet.of(kinds, numbers=(sum(kind.count for kind in kinds),), volatility=volatility)
    return np.quantile(_days_w(fleet, likeness, seed=seed, runs=runs), quantile, axis=0)


def quarters_over_mean(
    kinds: Sequence[LoadKind],
    *,
    likeness: Likeness,
    seed: int,
    runs: int = 20,
    volatility: float = VOLATILITY,
) -> Floats:
    """The highest quarter of each hour over what that hour takes on average, all sites together, shape (days, 24).

    A day of a run is a row. Of more than `SITES_TOLD` sites so many are drawn: what they do not have in common is gone by then.
    """
    fleet = _Fleet.of(kinds, numbers=(min(sum(kind.count for kind in kinds), SITES_TOLD),), volatility=volatility)
    mean_w = np.sum(fleet.idle_w[fleet.kind][:, None] + fleet.swing_w[fleet.kind], axis=0, dtype=np.float64)
    return _days_w(fleet, likeness, seed=seed, runs=runs) / mean_w.reshape(DAYS, HOURS, STEPS_PER_H)[0].mean(axis=1)


def _days_w(fleet: _Fleet, likeness: Likeness, *, seed: int, runs: int) -> Floats:
    """The highest quarter of each hour of the first number of sites, shape (days of all runs, 24)."""
    days = [
        totals[0].reshape(DAYS, HOURS, STEPS_PER_H).max(axis=2)
        for run in range(runs)
        for totals, _ in _totals(fleet, (likeness,), seed=seed, run=run)
    ]
    return np.concatenate(days)


def _coincidence(n: int, common: float, found: Floats) -> Coincidence:
    p10, p50, p90 = np.quantile(found[:, 0], (0.1, 0.5, 0.9))
    peak_p50, peak_p90 = np.quantile(found[:, 1], (0.5, 0.9))
    return Coincidence(
        n=n, common=common, p10=float(p10), p50=float(p50), p90=float(p90), peak_w_p50=float(peak_p50), peak_w_p90=float(peak_p90)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fleet:
    """Sites in an order whose every beginning has the plan's mix; the order of the kinds in the plan changes nothing."""

    numbers: tuple[int, ...]
    kind: NDArray[np.intp]
    """Of each site."""
    region: NDArray[np.intp]
    """Counted up within each kind; modulo the number of regions."""
    idle_w: Singles
    """Of each kind, shape (kinds,)."""
    swing_w: Singles
    """Of each kind and step, shape (kinds, steps)."""
    volatility: float

    @staticmethod
    def of(kinds: Sequence[LoadKind], *, numbers: Sequence[int], volatility: float) -> _Fleet:
        wanted = tuple(sorted(set(numbers)))
        if not kinds or not wanted or wanted[0] < 1 or wanted[-1] > SITES_MAX:
            raise InputError("a fleet without sites", where="fleet", right=f"kinds of sites, and numbers from 1 to {SITES_MAX}")
        counts: dict[tuple[float, float, tuple[float, ...]], int] = {}
        for kind in kinds:
            key = (kind.idle_w, kind.swing_w, kind.day)
            counts[key] = counts.get(key, 0) + kind.count
        merged = sorted(counts)
        share = np.array([counts[key] for key in merged]) / sum(counts.values())
        kind, within = _interleave(share, wanted[-1])
        return _Fleet(
            numbers=wanted,
            kind=kind,
            region=within,
            idle_w=np.array([idle for idle, _, _ in merged], dtype=np.float32),
            swing_w=np.array([swing * _week(day) for _, swing, day in merged], dtype=np.float32),
            volatility=volatility,
        )


def _interleave(share: Floats, n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The kind of each of n sites, and which one of its kind it is: kinds come up as often as their share says."""
    counts = np.ceil(share * n).astype(np.intp) + 1
    kind = np.repeat(np.arange(len(share)), counts)
    within = np.arange(len(kind)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = np.lexsort((kind, (within + 0.5) / share[kind]))[:n]
    return kind[order], within[order]


def _week(day: Sequence[float]) -> Floats:
    """A week of this day with mean 1: straight lines between the middles of the hours."""
    hours = np.asarray(day, dtype=np.float64)
    at = (np.arange(STEPS_PER_H * HOURS) + 0.5) / STEPS_PER_H - 0.5
    quarter = np.interp(at, np.arange(-1, HOURS + 1), np.concatenate([hours[-1:], hours, hours[:1]]))
    return np.tile(quarter / quarter.mean(), DAYS)


def _totals(fleet: _Fleet, likenesses: Sequence[Likeness], *, seed: int, run: int) -> Iterator[tuple[Floats, Floats]]:
    """For each likeness: the sum over the first n sites, shape (numbers, steps), and the sum of their own peaks (numbers,)."""
    top = max(likeness.regions for likeness in likenesses)
    common = _persistent(np.random.default_rng([seed, run, _COMMON]), 1)
    regional = _persistent(np.random.default_rng([seed, run, _REGIONAL]), top)
    totals = np.zeros((len(likenesses), len(fleet.numbers), STEPS))
    peaks = np.zeros((len(likenesses), len(fleet.numbers)))
    for first in range(0, fleet.numbers[-1], BLOCK):
        last = min(first + BLOCK, fleet.numbers[-1])
        own = _persistent(np.random.default_rng([seed, run, _OWN, first]), last - first)
        for index, likeness in enumerate(likenesses):
            watts = _watts(fleet, slice(first, last), likeness, (common, regional, own))
            _count_in(fleet.numbers, first, watts, totals[index], peaks[index])
    yield from zip(totals, peaks, strict=True)


def _watts(fleet: _Fleet, sites: slice, likeness: Likeness, factors: tuple[Singles, Singles, Singles]) -> Singles:
    """Shape (sites, steps); the factors are common (1, steps), regional (regions, steps) and own (sites, steps)."""
    common, regional, own = factors
    to_common, to_regional, to_own = (np.float32(loading * fleet.volatility) for loading in likeness.loadings)
    shared = to_common * common + to_regional * regional[: likeness.regions] - np.float32(0.5 * fleet.volatility**2)
    watts = to_own * own
    watts += shared[fleet.region[sites] % likeness.regions]
    np.exp(watts, out=watts)
    watts *= fleet.swing_w[fleet.kind[sites]]
    watts += fleet.idle_w[fleet.kind[sites]][:, None]
    return watts


def _count_in(numbers: tuple[int, ...], first: int, watts: Singles, totals: Floats, peaks: Floats) -> None:
    """Adds a block of sites to every number of sites that they belong to."""
    own_peaks = watts.max(axis=1)
    done, so_far, peaks_so_far = 0, np.zeros(STEPS), 0.0
    for at, n in enumerate(numbers):
        upto = min(max(n - first, 0), len(watts))
        if upto > done:
            so_far = so_far + watts[done:upto].sum(axis=0, dtype=np.float64)
            peaks_so_far += float(own_peaks[done:upto].sum(dtype=np.float64))
            done = upto
        totals[at] += so_far
        peaks[at] += peaks_so_far


def _persistent(random: np.random.Generator, rows: int) -> Singles:
    """Standard normals that fade with PERSISTENCE_H, shape (rows, steps); a row is the same however many follow it."""
    kept = np.float32(np.exp(-1.0 / (STEPS_PER_H * PERSISTENCE_H)))
    fresh = np.float32((1.0 - float(kept) ** 2) ** 0.5)
    by_step = np.ascontiguousarray(random.standard_normal((rows, STEPS), dtype=np.float32).T)
    by_step[1:] *= fresh
    for step in range(1, STEPS):
        by_step[step] += kept * by_step[step - 1]
    return np.ascontiguousarray(by_step.T)
