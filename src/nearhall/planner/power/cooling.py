"""Cooling over a year: what the heat takes to be moved out at each temperature, and what that makes of PUE, energy and peaks.

Of the kinds of cooling `dx` has a compressor that runs all year; `free` takes outdoor air while it is cool enough, a compressor
beyond; `liquid` does the same with water, which may be warmer than air, for the share of the heat that it takes; `fans` take the
air of room or street, as warm as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.documents.plan_place import Site
from nearhall.physics.electrical import UPS_PROPORTIONAL_LOSS, ups_loss_w
from nearhall.physics.heat import (
    ALTITUDE_MAX_M,
    ASHRAE,
    DISTRIBUTION_FIXED,
    DISTRIBUTION_PROPORTIONAL,
    RECOMMENDED_C,
    cooling_capacity_w,
    cop,
    distribution_loss_w,
    highest_inlet_c,
    room_heat_w,
)
from nearhall.physics.pue import categories
from nearhall.planner.power.air import flow_m3_s
from nearhall.planner.power.check import Check
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.day import year_of_temperatures
from nearhall.planner.serving.load import SiteLoad

HOURS_IN_BIN = 3
MUCH = 3.5
"""Cooling of so many times the heat is larger than it has to be, and is told."""
APPROACH_K = 3.0
"""Outdoor air, or water cooled by it, comes so near to its temperature. Assumed."""
WARM_WATER_K = 10.0
"""Water to cold plates may be so much warmer than air into servers. Assumed."""
AIR_RISE_K = 12.0
"""Of the air through the servers, where nobody says. Assumed."""
RATED_TO_M = 1000.0
"""Makers state a unit's capacity for sites below it. Assumed."""
HALF_A_YEAR_H = 182 * 24
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outdoor:
    """Between what temperatures a site's cooling has to work, degrees C."""

    hottest_c: float
    """The design temperature, or the year's highest hour where that is more."""
    coldest_c: float
    """The year's coldest hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """The losses and the cooling of a site, resolved."""

    site: Site
    outdoor: Outdoor
    weather_c: NDArray[np.float64]
    """8,760 hourly temperatures."""
    cop: Samples
    gain_most: float
    """COP in the cold over `cop`, at most."""
    fan_w: Samples
    fans_inside: float
    """Share of the fans whose heat has to be moved too."""
    other_w: Samples | float
    """Heat of walls, sun, light and people."""
    liquid_share: Samples | float
    """Of the heat; 0 without liquid cooling."""
    ups_rating_w: float
    rating_w: float

    def losses_w(self, it_w: Samples) -> tuple[Samples, Samples]:
        """(UPS, distribution) at an IT power."""
        ups = np.asarray(ups_loss_w(rating_w=self.ups_rating_w, load_w=it_w)) if self.ups_rating_w else np.zeros_like(it_w)
        return ups, np.asarray(distribution_loss_w(rating_w=self.rating_w, load_w=it_w))

    def heat_w(self, it_w: Samples, losses_w: Samples, *, fans_run: bool = True) -> Samples:
        """What has to be moved out: IT, losses, fans in the air they cool, and what comes from elsewhere."""
        fans = self.fans_inside * self.fan_w if fans_run else 0.0
        return np.asarray(room_heat_w(it_w=it_w, ups_loss_w=losses_w, envelope_w=fans + self.other_w))

    def compressor_w(self, heat_w: Samples, outdoor_c: float) -> Samples:
        """Compressor, or nothing while outdoor air does it; where there is none the heat goes to the room."""
        return heat_w * self.compressor_per_heat(np.array([outdoor_c]))

    def mean_compressor_w(self, heat_w: Samples, outdoor_c: NDArray[np.float64]) -> Samples:
        """Mean over hours of one heat, `outdoor_c` of shape (hours,)."""
        return heat_w * self.compressor_per_heat(outdoor_c)

    def compressor_per_heat(self, outdoor_c: NDArray[np.float64]) -> Samples | float:
        """Compressor over heat, mean over hours; air and liquid each by their own temperature."""
        if self.site.cooling.kind != "liquid":
            return self._per_heat(outdoor_c, free_below_c(self.site))
        air_c = self.site.cooling.supply_c - APPROACH_K
        by_air, by_liquid = (self._per_heat(outdoor_c, below_c) for below_c in (air_c, air_c + WARM_WATER_K))
        return self.liquid_share * by_liquid + (1.0 - self.liquid_share) * by_air

    def _per_heat(self, outdoor_c: NDArray[np.float64], free_below: float) -> Samples | float:
        """Nothing while outdoor air cools, else by each hour's COP.

        Electricity goes with 1 / COP, so that the others are as good as one hour at the temperature of their harmonic mean.
        """
        hot = outdoor_c[outdoor_c > free_below]
        if len(hot) == 0:
            return 0.0
        nominal_c = self.site.cooling.design_out_c
        gain = np.asarray(cop(nominal=1.0, outdoor_c=hot, nominal_outdoor_c=nominal_c, least=1e-3, gain_most=self.gain_most))
        alike = float(1.0 / np.mean(1.0 / gain))
        share = len(hot) / len(outdoor_c)
        return share / np.maximum(self.cop * alike, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """A year of a site, each of shape (samples,) unless said."""

    it_kwh: Samples
    facility_kwh: Samples
    peak_kw: NDArray[np.float64]
    """Shape (samples, 12): highest hour of each month."""
    pue_by_month: tuple[float, ...]
    """Ratios of sums, over all draws."""
    free_hours: int
    """Hours in which outdoor air alone cools."""

    @property
    def pue(self) -> Samples:
        """Facility energy over IT energy, of the whole year."""
        return self.facility_kwh / self.it_kwh


def free_below_c(site: Site) -> float:
    """No compressor runs up to this temperature; without one always, with nothing but a compressor never.

    What liquid does not take needs air as cool as any.
    """
    cooling = site.cooling
    if cooling.kind == "fans":
        return float("inf")
    if cooling.kind == "dx":
        return float("-inf")
    liquid_alone = cooling.kind == "liquid" and cooling.liquid_share is not None and cooling.liquid_share.p50 >= 1.0
    return cooling.supply_c - APPROACH_K + (WARM_WATER_K if liquid_alone else 0.0)


def plant_of(site: Site, ledger: Ledger) -> Plant:
    """Cooling and losses with their samples."""
    at, said = f"sites.{site.id}.cooling", site.cooling
    fan_share = ledger.take(f"{at}.fan_share", None, "cooling.fan_share")
    capacity_w = ledger.take(f"{at}.capacity_kw", said.capacity_kw) * 1e3
    weather = year_c(site)
    liquid = said.kind == "liquid"
    return Plant(
        site=site,
        outdoor=outdoor_of(site, weather),
        weather_c=weather,
        cop=ledger.take(f"{at}.cop", said.cop, "cooling.cop"),
        gain_most=ledger.fixed(f"{at}.cop_gain_most", "cooling.cop_gain_most"),
        fan_w=fan_share * capacity_w,
        fans_inside=ledger.fixed(f"{at}.fans_inside", "cooling.fans_inside"),
        other_w=ledger.take(f"{at}.other_heat_w", said.other_heat_w) if said.other_heat_w is not None else 0.0,
        liquid_share=ledger.take(f"{at}.liquid_share", said.liquid_share, "cooling.liquid_share") if liquid else 0.0,
        ups_rating_w=site.ups.kw * 1e3 if site.ups is not None else 0.0,
        rating_w=site.it_budget_kw * 1e3,
    )


def outdoor_of(site: Site, weather_c: NDArray[np.float64] | None = None) -> Outdoor:
    """The design temperature against the year of the weather; whichever is hotter sizes."""
    year = year_c(site) if weather_c is None else weather_c
    return Outdoor(hottest_c=max(site.cooling.design_out_c, float(year.max())), coldest_c=float(year.min()))


def year_c(site: Site) -> NDArray[np.float64]:
    """8,760 hourly temperatures: a file's, or two cosines (south: winter in July); without either after the latitude."""
    climate = site.climate
    if climate is not None and climate.hours_c is not None:
        return np.asarray(climate.hours_c, dtype=np.float64)
    if climate is not None and climate.mean_c is not None and climate.season_c is not None:
        year = year_of_temperatures(mean_c=climate.mean_c, season_c=climate.season_c, day_c=climate.day_c)
    else:
        from_equator = abs(site.lat)
        mean_c = 27.0 - 0.0075 * max(from_equator - 15.0, 0.0) ** 2 - 0.0065 * site.altitude_m
        year = year_of_temperatures(mean_c=mean_c, season_c=min(0.2 * from_equator, 14.0), day_c=5.0)
    return np.roll(year, HALF_A_YEAR_H) if site.lat < 0 else year


