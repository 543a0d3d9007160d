"""The live state of all sites, built from records as they come; totals since the start of the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from nearhall.core.evidence import Kind, weakest
from nearhall.core.histogram import Histogram
from nearhall.hub.about import About, MeterAbout, WorkloadAbout
from nearhall.hub.tally import PATHS, Tally
from nearhall.physics.pue import pue
from nearhall.wire.live import LiveMeter, LivePoint, LiveSite, LiveState, LiveWorkload
from nearhall.wire.telemetry import Event, MeterWindow, Record

ONLINE_SECONDS = 10.0
"""Five windows without a word."""
POINTS_KEPT = 300
"""Ten minutes at two seconds a window."""
EVENTS_KEPT = 100
MINUTE_WINDOWS = 30
"""Quantiles of the pictures are of the last minute."""


@dataclass(slots=True)
class _Energy:
    """Register energy of one instrument since the start of the run."""

    kwh: float = 0.0


@dataclass(slots=True)
class SiteBoard:
    """One site."""

    site: str
    about: About
    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    energy: dict[str, _Energy] = field(default_factory=dict[str, _Energy])
    meters: dict[str, MeterWindow] = field(default_factory=dict[str, MeterWindow])
    points: deque[LivePoint] = field(default_factory=lambda: deque(maxlen=POINTS_KEPT))
    recent: deque[dict[str, Histogram]] = field(default_factory=deque[dict[str, Histogram]])
    minute: dict[str, Histogram] = field(default_factory=lambda: {path: Histogram() for path in PATHS})
    """The windows of `recent`, added up; kept by adding one and taking one away, so that a long backlog is shown quickly."""
    rates: dict[str, float] = field(default_factory=dict[str, float])
    last: Record | None = None
    agent_bytes: int = 0
    rtt_ms: float | None = None

    def add(self, record: Record) -> None:
        """Takes one window in."""
        lasted = max(record.end_s - record.start_s, 1e-3)
        for name, stats in record.workloads.items():
            self.tallies.setdefault(name, Tally()).add(stats)
        for name, found in record.outcomes.items():
            outcomes = self.tallies.setdefault(name, Tally()).outcomes
            for outcome in found:
                outcomes[outcome.name] = outcomes.get(outcome.name, 0.0) + outcome.total
        for name, window in record.meters.items():
            if window.polls:
                self.meters[name] = window
            if len(window.register_kwh) == 2:
                self.energy.setdefault(name, _Energy()).kwh += max(0.0, window.register_kwh[1] - window.register_kwh[0])
        self.rates = {
            name: (stats.local + stats.hub + sum(stats.rejected.values()) + stats.failed) / lasted
            for name, stats in record.workloads.items()
        }
        self.agent_bytes += record.link.sent_bytes + record.link.received_bytes
        seen = record.link.kernel_rtt_ms if self.about.link.kind == Kind.MEASURED.value else None
        seen = record.link.rtt_ms if seen is None else seen
        self.rtt_ms = self.rtt_ms if seen is None else seen
        if self.last is None or record.end_s >= self.last.end_s:
            self.last = record
        self._roll(self._window_histograms(record))
        self.points.append(self._point(record, lasted))

    def _roll(self, window: dict[str, Histogram]) -> None:
        self.recent.append(window)
        oldest = self.recent.popleft() if len(self.recent) > MINUTE_WINDOWS else None
        for path, added in self.minute.items():
            added.merge(window[path])
            if oldest is not None:
                self.minute[path] = added.minus(oldest[path])

    def _chats(self) -> set[str]:
        return {workload.id for workload in self.about.workloads if workload.chat}

    def _window_histograms(self, record: Record) -> dict[str, Histogram]:
        """Latencies of tensor workloads in one window, by path; probes stand for the hub where nothing was sent to it."""
        found = {"local": Histogram(), "hub": Histogram()}
        for name, stats in record.workloads.items():
            if name in self._chats():
                continue
            for path, histogram in found.items():
                if path in stats.paths:
                    histogram.merge(stats.paths[path].latency.histogram())
            for probe in stats.probes:
                found["hub"].add(probe.hub_ms)
        return found

    def _point(self, record: Record, lasted: float) -> LivePoint:
        minute = self.minute
        stats = record.workloads.values()
        raw = sum(s.raw_bytes for s in stats)
        sent = sum(s.sent_bytes for s in stats) + record.link.sent_bytes + record.link.received_bytes
        return LivePoint(
            at_s=record.end_s,
            power_w={name: window.power_w for name, window in record.meters.items() if window.power_w is not None},
            local_per_s=sum(s.local for s in stats) / lasted,
            hub_per_s=sum(s.hub for s in stats) / lasted,
            refused_per_s=sum(sum(s.rejected.values()) for s in stats) / lasted,
            local_p50_ms=minute["local"].reported(0.5),
            local_p99_ms=minute["local"].reported(0.99),
            hub_p50_ms=minute["hub"].reported(0.5),
            sent_bytes_per_s=sent / lasted,
            raw_bytes_per_s=raw / lasted,
            inlet_c=_first(record.meters, "inlet_c"),
        )

    def live(self, now_s: float, *, last_seen_s: float, points_after_s: float | None) -> LiveSite:
        """The site as the page shows it."""
        record = self.last
        kinds = self._kinds()
        return LiveSite(
            id=self.site,
            klass=self.about.site_class,
            jurisdiction=self.about.jurisdiction,
            online=now_s - last_seen_s <= ONLINE_SECONDS,
            last_seen_s=record.end_s if record is not None else last_seen_s,
            gateway_up=record.gateway_up if record is not None else False,
            link_up=now_s - last_seen_s <= ONLINE_SECONDS,
            rtt_ms=self.rtt_ms,
            spooled_bytes=record.link.spooled_bytes if record is not None else 0,
            agent_bytes=self.agent_bytes,
            probe_bytes=sum(tally.probe_bytes for tally in self.tallies.values()),
            workloads=[self._workload(workload) for workload in self._all_workloads()],
            meters=[_meter(about, self.meters.get(about.id)) for about in self.about.meters],
            pue=self._pue(),
            models=record.models if record is not None else [],
            points=[point for point in self.points if points_after_s is None or point.at_s > points_after_s],
            kinds=kinds,
        )

    def _all_workloads(self) -> list[WorkloadAbout]:
        known = {workload.id for workload in self.about.workloads}
        others = [name for name in self.tallies if name not in known]
        return [*self.about.workloads, *(WorkloadAbout(id=name, model=name.removeprefix("model:")) for name in others)]

    def _workload(self, about: WorkloadAbout) -> LiveWorkload:
        tally = self.tallies.get(about.id, Tally())
        local, hub = ((path.ttft if about.chat else path.latency) for path in (tally.paths["local"], tally.paths["hub"]))
        return LiveWorkload(
            id=about.id,
            model=about.model,
            residency=about.residency,
            chat=about.chat,
            slo_ms=about.target_ms,
            requests_per_s=self.rates.get(about.id, 0.0),
            local=tally.local,
            hub=tally.hub,
            rejected=dict(tally.rejected),
            failed=tally.failed,
            late=tally.late,
            within_10_ms=tally.within_10_ms,
            local_p50_ms=local.quantile(0.5),
            local_p99_ms=local.reported(0.99),
            hub_p50_ms=hub.quantile(0.5),
            hub_p99_ms=hub.reported(0.99),
            probe_p50_ms=tally.probe_hub.quantile(0.5),
            probes=tally.probe_hub.n,
            raw_bytes=tally.raw_bytes,
            sent_bytes=tally.sent_bytes,
            outcomes=dict(tally.outcomes),
        )

    def _pue(self) -> float | None:
        by_position = {meter.position: meter.id for meter in self.about.meters}
        names = [by_position.get(position, "") for position in ("feed", "it")]
        facility, it = (self.energy.get(name) for name in names)
        if facility is None or it is None or len({self.meters[name].virtual for name in names if name in self.meters}) > 1:
            return None  # a real feed says nothing of a virtual cabinet's servers
        return pue(facility_kwh=facility.kwh, it_kwh=it.kwh)

    def _kinds(self) -> dict[str, str]:
        link = Kind(self.about.link.kind) if self.about.link.kind in {kind.value for kind in Kind} else Kind.ASSUMED
        hub = weakest([Kind.MEASURED, link]).value
        power = weakest([Kind(window.kind) for window in self.meters.values()]).value if self.meters else Kind.ASSUMED.value
        return {
            "latency_local": Kind.MEASURED.value,
            "latency_hub": hub,
            "rtt": hub,
            "bytes_sent": Kind.MEASURED.value,
            "bytes_raw": Kind.MEASURED.value,
            "counts": Kind.MEASURED.value,
            "power": power,
            "pue": power,
            "temperature": power,
        }


class Board:
    """All sites."""

    def __init__(self, *, hub: str, software: str, started_s: float) -> None:
        self._hub = hub
        self._software = software
        self._started_s = started_s
        self._sites: dict[str, SiteBoard] = {}
        self._seen: dict[str, float] = {}
        self._events: deque[tuple[int, str, Event]] = deque(maxlen=EVENTS_KEPT)
        self._events_total = 0

    @property
    def events_total(self) -> int:
        """Events since the start, for `state(events_after=...)`."""
        return self._events_total

    def introduce(self, site: str, about: About, now_s: float) -> None:
        """A site has said hello."""
        board = self._sites.get(site)
        if board is None:
            self._sites[site] = SiteBoard(site=site, about=about)
        else:
            board.about = about
        self._seen[site] = now_s

    def add(self, site: str, record: Record, now_s: float | None) -> None:
        """Takes one record in; `now_s` is None for one read back from the store."""
        if record.end_s <= self._started_s:
            return
        self._sites.setdefault(site, SiteBoard(site=site, about=About())).add(record)
        self._seen[site] = max(self._seen.get(site, 0.0), now_s if now_s is not None else record.end_s)
        for event in record.events:
            self.tell(site, event)

    def tell(self, site: str, event: Event) -> None:
        """Adds one event."""
        self._events_total += 1
        self._events.append((self._events_total, site, event))

    def state(self, now_s: float, *, points_after: Mapping[str, float] | None = None, events_after: int = 0) -> LiveState:
        """Everything, or with `points_after` and `events_after` only what is new of points and events."""
        after = points_after or {}
        sites = [
            board.live(
                now_s, last_seen_s=self._seen.get(name, 0.0), points_after_s=after.get(name) if points_after is not None else None
            )
            for name, board in sorted(self._sites.items())
        ]
        events = [(site, event) for number, site, event in self._events if number > events_after]
        return LiveState(
            at_s=now_s, started_s=self._started_s, hub=self._hub, software=self._software, sites=sites, events=events
        )


def _meter(about: MeterAbout, window: MeterWindow | None) -> LiveMeter:
    if window is None:
        return LiveMeter(id=about.id, position=about.position, kind=Kind.ASSUMED.value)
    return LiveMeter(
        id=about.id, position=about.position, kind=window.kind, power_w=window.power_w, values=window.values, missed=window.missed
    )


def _first(meters: Mapping[str, MeterWindow], name: str) -> float | None:
    return next((window.values[name] for window in meters.values() if name in window.values), None)
