"""What electricity costs: energy, and a demand charge on each month's peak with a ratchet that remembers higher ones.

The ratchets are those of REopt (NREL, `demand_lookback_percent`, `demand_lookback_months`, `demand_lookback_range`): a month is
billed for at least a share of a past peak. The year is taken to repeat itself, so January looks back at last December.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearhall.core.errors import InputError
from nearhall.planner.samples.draws import Samples

MONTHS = 12
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratchet:
    """How a contract remembers past peaks."""

    share: float = 0.0
    """Of the highest remembered peak; it is billed at least. 0: no ratchet."""
    months: tuple[int, ...] | None = None
    """Which months (0 January) are remembered; None for every one."""
    trailing: int | None = None
    """Only this many months before the one billed; None for the whole year."""

    def __post_init__(self) -> None:
        """Refuses what no contract says."""
        if not 0.0 <= self.share <= 1.0:
            raise InputError(f"ratchet share {self.share:g}", where="ratchet", right="a share from 0 to 1")
        if self.months is not None and not set(self.months) <= set(range(MONTHS)):
            raise InputError(f"ratchet months {self.months}", where="ratchet", right="months from 0 (January) to 11")
        if self.trailing is not None and not 1 <= self.trailing <= MONTHS:
            raise InputError(f"ratchet trailing {self.trailing} months", where="ratchet", right="1 to 12 months")


NO_RATCHET = Ratchet()


@dataclass(frozen=True, slots=True, kw_only=True)
class Electricity:
    """A year's bill, shape (samples,) each."""

    energy_usd: Samples
    demand_usd: Samples

    @property
    def total_usd(self) -> Samples:
        """Both together."""
        return self.energy_usd + self.demand_usd


def billed_demand_kw(peak_kw: ArrayLike, ratchet: Ratchet = NO_RATCHET) -> Floats:
    """What each month is billed for: its own peak, or the ratchet's share of a remembered one; shape (..., 12) as given."""
    peaks = np.asarray(peak_kw, dtype=np.float64)
    if peaks.shape[-1:] != (MONTHS,):
        raise InputError(f"peaks of shape {peaks.shape}", where="peak_kw", right="twelve months in the last axis")
    if ratchet.share == 0.0:
        return peaks
    counts = np.isin(np.arange(MONTHS), range(MONTHS) if ratchet.months is None else ratchet.months)
    remembered = peaks if counts.all() else np.where(counts, peaks, 0.0)
    if ratchet.trailing is None:
        highest = remembered.max(axis=-1, keepdims=True)
    else:
        before = [np.roll(remembered, back, axis=-1) for back in range(1, ratchet.trailing + 1)]
        highest = np.maximum.reduce(before)
    return np.maximum(peaks, ratchet.share * highest)


def demand_charge_usd(peak_kw: ArrayLike, usd_per_kw_month: ArrayLike, ratchet: Ratchet = NO_RATCHET) -> Floats:
    """A year's demand charge, shape (...) for peaks of shape (..., 12).

    The rate is one number, one a month (12,), one a sample (samples, 1), or both (samples, 12).
    """
    return np.sum(billed_demand_kw(peak_kw, ratchet) * np.asarray(usd_per_kw_month, dtype=np.float64), axis=-1)


def electricity(
    *,
    kwh_per_year: Samples,
    peak_kw: Floats,
    usd_per_kwh: float | Samples,
    usd_per_kw_month: float | Samples = 0.0,
    ratchet: Ratchet = NO_RATCHET,
) -> Electricity:
    """A site's bill for a year; `peak_kw` has shape (samples, 12), prices are one number or one a sample."""
    rate = np.asarray(usd_per_kw_month, dtype=np.float64)
    return Electricity(
        energy_usd=np.asarray(kwh_per_year * usd_per_kwh, dtype=np.float64),
        demand_usd=demand_charge_usd(peak_kw, rate[:, None] if rate.ndim == 1 else rate, ratchet),
    )
