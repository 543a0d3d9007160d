"""The fleet's part of plan-result.json: peaks together, the restart after an outage, feeders."""

from __future__ import annotations

from typing import Any

from nearhall.documents.plan_place import Feeder
from nearhall.planner.grid.fleet import Likeness, coincidence_curve
from nearhall.planner.grid.on_feeder import kind_of, outage_of, restart_on, restarting
from nearhall.planner.grid.restart import pickup
from nearhall.planner.plan import Planned, SitePlan, on

NUMBERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
RUNS = 12

Json = dict[str, Any]


def fleet_part(planned: Planned) -> Json | None:
    """None where no site is built."""
    built = [site for site in planned.sites if site.built]
    if not built:
        return None
    sites = sum(site.site.count for site in built)
    kinds = [kind_of(site, planned.ledger, count=site.site.count) for site in built]
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
        "feeders": [_feeder(planned, feeder, mine) for feeder in planned.plan.feeders if (mine := on(feeder, planned.sites))],
    }


def _restart(planned: Planned, built: list[SitePlan]) -> Json:
    ledger = planned.ledger
    outage = outage_of(ledger)
    kinds = [restarting(site, outage, count=site.site.count, ledger=ledger) for site in built]
    at_once, spread = pickup(kinds), pickup(kinds, spread_min=outage.spread_min)
    words = (
        f"after {outage.minutes:g} minutes without mains the fleet draws {at_once.peak_w / 1e3:,.1f} kW, "
        f"{at_once.ratio:.1f} times what it does otherwise; "
        f"spread over {outage.spread_min:g} minutes {spread.peak_w / 1e3:,.1f} kW"
    )
    return {
        "minutes": at_once.minutes.tolist(),
        "kw": (at_once.w / 1e3).tolist(),
        "kw_spread": (spread.w / 1e3).tolist(),
        "normal_peak_kw": at_once.normal_w / 1e3,
        "outage_min": outage.minutes,
        "words": words,
    }


def _feeder(planned: Planned, feeder: Feeder, sites: list[SitePlan]) -> Json:
    """A day on one such feeder, with as many sites of each kind as hang on it, and their restart."""
    day = planned.feeders[feeder.id]
    restart = restart_on(feeder, sites, outage_of(planned.ledger), planned.ledger)
    return {
        "id": feeder.id,
        "sites_each": feeder.sites_each,
        "kinds": [site.site.id for site in sites],
        "headroom_kva": feeder.headroom_kva,
        "limit_kva": day.limit_kva,
        "existing_kva": day.existing_kva.tolist(),
        "fleet_kva": day.fleet_kva.tolist(),
        "fleet_p50_kva": day.fleet_p50_kva.tolist(),
        "p_over": day.p_over,
        "shaved_kva": None if day.shaved_kva is None else day.shaved_kva.tolist(),
        "over_hours": day.over_hours,
        "wear_usd": day.wear_usd,
        "restart": {
            "at_once_kva": restart.at_once_kva,
            "spread_kva": restart.spread_kva,
            "fits_at_once": restart.at_once_kva <= restart.room_kva,
            "fits_spread": restart.spread_kva <= restart.room_kva,
            "words": restart.words,
        },
        "words": f"{day.words}; {restart.words}",
    }
