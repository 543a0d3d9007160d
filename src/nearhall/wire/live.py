"""The live state that the hub shows: `GET /api/v1/live` (once) and `GET /api/v1/live/events` (server-sent, one per second).

Read by the page and by the terminal view of `nearhall up`. Every figure has a kind of evidence in `kinds`.
"""

from __future__ import annotations

import msgspec

from nearhall.wire.telemetry import Event, ModelState


class LiveWorkload(msgspec.Struct, frozen=True, omit_defaults=True):
    """One workload of one site since the start of the run; `*_per_s` of the last window."""

    id: str
    model: str
    residency: str
    chat: bool = False
    """Its latencies are times to first token."""
    slo_ms: float | None = None
    requests_per_s: float = 0.0
    local: int = 0
    hub: int = 0
    rejected: dict[str, int] = {}
    failed: int = 0
    late: int = 0
    within_10_ms: int = 0
    local_p50_ms: float | None = None
    local_p99_ms: float | None = None
    hub_p50_ms: float | None = None
    """What requests sent to the hub took."""
    hub_p99_ms: float | None = None
    probe_p50_ms: float | None = None
    """What the hub would have taken for requests answered here, by paired probes."""
    probes: int = 0
    raw_bytes: int = 0
    sent_bytes: int = 0
    outcomes: dict[str, float] = {}
    """What the application found, by name: faces, speech_seconds, ..."""


class LiveMeter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One instrument, last window."""

    id: str
    position: str
    kind: str
    power_w: float | None = None
    values: dict[str, float] = {}
    missed: int = 0


class LivePoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One window for the pictures."""

    at_s: float
    power_w: dict[str, float] = {}
    """By meter id."""
    local_per_s: float = 0.0
    hub_per_s: float = 0.0
    refused_per_s: float = 0.0
    local_p50_ms: float | None = None
    local_p99_ms: float | None = None
    """Only tensor workloads; null below the sample size, of the last minute."""
    hub_p50_ms: float | None = None
    sent_bytes_per_s: float = 0.0
    raw_bytes_per_s: float = 0.0
    inlet_c: float | None = None


class LiveSite(msgspec.Struct, frozen=True, omit_defaults=True):
    """One site."""

    id: str
    klass: str
    jurisdiction: str
    online: bool
    """Telemetry came within the last 10 s."""
    last_seen_s: float
    gateway_up: bool = True
    link_up: bool = True
    rtt_ms: float | None = None
    spooled_bytes: int = 0
    agent_bytes: int = 0
    """Telemetry and control on the link so far, both ways."""
    probe_bytes: int = 0
    workloads: list[LiveWorkload] = []
    meters: list[LiveMeter] = []
    pue: float | None = None
    models: list[ModelState] = []
    points: list[LivePoint] = []
    """In the snapshot: the last 300; in a server-sent event: those since the event before."""
    kinds: dict[str, str] = {}
    """By figure: `latency_local`, `latency_hub`, `rtt`, `bytes_sent`, `bytes_raw`, `power`, `pue`, `temperature`, `counts`."""


class LiveState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything the page shows."""

    at_s: float
    started_s: float
    hub: str
    software: str
    sites: list[LiveSite] = []
    events: list[tuple[str, Event]] = []
    """(site, event), newest last; the last 100 in the snapshot, the new ones in a server-sent event."""
