"""What placement is asked: places, points, and what each pair would cost and take, from the parts that the money tables have.

Costs are averages a year, so that they add up: shares of servers with their spares and replacements, the energy and demand of
what they draw at the feed, the hub's requests, answers that leave a cloud, each workload's own line, waiting that has a price;
for a place itself its enclosure, visits, upkeep, and what it draws without servers. A line's standing charge is the same
everywhere and is left out; so is what answers are worth, which decides whether to build at all and not where to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearhall.core.quantity import Exact, Quantity
from nearhall.documents.plan import Plan
from nearhall.documents.plan_place import Hub, Site
from nearhall.physics.breakers import design_current_a
from nearhall.physics.electrical import UPS_PROPORTIONAL_LOSS
from nearhall.planner.grid.on_feeder import sites_on
from nearhall.planner.money.accounts import Served, contract_of, waiting_usd_per_year
from nearhall.planner.money.cashflow import discount_factors
from nearhall.planner.money.cost import replacement_years
from nearhall.planner.money.egress import NONE, mean_usd_per_gb, tiers_named
from nearhall.planner.money.uplink import Traffic, contract_usd_per_month
from nearhall.planner.place import Feeder, Problem
from nearhall.planner.power.cooling import DAYS, Plant, plant_of, year_c
from nearhall.planner.power.feed import COOLING_POWER_FACTOR, OWN_POWER_FACTOR, UPS_INPUT_POWER_FACTOR
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.day import day_of
from nearhall.planner.serving.equipment import Equipment
from nearhall.planner.serving.options import Option

J_A_KW_YEAR = 1e3 * 8760 * 3600
HIGH = 0.9
"""Of what a workload takes of room, power and feeder: what is placed together is sized as a whole, at its own P99, afterwards."""
IT_KW, BREAKER_A = "IT kW", "breaker A"
"""What a site has room for, each with its unit last."""
COMPARED = (
    "averages of shares of servers with their spares, their power, enclosures, visits and upkeep, the hub's requests, "
    "answers that leave a cloud, each workload's own part of the line, and waiting that has a price; "
    "not in it are lines' standing charges and what answers are worth"
)
"""In words, for who reads the figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """What a dollar spent today, and once more with every replacement, is a year."""

    once: float
    again: float

    @staticmethod
    def of(plan: Plan, ledger: Ledger) -> _Costs:
        factors = discount_factors(plan.horizon_years, rate=plan.discount_rate)
        years = float(factors[1:].sum())
        life = ledger.fixed("hardware.life_years", "hardware.life_years")
        more = sum(float(factors[year]) for year in replacement_years(life, plan.horizon_years))
        return _Costs(once=1.0 / years, again=(1.0 + more) / years)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cabinet:
    """A site as far as it is known before anything stands in it; its power and money grow in proportion to what does."""

    site: Site
    plant: Plant
    own_w: Samples
    scale: Samples
    overhead: Samples
    usd_per_kwh: Samples
    usd_per_kw_month: Samples
    per_heat: Samples | float
    """Compressor over heat, mean of the year."""
    per_heat_hot: Samples | float
    """The same, mean over the hottest hour of each month: that month's peak is billed."""

    @staticmethod
    def of(site: Site, ledger: Ledger) -> _Cabinet:
        at, celsius = f"sites.{site.id}", year_c(site)
        demand = site.tariff.demand_usd_per_kw_month
        nothing = np.zeros(ledger.draws.samples)
        plant, months = plant_of(site, ledger), np.split(celsius, np.cumsum(np.array(DAYS) * 24)[:-1])
        return _Cabinet(
            site=site,
            plant=plant,
            own_w=ledger.take(f"{at}.own_power_w", None, "site.own_power_w"),
            scale=ledger.take(f"{at}.it_scale", None, "site.it_scale"),
            overhead=ledger.take(f"{at}.overhead_scale", None, "site.overhead_scale"),
            usd_per_kwh=ledger.take(f"{at}.tariff.energy", site.tariff.energy_usd_per_kwh),
            usd_per_kw_month=nothing if demand is None else ledger.take(f"{at}.tariff.demand", demand),
            per_heat=plant.compressor_per_heat(celsius),
            per_heat_hot=sum(plant.compressor_per_heat(month.max(keepdims=True)) for month in months) / 12.0,
        )

    def power_usd(self, mean_w: Samples, peak_w: Samples) -> Samples:
        """A year's energy and demand of what draws so much beside the site's own."""
        return self._power_usd(mean_w + self.own_w, peak_w + self.own_w) - self.own_power_usd()

    def own_power_usd(self) -> Samples:
        """A year's energy and demand without servers."""
        return self._power_usd(self.own_w, self.own_w)

    def kva(self, it_w: Samples, it_va: Samples) -> Samples:
        """What draws so much takes of the feeder, at the highest outdoor temperature, beside the site's own."""
        own_va = self.own_w / OWN_POWER_FACTOR
        return self._kva(it_w + self.own_w, it_va + own_va) - self.own_kva()

    def own_kva(self) -> Samples:
        """What the site takes of the feeder without servers."""
        return self._kva(self.own_w, self.own_w / OWN_POWER_FACTOR)

    @property
    def _through(self) -> float:
        return 1.0 + (UPS_PROPORTIONAL_LOSS if self.site.ups is not None and self.site.cooling.on_ups else 0.0)

    def _power_usd(self, mean_w: Samples, peak_w: Samples) -> Samples:
        mean_kw, peak_kw = self._feed_kw(mean_w, self.per_heat), self._feed_kw(peak_w, self.per_heat_hot)
        return mean_kw * 8760.0 * self.usd_per_kwh + peak_kw * 12.0 * self.usd_per_kw_month

    def _feed_kw(self, it_w: Samples, per_heat: Samples | float) -> Samples:
        it_w = it_w * self.scale
        lost = np.add(*self.plant.losses_w(it_w))
        cooling = per_heat * (it_w + lost) + self.plant.fan_w
        return (it_w + (lost + cooling * self._through) * self.overhead) / 1e3

    def _kva(self, it_w: Samples, it_va: Samples) -> Samples:
        it_w, it_va = it_w * self.scale, it_va * self.scale
        behind = it_w + np.add(*self.plant.losses_w(it_w))
        cooling = self.plant.compressor_w(behind, self.plant.outdoor.hottest_c) + self.plant.fan_w
        if self.site.ups is None:
            return (it_va * behind / it_w + cooling / COOLING_POWER_FACTOR) / 1e3
        if self.site.cooling.on_ups:
            return (behind + cooling * self._through) / UPS_INPUT_POWER_FACTOR / 1e3
        return (behind / UPS_INPUT_POWER_FACTOR + cooling / COOLING_POWER_FACTOR) / 1e3


