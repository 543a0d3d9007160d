"""Money over the years: net present value and payback of many samples at once.

Flows have shape (samples, years + 1): column 0 is paid today, column y falls into year y; money in is positive. All figures are
in today's money, so the discount rate is a real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearhall.core.errors import InputError
from nearhall.planner.samples.draws import Samples

Flows = NDArray[np.float64]
Convention = Literal["mid", "end"]
"""When a year's money counts: in its middle, since bills come every month, or at its end, the textbook's choice."""
P10, P50, P90 = 0.1, 0.5, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Three quantiles of a number."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CashByYear:
    """The quantiles of each year, today first."""

    p10: tuple[float, ...]
    p50: tuple[float, ...]
    p90: tuple[float, ...]


def discount_factors(years: int, *, rate: float, convention: Convention = "mid") -> NDArray[np.float64]:
    """What a dollar of today and of each year is worth today, shape (years + 1,)."""
    if rate <= -1.0:
        raise InputError(f"discount rate {rate:g}", where="discount_rate", right="a rate above -1, such as 0.08")
    when = np.arange(years + 1, dtype=np.float64)
    if convention == "mid":
        when[1:] -= 0.5
    return (1.0 + rate) ** -when


def npv_usd(flows: Flows, *, rate: float, convention: Convention = "mid") -> Samples:
    """Net present value, shape (samples,)."""
    return flows @ discount_factors(flows.shape[1] - 1, rate=rate, convention=convention)


def p_positive(npv: Samples) -> float:
    """In what share of the samples it pays."""
    return float(np.mean(npv > 0.0))


def spread_of(samples: Samples) -> Spread:
    """P10, P50 and P90."""
    p10, p50, p90 = np.quantile(samples, (P10, P50, P90))
    return Spread(p10=float(p10), p50=float(p50), p90=float(p90))


def payback_years(flows: Flows, *, rate: float, convention: Convention = "mid") -> Samples:
    """Years until the discounted flows have paid back what was spent, for good; infinite where they never do.

    Shape (samples,). Within a year the money comes evenly. A replacement that puts the sum below zero again counts.
    """
    return paid_back(np.cumsum(flows * discount_factors(flows.shape[1] - 1, rate=rate, convention=convention), axis=1))


def paid_back(worth: Flows) -> Samples:
    """Columns until what is known of each (money in less money out up to then) is above zero for good; infinite for never."""
    below = worth < 0.0
    last = worth.shape[1] - 1 - np.argmax(below[:, ::-1], axis=1)  # the last column that is below zero
    after = np.minimum(last + 1, worth.shape[1] - 1)
    rows = np.arange(len(worth))
    left, gained = -worth[rows, last], worth[rows, after] - worth[rows, last]
    part = np.divide(left, gained, out=np.zeros_like(left), where=gained > 0.0)
    return np.where(below[:, -1], np.inf, np.where(below.any(axis=1), last + part, 0.0))


def payback_spread(years: Samples) -> Spread:
    """Quantiles of a payback of which some may be infinite; between a finite and an infinite one the infinite is told."""
    p10, p50, p90 = np.quantile(years, (P10, P50, P90), method="higher")
    return Spread(p10=float(p10), p50=float(p50), p90=float(p90))


def cash_by_year(flows: Flows, *, cumulative: bool = True) -> CashByYear:
    """The quantiles of each year's flow, or of everything up to it; undiscounted."""
    of = np.cumsum(flows, axis=1) if cumulative else flows
    p10, p50, p90 = np.quantile(of, (P10, P50, P90), axis=0)
    return CashByYear(p10=tuple(p10.tolist()), p50=tuple(p50.tolist()), p90=tuple(p90.tolist()))


def present_worth(years: float, *, rate: float, escalation: float = 0.0) -> float:
    """What a dollar a year for so many years is worth, paid at each year's end and rising by `escalation`."""
    growth = (1.0 + escalation) / (1.0 + rate)
    return float(years) if abs(growth - 1.0) < 1e-12 else growth * (1.0 - growth**years) / (1.0 - growth)


def annuity(years: float, *, rate: float) -> float:
    """The yearly payment that a dollar of today is worth over so many years."""
    return 1.0 / present_worth(years, rate=rate)
