"""A faithful pilot document by the contract of DESIGN.md, small enough to read, and ways to bend it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from nearhall.report.pilot.page import render_report
from nearhall.wire.live import LiveMeter, LivePoint, LiveSite, LiveState, LiveWorkload
from nearhall.wire.telemetry import Event, ModelState

MEASURED = {"kind": "measured", "source": "monotonic clock of the gateway on this host"}
SHAPED = {"kind": "simulated", "source": "through the shaped link: 40 ms, 50 Mbit/s"}
VIRTUAL = {"kind": "simulated", "source": "virtual cabinet"}
PRICE = {"kind": "assumed", "source": "nobody has given a tariff yet"}


def _path(n: int, p50: float, *, service: float, network: float) -> dict[str, Any]:
    return {
        "n": n,
        "p50": p50,
        "p95": p50 * 1.2,
        "p99": p50 * 1.5 if n >= 1000 else None,
        "queue_p50": 0.02,
        "service_p50": service,
        "network_p50": network,
    }


def _workload(name: str, model: str, *, local: int, hub: int, service: float, **more: Any) -> dict[str, Any]:
    rejected: dict[str, int] = more.pop("rejected", {})
    return {
        "id": name,
        "model": model,
        "slo_p99_ms": 20,
        "residency": "any",
        "requests": {
            "total": local + hub + sum(rejected.values()),
            "local": local,
            "hub": hub,
            "rejected": rejected,
            "failed": 0,
            "late": 3,
            "within_10_ms": local - 4,
        },
        "latency_ms": {
            "local": _path(local, service + 0.3, service=service, network=0.2),
            "hub": _path(40, service + 41.2, service=service, network=41.0),
            "gain_p50": {"value": 40.8, "low": 39.9, "high": 41.6, "n": 118},
        },
        "ttft_ms": None,
        "break_even_rtt_ms": 0.4,
        "upstream_bytes": {
            "raw": 6_400_000,
            "sent": 210_000 if hub else 0,
            "probe": 88_000,
            "saved_fraction": 0.967,
            "baseline": "the camera's stream",
        },
        "energy_j_per_request": {"marginal": 0.021, "full": 9.3},
        "chat": name == "chat",
        "per_thousand": {
            "local": {"energy_kwh": 0.00258, "cost_usd": 0.000775},
            "hub": {"energy_kwh": 0.0000412, "cost_usd": 0.0000124},
        },
        "outcomes": {"faces": 1100.0},
        "decisions": {"local_first": local},
    } | more


def _site(name: str, workloads: list[dict[str, Any]], *, base_w: float) -> dict[str, Any]:
    meters = [
        ("feed", "feed", 1.35),
        ("ups-in", "ups_in", 1.1),
        ("ups-out", "ups_out", 1.04),
        ("it", "it", 1.0),
        ("cooling", "cooling", 0.2),
    ]
    steps = range(60)
    return {
        "id": name,
        "class": "micro",
        "jurisdiction": "DE",
        "period": {"start": "2026-11-23T19:00:00Z", "end": "2026-11-23T19:02:00Z"},
        "coverage": 1.0,
        "clock_error_ms": 0.3,
        "host": {"cpu": "Xeon, 2 cores", "os": "Linux 6.1", "hardware": "mlperf:edge-1"},
        "link": {"rtt_ms": 40.4, "mbps": 50, "observed_rtt_ms": 41.0},
        "meters": [
            {"id": i, "position": p, "protocol": "modbus-tcp", "serial": f"virtual-{n}", "class_percent": 1.0, "ct_ratio": None}
            for n, (i, p, _) in enumerate(meters)
        ],
        "workloads": workloads,
        "energy": {
            "facility_kwh": 0.01131,
            "ups_in_kwh": 0.00921,
            "ups_out_kwh": 0.00871,
            "it_kwh": 0.0084,
            "cooling_kwh": 0.00164,
            "other_kwh": 0.0004,
            "closure_percent": 0.4,
            "tolerance_percent": 1.4,
            "closes": True,
            "findings": [],
        },
        "pue": {"value": 1.35, "category": "PUE2", "interim": True},
        "blocks": [],
        "series": {
            "t_s": [2.0 * s for s in steps],
            "power_w": {i: [base_w * share + (s * 7 % 13) for s in steps] for i, _, share in meters},
            "local_per_s": [45.0 + s % 3 for s in steps],
            "hub_per_s": [0.1 for _ in steps],
            "local_p50_ms": [1.1 + 0.05 * (s % 5) for s in steps],
            "hub_p50_ms": [None if s < 5 else 42.0 + s % 4 for s in steps],
            "inlet_c": [21.0 + s / 40 for s in steps],
        },
    }


def _document() -> dict[str, Any]:
    chat: dict[str, Any] = {
        "latency_ms": {
            "local": _path(21, 900.0, service=890.0, network=0.4),
            "hub": _path(6, 980.0, service=930.0, network=44.0),
            "gain_p50": {"value": 38.0, "low": 12.0, "high": 66.0},
        },
        "ttft_ms": {
            "local": {"n": 21, "p50": 182.0, "p95": 240.0, "p99": None},
            "hub": {"n": 6, "p50": 221.0, "p95": None, "p99": None},
        },
        "break_even_rtt_ms": 2.3,
        "upstream_bytes": {"raw": None, "sent": 21_000, "probe": 4_000, "saved_fraction": None, "baseline": "none"},
    }
    plant_chat = copy.deepcopy(chat)
    plant_chat["latency_ms"] |= {"local": None, "gain_p50": {"value": None, "low": None, "high": None}}
    plant_chat |= {"break_even_rtt_ms": None}
    plant_chat["ttft_ms"]["local"] = None
    sites = [
        _site(
            "shop-01",
            [
                _workload("video", "faces", local=1200, hub=0, service=2.9, residency="site", rejected={"residency": 2}),
                _workload("speech", "voice", local=3750, hub=0, service=0.3, residency="site"),
                _workload("inspection", "inspection", local=470, hub=10, service=0.2, rejected={"queue_full": 5, "deadline": 1}),
                _workload("chat", "smollm2", local=15, hub=0, service=880.0, residency="jurisdiction:DE", **chat),
            ],
            base_w=250,
        ),
        _site(
            "plant-02",
            [
                _workload("video", "faces", local=1198, hub=0, service=3.1, residency="site"),
                _workload("speech", "voice", local=3741, hub=0, service=0.31, residency="site"),
                _workload("inspection", "inspection", local=480, hub=0, service=0.21, rejected={"restarting": 4}),
                _workload("chat", "smollm2", local=0, hub=14, service=900.0, residency="jurisdiction:DE", **plant_chat),
            ],
            base_w=230,
        ),
    ]
    return {
        "schema": "nearhall/pilot/v1",
        "run": {"started": "2026-11-23T19:00:00Z", "ended": "2026-11-23T19:02:00Z", "software": "nearhall 0.1.0", "seed": 1},
        "evidence": _evidence(),
        "counts": {"measured": 214, "simulated": 122, "vendor": 10, "standard": 2, "assumed": 16},
        "sites": sites,
        "totals": {
            "requests": {
                "total": 10885,
                "local": 10854,
                "hub": 24,
                "rejected": {"residency": 2, "queue_full": 5, "deadline": 1, "restarting": 4},
                "failed": 0,
                "late": 24,
                "within_10_ms": 10820,
            },
            "upstream_bytes": {"raw": 38_400_000, "sent": 880_000, "probe": 640_000, "saved_fraction": 0.977},
        },
        "events": [
            {"at_s": 1795460402.0, "site": "shop-01", "kind": "gateway_started", "text": "gateway started", "level": "info"},
            {
                "at_s": 1795460461.5,
                "site": "plant-02",
                "kind": "gateway_lost",
                "text": "gateway ended by signal 9; the agent answers for it",
                "level": "warning",
            },
        ],
    }


def _evidence() -> dict[str, dict[str, str]]:
    entries: dict[str, dict[str, str]] = {"/totals": MEASURED}
    for s in range(2):
        site = f"/sites/{s}"
        entries |= {f"{site}/{name}": MEASURED for name in ("coverage", "clock_error_ms")}
        entries |= {f"{site}/{name}": VIRTUAL for name in ("energy", "pue", "blocks", "series")}
        entries |= {f"{site}/link": SHAPED, f"{site}/series/local_p50_ms": MEASURED, f"{site}/series/hub_p50_ms": SHAPED}
        for w in range(4):
            work = f"{site}/workloads/{w}"
            entries |= {f"{work}/requests": MEASURED, f"{work}/latency_ms/local": MEASURED, f"{work}/upstream_bytes": MEASURED}
            entries |= {
                f"{work}/latency_ms/hub": SHAPED,
                f"{work}/latency_ms/gain_p50": SHAPED,
                f"{work}/break_even_rtt_ms": SHAPED,
            }
            entries |= {f"{work}/ttft_ms/local": MEASURED, f"{work}/ttft_ms/hub": SHAPED, f"{work}/energy_j_per_request": VIRTUAL}
            entries |= {
                f"{work}/per_thousand/local/energy_kwh": VIRTUAL,
                f"{work}/per_thousand": PRICE,
                f"{work}/outcomes": MEASURED,
            }
            entries |= {f"{work}/slo_p99_ms": PRICE}
    return entries


@pytest.fixture
def pilot() -> dict[str, Any]:
    """A pilot in which local is clearly faster."""
    return copy.deepcopy(_document())


@pytest.fixture(scope="session")
def html() -> str:
    """That pilot's report."""
    return render_report(_document())