def problem_of(
    plan: Plan, options: Sequence[Sequence[Option]], served: Sequence[Served], equipment: Equipment, ledger: Ledger
) -> Problem:
    """Points and places with the whole fleet's yearly costs; room, power and volt-amperes are one site's, or the hub's."""
    points = [found[0].point for found in options]
    places = (*(site.id for site in plan.sites), *(hub.id for hub in plan.hubs))
    where = {name: index for index, name in enumerate(places)}
    shape = (len(points), len(places))
    allowed, usd, kw, kva = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    costs = _Costs.of(plan, ledger)
    cabinets = {site.id: _Cabinet.of(site, ledger) for site in plan.sites}
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
                cabinet = cabinets[option.at]
                usd[row, column] = alike * (waiting + away + _servers_usd(option, cabinet, costs, equipment, ledger))
                kw[row, column], kva[row, column] = _taken(option, cabinet, equipment)
    room = np.array([[site.it_budget_kw, usable_a(site)] for site in plan.sites] + [[hub.cap_kw, np.inf] for hub in plan.hubs])
    amps = np.array([_amps_per_kva(site) for site in plan.sites] + [0.0 for _ in plan.hubs])
    opening = [site.count * _open_usd(cabinets[site.id], costs, ledger) for site in plan.sites] + [0.0 for _ in plan.hubs]
    own_kva = [float(np.quantile(cabinets[site.id].own_kva(), HIGH)) for site in plan.sites] + [0.0 for _ in plan.hubs]
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


def _taken(option: Option, cabinet: _Cabinet, equipment: Equipment) -> tuple[float, float]:
    """(IT kW, kVA at the feeder) of one workload's servers at full load."""
    assert option.service is not None  # noqa: S101 (asked for an option with servers)
    watts = option.service.busy_w * option.servers_worth()
    volt_amperes = watts / equipment.servers[option.service.server].power_factor
    return float(np.quantile(watts, HIGH)) / 1e3, float(np.quantile(cabinet.kva(watts, volt_amperes), HIGH))


def _servers_usd(option: Option, cabinet: _Cabinet, costs: _Costs, equipment: Equipment, ledger: Ledger) -> float:
    """A year of one workload's share of servers: bought, spared, and fed through the day."""
    assert option.service is not None  # noqa: S101 (asked for an option with servers)
    assert option.alone is not None  # noqa: S101
    worth, lane = option.servers_worth(), option.alone.lanes[0]
    server = equipment.servers[option.service.server]
    at = f"sites.{cabinet.site.id}.operations"
    spares = ledger.take(f"{at}.spares_share", cabinet.site.operations.spares_share, "operations.spares_share")
    busy = np.minimum(lane.rate_per_s * lane.server_s, worth)
    swing_w = (np.maximum(option.service.busy_w, server.idle_w) - server.idle_w) * busy
    idle_w = server.idle_w * worth
    mean_w = idle_w + swing_w * float(np.mean(day_of(option.point.workload.arrivals)))
    power = cabinet.power_usd(mean_w, idle_w + swing_w)
    return float((worth * server.cost_usd * (costs.again + spares) + power).mean())


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


def _open_usd(cabinet: _Cabinet, costs: _Costs, ledger: Ledger) -> float:
    """A year of a place itself: enclosure, visits, upkeep, and what it draws without servers."""
    site = cabinet.site
    at, said = f"sites.{site.id}", site.operations
    if site.enclosure_usd is not None:
        enclosure = ledger.take(f"{at}.enclosure_usd", site.enclosure_usd)
    else:
        enclosure = ledger.take(f"{at}.enclosure_usd", None, "enclosure.usd_per_kw") * site.it_budget_kw

    def of(name: str) -> Samples:
        return ledger.take(f"{at}.operations.{name}", getattr(said, name), f"operations.{name}")

    upkeep = of("visits_per_year") * of("usd_per_visit") + of("patching_h_per_year") * of("usd_per_h")
    return float((enclosure * costs.once + upkeep + cabinet.own_power_usd()).mean())


def _line_usd_per_year(serving: Served, ledger: Ledger) -> float:
    """What the line costs with this workload on it alone, less an idle line."""
    site = serving.point.site
    contract = contract_of(site.uplink, site.id, ledger)
    nothing = np.zeros(ledger.draws.samples)
    idle = contract_usd_per_month(contract, Traffic(gb_per_month=nothing, p95_mbps=nothing, peak_mbps=nothing))
    return float(np.mean(contract_usd_per_month(contract, serving.traffic) - idle)) * 12.0
