"""What placement is asked: places, points, and what each pair would cost and take, from the parts that the money tables have.

Costs are averages a year, so that they add up: whole servers with their spares and replacements (`bought`), the energy and
demand of what they draw at the feed, the hub's requests, answers that leave a cloud, each workload's own line, waiting that has a
price; for a place itself its enclosure, visits, upkeep, and what it draws without servers. A line's standing charge is the same
everywhere and is left out; so is what answers are worth, which decides whether to build at all and not where to answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nearhall.core.quantity import Exact, Quantity
from nearhall.documents.plan import Plan
from nearhall.documents.plan_place import Hub, Site
from nearhall.physics.breakers import design_current_a
from nearhall.planner.bought import bought_of
from nearhall.planner.grid.on_feeder import sites_on
from nearhall.planner.money.accounts import Served, contract_of, waiting_usd_per_year
from nearhall.planner.money.egress import NONE, mean_usd_per_gb, tiers_named
from nearhall.planner.money.uplink import Traffic, contract_usd_per_month
from nearhall.planner.place import Feeder, Problem
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.equipment import Equipment
from nearhall.planner.serving.options import Option
from nearhall.planner.site_costs import SiteCosts, Yearly

J_A_KW_YEAR = 1e3 * 8760 * 3600
HIGH = 0.9
"""Of what a workload takes of room, power and feeder: what is placed together is sized as a whole, at its own P99, afterwards."""
IT_KW, BREAKER_A = "IT kW", "breaker A"
"""What a site has room for, each with its unit last."""
COMPARED = (
    "averages of whole servers with their spares, their power, enclosures, visits and upkeep, the hub's requests, "
    "answers that leave a cloud, each workload's own part of the line, and waiting that has a price; "
    "not in it are lines' standing charges and what answers are worth"
)
"""In words, for who reads the figure."""


def problem_of(
    plan: Plan, options: Sequence[Sequence[Option]], served: Sequence[Served], equipment: Equipment, ledger: Ledger
) -> Problem:
    """Points and places with the whole fleet's yearly costs; room, power and volt-amperes are one site's, or the hub's."""
    points = [found[0].point for found in options]
    places = (*(site.id for site in plan.sites), *(hub.id for hub in plan.hubs))
    where = {name: index for index, name in enumerate(places)}
    shape = (len(points), len(places))
    allowed, usd, kw, kva = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    yearly = Yearly.of(plan, ledger)
    costs = {site.id: SiteCosts.of(site, yearly, ledger) for site in plan.sites}
    bought = bought_of(plan, options, equipment, costs)
    hubs = {hub.id: hub for hub in plan.hubs}
    for hub in plan.hubs:
        _note_egress(hub, ledger)
    leaving = np.sum([s.answers_gb_per_month * s.point.site.count for s in served], axis=0)
    for row, (found, serving) in enumerate(zip(options, served, strict=True)):
        line = _line_usd_per_year(serving, ledger)
        for option in found:
            column, alike = where[option.at], option.point.site.count
            allowed[row, column] = option.allowed
            waiting = float(waiting_usd_per_year(option, ledger).mean()) if option.allowed else 0.0
            if option.is_hub:
                usd[row, column] = alike * (waiting + line + _hub_usd(serving, hubs[option.at], leaving))
                kw[row, column] = alike * float(np.median(serving.requests_per_year * serving.hub_j_per_request)) / J_A_KW_YEAR
            elif option.service is not None and option.alone is not None:
                away = line if option.at != option.point.site.id else 0.0
                usd[row, column] = alike * (waiting + away + (bought.busy_usd(column, option) if option.allowed else 0.0))
                kw[row, column], kva[row, column] = _taken(option, costs[option.at], equipment)
    room = np.array([[site.it_budget_kw, usable_a(site)] for site in plan.sites] + [[hub.cap_kw, np.inf] for hub in plan.hubs])
    amps = np.array([_amps_per_kva(site) for site in plan.sites] + [0.0 for _ in plan.hubs])
    opening = [site.count * costs[site.id].open_usd() for site in plan.sites] + [0.0 for _ in plan.hubs]
    own_kva = [float(np.quantile(costs[site.id].own_kva(), HIGH)) for site in plan.sites] + [0.0 for _ in plan.hubs]
    open_kva = np.array(own_kva)
    return Problem(
        points=tuple(point.id for point in points),
        places=places,
        allowed=allowed,
        usd=usd,
        open_usd=np.array(opening),
        resources=(IT_KW, BREAKER_A),
        use=np.stack([kw, kva * amps], axis=2),
        room=room,
        kva=kva,
        open_kva=open_kva,
        sites=np.array([point.site.count for point in points], dtype=np.float64),
        feeders=_feeders(plan),
        bought=bought,
        own_use=np.column_stack([np.zeros(len(places)), open_kva * amps]),
    )


