"""Adds up the records of one workload: counts and histograms over any number of windows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nearhall.core.histogram import Histogram
from nearhall.wire.telemetry import PathStats, ProbePair, WorkloadStats

PATHS = ("local", "hub")
PARTS = ("latency", "queue", "service", "network", "ttft")
PROBES_MAX = 100_000
"""Pairs of one workload: two a second for half a day. What comes after them no longer moves the median; the histogram has it."""


@dataclass(slots=True)
class PathTally:
    """Answered requests by one path."""

    latency: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    network: Histogram = field(default_factory=Histogram)
    ttft: Histogram = field(default_factory=Histogram)

    def add(self, stats: PathStats) -> None:
        """Adds one window."""
        for part in PARTS:
            histogram: Histogram = getattr(self, part)
            histogram.merge(getattr(stats, part).histogram())


@dataclass(slots=True)
class Tally:
    """One workload over a period."""

    local: int = 0
    hub: int = 0
    failed: int = 0
    cancelled: int = 0
    late: int = 0
    within_10_ms: int = 0
    raw_bytes: int = 0
    raw_known: int = 0
    sent_bytes: int = 0
    probe_bytes: int = 0
    service_cpu_ms: float = 0.0
    busy_ms: float = 0.0
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    decisions: dict[str, int] = field(default_factory=dict[str, int])
    paths: dict[str, PathTally] = field(default_factory=lambda: {path: PathTally() for path in PATHS})
    probes: list[ProbePair] = field(default_factory=list[ProbePair])
    probe_hub: Histogram = field(default_factory=Histogram)
    """What the hub took for the probes; for chat to its first token."""
    outcomes: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, stats: WorkloadStats) -> None:
        """Adds one window."""
        for name in (
            "local",
            "hub",
            "failed",
            "cancelled",
            "late",
            "within_10_ms",
            "raw_bytes",
            "raw_known",
            "sent_bytes",
            "probe_bytes",
            "service_cpu_ms",
            "busy_ms",
        ):
            setattr(self, name, getattr(self, name) + getattr(stats, name))
        _sum(self.rejected, stats.rejected)
        _sum(self.decisions, stats.decisions)
        for name, path in stats.paths.items():
            self.paths.setdefault(name, PathTally()).add(path)
        for probe in stats.probes:
            self.probe_hub.add(probe.hub_ms)
        self.probes.extend(stats.probes[: max(0, PROBES_MAX - len(self.probes))])

    @property
    def answered(self) -> int:
        """Requests that got their answer, by any path."""
        return self.local + self.hub

    @property
    def total(self) -> int:
        """Every request that ended: answered, refused, failed or given up by its client."""
        return self.answered + sum(self.rejected.values()) + self.failed + self.cancelled


def _sum(into: dict[str, int], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        into[name] = into.get(name, 0) + count
