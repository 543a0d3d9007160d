"""One site's records over a period, added up: workloads, meters, link, blocks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nearhall.core.evidence import Kind, weakest
from nearhall.core.histogram import Histogram
from nearhall.hub.about import About
from nearhall.hub.tally import Tally
from nearhall.wire.telemetry import Event, MeterWindow, Record

BLOCK_S = 900.0
"""Fifteen minutes: long enough to be nearly independent of its neighbours (reference: planning, section 7)."""
SERIES_MAX = 300


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, seconds since 1970 UTC."""

    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """How long it is; never zero, so that it can be divided by."""
        return max(self.end_s - self.start_s, 1e-9)

    def overlap_s(self, other: Span) -> float:
        """How much of it lies in another."""
        return max(0.0, min(self.end_s, other.end_s) - max(self.start_s, other.start_s))


@dataclass(slots=True)
class MeterSum:
    """One instrument over the period."""

    first_kwh: float | None = None
    last_kwh: float | None = None
    energy_kwh: float = 0.0
    """By the register: what it grew by, also over windows that nobody recorded; a register that went back begins anew."""
    covered_s: float = 0.0
    """The time over which that is known."""
    kind: Kind | None = None
    virtual: bool = False
    _read_s: float = 0.0

    def add(self, window: MeterWindow, record: Span, period: Span) -> None:
        """Adds the part of a window that lies in the period."""
        if window.polls or window.register_kwh:
            kind = Kind(window.kind)
            self.kind = kind if self.kind is None else weakest([self.kind, kind])
            self.virtual = self.virtual or window.virtual
        if len(window.register_kwh) != 2:
            return
        first, last = window.register_kwh
        lasted = _read_span(window, record)
        if self.last_kwh is not None and self.last_kwh <= first and self._read_s <= lasted.start_s:
            # The register ran on while no record was cut (the agent was away): it still knows.
            first, lasted = self.last_kwh, Span(self._read_s, lasted.end_s)
        if last >= first:
            inside = lasted.overlap_s(period)
            self.energy_kwh += (last - first) * inside / lasted.seconds
            self.covered_s += inside
        self.first_kwh = first if self.first_kwh is None else self.first_kwh
        self.last_kwh, self._read_s = last, lasted.end_s


def _read_span(window: MeterWindow, record: Span) -> Span:
    """The time between the two polls of a window's register; the window itself where an older site does not say."""
    if len(window.register_s) == 2 and window.register_s[1] > window.register_s[0]:
        return Span(window.register_s[0], window.register_s[1])
    return record


@dataclass(slots=True)
class Block:
    """Fifteen minutes, or the part of them that was run."""

    start_s: float
    end_s: float
    meters: dict[str, MeterSum] = field(default_factory=dict[str, MeterSum])
    outdoor: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])
    good: dict[str, int] = field(default_factory=dict[str, int])
    total: dict[str, int] = field(default_factory=dict[str, int])
    sent: int = 0
    raw: int = 0


