"""A small site whose every figure can be worked out by hand."""

from __future__ import annotations

import json
from typing import Any

from nearhall.core.histogram import Histogram
from nearhall.drivers.store_memory import MemoryStore
from nearhall.ports.store import SiteRow, Store
from nearhall.wire.telemetry import (
    Event,
    LinkWindow,
    MeterWindow,
    Outcome,
    PathStats,
    ProbePair,
    Record,
    Sketch,
    WorkloadStats,
)

START_S = 1_700_000_000.0
WINDOW_S = 2.0
WATTS = {"feed": 360.0, "ups-in": 288.0, "ups-out": 252.0, "it": 252.0, "cooling": 72.0}
"""feed = ups-in 288 + cooling 72; the UPS loses 36; PUE = 360 / 252."""
POSITIONS = {"feed": "feed", "ups-in": "ups_in", "ups-out": "ups_out", "it": "it", "cooling": "cooling"}


def sketch(*values: float) -> Sketch:
    """A histogram of these values on the wire."""
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return Sketch.of(histogram)


def path(n: int, *, queue: float, service: float, network: float, ttft: float | None = None) -> PathStats:
    """`n` answers, all alike."""
    return PathStats(
        latency=sketch(*[queue + service + network] * n),
        queue=sketch(*[queue] * n),
        service=sketch(*[service] * n),
        network=sketch(*[network] * n),
        ttft=sketch(*([] if ttft is None else [ttft] * n)),
    )


def probe(local_ms: float, hub_ms: float, service_ms: float = 2.0) -> ProbePair:
    """One pair."""
    return ProbePair(at_s=START_S, local_ms=local_ms, hub_ms=hub_ms, hub_queue_ms=0.1, hub_service_ms=service_ms)


def meters(window: int, *, scale: dict[str, float] | None = None, kind: str = "simulated") -> dict[str, MeterWindow]:
    """Registers that grow by `WATTS`; `scale` plants errors."""
    found: dict[str, MeterWindow] = {}
    for name, watts in WATTS.items():
        lies = watts * (scale or {}).get(name, 1.0)
        per_window = lies * WINDOW_S / 3.6e6
        found[name] = MeterWindow(
            virtual=kind == "simulated",
            kind=kind,
            power_w=lies,
            register_kwh=[100.0 + window * per_window, 100.0 + (window + 1) * per_window],
            polls=2,
        )
    return found


def about(**more: Any) -> dict[str, Any]:
    """What the site says of itself."""
    return {
        "class": "micro",
        "jurisdiction": "DE",
        "host": {"cpu": "a processor", "cores": 2},
        "link": {"rtt_ms": 40.0, "jitter_ms": 0.0, "mbps": 50.0, "kind": "simulated", "source": "default"},
        "workloads": [
            {"id": "video", "model": "faces", "slo_ms": 50.0, "residency": "site", "raw_baseline": "the camera's stream"},
            {"id": "chat", "model": "smollm2", "slo_ttft_ms": 300.0, "residency": "jurisdiction:DE", "chat": True},
        ],
        "meters": [
            {"id": name, "position": position, "class_percent": 1.0, "serial": f"VIRTUAL-{name}"}
            for name, position in POSITIONS.items()
        ],
        "catalogue": {"id": "server", "idle_w": 180.0, "busy_w": 400.0, "source": "a data sheet"},
    } | more


def video(n: int = 10, **more: Any) -> WorkloadStats:
    """`n` answers on site, each 5 ms: 1 queue, 3 service, 1 network."""
    counts: dict[str, Any] = {
        "local": n,
        "within_10_ms": n,
        "paths": {"local": path(n, queue=1.0, service=3.0, network=1.0)},
        "raw_bytes": 10_000 * n,
        "raw_known": n,
        "decisions": {"local_first": n},
    }
    return WorkloadStats(**(counts | more))


def record(window: int, **more: Any) -> Record:
    """The window from `START_S + 2 x window`."""
    parts: dict[str, Any] = {
        "start_s": START_S + window * WINDOW_S,
        "end_s": START_S + (window + 1) * WINDOW_S,
        "boot_id": "boot",
        "gateway_id": "gateway",
        "workloads": {"video": video()},
        "meters": meters(window),
        "outcomes": {"video": [Outcome(name="faces", count=1, total=3.0)]},
        "events": [],
        "link": LinkWindow(sent_bytes=700, received_bytes=300, rtt_ms=41.0),
        "clock_error_ms": 0.5,
        "cpu_share": 0.25,
    }
    return Record(**(parts | more))


def store_with(
    records: list[Record], *, site: str = "shop-01", said: dict[str, Any] | None = None, into: Store | None = None
) -> Store:
    """A store in which one site has said hello and reported."""
    store = into or MemoryStore()
    body = json.dumps(about() if said is None else said).encode()
    store.seen(SiteRow(site=site, first_seen_s=START_S, last_seen_s=START_S, software="s", boot_id="boot", about=body))
    store.add(site, "outbox", list(enumerate(records, start=1)))
    return store


def event(kind: str, text: str, level: str = "info") -> Event:
    """Something that happened at the start."""
    return Event(at_s=START_S + 1, kind=kind, text=text, level=level)
