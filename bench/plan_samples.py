"""What does the planner's bookkeeping cost over bare numpy? 10,000 samples of a 20-site plan, given draws and placement.

Ours sizes and prices each site through the ledger, with every check in words. The other is one vectorised pass by hand over
arrays of shape (sites, samples): power, a year by month and time of day, the money, the P99 of the feed's worst line and of
what the UPS carries, battery, heat and hold; the other checks and all words are in ours alone. Both must give the same returns,
energies, currents and holds before either is timed.

    python bench/plan_samples.py [--rounds 7] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.resources import files
from statistics import median
from typing import Any

import numpy as np

from nearhall.documents.catalogue_models import load_models
from nearhall.documents.defaults import all_defaults
from nearhall.documents.hardware import load_catalogue
from nearhall.documents.plan import Plan
from nearhall.documents.yaml_file import parse_document
from nearhall.physics.heat import highest_inlet_c
from nearhall.planner.plan import Planned, SitePlan, make_plan, size_sites
from nearhall.planner.power.cooling import DAYS, inlet_of, year_c

SITES, SAMPLES = 20, 10_000
MOST = 2.0


def twenty_sites() -> Planned:
    """The factory's first plant twenty times, a little apart."""
    text = files("nearhall.documents").joinpath("data/examples/factory.yaml").read_bytes()
    plan = parse_document(text, Plan, name="factory")
    sites = [
        plan.sites[0].model_copy(update={"id": f"plant-{k}", "lat": 49.0 + 0.05 * k, "lon": 8.0 + 0.07 * k, "count": 2})
        for k in range(SITES)
    ]
    plan = plan.model_copy(update={"sites": sites, "samples": SAMPLES})
    return make_plan(plan, catalogue=load_catalogue(), models=load_models(), defaults=all_defaults())


def by_ledger(planned: Planned) -> dict[str, Any]:
    """Ours."""
    racks = {site.site.id: site.load.racks for site in planned.sites}
    sites = size_sites(planned.plan, planned.placed, planned.served, racks=racks, ledger=planned.ledger)
    return {
        "npv": np.array([site.npv_usd for site in sites]),
        "kwh": np.array([site.year.facility_kwh for site in sites]),
        "line_a": np.array([site.feed.design_a / site.feed.factor for site in sites]),
        "hold": np.array([site.hold.p_hold for site in sites if site.hold is not None]),
        "kw": np.array([site.hold.kw_needed for site in sites if site.hold is not None]),
        "kva": np.array([site.hold.kva_needed for site in sites if site.hold is not None]),
        "needed": np.array([site.hold.needed_kwh for site in sites if site.hold is not None]),
    }


def stacked(planned: Planned) -> dict[str, Any]:
    """The inputs of the pass by hand, of shape (sites, samples) or (sites,)."""
    sites, ledger = planned.sites, planned.ledger

    def of(name: str) -> Any:
        return np.array([ledger.sampled(name.format(site.site.id)) for site in sites])

    first: SitePlan = sites[0]
    lanes = [rack.pool.lanes for rack in first.load.racks]
    return {
        "own": of("sites.{}.own_power_w"), "scale": of("sites.{}.it_scale"), "overhead": of("sites.{}.overhead_scale"),
        "exponent": np.array([ledger.sampled("power.exponent")] * SITES),
        "load": [np.array([s.load.racks[r].pool.load for s in sites]) for r in range(len(lanes))],
        "servers": [first.load.racks[r].servers for r in range(len(lanes))],
        "idle": [np.array([s.load.racks[r].server.idle_w for s in sites]) for r in range(len(lanes))],
        "busy": [
            np.array([np.average([lane.service.busy_w for lane in s.load.racks[r].pool.lanes], axis=0,
                                 weights=[lane.middle.work for lane in s.load.racks[r].pool.lanes]) for s in sites])
            for r in range(len(lanes))
        ],
        "bursts": [float(np.average([lane.workload.arrivals.burst.factor for lane in r.pool.lanes],
                                    weights=[lane.middle.work for lane in r.pool.lanes])) for r in first.load.racks],
        "factors": [np.array([s.load.racks[r].server.power_factor for s in sites]) for r in range(len(lanes))],
        "within": [np.array([ledger.sampled(f"hardware.{r.server.id}.within_run")] * SITES) for r in first.load.racks],
        "excursion": np.array([s.load.excursion for s in sites]),
        "celsius": of("sites.{}.ups.temperature_c"), "installed": np.array([s.load.installed_w for s in sites]),
        "thermal": of("sites.{}.thermal"), "cabinet": of("sites.{}.thermal.cabinet"), "battery": of("sites.{}.thermal.ups"),
        "inlet": [inlet_of(s.site) for s in sites],
        "highest": [float(highest_inlet_c(ashrae=s.site.cooling.ashrae, altitude_m=s.site.altitude_m)) for s in sites],
        "cop": np.array([s.plant.cop for s in sites]), "fan": np.array([s.plant.fan_w for s in sites]),
        "site": first.site, "year": year_c(first.site),
        "energy": of("sites.{}.tariff.energy"), "demand": of("sites.{}.tariff.demand"),
        "hardware": np.array([s.accounts.site.hardware_usd for s in sites]),
        "enclosure": np.array([s.accounts.site.enclosure_usd for s in sites]),
        "operations": np.array([s.accounts.operations_usd for s in sites]),
        "hub": np.array([s.accounts.hub.running_usd for s in sites]),
        "line": np.array([s.accounts.site.uplink_usd + s.accounts.site.egress_usd + s.accounts.site.hub_usd for s in sites]),
        "rate": planned.plan.discount_rate, "years": planned.plan.horizon_years,
    }  # fmt: skip


