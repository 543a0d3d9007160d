"""A cabinet by the plan's own means, for the tests that size one: a site as a document, servers as they are resolved."""

from __future__ import annotations

import numpy as np

from nearhall.documents.defaults import all_defaults
from nearhall.documents.hardware import load_catalogue
from nearhall.documents.plan_place import Site
from nearhall.planner.samples.draws import Draws
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.load import Rack, SiteLoad
from nearhall.planner.serving.pool import Pool
from nearhall.planner.serving.queue_sim import Tail
from nearhall.planner.serving.server import Server

SAMPLES = 400
SUPPLY: dict[str, object] = {"phases": 3, "volts": 400, "code": "IEC", "breaker_a": 16, "curve": "C"}
UPS: dict[str, object] = {"kva": 10, "kw": 9, "hold_min": 5, "table": [[5, 11.0], [10, 7.5], [15, 5.9], [30, 3.5]]}


def site(**changed: object) -> Site:
    """A site in Germany with 8 kW; give `ups=UPS` for one."""
    said: dict[str, object] = {
        "id": "shop",
        "lat": 50.0,
        "lon": 9.0,
        "jurisdiction": "DE",
        "hardware": ["a2"],
        "it_budget_kw": 8.0,
        "supply": SUPPLY,
        "cooling": {"kind": "dx", "capacity_kw": 10.0},
        "tariff": {"energy_usd_per_kwh": 0.3},
        "uplink": {"kind": "per_gb", "usd_per_gb": 0.02},
        "climate": {"mean_c": 10.0, "season_c": 10.0, "day_c": 5.0},
    }
    return Site.model_validate({**said, **changed})


def ledger() -> Ledger:
    return Ledger(Draws(seed=1, samples=SAMPLES), all_defaults())


def flat(value: float) -> np.ndarray:
    return np.full(SAMPLES, value)


def server(
    watts: float, *, power_factor: float = 1.0, supply: str = "server", inrush_a: float = 36.0, supplies: float = 1.0
) -> Server:
    """One that draws so many watts when busy, half of it idle; its crest is a sine's, a brick's is three."""
    system = next(s for s in load_catalogue().systems if s.supply == supply)
    return Server(
        id=supply,
        system=system,
        idle_w=flat(watts / 2.0),
        busy_w=flat(watts),
        power_factor=flat(power_factor),
        memory_bytes=flat(1e9),
        cost_usd=flat(1000.0),
        nameplate_w=flat(watts * 2.0),
        supplies=supplies,
        crest=3.0 if supply == "brick" else 2.0**0.5,
        inrush_peak_a=flat(inrush_a),
        leakage_ma=flat(1.0),
        speed=flat(1.0),
    )


def rack(kind: Server, count: int) -> Rack:
    tail = Tail(loads=(0.5,), wait=(0.0,))
    return Rack(server=kind, pool=Pool(lanes=(), servers=count, tail=tail, load=flat(0.5), slot_s=flat(0.01)))


def load_of(*racks: Rack, own_w: float = 0.0, spread: float = 0.0) -> SiteLoad:
    """All servers busy at their peak, three quarters of that in every hour; `spread` makes samples differ."""
    peak = flat(own_w) + np.sum([r.servers * r.server.busy_w for r in racks], axis=0)
    apparent = flat(own_w / 0.9) + np.sum([r.servers * r.server.busy_w / r.server.power_factor for r in racks], axis=0)
    noise = np.linspace(1.0 - spread, 1.0 + spread, SAMPLES)
    return SiteLoad(
        racks=racks,
        by_hour_w=np.tile(0.75 * peak * noise, (24, 1)),
        busiest_w=0.75 * peak * noise,
        burst_w=peak * noise,
        burst_va=apparent * noise,
        excursion=flat(1.1),
        nameplate_w=flat(own_w) + np.sum([r.servers * r.server.nameplate_w for r in racks], axis=0),
        own_w=flat(own_w),
    )
