"""What a year at a site costs before it is known what stands there; its power and money grow in proportion to what does.

Averages, so that they add up: purchases spread over the plan's years with their replacements, spares, energy and demand at the
feed, the enclosure, visits, upkeep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan import Plan
from nearhall.documents.plan_place import Site
from nearhall.physics.electrical import UPS_PROPORTIONAL_LOSS
from nearhall.planner.money.cashflow import discount_factors
from nearhall.planner.money.cost import replacement_years
from nearhall.planner.power.cooling import DAYS, Plant, plant_of, year_c
from nearhall.planner.power.feed import COOLING_POWER_FACTOR, OWN_POWER_FACTOR, UPS_INPUT_POWER_FACTOR
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.day import day_of
from nearhall.planner.serving.options import Option
from nearhall.planner.serving.server import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Yearly:
    """What a dollar spent today, and once more with every replacement, is a year."""

    once: float
    again: float

    @staticmethod
    def of(plan: Plan, ledger: Ledger) -> Yearly:
        """By the plan's years and discount rate."""
        factors = discount_factors(plan.horizon_years, rate=plan.discount_rate)
        years = float(factors[1:].sum())
        life = ledger.fixed("hardware.life_years", "hardware.life_years")
        more = sum(float(factors[year]) for year in replacement_years(life, plan.horizon_years))
        return Yearly(once=1.0 / years, again=(1.0 + more) / years)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCosts:
    """A site as far as it is known before anything stands in it; its power and money grow in proportion to what does."""

    site: Site
    yearly: Yearly
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
    enclosure_usd: Samples | float
    spares_share: Samples
    upkeep_usd: Samples
    """Visits and patching of a year."""

    @staticmethod
    def of(site: Site, yearly: Yearly, ledger: Ledger) -> SiteCosts:
        """With the site's own figures, or defaults."""
        at, celsius = f"sites.{site.id}", year_c(site)
        demand = site.tariff.demand_usd_per_kw_month
        nothing = np.zeros(ledger.draws.samples)
        plant, months = plant_of(site, ledger), np.split(celsius, np.cumsum(np.array(DAYS) * 24)[:-1])
        if site.enclosure_usd is not None:
            enclosure = ledger.take(f"{at}.enclosure_usd", site.enclosure_usd)
        else:
            enclosure = ledger.take(f"{at}.enclosure_usd", None, "enclosure.usd_per_kw") * site.it_budget_kw

        def of(name: str) -> Samples:
            return ledger.take(f"{at}.operations.{name}", getattr(site.operations, name), f"operations.{name}")

        return SiteCosts(
            site=site,
            yearly=yearly,
            enclosure_usd=enclosure,
            spares_share=of("spares_share"),
            upkeep_usd=of("visits_per_year") * of("usd_per_visit") + of("patching_h_per_year") * of("usd_per_h"),
            plant=plant,
            own_w=ledger.take(f"{at}.own_power_w", None, "site.own_power_w"),
            scale=ledger.take(f"{at}.it_scale", None, "site.it_scale"),
            overhead=ledger.take(f"{at}.overhead_scale", None, "site.overhead_scale"),
            usd_per_kwh=ledger.take(f"{at}.tariff.energy", site.tariff.energy_usd_per_kwh),
            usd_per_kw_month=nothing if demand is None else ledger.take(f"{at}.tariff.demand", demand),
            per_heat=plant.compressor_per_heat(celsius),
            per_heat_hot=sum(plant.compressor_per_heat(month.max(keepdims=True)) for month in months) / 12.0,
        )

    def open_usd(self) -> float:
        """A year of the place itself: enclosure, visits, upkeep, and what it draws without servers."""
        return float((self.enclosure_usd * self.yearly.once + self.upkeep_usd + self.own_power_usd()).mean())

    def server_usd(self, server: Server) -> float:
        """A year of one server that stands there: bought and replaced, spared, and idle."""
        bought = server.cost_usd * (self.yearly.again + self.spares_share)
        return float((bought + self.power_usd(server.idle_w, server.idle_w)).mean())

    def busy_usd(self, option: Option, server: Server) -> float:
        """A year of what one workload's requests make such a server draw above idle, through the day."""
        assert option.service is not None  # noqa: S101 (asked for an option with servers)
        assert option.alone is not None  # noqa: S101
        lane = option.alone.lanes[0]
        busy = np.minimum(lane.rate_per_s * lane.server_s, option.alone.servers)
        swing_w = (np.maximum(option.service.busy_w, server.idle_w) - server.idle_w) * busy
        mean_w = swing_w * float(np.mean(day_of(option.point.workload.arrivals)))
        return float(self.power_usd(mean_w, swing_w).mean())

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
