"""Shaving peaks with a battery: a linear program over the steps of a day, a month or a year.

    minimise  sum(price x grid x dt) + rate x peak + wear x sum(discharge x dt)
    stored_t = stored_(t-1) + eta x charge_t x dt - discharge_t x dt / eta
    grid_t = load_t + charge_t - discharge_t >= 0,  grid_t + beside_t <= peak,  peak >= ratchet's floor

Only a battery that its maker allows to be cycled: a UPS battery that is not wears out in months and fails the outage it was
bought for. What the hold time needs is no part of `usable_kwh`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearhall.core.errors import InputError, PermanentError
from nearhall.planner.placement.solver import Rows, solve

Floats = NDArray[np.float64]
STEPS_MAX = 40_000
"""A year of quarters of an hour; its program has 140,000 variables."""
NOT_CYCLABLE = "its maker does not allow cycling: a UPS battery is for outages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """What may be shaved with."""

    usable_kwh: float
    """Beyond what the hold time needs."""
    charge_kw: float
    discharge_kw: float
    round_trip: float = 0.9
    """Energy out over energy in, half of the loss each way."""
    wear_usd_per_kwh: float = 0.0
    """Of each kilowatt-hour discharged: price of the battery over what it delivers in its life."""
    cyclable: bool = False
    start_share: float | None = None
    """How full it is at the start, and at least at the end; None: as it serves best, since the steps repeat themselves."""

    def __post_init__(self) -> None:
        """Refuses what no battery is."""
        if min(self.usable_kwh, self.charge_kw, self.discharge_kw, self.wear_usd_per_kwh) < 0 or not 0 < self.round_trip <= 1:
            raise InputError(
                "a battery that is none", where="battery", right="kWh, kW and wear of 0 or more, a round trip above 0 to 1"
            )
        if self.start_share is not None and not 0.0 <= self.start_share <= 1.0:
            raise InputError(f"a start of {self.start_share:g}", where="battery", right="a share from 0 to 1")

    @property
    def eta(self) -> float:
        """Efficiency of one way."""
        return self.round_trip**0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaved:
    """What comes of it, shape (n,) each."""

    grid_kw: Floats
    charge_kw: Floats
    discharge_kw: Floats
    stored_kwh: Floats
    """At the end of each step."""
    peak_kw: float
    """That is billed: of the grid's draw and what stands beside it, at least the ratchet's floor."""
    peak_before_kw: float
    cost_usd: float
    """Energy, demand and wear."""
    cost_before_usd: float
    words: str


def shave(
    load_kw: ArrayLike,
    *,
    battery: Battery,
    step_h: float,
    usd_per_kwh: ArrayLike = 0.0,
    usd_per_kw: float,
    floor_kw: float = 0.0,
    beside_kw: ArrayLike = 0.0,
) -> Shaved:
    """The cheapest use of the battery; raises InputError for one that is not cyclable.

    `load_kw` has shape (n,); `usd_per_kwh` and `beside_kw` are one number or (n,). `usd_per_kw` is the demand rate of the whole
    time, `floor_kw` what a ratchet bills anyway (its share of a past peak), `beside_kw` what others draw behind the same meter
    or on the same feeder.
    """
    load, price, beside = _checked(load_kw, usd_per_kwh, beside_kw, battery)
    n = len(load)
    cost = np.concatenate([price * step_h, (battery.wear_usd_per_kwh - price) * step_h, np.zeros(n), [usd_per_kw]])
    tops = (battery.charge_kw, battery.discharge_kw, battery.usable_kwh)
    lower = np.zeros(3 * n + 1)
    lower[3 * n] = floor_kw
    if battery.start_share is not None:
        lower[3 * n - 1] = battery.start_share * battery.usable_kwh
    solved = solve(
        cost=cost,
        lower=lower,
        upper=np.concatenate([np.repeat(tops, n), [np.inf]]),
        integer=np.zeros(3 * n + 1, dtype=np.bool_),
        rows=_rows(load, beside, battery, step_h),
        offset=float(np.sum(price * load) * step_h),
    )
    if solved.x is None:
        raise PermanentError(f"the battery's program ended without a solution: {solved.status}")
    charge, discharge, stored = solved.x[:n], solved.x[n : 2 * n], solved.x[2 * n : 3 * n]
    before_kw = max(float(np.max(load + beside)), floor_kw)
    before_usd = float(np.sum(price * load) * step_h) + usd_per_kw * before_kw
    peak_kw = float(solved.x[-1])
    return Shaved(
        grid_kw=load + charge - discharge,
        charge_kw=charge,
        discharge_kw=discharge,
        stored_kwh=stored,
        peak_kw=peak_kw,
        peak_before_kw=before_kw,
        cost_usd=solved.objective,
        cost_before_usd=before_usd,
        words=_words(before_kw, peak_kw, before_usd - solved.objective),
    )


def _checked(load_kw: ArrayLike, usd_per_kwh: ArrayLike, beside_kw: ArrayLike, battery: Battery) -> tuple[Floats, Floats, Floats]:
    if not battery.cyclable:
        raise InputError(f"not shaved: {NOT_CYCLABLE}", where="battery", right="cyclable: true where the maker's sheet says so")
    load = np.asarray(load_kw, dtype=np.float64)
    if load.ndim != 1 or not 1 <= len(load) <= STEPS_MAX or load.min() < 0:
        raise InputError("a load that is none", where="load_kw", right=f"1 to {STEPS_MAX} steps, none below 0")
    try:
        price, beside = (np.broadcast_to(np.asarray(part, dtype=np.float64), load.shape) for part in (usd_per_kwh, beside_kw))
    except ValueError as error:
        raise InputError(
            "prices or other loads of another length", where="usd_per_kwh", right=f"one number or {len(load)}"
        ) from error
    return load, price, beside


def _rows(load: Floats, beside: Floats, battery: Battery, step_h: float) -> Rows:
    n = len(load)
    charge = np.arange(n)
    discharge, stored, peak = charge + n, charge + 2 * n, np.full(n, 3 * n)
    into, out = -battery.eta * step_h, step_h / battery.eta
    rows = Rows()
    if battery.start_share is not None:
        start = battery.start_share * battery.usable_kwh
        rows.add([stored[0], charge[0], discharge[0]], [1.0, into, out], start, start)
    elif n > 1:
        rows.add([stored[0], stored[-1], charge[0], discharge[0]], [1.0, -1.0, into, out], 0.0, 0.0)
    else:
        rows.add([charge[0], discharge[0]], [into, out], 0.0, 0.0)
    if n > 1:
        kept = np.stack([stored[1:], stored[:-1], charge[1:], discharge[1:]], axis=1)
        rows.add_many(kept, [1.0, -1.0, into, out], 0.0, 0.0)
    rows.add_many(np.stack([charge, discharge], axis=1), [1.0, -1.0], -load, np.inf)
    rows.add_many(np.stack([peak, charge, discharge], axis=1), [1.0, -1.0, 1.0], load + beside, np.inf)
    return rows


def _words(before_kw: float, peak_kw: float, saved_usd: float) -> str:
    saves = f"and saves {saved_usd:,.0f} USD, its wear paid"
    little = 1e-6 * max(before_kw, 1.0)
    if peak_kw < before_kw - little:
        return f"the battery lowers the peak from {before_kw:.1f} to {peak_kw:.1f} kW {saves}"
    if peak_kw > before_kw + little:
        return f"the battery buys while it is cheap, raises the peak from {before_kw:.1f} to {peak_kw:.1f} kW {saves}"
    return f"the battery leaves the peak at {before_kw:.1f} kW {saves}"