def by_hand(given: dict[str, Any]) -> dict[str, Any]:
    """One pass over (sites, samples)."""
    site, temperatures = given["site"], given["year"].reshape(365, 24)
    it = given["own"].copy()
    for load, servers, idle, busy in zip(given["load"], given["servers"], given["idle"], given["busy"], strict=True):
        top = np.maximum(busy, idle)
        it = it + servers * (idle + (top - idle) * np.clip(load, 0.0, 1.0) ** given["exponent"])
    it = it * given["scale"]  # the arrivals are flat, so every hour is alike
    rating, budget = site.ups.kw * 1e3, site.it_budget_kw * 1e3
    losses = 0.04 * rating + 0.05 * it + 0.01 * budget + 0.02 * it
    heat = it + losses + 0.6 * given["fan"]
    kwh, peaks, begin = np.zeros_like(it), [], 0
    for length in DAYS:
        these = temperatures[begin : begin + length]
        begin += length
        for hour in range(0, 24, 3):
            gain = np.clip(1.0 + 0.02 * (site.cooling.design_out_c - these[:, hour : hour + 3].ravel()), 1e-3, 1.5)
            compressor = heat / np.maximum(given["cop"] / np.mean(1.0 / gain), 1.0)
            kwh += (it + (losses + compressor + given["fan"]) * given["overhead"]) * (3 * length / 1e3)
        hottest = min(1.0 + 0.02 * (site.cooling.design_out_c - these.max()), 1.5)
        compressor = heat / np.maximum(given["cop"] * hottest, 1.0)
        peaks.append((it + (losses + compressor + given["fan"]) * given["overhead"]) / 1e3)
    peak = np.stack(peaks, axis=-1)
    billed = np.maximum(peak, site.tariff.ratchet * peak.max(axis=-1, keepdims=True))
    yearly = given["hub"] - given["line"] - kwh * given["energy"] - given["operations"] - billed.sum(axis=-1) * given["demand"]
    at = np.arange(1, given["years"] + 1) - 0.5
    factors = (1.0 + given["rate"]) ** -at
    npv = yearly * factors.sum() - given["hardware"] - given["enclosure"]
    again = int(np.ceil(given["years"] / 5.0)) - 1
    for k in range(again):
        npv = npv - given["hardware"] * factors[5 * (k + 1) - 1]
    return {"npv": npv, "kwh": kwh} | electrical_by_hand(given, it, it + losses)


