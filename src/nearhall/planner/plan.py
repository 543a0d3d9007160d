"""The plan: what is answered where, what stands there, what it costs and spares, and what is not known.

    plan.yaml -> equipment -> options of every workload -> placement -> cabinets -> money -> fleet

Every figure rests on the ledger's draws, so that site and hub are compared sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from nearhall.documents.catalogue_models import ModelCatalogue
from nearhall.documents.defaults import Default
from nearhall.documents.hardware import Catalogue
from nearhall.documents.plain import rated_in
from nearhall.documents.plan import Plan
from nearhall.documents.plan_place import Feeder, Hub, Site
from nearhall.planner.bought import ServersBought
from nearhall.planner.grid.feeder import TOLERANCE_KVA, FeederDay
from nearhall.planner.grid.on_feeder import day_on
from nearhall.planner.money.accounts import Accounts, Egress, Served, accounts_of, fleet_egress, served_by_hub
from nearhall.planner.money.cashflow import annuity, npv_usd
from nearhall.planner.place import UNSERVED, Answer, Problem, Why, feeder_kva, place, usd_of, why_not
from nearhall.planner.placement.solver import Cancelled
from nearhall.planner.power.battery import habits_of
from nearhall.planner.power.check import Check
from nearhall.planner.power.cooling import Air, Plant, Year, air_of, cooling_checks, plant_of, run_year
from nearhall.planner.power.feed import Feed, feed_of
from nearhall.planner.power.hold import Hold, hold_of
from nearhall.planner.problem import BREAKER_A, IT_KW, problem_of
from nearhall.planner.samples.draws import Draws, Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.equipment import Equipment, equip
from nearhall.planner.serving.load import Rack, SiteLoad, site_load
from nearhall.planner.serving.options import Option, Point, options_of, points_of
from nearhall.planner.serving.prices import Prices
from nearhall.planner.serving.sharing import in_pools, pools_of

Tell = Callable[[str], None]
"""Told in words what is being done."""
KWH_A_W_YEAR, OVERHEAD = 8.76, 1.3
"""Cooling and losses on top of a server's energy while servers are compared. Assumed; the money uses the site's own year."""
ROUNDS = 6
"""Placements that are tried until what is built keeps within its feeders; each rules one out."""
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
    def exceeded(self) -> tuple[tuple[str, float, str], ...]:
        """(resource of placement, what the whole takes of it, why that is too much) of what the place has too little of."""
        if not self.built:
            return ()
        found: list[tuple[str, float, str]] = []
        it_kw, budget_kw = float(np.quantile(self.load.busiest_w, 0.99)) / 1e3, self.site.it_budget_kw
        if it_kw > budget_kw * (1 + 1e-9):
            found.append((IT_KW, it_kw, f"IT {it_kw:.3g} kW (P99) > {budget_kw:g} kW of its budget"))
        breaker = next(check for check in self.feed.checks if check.name == "breaker")
        if self.site.supply.breaker_a is not None and breaker.state == "fails" and breaker.value is not None:
            found.append((BREAKER_A, breaker.value, breaker.words))
        return tuple(found)

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
    feeders: Mapping[str, FeederDay]
    """By id: a day of each that anything hangs on."""
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
    for path, said in rated_in(plan):
        ledger.take(path, said)
    equipment = equip(plan, catalogue, models, ledger)
    p_min, prices = plan.decision.min_p_slo, partial(_prices, plan, ledger)
    options: list[tuple[Option, ...]] = []
    points = points_of(plan, ledger)
    for number, point in enumerate(points, 1):
        say(f"options of {point.id} ({number} of {len(points)})")
        options.append(options_of(point, plan, equipment, ledger, p_min=p_min, prices=prices))
    say(f"placing {len(points)} workloads")
    hubs = {hub.id: hub for hub in plan.hubs}
    served = [_against_hub(found, hubs, equipment, ledger) for found in options]
    problem = problem_of(plan, options, served, equipment, ledger)

    def closer(best: float, bound: float, gap: float) -> None:
        known = f"the best so far is within {gap:.1%} of the least possible" if best >= bound and gap < 1.0 else "searching"
        say(f"placing {len(points)} workloads: {known}")

    def built(problem: Problem) -> _Built:
        answer = _nearest_of_equals(problem, place(problem, progress=closer, cancelled=cancelled), options)
        apart = [_placed(problem, answer, index, found) for index, found in enumerate(options)]
        placed = _sharing(apart, problem)
        sites = size_sites(plan, placed, served, racks=racks_of(plan, placed, equipment), ledger=ledger, tell=say)
        return _Built(problem=problem, answer=answer, placed=placed, sites=sites, feeders=_feeder_days(plan, sites, ledger))

    best = built(problem)
    for _ in range(ROUNDS):
        corrected = _corrected(best)
        if corrected is None:
            break
        say("placing again: sized as a whole, a site takes more than its feeder, breaker or budget has")
        best = built(corrected)
    flows = np.sum([s.accounts.flows * s.site.count for s in best.sites], axis=0)
    return Planned(
        plan=plan,
        ledger=ledger,
        equipment=equipment,
        placed=best.placed,
        problem=best.problem,
        answer=best.answer,
        sites=best.sites,
        feeders=best.feeders,
        served=tuple(served),
        npv_usd=npv_usd(flows, rate=plan.discount_rate),
        flows=flows,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """One placement, sized."""

    problem: Problem
    answer: Answer
    placed: tuple[Placed, ...]
    sites: tuple[SitePlan, ...]
    feeders: Mapping[str, FeederDay]


def _feeder_days(plan: Plan, sites: Sequence[SitePlan], ledger: Ledger) -> dict[str, FeederDay]:
    """A day of each feeder that anything hangs on."""
    own = plan.correlation
    return {
        feeder.id: day_on(feeder, there, common=own.common, regional=own.regional, seed=plan.seed, ledger=ledger)
        for feeder in plan.feeders
        if (there := on(feeder, sites))
    }


def on(feeder: Feeder, sites: Sequence[SitePlan]) -> list[SitePlan]:
    """The kinds of sites that are built and hang on it."""
    return [site for site in sites if site.built and site.site.supply.feeder == feeder.id]


def _corrected(built: _Built) -> Problem | None:
    """The problem with what was exceeded as it came out; None where feeders, breakers and IT budgets all carry what was placed.

    What a workload takes alone is an estimate: a server for two of them idles once, what strays together adds up, and lines are
    not loaded alike. Scaled to what the whole takes, this placement is not possible again.
    """
    problem = built.problem
    kva, open_kva, use, own = (part.copy() for part in (problem.kva, problem.open_kva, problem.use, problem.own))
    words, over = dict(problem.words), False
    for feeder in problem.feeders:
        day = built.feeders.get(feeder.name)
        if day is None or day.needed_kva <= feeder.headroom_kva + TOLERANCE_KVA:
            continue
        over, there = True, list(feeder.places)
        scale = day.needed_kva / feeder_kva(problem, built.answer, feeder)
        kva[:, there] *= scale
        open_kva[there] *= scale
    for site in built.sites:
        column = problem.places.index(site.site.id)
        for resource, needed, why in site.exceeded:
            r, over = problem.resources.index(resource), True
            taken = float(problem.use[built.answer.at == column, column, r].sum() + problem.own[column, r])
            use[:, column, r] *= needed / taken
            own[column, r] *= needed / taken
            words[site.site.id, resource] = why
    return replace(problem, kva=kva, open_kva=open_kva, use=use, own_use=own, words=words) if over else None


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
    answered = [replace(s, option=p.option or s.option) for p, s in zip(placed, served, strict=True)]
    egress = fleet_egress(answered, hubs)
    sites: list[SitePlan] = []
    for site in plan.sites:
        say(f"sizing {site.id}")
        mine = [s for s in answered if s.point.site.id == site.id]
        sites.append(_sized(plan, site, mine, racks[site.id], hubs=hubs, egress=egress, ledger=ledger))
    return tuple(sites)


def racks_of(plan: Plan, placed: Sequence[Placed], equipment: Equipment) -> dict[str, list[Rack]]:
    """By site: the servers that what was placed there takes."""
    return {site.id: _racks(plan, [p for p in placed if p.at == site.id], equipment) for site in plan.sites}


def _nobody(_: str) -> None:
    """Hears nothing."""


def _against_hub(options: Sequence[Option], hubs: Mapping[str, Hub], equipment: Equipment, ledger: Ledger) -> Served:
    """The hub that would answer: one that is allowed if any, the nearest among those; names decide between hubs as near."""
    there = [option for option in options if option.is_hub]
    hub = min(there, key=lambda o: (not o.allowed, float(np.median(o.reach.rtt_ms)), o.at))
    return served_by_hub(options[0], hub, hubs[hub.at], equipment, ledger)


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
    usd = {o.at: usd_of(problem, answer, index, where[o.at]) / point.site.count for o in options if o.allowed}
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
    served: Sequence[Served],
    racks: Sequence[Rack],
    *,
    hubs: Mapping[str, Hub],
    egress: Egress,
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
    feed = feed_of(
        site,
        load,
        ups_side_w=ups_side_w,
        cooling_w=cooling_w,
        habits=habits_of(site, ledger),
        compressor_start=site.supply.compressor_start
        or ledger.fixed(f"sites.{site.id}.supply.compressor_start", "cooling.start_multiple"),
    )
    busy_heat = plant.heat_w(load.busiest_w, np.add(*plant.losses_w(load.busiest_w)), fans_run=site.cooling.fans_on_ups)
    hold = hold_of(site, load, cooling_w=cooling_w, fan_w=plant.fan_w, heat_w=busy_heat, hottest_c=hottest_c, ledger=ledger)
    heat = heat + (hold.recharge_heat_w if hold is not None else 0.0)
    accounts = accounts_of(plan, site, served, load=load, year=year, hubs=hubs, egress=egress, ledger=ledger)
    return SitePlan(
        site=site,
        served=tuple(served),
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
    """Pools by kind of server."""
    pools = pools_of([p.option for p in guests if p.option is not None], p_min=plan.decision.min_p_slo, seed=plan.seed)
    return [Rack(server=equipment.servers[name], pool=pool) for name, found in sorted(pools.items()) for pool in found]


EQUAL_USD = 1.0
"""Hubs that cost a site less than this more or less in a year are equal; then the nearer one answers."""


def _nearest_of_equals(problem: Problem, answer: Answer, options: Sequence[Sequence[Option]]) -> Answer:
    """The same, with each point that a hub answers at the nearest of those that cost as much and have room."""
    where, found = {name: column for column, name in enumerate(problem.places)}, answer
    for row, offered in enumerate(options):
        hubs = {where[option.at]: float(np.median(option.reach.rtt_ms)) for option in offered if option.is_hub and option.allowed}
        here = int(found.at[row])
        for column in sorted(hubs, key=lambda c: hubs[c]) if here in hubs else ():
            more = float(problem.usd[row, column] - problem.usd[row, here])
            if column == here or hubs[column] >= hubs[here]:
                break
            if more < EQUAL_USD * offered[0].point.site.count and why_not(problem, found, row, column).kind == "cost":
                at = found.at.copy()
                at[row] = column
                found = replace(found, at=at, objective_usd=found.objective_usd + more)
                break
    return found


def _sharing(placed: Sequence[Placed], problem: Problem) -> tuple[Placed, ...]:
    """The same, with the servers at each site that cost least for all that was placed there together, as placement has it."""
    found, servers = list(placed), problem.bought
    assert isinstance(servers, ServersBought)  # noqa: S101 (`problem_of` put it there)
    for column, name in enumerate(problem.places):
        here = [index for index, p in enumerate(placed) if p.at == name and p.option is not None and not p.option.is_hub]
        if not here:
            continue
        chosen = in_pools(servers.chosen(column, frozenset(here)).options, p_min=servers.p_min, seed=servers.seed)
        for index, option in zip(here, chosen, strict=True):
            options = tuple(option if other.at == option.at else other for other in placed[index].options)
            found[index] = replace(placed[index], options=options)
    return tuple(found)


def _prices(plan: Plan, ledger: Ledger, site: Site) -> Prices:
    price = float(np.median(ledger.take(f"sites.{site.id}.tariff.energy", site.tariff.energy_usd_per_kwh)))
    return Prices(
        usd_per_year_of_usd=annuity(plan.horizon_years, rate=plan.discount_rate),
        usd_per_w_year=price * KWH_A_W_YEAR * OVERHEAD,
    )
