"""What slices say together: ratios to the limit around each, and which slices say nothing.

A slice is *disturbed* when the machine was: the two slices of the limit around it differ, the hypervisor took time away, or
others ran while this client or the limit was ready to run.
It is *unexplained* when the machine was quiet and its ratio still lies far from the others'. Neither enters a headline; both
are counted and told. Where fewer than half of a subject's slices are left, all are used and the figure is no headline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from nearhall.core.statistics import median_interval

LIMITS_DIFFER_MAX = 0.15
"""Of p50. On two shared cores, differences under 15 % came from the machine."""
STEAL_MAX = 0.03
"""Of the machine's CPU time in the slice."""
WAITED_MAX = 0.05
"""Of a slice, ready and not running. A median of the limit hides neighbours (they meet one run in many); a server, which sleeps
and wakes for each request, meets them every time."""
FAR_MAX = 0.25
"""Of the median ratio; beyond, a slice needs an explanation that nobody has."""
P99_SAMPLES_MIN = 1000
"""A quantile needs ten values beyond it to be worth printing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One slice of one subject."""

    latencies_ms: Sequence[float]
    """Of the answers that count, sorted."""
    took_s: float
    cpu_s: float | None = None
    """Of the server's processes, or of this process for the limit; None for a server that is not on this machine."""
    refused: int = 0
    """Answers other than 200."""
    steal: float = 0.0
    """Share of the machine's CPU time that its hypervisor gave to others."""
    waited: float = 0.0
    """Share of the slice in which the measuring thread was ready to run and another one ran."""

    @property
    def n(self) -> int:
        """How many answers."""
        return len(self.latencies_ms)

    @property
    def p10_ms(self) -> float:
        """Steadiest: what a request takes when nothing else happens."""
        return quantile(self.latencies_ms, 0.10)

    @property
    def p50_ms(self) -> float:
        """The median."""
        return quantile(self.latencies_ms, 0.50)

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.n / self.took_s

    @property
    def cpu_ms(self) -> float | None:
        """CPU milliseconds of the server for one answer."""
        return None if self.cpu_s is None or not self.n else self.cpu_s * 1e3 / self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """A slice and the slices of the limit on both sides of it."""

    before: Slice
    slice: Slice
    after: Slice

    def ratio(self, of: Callable[[Slice], float | None]) -> float | None:
        """The slice's figure over the mean of the limit's around it."""
        mine, first, last = of(self.slice), of(self.before), of(self.after)
        return None if mine is None or first is None or last is None or first + last <= 0 else mine / ((first + last) / 2)

    def added_ms(self, of: Callable[[Slice], float]) -> float:
        """The slice's figure less the mean of the limit's around it."""
        return of(self.slice) - (of(self.before) + of(self.after)) / 2

    @property
    def disturbed(self) -> bool:
        """Whether the machine was not the same before and after, or not ours alone."""
        first, last = self.before.p50_ms, self.after.p50_ms
        every = (self.before, self.slice, self.after)
        taken = any(one.steal > STEAL_MAX or one.waited > WAITED_MAX for one in every)
        return taken or abs(first - last) > LIMITS_DIFFER_MAX * min(first, last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The slices that count, and how many do not."""

    used: Sequence[Between]
    disturbed: int
    unexplained: int
    headline: bool
    """Whether at least half of the slices are left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A median over slices, with its 95 % interval where there are six or more."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One subject's figures beside the limit's, of the same slices."""

    p10_ms: float
    p50_ms: float
    p99_ms: float | None
    """Over all slices that count; None below a thousand answers."""
    p50_ratio: Figure
    p10_ratio: float
    p99_ratio: float | None
    added_p50_ms: Figure
    limit_p50_ms: float
    cpu_ms: float | None
    cpu_ratio: float | None
    refused: int
    slices: int
    disturbed: int
    unexplained: int
    headline: bool
    per_round: Sequence[float] = field(default_factory=tuple[float, ...])
    """The ratio of p50 of every slice, those that do not count with them."""


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of a sorted sample lies, interpolated; 0 for none."""
    if not ordered:
        return 0.0
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def keep(pairs: Sequence[Between]) -> Kept:
    """Sorts out the slices that say something about the machine, or nothing that anybody can explain."""
    quiet = [pair for pair in pairs if not pair.disturbed and pair.slice.n]
    disturbed = len(pairs) - len(quiet)
    ratios = [pair.ratio(_p50) or 0.0 for pair in quiet]
    middle = median(ratios) if ratios else 0.0
    used = [pair for pair, ratio in zip(quiet, ratios, strict=True) if abs(ratio - middle) <= FAR_MAX * middle]
    headline = len(used) * 2 >= len(pairs) and bool(used)
    left = used if headline else [pair for pair in pairs if pair.slice.n]
    return Kept(used=left, disturbed=disturbed, unexplained=len(quiet) - len(used), headline=headline)


def row(pairs: Sequence[Between]) -> Row | None:
    """A subject's figures; None where not one answer counted."""
    kept = keep(pairs)
    used = kept.used
    if not used:
        return None
    cpu = [ratio for pair in used if (ratio := pair.ratio(_cpu)) is not None]
    cpu_ms = [ms for pair in used if (ms := pair.slice.cpu_ms) is not None]
    mine = sorted(ms for pair in used for ms in pair.slice.latencies_ms)
    limits = sorted(ms for pair in used for side in (pair.before, pair.after) for ms in side.latencies_ms)
    p99 = quantile(mine, 0.99) if len(mine) >= P99_SAMPLES_MIN else None
    return Row(
        p10_ms=median(pair.slice.p10_ms for pair in used),
        p50_ms=median(pair.slice.p50_ms for pair in used),
        p99_ms=p99,
        p50_ratio=figure([pair.ratio(_p50) or 0.0 for pair in used]),
        p10_ratio=median(pair.ratio(_p10) or 0.0 for pair in used),
        p99_ratio=p99 / quantile(limits, 0.99) if p99 is not None and len(limits) >= P99_SAMPLES_MIN else None,
        added_p50_ms=figure([pair.added_ms(_p50) for pair in used]),
        limit_p50_ms=median((pair.before.p50_ms + pair.after.p50_ms) / 2 for pair in used),
        cpu_ms=median(cpu_ms) if cpu_ms else None,
        cpu_ratio=median(cpu) if cpu else None,
        refused=sum(pair.slice.refused for pair in pairs),
        slices=len(pairs),
        disturbed=kept.disturbed,
        unexplained=kept.unexplained,
        headline=kept.headline,
        per_round=[pair.ratio(_p50) or 0.0 for pair in pairs],
    )


def figure(values: Sequence[float]) -> Figure:
    """The median and its interval; raises ValueError for an empty sample."""
    found = median_interval(values)
    if found is None:
        raise ValueError("a median needs a value")
    return Figure(value=found.value, low=found.low, high=found.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one kind of request in an open loop; all times are from the intended moment of sending."""

    kind: str
    offered: int
    answered: int
    """With 200."""
    in_deadline: int
    refused: int
    lost: int
    """Neither answered nor refused: the connection broke, or the answer never came."""
    seconds: float
    latencies_ms: Sequence[float]
    """Of those answered with 200, sorted."""
    refusal_p50_ms: float | None = None

    @property
    def in_deadline_share(self) -> float:
        """Of what was offered."""
        return self.in_deadline / self.offered if self.offered else 0.0

    @property
    def goodput_per_s(self) -> float:
        """Answers within the deadline, a second."""
        return self.in_deadline / self.seconds

    @property
    def p99_ms(self) -> float | None:
        """Of the accepted; None below a thousand of them."""
        return quantile(self.latencies_ms, 0.99) if len(self.latencies_ms) >= P99_SAMPLES_MIN else None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind,
            "offered": self.offered,
            "answered": self.answered,
            "in_deadline": self.in_deadline,
            "in_deadline_share": round(self.in_deadline_share, 4),
            "refused": self.refused,
            "lost": self.lost,
            "goodput_per_s": round(self.goodput_per_s, 1),
            "p50_ms": round(quantile(self.latencies_ms, 0.5), 3),
            "p99_ms": None if self.p99_ms is None else round(self.p99_ms, 3),
            "refusal_p50_ms": None if self.refusal_p50_ms is None else round(self.refusal_p50_ms, 3),
        }


def _p50(one: Slice) -> float:
    return one.p50_ms


def _p10(one: Slice) -> float:
    return one.p10_ms


def _cpu(one: Slice) -> float | None:
    return one.cpu_ms