def usable_a(site: Site) -> float:
    """What the breaker that is there carries of a current's P99, by the site's code; without end where the plan names none."""
    supply = site.supply
    if supply.breaker_a is None:
        return float("inf")
    factors = {"ambient_factor": supply.ambient_factor, "grouping_factor": supply.grouping_factor}
    return supply.breaker_a / float(design_current_a(current_a=1.0, code=supply.code, **factors))


def _amps_per_kva(site: Site) -> float:
    """Of a line, if all carry the same; how unlike they are comes out when the whole is sized."""
    return 1e3 / (site.supply.volts * (3.0**0.5 if site.supply.phases == 3 else 1.0))


def _feeders(plan: Plan) -> tuple[Feeder, ...]:
    """One row for each line, over all kinds of sites that hang on it together."""
    found: list[Feeder] = []
    for feeder in plan.feeders:
        on_it = [(index, site) for index, site in enumerate(plan.sites) if site.supply.feeder == feeder.id]
        if on_it:
            found.append(
                Feeder(
                    name=feeder.id,
                    headroom_kva=feeder.headroom_kva,
                    places=tuple(index for index, _ in on_it),
                    sites=sites_on(feeder, [site for _, site in on_it]),
                )
            )
    return tuple(found)


def _taken(option: Option, costs: SiteCosts, equipment: Equipment) -> tuple[float, float]:
    """(IT kW, kVA at the feeder) of one workload's servers at full load."""
    assert option.service is not None  # noqa: S101 (asked for an option with servers)
    watts = option.service.busy_w * option.servers_worth()
    volt_amperes = watts / equipment.servers[option.service.server].power_factor
    return float(np.quantile(watts, HIGH)) / 1e3, float(np.quantile(costs.kva(watts, volt_amperes), HIGH))


def _hub_usd(serving: Served, hub: Hub, leaving_gb: Samples) -> float:
    """A year of one site's requests at a hub, and of their answers on its bill; tiers are those of the whole fleet's bytes."""
    egress = serving.answers_gb_per_month * 12.0 * mean_usd_per_gb(leaving_gb, tiers_named(hub.egress))
    return float((serving.requests_per_year * serving.hub_usd_per_request + egress).mean())


def _note_egress(hub: Hub, ledger: Ledger) -> None:
    """The price at which a provider's tiers begin goes into the ledger with where it comes from."""
    tiers = tiers_named(hub.egress)
    if tiers is not NONE:
        begins = Quantity(p50=tiers.usd_per_gb[0], unit="usd_per_gb", evidence=tiers.evidence, spread=Exact())
        ledger.take(f"hubs.{hub.id}.egress", begins)


def _line_usd_per_year(serving: Served, ledger: Ledger) -> float:
    """What the line costs with this workload on it alone, less an idle line."""
    site = serving.point.site
    contract = contract_of(site.uplink, site.id, ledger)
    nothing = np.zeros(ledger.draws.samples)
    idle = contract_usd_per_month(contract, Traffic(gb_per_month=nothing, p95_mbps=nothing, peak_mbps=nothing))
    return float(np.mean(contract_usd_per_month(contract, serving.traffic) - idle)) * 12.0