@dataclass(slots=True)
class SitePeriod:
    """Everything a report needs of one site."""

    about: About
    start_s: float
    end_s: float
    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    meters: dict[str, MeterSum] = field(default_factory=dict[str, MeterSum])
    covered_s: float = 0.0
    agent_bytes: int = 0
    round_trips: list[float] = field(default_factory=list[float])
    kernel_round_trips: list[float] = field(default_factory=list[float])
    clock_errors: list[float] = field(default_factory=list[float])
    events: list[Event] = field(default_factory=list[Event])
    blocks: list[Block] = field(default_factory=list[Block])
    records: list[Record] = field(default_factory=list[Record])

    def add(self, record: Record) -> None:
        """Adds one record, of which at least a part lies in the period."""
        window_span = Span(record.start_s, record.end_s)
        if record.gateway_up:
            self.covered_s += window_span.overlap_s(self.span)
        for name, stats in record.workloads.items():
            self.tallies.setdefault(name, Tally()).add(stats)
        for name, found in record.outcomes.items():
            outcomes = self.tallies.setdefault(name, Tally()).outcomes
            for outcome in found:
                outcomes[outcome.name] = outcomes.get(outcome.name, 0.0) + outcome.total
        for name, window in record.meters.items():
            self.meters.setdefault(name, MeterSum()).add(window, window_span, self.span)
        self.agent_bytes += record.link.sent_bytes + record.link.received_bytes
        if record.link.rtt_ms is not None:
            self.round_trips.append(record.link.rtt_ms)
        if record.link.kernel_rtt_ms is not None:
            self.kernel_round_trips.append(record.link.kernel_rtt_ms)
        if record.clock_error_ms is not None:
            self.clock_errors.append(record.clock_error_ms)
        self.events.extend(record.events)
        self.records.append(record)
        self._block(record, window_span)

    @property
    def span(self) -> Span:
        """The period."""
        return Span(self.start_s, self.end_s)

    @property
    def coverage(self) -> float:
        """The share of the period that records with a living gateway cover."""
        return min(1.0, self.covered_s / self.span.seconds)

    @property
    def energy_coverage(self) -> float:
        """The least share of the period that an instrument's register covers; 0 without instruments."""
        covered = [meter.covered_s / self.span.seconds for meter in self.meters.values() if meter.covered_s]
        return min(1.0, *covered) if covered else 0.0

    def _block(self, record: Record, window_span: Span) -> None:
        """A window belongs to the block that it ends in."""
        last = max(0.0, self.end_s - self.start_s - 1e-6)
        index = int(min(max(0.0, record.end_s - self.start_s - 1e-6), last) // BLOCK_S)
        while len(self.blocks) <= index:
            start = self.start_s + len(self.blocks) * BLOCK_S
            self.blocks.append(Block(start_s=start, end_s=min(start + BLOCK_S, self.end_s)))
        block = self.blocks[index]
        for name, window in record.meters.items():
            block.meters.setdefault(name, MeterSum()).add(window, window_span, self.span)
            if "outdoor_c" in window.values:
                block.outdoor.append(window.values["outdoor_c"])
        if record.cpu_share is not None:
            block.cpu.append(record.cpu_share)
        for name, stats in record.workloads.items():
            ended = stats.local + stats.hub + stats.failed + sum(stats.rejected.values())
            block.total[name] = block.total.get(name, 0) + ended
            block.good[name] = block.good.get(name, 0) + stats.local + stats.hub - stats.late
            block.sent += stats.sent_bytes
            block.raw += stats.raw_bytes
        block.sent += record.link.sent_bytes + record.link.received_bytes

    def series(self) -> dict[str, object]:
        """At most 300 points for pictures; neighbouring windows are taken together where there are more."""
        step = -(-len(self.records) // SERIES_MAX) or 1
        groups = [self.records[i : i + step] for i in range(0, len(self.records), step)]
        meters = sorted({name for record in self.records for name, window in record.meters.items() if window.power_w is not None})
        return {
            "t_s": [round(group[-1].end_s - self.start_s, 2) for group in groups],
            "power_w": {
                name: [_mean(r.meters[name].power_w for r in group if name in r.meters) for group in groups] for name in meters
            },
            "local_per_s": [_rate(group, "local") for group in groups],
            "hub_per_s": [_rate(group, "hub") for group in groups],
            "local_p50_ms": [self._p50(group, "local") for group in groups],
            "hub_p50_ms": [self._p50(group, "hub") for group in groups],
            "inlet_c": [_mean(w.values.get("inlet_c") for r in group for w in r.meters.values()) for group in groups],
        }

    def _p50(self, group: Iterable[Record], path: str) -> float | None:
        chats = {workload.id for workload in self.about.workloads if workload.chat}
        merged = Histogram()
        for record in group:
            for name, stats in record.workloads.items():
                if name not in chats:
                    if path in stats.paths:
                        merged.merge(stats.paths[path].latency.histogram())
                    for probe in stats.probes if path == "hub" else ():
                        merged.add(probe.hub_ms)
        value = merged.quantile(0.5)
        return None if value is None else round(value, 3)


def by_site(
    records: Iterable[tuple[str, Record]], abouts: Mapping[str, About], *, start_s: float, end_s: float
) -> dict[str, SitePeriod]:
    """The records of a period, added up site by site; a site that said hello and nothing else is there, with nothing in it."""
    found = {site: SitePeriod(about=about, start_s=start_s, end_s=end_s) for site, about in abouts.items()}
    for site, record in records:
        found.setdefault(site, SitePeriod(about=About(), start_s=start_s, end_s=end_s)).add(record)
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 3) if known else None


def _rate(group: list[Record], path: str) -> float:
    lasted = sum(record.end_s - record.start_s for record in group)
    return round(sum(getattr(stats, path) for record in group for stats in record.workloads.values()) / max(lasted, 1e-9), 3)
