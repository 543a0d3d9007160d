"""One site's records over a period, added up over its servers: workloads, meters, link, blocks. Pure.

What is counted is summed over the nodes of a site. The first alone reads its meters, and the site is covered while all nodes are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median

import msgspec

from nearhall.core.evidence import Kind, weakest
from nearhall.core.histogram import Histogram
from nearhall.hub.about import About, NodeAbout
from nearhall.hub.tally import Tally
from nearhall.wire.session import session_of, site_of
from nearhall.wire.telemetry import Event, MeterWindow, ModelState, Record

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

    def within(self, other: Span) -> Span:
        """The part that lies in another; an empty one where none does."""
        start_s = max(self.start_s, other.start_s)
        return Span(start_s, max(start_s, min(self.end_s, other.end_s)))

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
    cpu: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Processors that the programs of each node kept busy, window by window."""
    good: dict[str, int] = field(default_factory=dict[str, int])
    total: dict[str, int] = field(default_factory=dict[str, int])
    sent: int = 0
    raw: int = 0

    @property
    def it_load(self) -> float | None:
        """Processors busy, of all nodes; None where nobody said."""
        return sum(sum(shares) / len(shares) for shares in self.cpu.values()) if self.cpu else None


@dataclass(slots=True)
class NodePeriod:
    """What is one node's own."""

    id: str
    about: About
    hardware: str | None = None
    covered: list[Span] = field(default_factory=list[Span])
    """Its windows with a living gateway."""
    clock_errors: list[float] = field(default_factory=list[float])
    heard: bool = False
    """Whether a record of it lies in the period."""

    @property
    def clock_error_ms(self) -> float | None:
        """The median of what its windows say; None where none does."""
        return round(median(self.clock_errors), 3) if self.clock_errors else None