def run_year(plant: Plant, load: SiteLoad, temperatures_c: NDArray[np.float64], overhead: Samples) -> Year:
    """Energy and peaks of 8,760 temperatures, by month and time of day: three hours of all days of a month have one load.

    `overhead` scales everything beyond IT: 1 by the plan, what a pilot has shown after one.
    """
    samples = len(plant.cop)
    months = np.split(temperatures_c.reshape(365, 24), np.cumsum(DAYS)[:-1])
    it_kwh, facility_kwh = np.zeros(samples), np.zeros(samples)
    it_by_month, all_by_month = np.zeros(12), np.zeros(12)  # sums over the draws
    for hours, it_w in _bins(load):
        heat, losses = _heat_w(plant, it_w)
        beyond = _beyond_it_w(plant, losses, np.zeros(samples))
        through = _through(plant) * overhead * heat
        always = it_w + beyond * overhead
        spans = np.array(DAYS) * (len(hours) / 1e3)
        it_kwh += it_w * spans.sum()
        facility_kwh += always * spans.sum()
        it_by_month += it_w.sum() * spans
        all_by_month += always.sum() * spans
        for month, days in enumerate(months):
            compressor = through * (plant.compressor_per_heat(days[:, hours].ravel()) * spans[month])
            facility_kwh += compressor
            all_by_month[month] += compressor.sum()
    heat, losses = _heat_w(plant, load.busiest_w)
    always = load.busiest_w + _beyond_it_w(plant, losses, np.zeros(samples)) * overhead
    through = _through(plant) * overhead
    peak_kw = np.empty((12, samples)).T  # each month's samples lie together
    for month, days in enumerate(months):
        peak_kw[:, month] = (always + through * plant.compressor_w(heat, float(days.max()))) / 1e3
    return Year(
        it_kwh=it_kwh,
        facility_kwh=facility_kwh,
        peak_kw=peak_kw,
        pue_by_month=tuple((all_by_month / it_by_month).tolist()),
        free_hours=int(np.sum(temperatures_c <= free_below_c(plant.site))),
    )