@pytest.fixture
def each_workload() -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """All workloads of a document."""
    return lambda document: [workload for site in document["sites"] for workload in site["workloads"]]


LIVE_KINDS = {
    "latency_local": "measured",
    "latency_hub": "simulated",
    "rtt": "simulated",
    "bytes_sent": "measured",
    "bytes_raw": "measured",
    "power": "simulated",
    "pue": "simulated",
    "temperature": "simulated",
    "counts": "measured",
}


def live_site(name: str, *, workloads: int = 4) -> LiveSite:
    """A site that serves."""
    return LiveSite(
        id=name,
        klass="micro",
        jurisdiction="DE",
        online=True,
        last_seen_s=1000.0,
        rtt_ms=40.3,
        workloads=[
            LiveWorkload(
                id=f"work-{n}",
                model="faces",
                residency="site",
                requests_per_s=10.0,
                local=1200,
                hub=7,
                rejected={"queue_full": 3},
                local_p50_ms=3.1,
                local_p99_ms=5.2,
                probe_p50_ms=44.3,
                raw_bytes=6_400_000,
                sent_bytes=2000,
                outcomes={"faces": 1100},
            )
            for n in range(workloads)
        ],
        meters=[
            LiveMeter(id="feed", position="feed", kind="simulated", power_w=343.0),
            LiveMeter(id="it", position="it", kind="simulated", power_w=260.0),
            LiveMeter(id="air", position="other", kind="simulated", values={"inlet_c": 22.4}),
        ],
        pue=1.35,
        models=[ModelState(name="faces", version="1", variant="fp32", runtime="openvino", state="ready")],
        points=[
            LivePoint(at_s=990.0 + 2 * n, power_w={"feed": 343.0, "it": 260.0}, local_per_s=10.0, local_p50_ms=3.1)
            for n in range(5)
        ],
        kinds=LIVE_KINDS,
    )


@pytest.fixture
def live() -> LiveState:
    """Two sites that serve, and one event."""
    return LiveState(
        at_s=1000.0,
        started_s=400.0,
        hub="hub",
        software="nearhall 0.1.0",
        sites=[live_site("shop-01"), live_site("plant-02")],
        events=[("shop-01", Event(at_s=900.0, kind="gateway_started", text="gateway started"))],
    )
