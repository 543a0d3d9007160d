"""What a site's line to the hub costs, as its contract bills it: not every byte saved is money saved.

`per_gb` bills bytes; `p95_mbps` the 95th percentile of five-minute averages, so that bursts of less than 36 hours a month are
free; `flat_step` a speed, so that nothing is saved until a smaller step carries the rest; `lte_quota` bytes beyond a quota.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearhall.core.errors import InputError
from nearhall.planner.samples.draws import Samples

Floats = NDArray[np.float64]
Amount = float | Samples
BYTES_PER_GB = 1e9
DAYS_PER_MONTH = 365.0 / 12.0
BILLED_SHARE = 0.95
"""Five-minute averages are sorted, the highest 5 % dropped, and the highest left is billed (docs.swiftfederation.com, 2026)."""
STEP_FILL = 0.8
"""A line is not ordered to be full: of its speed, the busiest five minutes may take this share (assumed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What goes over a line, shape (samples,) each; of the two directions the one that the contract bills."""

    gb_per_month: Samples
    p95_mbps: Samples
    """95th percentile of five-minute averages."""
    peak_mbps: Samples
    """The busiest five minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerGb:
    """Each byte costs."""

    usd_per_gb: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """Burstable: the 95th percentile costs, at least what was committed."""

    usd_per_mbps_month: Amount
    committed_mbps: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatStep:
    """A speed for a price."""

    steps_mbps: tuple[float, ...]
    """Ascending."""
    usd_per_month: tuple[float, ...]
    fill: float = STEP_FILL
    """How full a line may be before the next step is bought."""

    def __post_init__(self) -> None:
        """Refuses steps without prices."""
        ascending = all(a < b for a, b in zip((0.0, *self.steps_mbps), self.steps_mbps, strict=False))
        if not (len(self.steps_mbps) == len(self.usd_per_month) > 0 and ascending):
            raise InputError("steps without prices", where="uplink", right="ascending steps_mbps and as many usd_per_month")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A fee with bytes included; beyond them overage, or a slow line."""

    usd_per_month: Amount
    quota_gb: float
    usd_per_gb: Amount | None
    """None: beyond the quota the line is throttled, which costs no money but answers."""


Contract = PerGb | Percentile | FlatStep | Quota


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """The same line with all requests at the hub and with a local site, shape (samples,) each."""

    hub_usd_per_month: Samples
    """All requests go to the hub."""
    site_usd_per_month: Samples
    """A local site answers what it may."""

    @property
    def saved_usd_per_month(self) -> Samples:
        """What the local site takes off the bill, sample by sample."""
        return self.hub_usd_per_month - self.site_usd_per_month

    @property
    def p_saves(self) -> float:
        """In what share of the samples the bill falls at all."""
        return float(np.mean(self.saved_usd_per_month > 0.0))


def percentile_mbps(five_minute_mbps: ArrayLike, share: float = BILLED_SHARE) -> Floats:
    """The billed speed of five-minute averages, shape (...) for (..., n): the highest left when the top is dropped."""
    ordered = np.sort(np.asarray(five_minute_mbps, dtype=np.float64), axis=-1)
    n = ordered.shape[-1]
    dropped = int(np.floor(round((1.0 - share) * n, 9)))
    return ordered[..., max(n - dropped - 1, 0)]


def traffic_of_day(*, bytes_per_s: Samples, day: ArrayLike, spread: float = 1.0) -> Traffic:
    """Traffic of a day that repeats itself.

    `bytes_per_s`, shape (samples,), is the mean of the busiest hour; `day`, shape (24,), each hour over the busiest;
    `spread` is the busiest five minutes of an hour over its mean (bursts of seconds vanish in five minutes).
    """
    shape = np.asarray(day, dtype=np.float64)
    busiest_mbps = mbps_of(bytes_per_s)
    # Within an hour the twelve averages run evenly from 2 - spread to spread times its mean, which keeps its bytes.
    within = np.linspace(2.0 - spread, spread, 12) if spread > 1.0 else np.ones(12)
    averages = np.outer(shape, np.maximum(within, 0.0)).ravel()
    return Traffic(
        gb_per_month=bytes_per_s * float(shape.sum()) * 3600.0 * DAYS_PER_MONTH / BYTES_PER_GB,
        p95_mbps=busiest_mbps * float(percentile_mbps(averages)),
        peak_mbps=busiest_mbps * float(averages.max()),
    )


def add(*parts: Traffic) -> Traffic:
    """Several streams on one line; their peaks are taken to coincide, which is the most that they can be."""
    return Traffic(
        gb_per_month=np.sum([part.gb_per_month for part in parts], axis=0),
        p95_mbps=np.sum([part.p95_mbps for part in parts], axis=0),
        peak_mbps=np.sum([part.peak_mbps for part in parts], axis=0),
    )


def mbps_of(bytes_per_s: Samples) -> Samples:
    """Megabits a second."""
    return bytes_per_s * 8e-6


def bytes_per_s_of(mbps: Samples) -> Samples:
    """Bytes a second."""
    return mbps / 8e-6


def contract_usd_per_month(contract: Contract, traffic: Traffic) -> Samples:
    """What the contract bills for the traffic, shape (samples,); more traffic never costs less."""
    match contract:
        case PerGb():
            bill: Floats = traffic.gb_per_month * contract.usd_per_gb
        case Percentile():
            bill = np.maximum(traffic.p95_mbps, contract.committed_mbps) * contract.usd_per_mbps_month
        case FlatStep():
            bill = _flat_step(contract, traffic.peak_mbps / contract.fill)
        case Quota():
            over = beyond_quota_gb(contract, traffic)
            bill = contract.usd_per_month + over * (0.0 if contract.usd_per_gb is None else contract.usd_per_gb)
    return np.asarray(bill, dtype=np.float64)


def beyond_quota_gb(contract: Quota, traffic: Traffic) -> Samples:
    """A month's gigabytes beyond the quota: billed, or answered slowly where the contract throttles."""
    return np.maximum(traffic.gb_per_month - contract.quota_gb, 0.0)


def with_and_without(contract: Contract, *, served_at_hub: Traffic, served_at_site: Traffic) -> Saving:
    """The line's bill with all requests at the hub, and with what a local site leaves on it."""
    return Saving(
        hub_usd_per_month=contract_usd_per_month(contract, served_at_hub),
        site_usd_per_month=contract_usd_per_month(contract, served_at_site),
    )


def _flat_step(contract: FlatStep, needed_mbps: Samples) -> Samples:
    """The cheapest step that carries it; beyond the last step as many lines of that as it takes."""
    steps = np.asarray(contract.steps_mbps)
    prices = np.asarray(contract.usd_per_month, dtype=np.float64)
    cheapest = np.minimum.accumulate(prices[::-1])[::-1]  # of this step and all faster ones
    enough = np.minimum(np.searchsorted(steps, needed_mbps, side="left"), len(steps) - 1)
    lines = np.maximum(np.ceil(needed_mbps / steps[-1]), 1.0)
    return cheapest[enough] * lines