def pue_by_hour(plant: Plant, load: SiteLoad, overhead: Samples) -> tuple[float, ...]:
    """Of each hour of the day over all days of the year, local time: ratios of sums over all draws."""
    by_hour_c = plant.weather_c.reshape(365, 24).T
    nothing, found = np.zeros(len(plant.cop)), list[float]()
    for it_w, celsius in zip(load.by_hour_w, by_hour_c, strict=True):
        heat, losses = _heat_w(plant, it_w)
        beyond = _beyond_it_w(plant, losses, nothing) + _through(plant) * plant.mean_compressor_w(heat, celsius)
        found.append(1.0 + float((beyond * overhead).sum() / it_w.sum()))
    return tuple(found)


def pue_by_category(plant: Plant, year: Year) -> dict[int, float]:
    """By where the IT energy would be metered: 1 behind the UPS, 2 behind the distribution, 3 at the servers; ratios of sums.

    What cooling takes from the UPS is no IT. Of distribution the fixed losses lie in the board, the others in the cables behind
    it (assumed). Without a UPS there is no category 1.
    """
    it_kwh, hours = float(year.it_kwh.sum()), 8.76 * len(plant.cop)
    cables = DISTRIBUTION_PROPORTIONAL * it_kwh
    board = DISTRIBUTION_FIXED * plant.rating_w * hours
    one, two, three = categories(
        facility_kwh=float(year.facility_kwh.sum()),
        ups_out_kwh=it_kwh + cables + board,
        pdu_out_kwh=it_kwh + cables,
        it_kwh=it_kwh,
    )
    return {1: one, 2: two, 3: three} if plant.ups_rating_w else {2: two, 3: three}


def facility_w(plant: Plant, it_w: Samples, outdoor_c: float, overhead: Samples) -> Samples:
    """What the feed delivers for an IT power at an outdoor temperature."""
    heat, losses = _heat_w(plant, it_w)
    return it_w + _beyond_it_w(plant, losses, plant.compressor_w(heat, outdoor_c)) * overhead


def _heat_w(plant: Plant, it_w: Samples) -> tuple[Samples, Samples]:
    """(heat to be moved out, the losses in it)."""
    ups, distribution = plant.losses_w(it_w)
    losses = ups + distribution
    return plant.heat_w(it_w, losses), losses


def _beyond_it_w(plant: Plant, losses_w: Samples, compressor_w: Samples) -> Samples:
    """Losses and cooling; cooling that hangs on the UPS pays for passing through it."""
    fans = plant.fan_w * _passing(plant, plant.site.cooling.fans_on_ups)
    return losses_w + compressor_w * _through(plant) + fans


def _through(plant: Plant) -> float:
    """What a watt of compressor takes at the feed."""
    return _passing(plant, plant.site.cooling.compressor_on_ups)


def _passing(plant: Plant, on_ups: bool) -> float:
    return 1.0 + (UPS_PROPORTIONAL_LOSS if plant.ups_rating_w and on_ups else 0.0)


