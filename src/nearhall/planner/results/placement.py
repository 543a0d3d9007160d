"""The placement's part of plan-result.json: how sure it is, the map, and how its cost goes with the money tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearhall.planner.money.cashflow import discount_factors
from nearhall.planner.money.cost import replacement_years
from nearhall.planner.place import Answer
from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.problem import COMPARED
from nearhall.planner.results.spread import usd

Json = dict[str, Any]
SURE = 5e-5
"""A gap below this is told as none."""


def placement_part(planned: Planned) -> Json:
    """What was decided, by what was compared, and what the same sites cost once they are sized."""
    answer, plan = planned.answer, planned.plan
    open_ = {planned.problem.places[index] for index in answer.open}
    links: dict[tuple[str, str], list[str]] = {}
    for placed in planned.placed:
        if placed.at is not None and placed.at != placed.point.site.id:
            links.setdefault((placed.point.site.id, placed.at), []).append(placed.point.workload.id)
    return {
        "status": answer.status,
        "objective_usd_per_year": answer.objective_usd,
        "bound": answer.bound_usd,
        "gap": answer.gap,
        "limits_usd_per_year": answer.limits_usd,
        "words": f"{_found(answer)}. {_reconciled(planned)}",
        "as_sized_usd_per_year": sum(_usd_per_year(planned, site) for site in planned.sites),
        "points": [
            *(
                {"id": s.id, "lat": s.lat, "lon": s.lon, "kind": "site", "count": s.count, "open": s.id in open_}
                for s in plan.sites
            ),
            *({"id": h.id, "lat": h.lat, "lon": h.lon, "kind": "hub", "count": 1, "open": h.id in open_} for h in plan.hubs),
        ],
        "links": [{"from": a, "to": b, "workloads": names} for (a, b), names in links.items()],
    }


def _found(answer: Answer) -> str:
    if answer.gap >= SURE:
        return f"no other placement can be cheaper by more than {answer.gap:.2%}"
    if answer.limits_usd == 0.0:
        return "proven: no other placement is cheaper"
    costs = "more would be answered" if answer.limits_usd is None else f"it would cost {usd(answer.limits_usd)} a year less"
    return (
        "proven: no other placement that keeps within the breakers, budgets and feeders is cheaper, what workloads take of them "
        f"being reckoned first for each alone and then for all that is placed; without those limits {costs}"
    )


def _usd_per_year(planned: Planned, site: SitePlan) -> float:
    """A year of all sites of a kind as the money tables have it, averages: purchases spread over the years, and what runs."""
    plan, costs = planned.plan, site.accounts.site
    factors = discount_factors(plan.horizon_years, rate=plan.discount_rate)
    again = sum(float(factors[year]) for year in replacement_years(costs.hardware_life_years, plan.horizon_years))
    bought = np.mean(costs.capex_usd) + again * np.mean(costs.hardware_usd)
    return site.site.count * float(bought / factors[1:].sum() + np.mean(costs.running_usd))


def _reconciled(planned: Planned) -> str:
    """The figure that was compared beside that of the money tables."""
    whole = sum(_usd_per_year(planned, site) for site in planned.sites)
    lines = sum(site.site.count * float(np.mean(site.accounts.site.uplink_usd)) for site in planned.sites)
    return (
        f"Compared are {usd(planned.answer.objective_usd)} a year: {COMPARED}. Sized together, and with each site's line "
        f"({usd(lines)}), all sites cost {usd(whole)} a year, as the money tables have it"
    )
