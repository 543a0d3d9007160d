"""The plan: what is answered where, what stands there, what it costs and spares, and what is not known.

    plan.yaml -> equipment -> options of every workload -> placement -> cabinets -> money -> fleet

Every figure rests on the ledger's draws, so that site and hub are compared sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearhall.documents.catalogue_models import ModelCatalogue
from nearhall.documents.defaults import Default
from nearhall.documents.hardware import Catalogue
from nearhall.documents.plan import Plan
from nearhall.documents.plan_place import Hub, Site
from nearhall.planner.money.accounts import Accounts, Served, accounts_of, contract_of, served_by_hub, waiting_usd_per_year
from nearhall.planner.money.cashflow import annuity, npv_usd
from nearhall.planner.money.uplink import Traffic, contract_usd_per_month
from nearhall.planner.place import UNSERVED, Answer, Feeder, Problem, Why, place, why_not
from nearhall.planner.placement.solver import Cancelled
from nearhall.planner.power.battery import habits_of
from nearhall.planner.power.check import Check
from nearhall.planner.power.cooling import Air, Plant, Year, air_of, cooling_checks, plant_of, run_year
from nearhall.planner.power.feed import Feed, feed_of
from nearhall.planner.power.hold import Hold, hold_of
from nearhall.planner.samples.draws import Draws, Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.equipment import Equipment, equip
from nearhall.planner.serving.load import Rack, SiteLoad, site_load
from nearhall.planner.serving.options import Option, Point, options_of, points_of
from nearhall.planner.serving.pool import Lane, Pool, pool_of, servers_needed

Tell = Callable[[str], None]
"""Told in words what is being done."""
J_A_KW_YEAR = 1e3 * 8760 * 3600
EITHER_SHARE, EITHER_USD = 0.1, 12.0
"""Where the other place costs so little more a year, as a share or in dollars, either will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One workload of one site, where it goes, and what speaks against the other places."""

    point: Point
    options: tuple[Option, ...]
    at: str | None
    """None where nothing is possible."""
    verdict: str
    """edge, hub, either, infeasible."""
    why: str
    against: Mapping[str, str]
    """By place: why not there."""
    usd_per_year: Mapping[str, float]

    @property
    def option(self) -> Option | None:
        """The one taken."""
        return next((o for o in self.options if o.at == self.at), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePlan:
    """One kind of site, sized and priced."""

    site: Site
    served: tuple[Served, ...]
    load: SiteLoad
    plant: Plant
    overhead: Samples
    """Cooling and losses over what the plan reckons: 1, or what a pilot has shown."""
    year: Year
    feed: Feed
    hold: Hold | None
    air: Air
    cooling_w: Samples
    """Compressor and fans at the hottest and the peak."""
    heat_w: Samples
    """What has to be moved out at the peak while the battery recharges."""
    peak_parts_w: Mapping[str, Samples]
    """From IT to the feed, at the peak and the hottest: IT, UPS loss, distribution, compressor, fans, feed."""
    accounts: Accounts
    npv_usd: Samples
    """Of one such site, against the hub."""

    @property
    def built(self) -> bool:
        """Whether anything is answered there."""
        return bool(self.load.racks)

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Workloads that are answered here, that no hub may or can answer, and that nobody has said the worth of."""
        silent = (
            s.point.workload
            for s in self.served
            if not s.at_hub
            and not s.hub.allowed
            and s.point.workload.value_usd_per_1000 is None
            and s.point.workload.value_usd_per_year is None
        )
        return tuple(sorted({workload.id for workload in silent}))

    @property
    def checks(self) -> tuple[Check, ...]:
        """Everything that was held against the feed, the UPS and the cooling, or is named as not checked."""
        return (
            *self.feed.checks,
            *(self.hold.checks if self.hold is not None else ()),
            *cooling_checks(self.site, self.air, self.heat_w, self.plant.outdoor),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """All of it."""

    plan: Plan
    ledger: Ledger
    equipment: Equipment
    placed: tuple[Placed, ...]
    problem: Problem
    answer: Answer
    sites: tuple[SitePlan, ...]
    served: tuple[Served, ...]
    """By point, as `placed`."""
    npv_usd: Samples
    """Of the whole fleet."""
    flows: np.ndarray
    """Gain of the whole fleet, shape (samples, years + 1)."""


def make_plan(
    plan: Plan,
    *,
    catalogue: Catalogue,
    models: ModelCatalogue,
    defaults: Mapping[str, Default],
    overrides: Mapping[str, Samples] | None = None,
    tell: Tell | None = None,
    cancelled: Cancelled | None = None,
) -> Planned:
    """Plans; `overrides` replace what the ledger would draw, by its names. Raises InputError for unknown hardware and models."""
    say = tell or _nobody
    ledger = Ledger(Draws(seed=plan.seed, samples=plan.samples), defaults, overrides or {})
    equipment = equip(plan, catalogue, models, ledger)
    p_min = plan.decision.min_p_slo
    options: list[tuple[Option, ...]] = []
    points = points_of(plan, ledger)
    for number, point in enumerate(points, 1):
        say(f"options of {point.id} ({number} of {len(points)})")
        options.append(options_of(point, plan, equipment.services, ledger, p_min=p_min))
    say(f"placing {len(points)} workloads")
    hubs = {hub.id: hub for hub in plan.hubs}
    served = [_against_hub(found, hubs, equipment, ledger) for found in options]
    problem = _problem(plan, options, served, equipment, ledger)

    def closer(best: float, bound: float, gap: float) -> None:
        known = f"the best so far is within {gap:.1%} of the least possible" if best >= bound and gap < 1.0 else "searching"
        say(f"placing {len(points)} workloads: {known}")

    answer = place(problem, progress=closer, cancelled=cancelled)
    placed = tuple(_placed(problem, answer, index, found) for index, found in enumerate(options))
    racks = racks_of(plan, placed, equipment)
    sites = size_sites(plan, placed, served, racks=racks, ledger=ledger, tell=say)
    flows = np.sum([s.accounts.flows * s.site.count for s in sites], axis=0)
    return Planned(
        plan=plan,
        ledger=ledger,
        equipment=equipment,
        placed=placed,
        problem=problem,
        answer=answer,
        sites=sites,
        served=tuple(served),
        npv_usd=npv_usd(flows, rate=plan.discount_rate),
        flows=flows,
    )


def size_sites(
    plan: Plan,
    placed: Sequence[Placed],
    served: Sequence[Served],
    *,
    racks: Mapping[str, Sequence[Rack]],
    ledger: Ledger,
    tell: Tell | None = None,
) -> tuple[SitePlan, ...]:
    """Every kind of site with what was placed there: its load, cabinet, year and money, over all draws."""
    say, hubs = tell or _nobody, {hub.id: hub for hub in plan.hubs}
    sites: list[SitePlan] = []
    for site in plan.sites:
        say(f"sizing {site.id}")
        mine = [(p, s) for p, s in zip(placed, served, strict=True) if p.point.site.id == site.id]
        sites.append(_sized(plan, site, mine, racks[site.id], hubs=hubs, ledger=ledger))
    return tuple(sites)


def racks_of(plan: Plan, placed: Sequence[Placed], equipment: Equipment) -> dict[str, list[Rack]]:
    """By site: the servers that what was placed there takes."""
    return {site.id: _racks(plan, [p for p in placed if p.at == site.id], equipment) for site in plan.sites}


def _nobody(_: str) -> None:
    """Hears nothing."""


def _against_hub(options: Sequence[Option], hubs: Mapping[str, Hub], equipment: Equipment, ledger: Ledger) -> Served:
    """The hub that would answer: one that is allowed if any, the nearest among those."""
    there = [option for option in options if option.is_hub]
    hub = min(there, key=lambda o: (not o.allowed, float(np.median(o.reach.rtt_ms))))
    return served_by_hub(options[0], hub, hubs[hub.at], equipment, ledger)


def _problem(
    plan: Plan, options: Sequence[Sequence[Option]], served: Sequence[Served], equipment: Equipment, ledger: Ledger
) -> Problem:
    """Points and places with the whole fleet's yearly costs at their medians; room and power are one site's, or the hub's."""
    points = [found[0].point for found in options]
    places = (*(site.id for site in plan.sites), *(hub.id for hub in plan.hubs))
    where = {name: index for index, name in enumerate(places)}
    shape = (len(points), len(places))
    allowed, usd, kw, kva = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    spread = annuity(plan.horizon_years, rate=plan.discount_rate)
    sites = {site.id: site for site in plan.sites}
    for row, (found, serving) in enumerate(zip(options, served, strict=True)):
        line = _line_usd_per_year(serving, ledger)
        for option in found:
            column = where[option.at]
            allowed[row, column] = option.allowed
            alike = option.point.site.count
            usd[row, column] = alike * float(np.median(waiting_usd_per_year(option, ledger))) if option.allowed else 0.0
            if option.is_hub:
                usd[row, column] += alike * (float(np.median(serving.requests_per_year * serving.hub_usd_per_request)) + line)
                kw[row, column] = alike * float(np.median(serving.requests_per_year * serving.hub_j_per_request)) / J_A_KW_YEAR
                continue
            site = sites[option.at]
            if option.service is None or option.alone is None:
                continue
            worth = option.servers_worth()
            watts = float(np.quantile(option.service.busy_w, 0.9)) * worth
            price = float(np.median(ledger.take(f"sites.{site.id}.tariff.energy", site.tariff.energy_usd_per_kwh)))
            cost = float(np.median(equipment.servers[option.service.server].cost_usd))
            usd[row, column] += alike * (worth * cost * spread + watts * 8.76 * price * 1.3)
            if option.at != option.point.site.id:
                usd[row, column] += alike * line
            kw[row, column] = watts / 1e3
            kva[row, column] = watts / 1e3 * 1.4
    room = np.array([[site.it_budget_kw] for site in plan.sites] + [[hub.cap_kw] for hub in plan.hubs])
    opening = [site.count * _open_usd(site, spread, ledger) for site in plan.sites] + [0.0 for _ in plan.hubs]
    return Problem(
        points=tuple(point.id for point in points),
        places=places,
        allowed=allowed,
        usd=usd,
        open_usd=np.array(opening),
        resources=("IT kW",),
        use=kw[:, :, None],
        room=room,
        kva=kva,
        open_kva=np.zeros(len(places)),
        sites=np.array([point.site.count for point in points], dtype=np.float64),
        feeders=tuple(
            Feeder(
                name=feeder.id,
                headroom_kva=feeder.headroom_kva / feeder.sites_each,
                places=(index,),
            )
            for feeder in plan.feeders
            for index, site in enumerate(plan.sites)
            if site.supply.feeder == feeder.id
        ),
    )


def _open_usd(site: Site, spread: float, ledger: Ledger) -> float:
    """A place's own yearly cost: enclosure as an annuity, visits and upkeep."""
    at = f"sites.{site.id}"
    if site.enclosure_usd is not None:
        enclosure = site.enclosure_usd.p50
    else:
        enclosure = float(np.median(ledger.take(f"{at}.enclosure_usd", None, "enclosure.usd_per_kw"))) * site.it_budget_kw
    said = site.operations

    def middle(name: str) -> float:
        return float(np.median(ledger.take(f"{at}.operations.{name}", getattr(said, name), f"operations.{name}")))

    upkeep = middle("visits_per_year") * middle("usd_per_visit") + middle("patching_h_per_year") * middle("usd_per_h")
    return enclosure * spread + upkeep


def _line_usd_per_year(serving: Served, ledger: Ledger) -> float:
    """What the line costs with this workload on it alone, less an idle line."""
    site = serving.point.site
    contract = contract_of(site.uplink, site.id, ledger)
    nothing = np.zeros(ledger.draws.samples)
    idle = contract_usd_per_month(contract, Traffic(gb_per_month=nothing, p95_mbps=nothing, peak_mbps=nothing))
    return float(np.median(contract_usd_per_month(contract, serving.traffic) - idle)) * 12.0


def _placed(problem: Problem, answer: Answer, index: int, options: tuple[Option, ...]) -> Placed:
    where = {name: column for column, name in enumerate(problem.places)}
    taken = int(answer.at[index])
    at = None if taken == UNSERVED else problem.places[taken]
    whys: dict[str, Why] = {
        option.at: why_not(problem, answer, index, where[option.at], forbidden=option.against)
        for option in options
        if option.at != at
    }
    point = options[0].point
    usd = {option.at: float(problem.usd[index, where[option.at]]) / point.site.count for option in options if option.allowed}
    verdict, why = _verdict(point, at, options, whys, usd)
    return Placed(
        point=point,
        options=options,
        at=at,
        verdict=verdict,
        why=why,
        against={name: found.text for name, found in whys.items()},
        usd_per_year=usd,
    )


def _verdict(
    point: Point, at: str | None, options: Sequence[Option], whys: Mapping[str, Why], usd: Mapping[str, float]
) -> tuple[str, str]:
    """The word, and the constraint that binds in words."""
    if at is None:
        return "infeasible", "; ".join(f"{name}: {why.text}" for name, why in whys.items())
    own = at == point.site.id or at not in {option.at for option in options if option.is_hub}
    rivals = [o for o in options if o.at != at and (o.is_hub if own else o.at == point.site.id)]
    if not rivals:
        return ("edge" if own else "hub"), "there is no other place"
    best = min(rivals, key=lambda o: (not o.allowed, usd.get(o.at, np.inf), -o.p_slo))
    text = whys[best.at].text
    if not best.allowed:
        who = "no hub may answer it" if best.kind_against == "residency" else f"{best.at} cannot answer it"
        return ("edge" if own else "hub"), f"{who}: {text.removeprefix('residency: ')}"
    if abs(usd.get(best.at, np.inf) - usd.get(at, 0.0)) <= max(EITHER_SHARE * usd.get(at, 0.0), EITHER_USD):
        return "either", f"either place will do: {best.at} costs about as much ({text})"
    return ("edge" if own else "hub"), f"{best.at} would be {text}" if whys[best.at].kind == "cost" else f"{best.at}: {text}"


def _sized(
    plan: Plan,
    site: Site,
    mine: Sequence[tuple[Placed, Served]],
    racks: Sequence[Rack],
    *,
    hubs: Mapping[str, Hub],
    ledger: Ledger,
) -> SitePlan:
    load = site_load(site.id, racks, ledger)
    plant = plant_of(site, ledger)
    overhead = ledger.take(f"sites.{site.id}.overhead_scale", None, "site.overhead_scale")
    year = run_year(plant, load, plant.weather_c, overhead)
    ups, distribution = plant.losses_w(load.burst_w)
    ups_side_w = load.burst_w + ups + distribution
    heat, hottest_c = plant.heat_w(load.burst_w, ups + distribution), plant.outdoor.hottest_c
    compressor = plant.compressor_w(heat, hottest_c)
    cooling_w = compressor + plant.fan_w
    feed = feed_of(site, load, ups_side_w=ups_side_w, cooling_w=cooling_w, habits=habits_of(site, ledger))
    busy_heat = plant.heat_w(load.busiest_w, np.add(*plant.losses_w(load.busiest_w)), fans_run=site.cooling.fans_on_ups)
    hold = hold_of(site, load, cooling_w=cooling_w, fan_w=plant.fan_w, heat_w=busy_heat, hottest_c=hottest_c, ledger=ledger)
    heat = heat + (hold.recharge_heat_w if hold is not None else 0.0)
    served = tuple(replace(s, option=p.option or s.option) for p, s in mine)
    accounts = accounts_of(plan, site, served, load=load, year=year, hubs=hubs, ledger=ledger)
    return SitePlan(
        site=site,
        served=served,
        load=load,
        plant=plant,
        overhead=overhead,
        year=year,
        feed=feed,
        hold=hold,
        air=air_of(
            site,
            float(np.quantile(heat, 0.99)),
            hottest_c=hottest_c,
            liquid_share=float(np.quantile(plant.liquid_share, 0.1)),
        ),
        cooling_w=cooling_w,
        heat_w=heat,
        peak_parts_w={
            "IT": load.burst_w,
            "UPS loss": ups,
            "distribution": distribution,
            "compressor": compressor,
            "fans": plant.fan_w,
            "feed": ups_side_w + cooling_w,
        },
        accounts=accounts,
        npv_usd=npv_usd(accounts.flows, rate=plan.discount_rate),
    )


def _racks(plan: Plan, guests: Sequence[Placed], equipment: Equipment) -> list[Rack]:
    """Pools by kind of server; language models have servers of their own."""
    groups: dict[tuple[str, str], list[Lane]] = {}
    for placed in guests:
        option = placed.option
        if option is None or option.service is None:
            continue
        own = placed.point.id if option.service.until_first else ""
        lane = Lane(
            workload=placed.point.workload,
            service=option.service,
            rate_per_s=placed.point.rate_per_s,
            network_p99_ms=option.network_p99_ms,
        )
        groups.setdefault((option.service.server, own), []).append(lane)
    return [Rack(server=equipment.servers[name], pool=_pool(lanes, plan)) for (name, _), lanes in sorted(groups.items())]


def _pool(lanes: Sequence[Lane], plan: Plan) -> Pool:
    """As few servers as keep every SLO together; never fewer than the lanes would take one by one, halved."""
    found = servers_needed(lanes, p_min=plan.decision.min_p_slo, seed=plan.seed)
    return found if found is not None else pool_of(lanes, max(1, len(lanes)), seed=plan.seed)