def electrical_by_hand(given: dict[str, Any], it: Any, heat: Any) -> dict[str, Any]:
    """The UPS stands on one line of three, the cooling on another; the battery carries the servers alone."""
    site, ups, minutes = given["site"], given["site"].ups, 60.0
    burst, burst_va = given["own"].copy(), given["own"] / 0.9
    for load, factor, servers, idle, busy, power_factor, within in zip(
        given["load"], given["bursts"], given["servers"], given["idle"], given["busy"], given["factors"], given["within"],
        strict=True,
    ):  # fmt: skip
        held = np.clip(load * factor, 0.0, 1.0) ** given["exponent"]
        peak = servers * (idle + (np.maximum(busy, idle) - idle) * held) * within
        burst, burst_va = burst + peak, burst_va + peak / power_factor
    burst, burst_va = np.maximum(burst * given["scale"], it), burst_va * given["scale"]
    lost = 0.01 * site.it_budget_kw * 1e3
    hot = burst + 0.04 * ups.kw * 1e3 + 0.05 * burst + lost + 0.02 * burst
    hottest = 1.0 + 0.02 * min(site.cooling.design_out_c - given["year"].max(), 0.0)
    cooling = (hot + 0.6 * given["fan"]) / np.maximum(given["cop"] * hottest, 1.0) + given["fan"]
    carried, peak = it * 1.02 + lost, burst * 1.02 + lost
    nominal = max(60.0 * m * kw * 1e3 for m, kw in ups.table) / 0.93
    recharge = nominal / (4.0 * 3600.0 * 0.85)
    line = np.maximum((hot + recharge) / 0.99, cooling / 0.9) / (site.supply.volts / 3.0**0.5)
    rows = sorted((np.log(kw * 1e3), np.log(m * 60.0)) for m, kw in ups.table)
    powers, times = [p for p, _ in rows], [t for _, t in rows]
    warm = np.maximum(1.0 - 0.008 * np.maximum(25.0 - given["celsius"], 0.0), 0.0)
    health = 0.8 * warm
    at = np.log(carried / health)
    low = max((times[1] - times[0]) / (powers[1] - powers[0]), -1.0)
    high = min((times[-1] - times[-2]) / (powers[-1] - powers[-2]), -1.3)
    beyond = low * np.minimum(at - powers[0], 0.0) + high * np.maximum(at - powers[-1], 0.0)
    battery = np.exp(np.interp(at, powers, times) + beyond)
    room = np.array(given["highest"])[:, None] - np.array(given["inlet"])[:, None]
    mass = given["thermal"] * given["installed"] + given["cabinet"] * 1e3 + given["battery"] * (ups.kw * 1e3)
    thermal = mass * room / heat - site.cooling.restart_delay_s
    kw = np.quantile(peak, 0.99, axis=1) / 1e3
    kva = np.quantile(burst_va * given["excursion"] + peak - burst, 0.99, axis=1) / 1e3
    hold = np.mean(np.minimum(battery, np.maximum(thermal, 0.0)) >= ups.hold_min * minutes, axis=1)
    share = min(0.8, (ups.hold_min / 1200.0) ** (1.0 - 1.0 / 1.3))
    needed = np.quantile(carried * ups.hold_min * minutes / (warm * 0.93 * share), 0.9, axis=1) / 3.6e6
    return {"line_a": np.quantile(line, 0.99, axis=1), "hold": hold, "kw": kw, "kva": np.maximum(kva, kw), "needed": needed}


def main() -> int:
    """Checks, times, prints; 1 when ours takes more than twice as long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    planned = twenty_sites()
    given = stacked(planned)
    ours, theirs = by_ledger(planned), by_hand(given)
    np.testing.assert_allclose(ours["kwh"], theirs["kwh"], rtol=1e-9)
    np.testing.assert_allclose(ours["npv"], theirs["npv"], rtol=1e-6, atol=1.0)
    for name in ("line_a", "hold", "kw", "kva", "needed"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, err_msg=name)
    took: dict[str, list[float]] = {"ours": [], "by hand": []}
    for _ in range(chosen.rounds):
        for name, work in (("ours", lambda: by_ledger(planned)), ("by hand", lambda: by_hand(given))):
            begun = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - begun)
    seconds = {name: median(times) for name, times in took.items()}
    ratio = median(a / b for a, b in zip(took["ours"], took["by hand"], strict=True))
    found = {"sites": SITES, "samples": SAMPLES, "seconds": seconds, "ratio": ratio, "most": MOST}
    if chosen.json:
        print(json.dumps(found))
    else:
        print(f"{SITES} sites x {SAMPLES:,} samples, medians of {chosen.rounds} rounds: same energies, returns, currents, holds")
        ours_ms, hand_ms = seconds["ours"] * 1e3, seconds["by hand"] * 1e3
        print(f"ours {ours_ms:.0f} ms, numpy by hand {hand_ms:.0f} ms: x{ratio:.2f} (at most {MOST:g} is asked)")
    return int(ratio > MOST)


if __name__ == "__main__":
    sys.exit(main())
