"""A number as somebody who plans knows it: a median, how far it may be off, a unit, and why it may be believed."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

from nearhall.core.evidence import Evidence

Z90 = 1.2815515655446004
"""The standard normal's 90 % quantile."""


@dataclass(frozen=True, slots=True)
class Exact:
    """Taken as it is."""


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Multiplied by exp(sigma z): for what is positive and skewed, such as power, prices and times."""

    sigma: float


@dataclass(frozen=True, slots=True)
class Normal:
    """Plus sd z, held between `low` and `high`."""

    sd: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Uniform:
    """Anything between the two is as likely."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Triangular:
    """Most likely at `mode`, never beyond the two."""

    low: float
    mode: float
    high: float


Spread = Exact | LogNormal | Normal | Uniform | Triangular


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One number of a plan."""

    p50: float
    """The median: as often too low as too high."""
    unit: str
    """As the name of its field ends: `kW`, `usd_per_kwh`; `1` for a plain ratio."""
    evidence: Evidence
    spread: Spread = Exact()

    @property
    def p90(self) -> float:
        """The value that is exceeded in one case of ten."""
        return self.quantile(0.9, Z90)

    @property
    def p10(self) -> float:
        """The value that is exceeded in nine cases of ten."""
        return self.quantile(0.1, -Z90)

    @property
    def is_exact(self) -> bool:
        """Whether nothing is said of how far it may be off."""
        return isinstance(self.spread, Exact)

    def quantile(self, u: float, z: float) -> float:
        """The quantile `u` in (0, 1); `z` is the standard normal's at the same u."""
        spread = self.spread
        if isinstance(spread, Exact):
            return self.p50
        if isinstance(spread, LogNormal):
            return self.p50 * exp(spread.sigma * z)
        if isinstance(spread, Normal):
            return min(max(self.p50 + spread.sd * z, spread.low), spread.high)
        if isinstance(spread, Uniform):
            return spread.low + (spread.high - spread.low) * u
        return triangular_quantile(u, spread.low, spread.mode, spread.high)


def triangular_quantile(u: float, low: float, mode: float, high: float) -> float:
    """The inverse of a triangular distribution's cumulative one."""
    if high == low:
        return low
    turn = (mode - low) / (high - low)
    if u <= turn:
        return low + ((high - low) * (mode - low) * u) ** 0.5
    return high - ((high - low) * (high - mode) * (1.0 - u)) ** 0.5


def log_sigma(*, p50: float, p90: float) -> float:
    """The sigma of a log-normal with these two quantiles; both above 0. Raises ValueError otherwise."""
    if p50 <= 0 or p90 <= 0:
        message = f"a log-normal needs quantiles above 0 (given: p50 {p50:g}, p90 {p90:g})"
        raise ValueError(message)
    return abs(log(p90 / p50)) / Z90
