"""A UPS's battery: what hangs on it, how long it carries that, and what recharging adds to the feed afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan_place import Site, Ups
from nearhall.physics.battery import (
    capacity_factor,
    hold_s,
    life_factor,
    needed_j,
    rate_share,
    rated_energy_j,
    recharge_w,
    table_hold_s,
)
from nearhall.physics.heat import distribution_loss_w
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What any battery of its kind does, where no data sheet is at hand; all assumed."""

    inverter: float = 0.93
    """Efficiency of the inverter on battery."""
    depth: float = 0.9
    """Usable share of the nominal energy."""
    recharge_h: float = 4.0
    """Within which a battery is full again."""
    end_of_life: float = 0.8
    """Share of its capacity with which a battery is replaced."""


def habits_of(site: Site, ledger: Ledger) -> Habits:
    """As the ledger has them for this site's chemistry."""
    at, chem = f"sites.{site.id}.ups", "li_ion" if site.ups is not None and site.ups.chem == "li-ion" else "vrla"
    if site.ups is None:
        return Habits()
    return Habits(
        inverter=ledger.fixed(f"{at}.inverter_efficiency", "ups.inverter_efficiency"),
        depth=ledger.fixed(f"{at}.depth", f"ups.depth_{chem}"),
        recharge_h=ledger.fixed(f"{at}.recharge_h", "ups.recharge_h"),
        end_of_life=ledger.fixed(f"{at}.end_of_life", "ups.end_of_life"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """One battery at one load, each of shape (samples,) unless said."""

    seconds: Samples
    """It carries the load at the end of its life, as warm as it is: what is asked has to be held until it is replaced."""
    new_s: Samples
    """It carries the load on its first day, as warm as it is."""
    health: Samples
    """Share of the new battery's capacity that is there at the end of its life."""
    life_share: Samples
    """Share of the stated life that its warmth leaves it."""
    upper_bound: bool
    """Whether its time is amp-hours times volts, which no lead battery reaches within an hour."""
    beyond: str = ""
    """Where most of its loads are beyond the maker's table: in words, which way."""


def carried_w(site: Site, it_w: Samples, cooling_w: Samples, fan_w: Samples | None = None) -> Samples:
    """What the UPS gives out for an IT power: with the losses of distribution behind it, and cooling as far as that hangs on it.

    `cooling_w`: compressor and fans together; `fan_w`: the fans of it, which a UPS may carry alone.
    """
    lost = np.asarray(distribution_loss_w(rating_w=site.it_budget_kw * 1e3, load_w=it_w))
    return it_w + lost + cooling_on_ups_w(site, cooling_w, fan_w)


def cooling_on_ups_w(site: Site, cooling_w: Samples, fan_w: Samples | None = None) -> Samples:
    """What of the cooling goes on without mains: all of it, the fans, or nothing."""
    if site.cooling.on_ups:
        return cooling_w
    return fan_w if fan_w is not None and site.cooling.fans_on_ups else np.zeros_like(cooling_w)


def battery_of(site: Site, ups: Ups, load_w: Samples, ledger: Ledger) -> Battery:
    """How long it carries `load_w`. What age and cold have taken makes the rest work harder: the load over what is left."""
    habits = habits_of(site, ledger)
    celsius = ledger.take(f"sites.{site.id}.ups.temperature_c", None, "ups.temperature_c")
    fresh, health = (
        np.asarray(capacity_factor(ageing=ageing, celsius=celsius, chem=ups.chem)) for ageing in (1.0, habits.end_of_life)
    )
    return Battery(
        seconds=new_s(ups, load_w / health, habits),
        new_s=new_s(ups, load_w / fresh, habits),
        health=health,
        life_share=np.asarray(life_factor(celsius=celsius)),
        upper_bound=not ups.table and ups.chem == "vrla",
        beyond=_beyond(ups, float(np.median(load_w / health))),
    )


def new_s(ups: Ups, load_w: Samples, habits: Habits) -> Samples:
    """Seconds of a new battery at 25 degrees: by the maker's table of kW at the UPS's output, else by its energy.

    Where the battery's energy is given as well, no table makes it give more than that.
    """
    if not ups.table:
        return np.asarray(hold_s(usable_j=usable_j(ups, habits) * habits.inverter, load_w=load_w))
    rows = {kilowatts: minutes for minutes, kilowatts in sorted(ups.table, reverse=True)}  # of equal powers the shortest
    watts = [kilowatts * 1e3 for kilowatts in rows]
    held = np.asarray(table_hold_s(load_w=load_w, minutes=list(rows.values()), watts=watts, chem=ups.chem))
    given_j = _given_j(ups)
    return held if given_j is None else np.minimum(held, np.asarray(hold_s(usable_j=given_j * habits.inverter, load_w=load_w)))


def recharge_of(ups: Ups, load_w: Samples, habits: Habits) -> Samples:
    """What recharging adds to the UPS's input, shape as `load_w`.

    The charger's power where it is given, else what fills an empty battery within its hours: an outage lasts as long as it likes,
    so that no less than all of the energy has to be put back.
    """
    if ups.charger_kw is not None:
        return np.full_like(load_w, ups.charger_kw * 1e3)
    return np.full_like(load_w, float(recharge_w(used_j=usable_j(ups, habits), hours=habits.recharge_h)))


def drained_wh(ups: Ups, load_w: float, *, minutes: float, habits: Habits) -> float:
    """What an outage of so many minutes takes out of the battery, the inverter's loss included; at most all that is usable."""
    return min(load_w * minutes / 60.0 / habits.inverter, usable_j(ups, habits) / 3600.0)


def usable_j(ups: Ups, habits: Habits) -> float:
    """Energy of a new battery that may be taken out of it; after its table, where that alone is given, the most of any row."""
    given_j = _given_j(ups)
    if given_j is not None:
        return given_j * habits.depth
    return max(minutes * 60.0 * kilowatts * 1e3 for minutes, kilowatts in ups.table) / habits.inverter


def needed_kwh(site: Site, ups: Ups, load_w: Samples, hold_min: float, ledger: Ledger, *, surely: float) -> tuple[float, float]:
    """The smallest battery that holds so long in a share `surely` of the cases: (kWh it has left when it is replaced, kWh new).

    Both nominal, as the site's own `battery_kwh` is; of that a share is usable, of a lead battery less the shorter the time.
    """
    habits, chem = habits_of(site, ledger), ups.chem
    celsius = ledger.take(f"sites.{site.id}.ups.temperature_c", None, "ups.temperature_c")
    warm = np.asarray(capacity_factor(ageing=1.0, celsius=celsius, chem=chem))
    usable = min(habits.depth, float(rate_share(seconds=hold_min * 60.0, chem=chem)))
    joules = np.asarray(needed_j(load_w=load_w, seconds=hold_min * 60.0, health=warm, efficiency=habits.inverter * usable))
    worn = float(np.quantile(joules, surely)) / 3.6e6
    return worn, worn / habits.end_of_life


def nominal_kwh(ups: Ups) -> float | None:
    """What is printed on the battery; None where only its table is known."""
    given_j = _given_j(ups)
    return None if given_j is None else given_j / 3.6e6


def highest_w(ups: Ups) -> float | None:
    """The highest load of the maker's table; None without one."""
    return max(kilowatts for _, kilowatts in ups.table) * 1e3 if ups.table else None


def _beyond(ups: Ups, load_w: float) -> str:
    if not ups.table:
        return ""
    low, high = (end(kilowatts for _, kilowatts in ups.table) for end in (min, max))
    if low * 1e3 <= load_w <= high * 1e3:
        return ""
    taken = "no more energy than in its last row is taken" if load_w < low * 1e3 else "its end is drawn on"
    return f"{load_w / 1e3:.2f} kW (for what age and cold left) is beyond the maker's table of {low:g} to {high:g} kW: {taken}"


def _given_j(ups: Ups) -> float | None:
    """The battery's nominal energy, where the plan gives it."""
    if ups.battery_kwh is not None:
        return ups.battery_kwh * 3.6e6
    if ups.ah is not None and ups.volts is not None:
        return float(rated_energy_j(amp_hours=ups.ah * ups.strings, volts=ups.volts))
    return None
