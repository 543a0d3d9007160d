"""A mergeable histogram of positive numbers with a bounded relative error.

Buckets grow by a constant factor, as in DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019), so that histograms of windows,
processes and sites add up without loss. Kept here, not taken from a package, because the agent imports no numpy or protobuf,
which the packaged sketches do; the whole of it is one logarithm.
"""

from __future__ import annotations

from math import ceil, exp, log

RELATIVE_ERROR = 0.005
"""Half a percent: well under the 5 % to which an outside timer must agree."""
_LOG_GAMMA = log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
_SMALLEST = 1e-6
"""Values at or below this (a nanosecond, in milliseconds) share one bucket."""
SAMPLES_NEEDED: dict[float, int] = {0.5: 10, 0.9: 100, 0.95: 200, 0.99: 1000}
"""A quantile is null below its sample size: about ten samples must lie beyond it."""


class Histogram:
    """Counts by bucket; `counts` maps a bucket's index to its count and is what travels in telemetry."""

    __slots__ = ("counts", "n", "total")

    def __init__(self, counts: dict[int, int] | None = None, total: float = 0.0) -> None:
        self.counts: dict[int, int] = dict(counts) if counts else {}
        self.n = sum(self.counts.values())
        self.total = total
        """Sum of all values, exact, for means."""

    def add(self, value: float) -> None:
        """Counts one value; a negative one (a clock step) counts as zero."""
        index = ceil(log(max(value, _SMALLEST)) / _LOG_GAMMA)
        self.counts[index] = self.counts.get(index, 0) + 1
        self.n += 1
        self.total += max(value, 0.0)

    def merge(self, other: Histogram) -> None:
        """Adds another histogram's counts to this one."""
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count
        self.n += other.n
        self.total += other.total

    def minus(self, earlier: Histogram) -> Histogram:
        """What was added since `earlier`, an older state of the same histogram."""
        counts = {i: c - earlier.counts.get(i, 0) for i, c in self.counts.items() if c != earlier.counts.get(i, 0)}
        return Histogram(counts, self.total - earlier.total)

    def quantile(self, q: float) -> float | None:
        """The value below which a share `q` lies, within 0.5 %; None when empty."""
        if self.n == 0:
            return None
        rank = max(1, ceil(q * self.n))
        seen = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                return _middle(index)
        return _middle(max(self.counts))

    def reported(self, q: float) -> float | None:
        """`quantile(q)`, but None while there are too few samples to report it (p99 needs 1,000)."""
        return self.quantile(q) if self.n >= SAMPLES_NEEDED.get(q, 1) else None

    def share_within(self, limit: float) -> float | None:
        """The share of values at or below `limit`, to the width of a bucket; None when empty."""
        if self.n == 0:
            return None
        return sum(c for i, c in self.counts.items() if _middle(i) <= limit) / self.n


def _middle(index: int) -> float:
    """The value that is within the relative error of everything in bucket `index`."""
    return exp((index - 1) * _LOG_GAMMA) * (1 + RELATIVE_ERROR)