@dataclass(slots=True)
class SitePeriod:
    """Everything a report needs of one site."""

    about: About
    """As its first node says it, who knows the meters; as another does while that one was never heard of."""
    start_s: float
    end_s: float
    site: str = ""
    nodes: dict[str, NodePeriod] = field(default_factory=dict[str, NodePeriod])
    """By session; the first node's is the site's own name."""
    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    meters: dict[str, MeterSum] = field(default_factory=dict[str, MeterSum])
    agent_bytes: int = 0
    cpu_s: float = 0.0
    """CPU time of the programs of all nodes."""
    children_cpu_s: float = 0.0
    """The part of it that runtimes with a process of their own used."""
    counters: dict[str, float] = field(default_factory=dict[str, float])
    """Joules by the machines' own counters (`rapl`, `nvml`), of all nodes."""
    devices: dict[str, str] = field(default_factory=dict[str, str])
    """Where a model last ran: `cpu`, `cuda:0`."""
    round_trips: list[float] = field(default_factory=list[float])
    kernel_round_trips: list[float] = field(default_factory=list[float])
    events: list[Event] = field(default_factory=list[Event])
    blocks: list[Block] = field(default_factory=list[Block])
    records: list[tuple[str, Record]] = field(default_factory=list[tuple[str, Record]])
    """With the session that each came by."""

    def add(self, session: str, record: Record) -> None:
        """Adds one record of a node, of which at least a part lies in the period."""
        window_span = Span(record.start_s, record.end_s)
        node = self.nodes.setdefault(session, NodePeriod(id=_node_of(session), about=About()))
        node.heard = True
        if record.gateway_up:
            node.covered.append(window_span.within(self.span))
        for name, stats in record.workloads.items():
            self.tallies.setdefault(name, Tally()).add(stats)
        for name, found in record.outcomes.items():
            outcomes = self.tallies.setdefault(name, Tally()).outcomes
            for outcome in found:
                outcomes[outcome.name] = outcomes.get(outcome.name, 0.0) + outcome.total
        meters = record.meters if session == self.site else {}
        for name, window in meters.items():
            self.meters.setdefault(name, MeterSum()).add(window, window_span, self.span)
        self.cpu_s += (record.cpu_share or 0.0) * (record.end_s - record.start_s)
        self.children_cpu_s += record.children_cpu_s
        for name, joules in record.counters_j.items():
            self.counters[name] = self.counters.get(name, 0.0) + joules
        # Of a model with several variants one on a device counts: what was held there weighs most.
        self.devices |= {model.name: model.device for model in sorted(record.models, key=_off_the_cpu) if model.device}
        self.agent_bytes += record.link.sent_bytes + record.link.received_bytes
        if record.link.rtt_ms is not None:
            self.round_trips.append(record.link.rtt_ms)
        if record.link.kernel_rtt_ms is not None:
            self.kernel_round_trips.append(record.link.kernel_rtt_ms)
        if record.clock_error_ms is not None:
            node.clock_errors.append(record.clock_error_ms)
        self.events.extend(record.events if session == self.site else (_said_by(node, event) for event in record.events))
        self.records.append((session, record))
        self._block(session, record, meters, window_span)

    @property
    def span(self) -> Span:
        """The period."""
        return Span(self.start_s, self.end_s)

    @property
    def coverage(self) -> float:
        """The share of the period that records with a living gateway cover, of every node at the same time."""
        return self.covered_by(*self.nodes)

    def covered_by(self, *sessions: str) -> float:
        """The share of the period that all of these nodes cover at the same time; 0 for none."""
        common = [self.span] if sessions else []
        for session in sessions:
            common = _common(common, _merged(self.nodes[session].covered))
        return min(1.0, sum(span.end_s - span.start_s for span in common) / self.span.seconds)

    @property
    def clock_error_ms(self) -> float | None:
        """Of the node whose clock is worst; None while that of one that was heard was never compared."""
        errors = [node.clock_error_ms for node in self.nodes.values() if node.heard]
        known = [error for error in errors if error is not None]
        return max(known, key=abs) if known and len(known) == len(errors) else None

    @property
    def idle_w(self) -> float | None:
        """What all its servers draw idle, by the catalogue; None while one of them is not known."""
        each = [node.about.catalogue.idle_w for node in self.nodes.values()]
        known = [watts for watts in each if watts is not None]
        return sum(known) if known and len(known) == len(each) else None

    @property
    def energy_coverage(self) -> float:
        """The least share of the period that an instrument's register covers; 0 without instruments."""
        covered = [meter.covered_s / self.span.seconds for meter in self.meters.values() if meter.covered_s]
        return min(1.0, *covered) if covered else 0.0

    def _block(self, session: str, record: Record, meters: Mapping[str, MeterWindow], window_span: Span) -> None:
        """A window belongs to the block that it ends in."""
        last = max(0.0, self.end_s - self.start_s - 1e-6)
        index = int(min(max(0.0, record.end_s - self.start_s - 1e-6), last) // BLOCK_S)
        while len(self.blocks) <= index:
            start = self.start_s + len(self.blocks) * BLOCK_S
            self.blocks.append(Block(start_s=start, end_s=min(start + BLOCK_S, self.end_s)))
        block = self.blocks[index]
        for name, window in meters.items():
            block.meters.setdefault(name, MeterSum()).add(window, window_span, self.span)
            if "outdoor_c" in window.values:
                block.outdoor.append(window.values["outdoor_c"])
        if record.cpu_share is not None:
            block.cpu.setdefault(session, []).append(record.cpu_share)
        for name, stats in record.workloads.items():
            ended = stats.local + stats.hub + stats.failed + sum(stats.rejected.values())
            block.total[name] = block.total.get(name, 0) + ended
            block.good[name] = block.good.get(name, 0) + stats.local + stats.hub - stats.late
            block.sent += stats.sent_bytes
            block.raw += stats.raw_bytes
        block.sent += record.link.sent_bytes + record.link.received_bytes

    def series(self) -> dict[str, object]:
        """At most 300 points for pictures; neighbouring windows are taken together where there are more, or several nodes."""
        records = sorted(self.records, key=lambda pair: pair[1].end_s)
        nodes = max(1, sum(node.heard for node in self.nodes.values()))
        step = -(-len(records) // (SERIES_MAX * nodes)) * nodes or nodes
        groups = [records[i : i + step] for i in range(0, len(records), step)]
        own = [[record for session, record in group if session == self.site] for group in groups]
        meters = sorted({name for group in own for r in group for name, window in r.meters.items() if window.power_w is not None})
        return {
            "t_s": [round(group[-1][1].end_s - self.start_s, 2) for group in groups],
            "power_w": {
                name: [_mean(r.meters[name].power_w for r in group if name in r.meters) for group in own] for name in meters
            },
            "local_per_s": [_rate(group, "local") for group in groups],
            "hub_per_s": [_rate(group, "hub") for group in groups],
            "local_p50_ms": [self._p50(group, "local") for group in groups],
            "hub_p50_ms": [self._p50(group, "hub") for group in groups],
            "inlet_c": [_mean(w.values.get("inlet_c") for r in group for w in r.meters.values()) for group in own],
        }

    def _p50(self, group: Iterable[tuple[str, Record]], path: str) -> float | None:
        chats = {workload.id for workload in self.about.workloads if workload.chat}
        merged = Histogram()
        for _, record in group:
            for name, stats in record.workloads.items():
                if name not in chats:
                    if path in stats.paths:
                        merged.merge(stats.paths[path].latency.histogram())
                    for probe in stats.probes if path == "hub" else ():
                        merged.add(probe.hub_ms)
        value = merged.quantile(0.5)
        return None if value is None else round(value, 3)


def by_site(
    records: Iterable[tuple[str, Record]],
    abouts: Mapping[str, About],
    *,
    start_s: float,
    end_s: float,
    first_seen_s: Mapping[str, float] | None = None,
) -> dict[str, SitePeriod]:
    """The records of a period, added up site by site; a site that said hello and nothing else is there, with nothing in it.

    Records, self-descriptions and first words are by session. A node that its site names is there too, heard or not; one that it
    no longer names, or that came after the period, only if it was heard.
    """
    later = {session for session, seen_s in (first_seen_s or {}).items() if seen_s >= end_s}
    found: dict[str, SitePeriod] = {}
    for site, sessions in groupby(sorted(abouts, key=site_of), key=site_of):
        found[site] = _begun(site, {session: abouts[session] for session in sessions}, start_s=start_s, end_s=end_s)
    for session, record in records:
        site = site_of(session)
        found.setdefault(site, SitePeriod(about=About(), site=site, start_s=start_s, end_s=end_s)).add(session, record)
    for site, period in found.items():
        named = _named(site, period.about)
        period.nodes = {
            session: node
            for session, node in period.nodes.items()
            if node.heard or session == site or ((not named or session in named) and session not in later)
        }
    return found


def _begun(site: str, abouts: Mapping[str, About], *, start_s: float, end_s: float) -> SitePeriod:
    """A site before its first record."""
    about = abouts.get(site) or next(iter(abouts.values()))
    named = _named(site, about)
    nodes = {
        session: NodePeriod(
            id=named[session].id if session in named else _node_of(session),
            about=abouts.get(session, About()),
            hardware=named[session].hardware if session in named else None,
        )
        for session in [*named, *(session for session in abouts if session not in named)]
    }
    return SitePeriod(about=about, site=site, start_s=start_s, end_s=end_s, nodes=nodes)


def _named(site: str, about: About) -> dict[str, NodeAbout]:
    """The nodes that a site says it has, by session."""
    return {session_of(site, node.id, first=index == 0): node for index, node in enumerate(about.nodes)}


def _off_the_cpu(model: ModelState) -> bool:
    return model.device not in {"", "cpu"}


def _said_by(node: NodePeriod, event: Event) -> Event:
    """The event with the name of the node before it."""
    return msgspec.structs.replace(event, text=f"{node.id}: {event.text}")


def _node_of(session: str) -> str:
    """What to call a node that its site does not name."""
    return session.partition(".")[2] or session


def _merged(spans: Iterable[Span]) -> list[Span]:
    """The same time in order, each moment once."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start_s):
        if found and span.start_s <= found[-1].end_s:
            found[-1] = Span(found[-1].start_s, max(found[-1].end_s, span.end_s))
        else:
            found.append(span)
    return found


def _common(one: list[Span], other: list[Span]) -> list[Span]:
    """The time that lies in both, each in order and without overlap."""
    found: list[Span] = []
    i = j = 0
    while i < len(one) and j < len(other):
        both = one[i].within(other[j])
        if both.end_s > both.start_s:
            found.append(both)
        if one[i].end_s < other[j].end_s:
            i += 1
        else:
            j += 1
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 3) if known else None


def _rate(group: list[tuple[str, Record]], path: str) -> float:
    """A second, over all nodes: each by the time of its own windows."""
    lasted: dict[str, float] = {}
    counted: dict[str, int] = {}
    for session, record in group:
        lasted[session] = lasted.get(session, 0.0) + record.end_s - record.start_s
        counted[session] = counted.get(session, 0) + sum(getattr(stats, path) for stats in record.workloads.values())
    return round(sum(counted[session] / max(lasted[session], 1e-9) for session in lasted), 3)
