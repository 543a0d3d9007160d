"""What a cloud bills for bytes that leave it. Bytes that enter are free there; what they cost is the site's uplink.

Google's published figures contradict each other by tier and network, so there are none here: a plan brings its own tiers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearhall.core.errors import InputError
from nearhall.core.evidence import Evidence, Kind

BYTE_GB = 1e-9
FREE_GB = 100.0
"""What both providers give away each month and account; whether this fleet still has it, its other bills know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """Prices that fall with the month's volume; 1 TB is 1000 GB."""

    provider: str
    upto_gb: tuple[float, ...]
    """Where each price ends, ascending; the last is infinite."""
    usd_per_gb: tuple[float, ...]
    evidence: Evidence

    def __post_init__(self) -> None:
        """Refuses tiers with holes."""
        whole = len(self.upto_gb) == len(self.usd_per_gb) > 0 and self.upto_gb[-1] == float("inf")
        if not whole or any(b <= a for a, b in pairwise((0.0, *self.upto_gb))) or min(self.usd_per_gb) < 0:
            right = "as many prices (0 or more) as limits; limits ascend above 0 and the last is infinite"
            raise InputError("tiers with a hole", where=f"egress {self.provider}", right=right)


AWS = Tiers(
    provider="aws",
    upto_gb=(10_000.0, 50_000.0, 150_000.0, float("inf")),
    usd_per_gb=(0.09, 0.085, 0.07, 0.05),
    evidence=Evidence(
        kind=Kind.VENDOR, source="AWS data transfer out to the internet, as listed by wring.co and dev.to", date="2026"
    ),
)
AZURE = Tiers(
    provider="azure",
    upto_gb=(10_000.0, 50_000.0, 150_000.0, float("inf")),
    usd_per_gb=(0.087, 0.083, 0.07, 0.05),
    evidence=Evidence(
        kind=Kind.ASSUMED,
        source="Azure internet egress: the first tier as listed by c3x.dev and cloudcalcep; the tiers above 10 TB unverified",
        date="2026",
    ),
)
NONE = Tiers(
    provider="none",
    upto_gb=(float("inf"),),
    usd_per_gb=(0.0,),
    evidence=Evidence(kind=Kind.ASSUMED, source="a hub of one's own bills nothing for what leaves it"),
)
_KNOWN = {tiers.provider: tiers for tiers in (NONE, AWS, AZURE)}


def tiers_named(provider: str) -> Tiers:
    """The tiers of a provider; InputError for one whose prices are not known here."""
    if provider not in _KNOWN:
        raise InputError(f"no prices of {provider!r}", where="egress", right=f"one of {', '.join(_KNOWN)}, or tiers of your own")
    return _KNOWN[provider]


def egress_usd(gb_per_month: ArrayLike, tiers: Tiers, *, free_gb: float = 0.0) -> NDArray[np.float64]:
    """A month's bill for these bytes, shape as given; `free_gb` are taken off before the first tier."""
    billed = np.maximum(np.asarray(gb_per_month, dtype=np.float64) - free_gb, 0.0)
    total = np.zeros_like(billed)
    for (low, high), price in zip(pairwise((0.0, *tiers.upto_gb)), tiers.usd_per_gb, strict=True):
        total += price * (np.minimum(billed, high) - np.minimum(billed, low))
    return total


def mean_usd_per_gb(gb_per_month: ArrayLike, tiers: Tiers) -> NDArray[np.float64]:
    """What a gigabyte of these costs on average, shape as given; of none the first tier's price.

    A bill is an account's: all sites' bytes climb its tiers together, and each pays for its bytes what they cost on average.
    """
    volume = np.asarray(gb_per_month, dtype=np.float64)
    first = np.full(volume.shape, tiers.usd_per_gb[0])
    return np.divide(egress_usd(volume, tiers), volume, out=first, where=volume > BYTE_GB)
