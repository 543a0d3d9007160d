"""The median of a few paired differences, and how sure one can be of it, without assuming a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import NormalDist

CONFIDENCE = 0.95
EXACT_MAX = 200
"""Beyond this the binomial's tail is not summed but approximated: the rank is the exact one, or its neighbour at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MedianInterval:
    """A median with its confidence interval; the ends are values of the sample."""

    value: float
    low: float | None
    """None when the sample is too small for the confidence asked (fewer than six values for 95 %)."""
    high: float | None
    n: int


def median_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> MedianInterval | None:
    """The median and the interval between two order statistics that holds the true median with at least `confidence`.

    Exact for any continuous distribution: the number of values below the median is Binomial(n, 1/2) (Conover, "Practical
    Nonparametric Statistics", 3.2). None for an empty sample.
    """
    n = len(values)
    if n == 0:
        return None
    ordered = sorted(values)
    middle = ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2.0
    rank = _lower_rank(n, confidence)
    if rank == 0:
        return MedianInterval(value=middle, low=None, high=None, n=n)
    return MedianInterval(value=middle, low=ordered[rank - 1], high=ordered[n - rank], n=n)


def _lower_rank(n: int, confidence: float) -> int:
    """The largest r with P(Binomial(n, 1/2) < r) <= (1 - confidence) / 2; 0 when there is none."""
    tail = (1.0 - confidence) / 2.0
    if n > EXACT_MAX:
        # Normal approximation with continuity correction: P(Binomial < r) = Phi((2 r - 1 - n) / sqrt(n)).
        return max(1, int((n + 1 - NormalDist().inv_cdf(1.0 - tail) * n**0.5) / 2.0))
    total, rank = 0, 0
    limit = tail * 2**n
    while rank < n // 2:
        total += comb(n, rank)
        if total > limit:
            break
        rank += 1
    return rank
