"""The sites' part of plan-result.json: what stands there, what it draws, what protects and cools it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.power.check import Check
from nearhall.planner.power.cooling import pue_by_category, pue_by_hour
from nearhall.planner.power.hold import ENDLESS_S, Hold
from nearhall.planner.results.whom import who_answers
from nearhall.planner.samples.draws import Samples

Json = dict[str, Any]
COOLING = {"cooling", "inlet", "cold air", "cooling at altitude"}
"""Checks of it."""


def site_part(planned: Planned, site: SitePlan) -> Json:
    """One kind of site; where nothing is built only who it is."""
    about = {
        "id": site.site.id,
        "count": site.site.count,
        "class": site.site.site_class,
        "jurisdiction": site.site.jurisdiction,
        "lat": site.site.lat,
        "lon": site.site.lon,
        "built": site.built,
        "hardware": [
            {
                "id": rack.server.id,
                "name": rack.server.system.name,
                "count": rack.servers,
                "supply": rack.server.supply,
                "load": float(np.median(rack.pool.load)),
                "workloads": sorted(lane.workload.id for lane in rack.pool.lanes),
            }
            for rack in site.load.racks
        ],
        "workloads": sorted({p.point.workload.id for p in planned.placed if p.at == site.site.id}),
    }
    return about if not site.built else {**about, **_sizing(site)}


def _sizing(site: SitePlan) -> Json:
    feed, hold, air = site.feed, site.hold, site.air
    return {
        "waterfall": [{"stage": name, "w": _high(watts)} for name, watts in site.peak_parts_w.items()],
        "it_w": {"mean": float(np.median(site.load.mean_w)), **_high(site.load.burst_w)},
        "it_budget_w": site.site.it_budget_kw * 1e3,
        "va": _high(feed.va),
        "it_va": _high(site.load.burst_va),
        "nameplate_va": feed.nameplate_va,
        "excursion": _high(site.load.excursion),
        "breaker": {
            "code": site.site.supply.code,
            "given_a": site.site.supply.breaker_a,
            "needed_a": feed.needed_a,
            "design_a": feed.design_a,
            "p99_a": float(np.quantile(feed.worst_a, 0.99)),
            "factor": feed.factor,
            "margin_percent": feed.margin_percent,
            "nameplate_a": feed.nameplate_a,
            "nameplate_breaker_a": feed.nameplate_breaker_a,
            "words": next(check.words for check in feed.checks if check.name == "breaker"),
        },
        "lines_a": [{"p50": float(np.median(line)), "p99": float(np.quantile(line, 0.99))} for line in feed.lines_a],
        "unbalance_percent": feed.unbalance_percent,
        "neutral_a": float(np.quantile(feed.neutral_a, 0.99)),
        "inrush": _inrush(feed.checks),
        "ups": _ups(site, hold),
        "hold": _hold(hold),
        "cooling": {
            "kind": site.site.cooling.kind,
            "needed_kw": {k: v / 1e3 for k, v in _high(site.heat_w).items()},
            "capacity_kw": site.site.cooling.capacity_kw.p50,
            "airflow_m3_h": air.flow_m3_h,
            "rise_k": air.rise_k,
            "inlet_c": air.inlet_c,
            "highest_inlet_c": air.highest_inlet_c,
            "class": site.site.cooling.ashrae,
            "free_hours": site.year.free_hours,
            "hottest_c": site.plant.outdoor.hottest_c,
            "coldest_c": site.plant.outdoor.coldest_c,
            "words": "; ".join(check.words for check in site.checks if check.name in COOLING),
        },
        "pue": {
            "annual": _low(site.year.pue),
            "by_month": list(site.year.pue_by_month),
            "by_hour": list(pue_by_hour(site.plant, site.load, site.overhead)),
            "by_category": {str(n): value for n, value in pue_by_category(site.plant, site.year).items()},
            "of_sums": _of_sums(site),
            "interim": False,
            "category": 3,
        },
        "checks": [_check(check, site) for check in site.checks],
        "energy_kwh_per_year": _low(site.year.facility_kwh),
        "it_kwh_per_year": _low(site.year.it_kwh),
    }


def _check(check: Check, site: SitePlan) -> Json:
    return {
        "name": check.name,
        "state": check.state,
        "words": check.words,
        "value": check.value,
        "limit": check.limit,
        "unit": check.unit,
        "ask": who_answers(check, ups=site.site.ups is not None),
    }


def _inrush(checks: tuple[Check, ...]) -> Json:
    found = next(check for check in checks if check.name == "inrush")
    return {"at_once": found.limit, "n": found.value, "words": found.words, "state": found.state}


def _ups(site: SitePlan, hold: Hold | None) -> Json | None:
    if hold is None or site.site.ups is None:
        return None
    words = next(check.words for check in hold.checks if check.name == "UPS")
    return {
        "kw_needed": hold.kw_needed,
        "kva_needed": hold.kva_needed,
        "kw": site.site.ups.kw,
        "kva": site.site.ups.kva,
        "recharge_w": _high(hold.recharge_w),
        "words": words,
    }


def _hold(hold: Hold | None) -> Json | None:
    if hold is None:
        return None
    return {
        "required_min": hold.required_s / 60.0,
        "battery_min": _minutes(hold.battery_s),
        "battery_new_min": _minutes(hold.new_s),
        "thermal_min": _minutes(hold.thermal_s),
        "hold_min": _minutes(hold.hold_s),
        "p_hold": hold.p_hold,
        "needed_kwh": {"end_of_life": hold.needed_kwh, "new": hold.needed_new_kwh},
        "needed_words": next(check.words for check in hold.checks if check.name == "battery"),
        "upper_bound": hold.upper_bound,
        "words": next(check.words for check in hold.checks if check.name == "hold"),
    }


def _minutes(seconds: Samples) -> Json | None:
    return None if float(np.median(seconds)) >= ENDLESS_S else {k: v / 60.0 for k, v in _low(seconds).items()}


def _of_sums(site: SitePlan) -> float:
    """The year's, as each month's is: everything that all cases draw over everything their servers draw."""
    return float(site.year.facility_kwh.sum() / site.year.it_kwh.sum())


def _high(samples: Samples) -> Json:
    values = np.quantile(samples, (0.5, 0.9, 0.99))
    return {name: float(v) for name, v in zip(("p50", "p90", "p99"), values, strict=True)}


def _low(samples: Samples) -> Json:
    values = np.quantile(samples, (0.1, 0.5, 0.9))
    return {name: float(v) for name, v in zip(("p10", "p50", "p90"), values, strict=True)}
