"""Cooling over a year: what the heat takes to be moved out at each temperature, and what that makes of PUE, energy and peaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.documents.plan import Site
from nearhall.physics.electrical import ups_loss_w
from nearhall.physics.heat import cop, distribution_loss_w, highest_inlet_c
from nearhall.planner.air import flow_m3_s
from nearhall.planner.day import year_of_temperatures
from nearhall.planner.draws import Samples
from nearhall.planner.ledger import Ledger
from nearhall.planner.load import SiteLoad

HOURS_IN_BIN = 3
APPROACH_K = 3.0
"""Outdoor air, or water cooled by it, comes so near to its temperature. Assumed."""
AIR_RISE_K = 12.0
"""Of the air through the servers, where nobody says. Assumed."""
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """The losses and the cooling of a site, resolved."""

    site: Site
    cop: Samples
    fan_w: Samples
    ups_rating_w: float
    rating_w: float

    def losses_w(self, it_w: Samples) -> tuple[Samples, Samples]:
        """(UPS, distribution) at an IT power."""
        ups = np.asarray(ups_loss_w(rating_w=self.ups_rating_w, load_w=it_w)) if self.ups_rating_w else np.zeros_like(it_w)
        return ups, np.asarray(distribution_loss_w(rating_w=self.rating_w, load_w=it_w))

    def compressor_w(self, heat_w: Samples, outdoor_c: float) -> Samples:
        """Compressor, or nothing while outdoor air does it; without a compressor the heat goes to the room."""
        kind, cooling = self.site.cooling.kind, self.site.cooling
        if kind == "fans":
            return np.zeros_like(heat_w)
        reach = cooling.supply_c - APPROACH_K + (10.0 if kind == "liquid" else 0.0)
        if kind in {"free", "liquid"} and outdoor_c <= reach:
            return np.zeros_like(heat_w)
        at = np.asarray(cop(nominal=self.cop, outdoor_c=outdoor_c, nominal_outdoor_c=cooling.design_out_c))
        return heat_w / at


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """A year of a site, each of shape (samples,) unless said."""

    it_kwh: Samples
    facility_kwh: Samples
    peak_kw: NDArray[np.float64]
    """Shape (samples, 12): highest hour of each month."""
    pue_by_month: tuple[float, ...]
    """At medians."""
    free_hours: int
    """Hours in which outdoor air alone cools."""

    @property
    def pue(self) -> Samples:
        """Facility energy over IT energy, of the whole year."""
        return self.facility_kwh / self.it_kwh


def plant_of(site: Site, ledger: Ledger) -> Plant:
    """Cooling and losses with their samples."""
    fan_share = ledger.take(f"sites.{site.id}.cooling.fan_share", None, "cooling.fan_share")
    capacity_w = ledger.take(f"sites.{site.id}.cooling.capacity_kw", site.cooling.capacity_kw) * 1e3
    return Plant(
        site=site,
        cop=ledger.take(f"sites.{site.id}.cooling.cop", site.cooling.cop, "cooling.cop"),
        fan_w=fan_share * capacity_w,
        ups_rating_w=site.ups.kw * 1e3 if site.ups is not None else 0.0,
        rating_w=site.it_budget_kw * 1e3,
    )


def year_c(site: Site) -> NDArray[np.float64]:
    """8,760 hourly temperatures; without a climate, one after the latitude (assumed)."""
    if site.climate is not None:
        return year_of_temperatures(mean_c=site.climate.mean_c, season_c=site.climate.season_c, day_c=site.climate.day_c)
    from_equator = abs(site.lat)
    mean_c = 27.0 - 0.0075 * max(from_equator - 15.0, 0.0) ** 2 - 0.0065 * site.altitude_m
    return year_of_temperatures(mean_c=mean_c, season_c=min(0.2 * from_equator, 14.0), day_c=5.0)


def run_year(plant: Plant, load: SiteLoad, temperatures_c: NDArray[np.float64], overhead: Samples) -> Year:
    """Energy and peaks by month and time of day: bins of three hours of each month's mean day.

    `overhead` scales everything beyond IT: 1 by the plan, what a pilot has shown after one.
    """
    samples = len(plant.cop)
    it_kwh, facility_kwh = np.zeros(samples), np.zeros(samples)
    peak_kw = np.zeros((samples, 12))
    by_month: list[float] = []
    days = temperatures_c.reshape(365, 24)
    begin = 0
    for month, length in enumerate(DAYS):
        mean_day = days[begin : begin + length].mean(axis=0)
        hottest = float(days[begin : begin + length].max())
        begin += length
        month_it, month_all = np.zeros(samples), np.zeros(samples)
        for hour in range(0, 24, HOURS_IN_BIN):
            it_w = load.by_hour_w[hour : hour + HOURS_IN_BIN].mean(axis=0)
            all_w = facility_w(plant, it_w, float(mean_day[hour : hour + HOURS_IN_BIN].mean()), overhead)
            month_it += it_w * (HOURS_IN_BIN * length / 1e3)
            month_all += all_w * (HOURS_IN_BIN * length / 1e3)
        peak_kw[:, month] = facility_w(plant, load.busiest_w, hottest, overhead) / 1e3
        it_kwh += month_it
        facility_kwh += month_all
        by_month.append(float(np.median(month_all) / np.median(month_it)))
    free = plant.site.cooling.kind in {"free", "liquid"}
    reach = plant.site.cooling.supply_c - APPROACH_K + (10.0 if plant.site.cooling.kind == "liquid" else 0.0)
    return Year(
        it_kwh=it_kwh,
        facility_kwh=facility_kwh,
        peak_kw=peak_kw,
        pue_by_month=tuple(by_month),
        free_hours=int(np.sum(temperatures_c <= reach)) if free else 0,
    )


def facility_w(plant: Plant, it_w: Samples, outdoor_c: float, overhead: Samples) -> Samples:
    """What the feed delivers for an IT power at an outdoor temperature."""
    ups, distribution = plant.losses_w(it_w)
    heat = it_w + ups + distribution
    return it_w + (ups + distribution + plant.compressor_w(heat, outdoor_c) + plant.fan_w) * overhead


@dataclass(frozen=True, slots=True, kw_only=True)
class Air:
    """What has to flow, and how warm it may be."""

    flow_m3_h: float
    rise_k: float
    inlet_c: float
    highest_inlet_c: float


def air_of(site: Site, heat_w: float) -> Air:
    """Air for a heat at the site's altitude and supply temperature, against its ASHRAE class."""
    inlet = site.cooling.supply_c
    if site.cooling.kind in {"fans", "free"}:
        inlet = max(inlet, site.cooling.design_out_c + (0.0 if site.cooling.kind == "fans" else APPROACH_K))
    flow = flow_m3_s(heat_w=heat_w, rise_k=AIR_RISE_K, inlet_c=inlet, altitude_m=site.altitude_m)
    highest = float(highest_inlet_c(ashrae=site.cooling.ashrae, altitude_m=site.altitude_m))
    return Air(flow_m3_h=flow * 3600.0, rise_k=AIR_RISE_K, inlet_c=inlet, highest_inlet_c=highest)