def _bins(load: SiteLoad) -> Iterator[tuple[NDArray[np.int64], Samples]]:
    """(hours of the day, their mean IT power): three hours together, and all of them where the day is flat."""
    if load.flat:
        yield np.arange(24), load.by_hour_w[0]
        return
    for hour in range(0, 24, HOURS_IN_BIN):
        yield np.arange(hour, hour + HOURS_IN_BIN), load.by_hour_w[hour : hour + HOURS_IN_BIN].mean(axis=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Air:
    """What has to flow, and how warm it may be."""

    flow_m3_h: float
    rise_k: float
    inlet_c: float
    highest_inlet_c: float


def inlet_of(site: Site, hottest_c: float | None = None) -> float:
    """The warmest air into the servers, degrees C: what the cooling supplies, or without a compressor what it is outside."""
    cooling = site.cooling
    if cooling.kind != "fans":
        return cooling.supply_c
    return max(cooling.supply_c, outdoor_of(site).hottest_c if hottest_c is None else hottest_c)


def air_of(site: Site, heat_w: float, *, hottest_c: float | None = None, liquid_share: float = 0.0) -> Air:
    """Air for what of a heat liquid does not take, at the site's altitude and supply temperature, against its ASHRAE class."""
    inlet = inlet_of(site, hottest_c)
    in_air_w = heat_w * (1.0 - liquid_share)
    flow = flow_m3_s(heat_w=in_air_w, rise_k=AIR_RISE_K, inlet_c=inlet, altitude_m=site.altitude_m)
    highest = float(highest_inlet_c(ashrae=site.cooling.ashrae, altitude_m=site.altitude_m))
    return Air(flow_m3_h=flow * 3600.0, rise_k=AIR_RISE_K, inlet_c=inlet, highest_inlet_c=highest)


def cooling_checks(site: Site, air: Air, heat_w: Samples, outdoor: Outdoor | None = None) -> tuple[Check, ...]:
    """Does the unit move the heat on the hottest day, and may the air be as warm and as cold as it is?"""
    found = outdoor or outdoor_of(site)
    checks = [_capacity_check(site, heat_w, found), _inlet_check(site, air)]
    if site.cooling.kind in {"fans", "free"}:
        checks.append(_cold_check(site, found.coldest_c))
    if site.cooling.kind != "fans" and site.altitude_m > RATED_TO_M:
        words = (
            f"{site.altitude_m:g} m: thin air takes less heat from the condenser than at {RATED_TO_M:g} m; ask the maker for its "
            "capacity there"
        )
        checks.append(
            Check(name="cooling at altitude", state="not_checked", words=words, value=site.altitude_m, limit=RATED_TO_M, unit="m")
        )
    return tuple(checks)


def _capacity_check(site: Site, heat_w: Samples, outdoor: Outdoor) -> Check:
    cooling, rated, hottest = site.cooling, site.cooling.capacity_kw.p50, outdoor.hottest_c
    heat = float(np.quantile(heat_w, 0.99)) / 1e3
    moved = float(cooling_capacity_w(rated_w=rated, outdoor_c=hottest)) if cooling.kind != "fans" else rated
    less = f" at {hottest:.3g} C outside ({rated:g} kW rated)" if moved < rated else ""
    words = f"heat {heat:.2f} kW (P99) {'<=' if heat <= moved else '>'} {moved:.3g} kW{less}"
    if hottest > cooling.design_out_c:
        words += f"; the year rises to {hottest:.1f} C, {hottest - cooling.design_out_c:.1f} K above the design temperature"
    words += "; a third of it would do" if heat * MUCH <= moved else ""
    return Check(name="cooling", state="ok" if heat <= moved else "fails", words=words, value=heat, limit=moved, unit="kW")


def _cold_check(site: Site, coldest_c: float) -> Check:
    """Air from outside may be too cold for the servers' class, whatever the compressor could do."""
    lowest, name = ASHRAE[site.cooling.ashrae][0], site.cooling.ashrae
    words, state = f"the year falls to {coldest_c:.0f} C outside, class {name} allows {lowest:.0f} C", "ok"
    if coldest_c < lowest and site.cooling.recirculates:
        words += ": warm air is mixed in"
    elif coldest_c < lowest:
        words += ": the servers' warm air has to be mixed in (then write recirculates)"
        state = "fails"
    return Check(name="cold air", state=state, words=words, value=coldest_c, limit=lowest, unit="C")


def _inlet_check(site: Site, air: Air) -> Check:
    name, altitude = site.cooling.ashrae, site.altitude_m
    lowest, recommended = ASHRAE[name][0], RECOMMENDED_C[name]
    fits = lowest <= air.inlet_c <= air.highest_inlet_c
    words = f"inlet {air.inlet_c:.0f} C, class {name} allows {lowest:.0f} to {air.highest_inlet_c:.0f} C at {altitude:g} m"
    if fits and not recommended[0] <= air.inlet_c <= recommended[1]:
        words += f"; recommended {recommended[0]:.0f} to {recommended[1]:.0f} C"
    state = "ok" if fits else "fails"
    if altitude > ALTITUDE_MAX_M:
        words, state = f"{words}; the classes end at {ALTITUDE_MAX_M:.0f} m: ask the maker of the servers", "not_checked"
    return Check(name="inlet", state=state, words=words, value=air.inlet_c, limit=air.highest_inlet_c, unit="C")
