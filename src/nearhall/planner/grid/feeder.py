"""What a fleet does to the feeder that it hangs on, hour by hour, with and without its batteries.

The feeder's limit is its existing load at the highest hour plus the headroom: in other hours there is more room than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearhall.core.errors import InputError
from nearhall.planner.grid.shaving import NOT_CYCLABLE, Battery, Shaved, shave

Floats = NDArray[np.float64]
HOURS = 24
TOLERANCE_KVA = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederDay:
    """A day on a feeder, shape (24,) each, kVA."""

    existing_kva: Floats
    fleet_kva: Floats
    """At the quantile that is held against the limit."""
    fleet_p50_kva: Floats
    p_over: float
    """In this share of the cases the limit is exceeded in some hour of the day, without batteries."""
    shaved_kva: Floats | None
    """The fleet with its batteries; None without any that may shave."""
    limit_kva: float
    over_hours: int
    """Hours of the day beyond the limit, without batteries."""
    shaved_over_hours: int | None
    discharged_kwh: float
    """By the batteries on that day."""
    wear_usd: float
    """What that takes of them."""
    words: str

    @property
    def margin_kva(self) -> Floats:
        """What is left in each hour; negative where it is too much."""
        return self.limit_kva - self.existing_kva - self.fleet_kva

    @property
    def peak_kva(self) -> float:
        """Of everything, without batteries."""
        return float(np.max(self.existing_kva + self.fleet_kva))

    @property
    def needed_kva(self) -> float:
        """The headroom that would do, with batteries where they may shave."""
        fleet = self.fleet_kva if self.shaved_kva is None else self.shaved_kva
        return float(np.max(self.existing_kva + fleet) - self.existing_kva.max())


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversified:
    """Loads by demand factors and a diversity factor."""

    connected_kva: float
    demand_kva: float
    """Each load by its own demand factor."""
    diversified_kva: float
    """Their sum over the diversity factor."""


def feeder_day(
    *,
    headroom_kva: float,
    fleet_kva: ArrayLike,
    existing_kva: ArrayLike | None = None,
    battery: Battery | None = None,
    power_factor: float = 1.0,
    quantile: float = 0.99,
) -> FeederDay:
    """The feeder's day; `existing_kva` has shape (24,). `battery` is what all sites on it have together.

    `fleet_kva` has shape (24,), or (24, samples): of those each hour's quantile is held against the limit.

    Batteries shave for the feeder's peak alone here, at the fleet's power factor, and never feed back.
    """
    drawn = np.asarray(fleet_kva, dtype=np.float64)
    cases: Floats = drawn.reshape(len(drawn), -1)
    fleet = _day(np.quantile(cases, quantile, axis=1), "fleet_kva")
    existing = _day(np.zeros(HOURS) if existing_kva is None else existing_kva, "existing_kva")
    if headroom_kva <= 0 or not 0 < power_factor <= 1:
        raise InputError(
            "a feeder without headroom or power factor", where="feeder", right="headroom above 0, a power factor to 1"
        )
    limit = float(existing.max()) + headroom_kva
    used = _shaved(fleet, existing, battery, power_factor) if battery is not None and battery.cyclable else None
    shaved = None if used is None else used.grid_kw / power_factor
    discharged = 0.0 if used is None else float(used.discharge_kw.sum())
    wear = discharged * battery.wear_usd_per_kwh if battery is not None else 0.0
    most: Floats = np.max(existing[:, None] + cases, axis=0)
    p_over = float(np.mean(most > limit + TOLERANCE_KVA))
    of = f" (P{100 * quantile:g})" if drawn.ndim > 1 else ""
    over, shaved_over = _over(existing + fleet, limit), None if shaved is None else _over(existing + shaved, limit)
    return FeederDay(
        existing_kva=existing,
        fleet_kva=fleet,
        fleet_p50_kva=np.median(cases, axis=1),
        p_over=p_over,
        shaved_kva=shaved,
        limit_kva=limit,
        over_hours=over,
        shaved_over_hours=shaved_over,
        discharged_kwh=discharged,
        wear_usd=wear,
        words=_words(existing + fleet, limit, over, shaved_over, battery, of=of)
        + (f", for {wear:.2f} USD of wear a day" if wear else "")
        + (f"; {_chance(p_over)}" if drawn.ndim > 1 else ""),
    )


def diversified_kva(kva: Sequence[float], demand_factors: Sequence[float], diversity: float) -> Diversified:
    """Connected loads, what they demand, and what they demand at once.

    Arithmetic of unlike loads (lights, lifts, kitchens). Sites of one kind peak together: for them take the coincidence of
    `fleet.coincidence_curve`, not a diversity factor of a building.
    """
    if len(kva) != len(demand_factors) or not kva or diversity < 1.0:
        raise InputError(
            "loads that do not fit", where="diversity", right="a demand factor for each load, a diversity of 1 or more"
        )
    demand = float(np.dot(kva, demand_factors))
    return Diversified(connected_kva=float(sum(kva)), demand_kva=demand, diversified_kva=demand / diversity)


def _day(values: ArrayLike, where: str) -> Floats:
    day = np.asarray(values, dtype=np.float64)
    if day.shape != (HOURS,) or day.min() < 0:
        raise InputError(f"a day of shape {day.shape}", where=where, right="24 hours, none below 0")
    return day


def _shaved(fleet: Floats, existing: Floats, battery: Battery, power_factor: float) -> Shaved:
    """The feeder's peak is what counts; the tiny wear keeps the battery still where it helps nothing."""
    still = replace(battery, wear_usd_per_kwh=1e-4)
    return shave(fleet * power_factor, battery=still, step_h=1.0, usd_per_kw=1.0, beside_kw=existing * power_factor)


def _over(total: Floats, limit: float) -> int:
    return int(np.sum(total > limit + TOLERANCE_KVA))


def _words(total: Floats, limit: float, over: int, shaved_over: int | None, battery: Battery | None, *, of: str) -> str:
    hour = int(np.argmax(total))
    at = f"{shown_kva(total[hour])} of {shown_kva(limit)} kVA{of} from {hour}:00 to {hour + 1}:00"
    if over == 0:
        return f"within its limit: at most {at}"
    said = f"over its limit in {over} {'hour' if over == 1 else 'hours'} of the day: {at}"
    if shaved_over is not None:
        kept = "batteries keep it within" if shaved_over == 0 else f"with batteries still in {shaved_over}"
        return f"{said}; {kept}"
    return f"{said}; batteries do not shave it, {NOT_CYCLABLE}" if battery is not None else said


def shown_kva(value: float) -> str:
    """To a hundredth where it is little."""
    return f"{value:.2f}" if value < 10.0 else f"{value:.1f}"


def _chance(p_over: float) -> str:
    if p_over == 0.0:
        return "never exceeded in what was drawn"
    share = "less than 1 %" if p_over < 0.005 else "more than 99 %" if p_over > 0.995 else f"{100 * p_over:.0f} %"
    return f"exceeded on {share} of the days at the design temperature"
