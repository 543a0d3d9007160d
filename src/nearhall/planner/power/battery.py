"""A UPS's battery: what hangs on it, how long it carries that, and what recharging adds to the feed afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan_place import Site, Ups
from nearhall.physics.battery import capacity_factor, hold_s, life_factor, rated_energy_j, recharge_w, table_hold_s
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


def habits_of(site: Site, ledger: Ledger) -> Habits:
    """As the ledger has them for this site's chemistry."""
    at, chem = f"sites.{site.id}.ups", "li_ion" if site.ups is not None and site.ups.chem == "li-ion" else "vrla"
    if site.ups is None:
        return Habits()
    return Habits(
        inverter=ledger.fixed(f"{at}.inverter_efficiency", "ups.inverter_efficiency"),
        depth=ledger.fixed(f"{at}.depth", f"ups.depth_{chem}"),
        recharge_h=ledger.fixed(f"{at}.recharge_h", "ups.recharge_h"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """One battery at one load, each of shape (samples,) unless said."""

    seconds: Samples
    """It carries the load, aged and as warm as it is."""
    health: Samples
    """Share of the new battery's capacity that is there."""
    life_share: Samples
    """Share of the stated life that its warmth leaves it."""
    upper_bound: bool
    """Whether its time is amp-hours times volts, which no lead battery reaches within an hour."""


def carried_w(site: Site, it_w: Samples, cooling_w: Samples) -> Samples:
    """What the UPS gives out for an IT power: with the losses of distribution behind it, and cooling where that hangs on it."""
    lost = np.asarray(distribution_loss_w(rating_w=site.it_budget_kw * 1e3, load_w=it_w))
    return it_w + lost + (cooling_w if site.cooling.on_ups else 0.0)


def battery_of(site: Site, ups: Ups, load_w: Samples, ledger: Ledger) -> Battery:
    """How long it carries `load_w`. What age and cold have taken makes the rest work harder: the load over what is left."""
    celsius = ledger.take(f"sites.{site.id}.ups.temperature_c", None, "ups.temperature_c")
    ageing = ledger.take(f"sites.{site.id}.ups.ageing", None, "ups.battery_ageing")
    health = np.asarray(capacity_factor(ageing=ageing, celsius=celsius, chem=ups.chem))
    return Battery(
        seconds=new_s(ups, load_w / health, habits_of(site, ledger)),
        health=health,
        life_share=np.asarray(life_factor(celsius=celsius)),
        upper_bound=not ups.table and ups.chem == "vrla",
    )


def new_s(ups: Ups, load_w: Samples, habits: Habits) -> Samples:
    """Seconds of a new battery at 25 degrees: by the maker's table of kW at the UPS's output, else by its energy."""
    if ups.table:
        rows = {kilowatts: minutes for minutes, kilowatts in sorted(ups.table, reverse=True)}  # of equal powers the shortest
        watts = [kilowatts * 1e3 for kilowatts in rows]
        return np.asarray(table_hold_s(load_w=load_w, minutes=list(rows.values()), watts=watts))
    return np.asarray(hold_s(usable_j=_nominal_j(ups, habits) * habits.depth * habits.inverter, load_w=load_w))


def recharge_of(ups: Ups, load_w: Samples, habits: Habits) -> Samples:
    """What recharging adds to the UPS's input after the required hold, or after all that the battery has."""
    used = np.minimum(load_w * ups.hold_min * 60.0 / habits.inverter, _nominal_j(ups, habits))
    return np.asarray(recharge_w(used_j=used, hours=habits.recharge_h))


def highest_w(ups: Ups) -> float | None:
    """The highest load of the maker's table; None without one."""
    return max(kilowatts for _, kilowatts in ups.table) * 1e3 if ups.table else None


def _nominal_j(ups: Ups, habits: Habits) -> float:
    if ups.battery_kwh is not None:
        return ups.battery_kwh * 3.6e6
    if ups.ah is not None and ups.volts is not None:
        return float(rated_energy_j(amp_hours=ups.ah * ups.strings, volts=ups.volts))
    return max(minutes * 60.0 * kilowatts * 1e3 for minutes, kilowatts in ups.table) / habits.inverter
