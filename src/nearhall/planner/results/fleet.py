"""The fleet's part of plan-result.json: peaks together, the restart after an outage, feeders."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearhall.documents.plan_place import Feeder
from nearhall.physics.battery import CHARGE_EFFICIENCY
from nearhall.planner.grid.feeder import feeder_day
from nearhall.planner.grid.fleet import Likeness, LoadKind, coincidence_curve
from nearhall.planner.grid.restart import Restart, pickup
from nearhall.planner.grid.shaving import Battery
from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.power.battery import drained_wh, habits_of, usable_j
from nearhall.planner.power.cooling import facility_w
from nearhall.planner.samples.ledger import Ledger

NUMBERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
RUNS = 12

Json = dict[str, Any]


def fleet_part(planned: Planned) -> Json | None:
    """None where no site is built."""
    built = [site for site in planned.sites if site.built]
    if not built:
        return None
    sites = sum(site.site.count for site in built)
    kinds = [_kind(site) for site in built]
    own = planned.plan.correlation
    likenesses = [Likeness(common=common, regional=min(own.regional, 1.0 - common)) for common in sorted({0.0, own.common, 0.8})]
    numbers = [n for n in NUMBERS if n < sites] + [sites]
    volatility = planned.ledger.fixed("fleet", "fleet.volatility")
    curve = coincidence_curve(
        kinds, numbers=numbers, likenesses=likenesses, seed=planned.plan.seed, runs=RUNS, volatility=volatility
    )
    return {
        "sites": sites,
        "correlation": {"common": own.common, "regional": own.regional},
        "coincidence": [
            {"n": c.n, "common": c.common, "p10": c.p10, "p50": c.p50, "p90": c.p90, "peak_kw": c.peak_w_p90 / 1e3} for c in curve
        ],
        "restart": _restart(planned, built),
        "feeders": [_feeder(feeder, mine, planned.ledger) for feeder in planned.plan.feeders if (mine := _on(feeder, built))],
    }


def _by_hour_w(site: SitePlan) -> np.ndarray:
    """Facility power by hour of a mean day at the hottest, medians; shape (24,)."""
    overhead = np.ones(len(site.plant.cop))
    hot = site.plant.outdoor.hottest_c
    return np.array([float(np.median(facility_w(site.plant, hour, hot, overhead))) for hour in site.load.by_hour_w])


def _kind(site: SitePlan) -> LoadKind:
    hours = _by_hour_w(site)
    idle = float(hours.min())
    swing = hours - idle
    day = tuple(float(v) for v in swing) if swing.max() > 1e-6 * max(idle, 1e-9) else (1.0,) * 24
    return LoadKind(count=site.site.count, idle_w=idle, swing_w=float(swing.mean()), day=day)


def _restart(planned: Planned, built: list[SitePlan]) -> Json:
    ledger = planned.ledger
    boot_s = float(np.median(ledger.take("boot.seconds", None, "boot.seconds")))
    share = float(np.median(ledger.take("boot.power_share", None, "boot.power_share")))
    outage_min = ledger.fixed("fleet.outage", "outage.minutes")
    spread_min = ledger.fixed("fleet.outage", "outage.spread_minutes")
    kinds = [_restarting(site, boot_s, share, outage_min, ledger) for site in built]
    at_once, spread = pickup(kinds), pickup(kinds, spread_min=spread_min)
    words = (
        f"after {outage_min:g} minutes without mains the fleet draws {at_once.peak_w / 1e3:,.1f} kW, {at_once.ratio:.1f} times "
        f"what it does otherwise; spread over {spread_min:g} minutes {spread.peak_w / 1e3:,.1f} kW"
    )
    return {
        "minutes": at_once.minutes.tolist(),
        "kw": (at_once.w / 1e3).tolist(),
        "kw_spread": (spread.w / 1e3).tolist(),
        "normal_peak_kw": at_once.normal_w / 1e3,
        "outage_min": outage_min,
        "words": words,
    }


def _restarting(site: SitePlan, boot_s: float, share: float, outage_min: float, ledger: Ledger) -> Restart:
    normal = float(np.median(site.peak_parts_w["feed"]))
    busy = sum(float(np.median(rack.busy_w)) * rack.servers for rack in site.load.racks)
    rest = normal - float(np.median(site.load.burst_w))
    recharge = float(np.median(site.hold.recharge_w)) if site.hold is not None else 0.0
    used_wh = 0.0
    if site.hold is not None and site.site.ups is not None:
        used_wh = drained_wh(site.site.ups, site.hold.carried_w, minutes=outage_min, habits=habits_of(site.site, ledger))
    return Restart(
        count=site.site.count,
        normal_w=normal,
        boot_w=busy * share + rest,
        boot_s=boot_s,
        busy_w=busy + rest,
        backlog_s=0.0,
        recharge_w=recharge,
        recharge_wh=used_wh / CHARGE_EFFICIENCY,
    )


def _on(feeder: Feeder, built: list[SitePlan]) -> list[SitePlan]:
    return [site for site in built if site.site.supply.feeder == feeder.id]


def _feeder(feeder: Feeder, sites: list[SitePlan], ledger: Ledger) -> Json:
    """A day on one such feeder, with as many sites as hang on it."""
    kva = np.zeros(24)
    for site in sites:
        factor = float(np.median(site.feed.va / site.peak_parts_w["feed"]))
        kva += _by_hour_w(site) / 1e3 * factor * min(feeder.sites_each, site.site.count)
    day = feeder_day(
        headroom_kva=feeder.headroom_kva,
        fleet_kva=kva,
        existing_kva=feeder.existing_hours_kva,
        battery=_battery(feeder, sites, ledger),
    )
    return {
        "id": feeder.id,
        "sites_each": feeder.sites_each,
        "headroom_kva": feeder.headroom_kva,
        "limit_kva": day.limit_kva,
        "existing_kva": day.existing_kva.tolist(),
        "fleet_kva": day.fleet_kva.tolist(),
        "shaved_kva": None if day.shaved_kva is None else day.shaved_kva.tolist(),
        "over_hours": day.over_hours,
        "wear_usd": day.wear_usd,
        "words": day.words,
    }


def _battery(feeder: Feeder, sites: list[SitePlan], ledger: Ledger) -> Battery | None:
    """What cyclable batteries have at the end of their life beyond the hold that is required, the inverter's loss in it."""
    kwh, kw, charge_kw, worn = 0.0, 0.0, 0.0, 0.0
    for site in sites:
        ups = site.site.ups
        if ups is None or site.hold is None or not ups.cyclable:
            continue
        habits = habits_of(site.site, ledger)
        count = min(feeder.sites_each, site.site.count)
        left = usable_j(ups, habits) / 3.6e6 * habits.end_of_life
        spare = max(left - site.hold.needed_kwh * habits.depth, 0.0) * count
        wear = ledger.take(f"sites.{site.site.id}.ups.wear_usd_per_kwh", ups.wear_usd_per_kwh, "ups.wear_usd_per_kwh")
        kwh, worn = kwh + spare, worn + spare * float(np.median(wear))
        kw += ups.kw * count
        charge_kw += float(np.median(site.hold.recharge_w)) / 1e3 * CHARGE_EFFICIENCY * count
    if kwh <= 0:
        return None
    return Battery(usable_kwh=kwh, charge_kw=charge_kw, discharge_kw=kw, wear_usd_per_kwh=worn / kwh, cyclable=True)
