"""Without mains: how long the battery carries the site, how long the room stays cool, and what is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan import Site, Ups
from nearhall.physics.battery import (
    capacity_factor,
    hold_s,
    rated_energy_j,
    recharge_w,
    site_hold_s,
    table_hold_s,
    thermal_hold_s,
)
from nearhall.physics.heat import highest_inlet_c
from nearhall.planner.draws import Samples
from nearhall.planner.feed import Check
from nearhall.planner.ledger import Ledger
from nearhall.planner.load import SiteLoad

INVERTER = 0.93
"""Efficiency of the inverter on battery, where amp-hours are all that is known. Assumed."""
DEPTH: dict[str, float] = {"vrla": 0.8, "li-ion": 0.9}
"""Usable share of the nominal energy. Assumed."""
RECHARGE_H = 4.0
"""Within which a battery is full again. Assumed."""
ENDLESS_S = 86_400.0
"""What cooling that stays on holds: longer than any battery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Seconds, each of shape (samples,)."""

    required_s: float
    battery_s: Samples
    thermal_s: Samples
    hold_s: Samples
    """The shorter of the two."""
    recharge_w: Samples
    """Added to the UPS's input after the required hold was used up."""
    kw_needed: float
    """P99 of what the UPS carries."""
    kva_needed: float
    """P99, with the excursion below a second."""
    upper_bound: bool
    """Whether the battery's time is amp-hours times volts, which no battery reaches within an hour."""
    checks: tuple[Check, ...]

    @property
    def p_hold(self) -> float:
        """Probability that the site holds as long as is required."""
        return float(np.mean(self.hold_s >= self.required_s))


def hold_of(site: Site, load: SiteLoad, *, cooling_w: Samples, heat_w: Samples, ledger: Ledger) -> Hold | None:
    """The hold in the busiest hour; None without a UPS. `cooling_w`: compressor and fans; `heat_w`: what has to be moved out."""
    ups = site.ups
    if ups is None:
        return None
    carried = load.busiest_w + (cooling_w if site.cooling.on_ups else 0.0)
    new_s, bound = _battery_s(ups, carried)
    health = capacity_factor(
        ageing=ledger.take(f"sites.{site.id}.ups.ageing", None, "ups.battery_ageing"),
        celsius=ledger.take(f"sites.{site.id}.ups.temperature_c", None, "ups.temperature_c"),
        chem=ups.chem,
    )
    battery_s = new_s * health
    thermal_s = _thermal_s(site, heat_w, ledger)
    held = np.asarray(site_hold_s(battery_s=battery_s, thermal_s=thermal_s))
    peak_w = load.burst_w + (cooling_w if site.cooling.on_ups else 0.0)
    peak_va = load.burst_va * load.excursion + (cooling_w / 0.9 if site.cooling.on_ups else 0.0)
    required = ups.hold_min * 60.0
    found = Hold(
        required_s=required,
        battery_s=battery_s,
        thermal_s=thermal_s,
        hold_s=held,
        recharge_w=np.asarray(recharge_w(used_j=carried * required, hours=RECHARGE_H)),
        kw_needed=float(np.quantile(peak_w, 0.99)) / 1e3,
        kva_needed=float(np.quantile(peak_va, 0.99)) / 1e3,
        upper_bound=bound,
        checks=(),
    )
    return Hold(
        required_s=found.required_s,
        battery_s=battery_s,
        thermal_s=thermal_s,
        hold_s=held,
        recharge_w=found.recharge_w,
        kw_needed=found.kw_needed,
        kva_needed=found.kva_needed,
        upper_bound=bound,
        checks=(_size_check(ups, found), _hold_check(site, found)),
    )


def _battery_s(ups: Ups, carried_w: Samples) -> tuple[Samples, bool]:
    """(seconds of a new battery at 25 degrees, whether that is only an upper bound)."""
    if ups.table:
        rows = sorted(ups.table)
        minutes, watts = [row[0] for row in rows], [row[1] * 1e3 for row in rows]
        return np.asarray(table_hold_s(load_w=carried_w, minutes=minutes, watts=watts)), False
    depth = DEPTH[ups.chem]
    if ups.battery_kwh is not None:
        usable = ups.battery_kwh * 3.6e6 * depth * INVERTER
    else:
        usable = float(rated_energy_j(amp_hours=ups.ah or 0.0, volts=ups.volts or 0.0, depth=depth, efficiency=INVERTER))
    return np.asarray(hold_s(usable_j=usable, load_w=carried_w)), ups.chem == "vrla"


def _thermal_s(site: Site, heat_w: Samples, ledger: Ledger) -> Samples:
    """Until the inlet is as warm as the class allows, less what a compressor takes to come back."""
    if site.cooling.on_ups:
        return np.full_like(heat_w, ENDLESS_S)
    mass = ledger.take(f"sites.{site.id}.thermal", None, "thermal.kj_per_k") * 1e3 * site.it_budget_kw
    headroom = max(float(highest_inlet_c(ashrae=site.cooling.ashrae, altitude_m=site.altitude_m)) - site.cooling.supply_c, 0.0)
    delay = site.cooling.restart_delay_s if site.cooling.kind == "dx" else 0.0
    until = np.asarray(thermal_hold_s(thermal_mass_j_per_k=mass, headroom_k=headroom, heat_w=heat_w))
    return np.maximum(until - delay, 0.0)


def _size_check(ups: Ups, found: Hold) -> Check:
    fits = found.kw_needed <= ups.kw and found.kva_needed <= ups.kva
    sign = "<=" if fits else ">"
    words = (
        f"{found.kw_needed:.2f} kW and {found.kva_needed:.2f} kVA (P99, with excursions) {sign} {ups.kw:g} kW and {ups.kva:g} kVA"
    )
    return Check(name="UPS", state="ok" if fits else "fails", words=words, value=found.kva_needed, limit=ups.kva, unit="kVA")


def _hold_check(site: Site, found: Hold) -> Check:
    battery, thermal = (float(np.median(part)) / 60.0 for part in (found.battery_s, found.thermal_s))
    binding = "battery" if battery <= thermal else "heat"
    on = "servers, fans and cooling" if site.cooling.on_ups else "servers alone, cooling stands still"
    bound = "; amp-hours times volts is an upper bound, ask for the maker's table" if found.upper_bound else ""
    cool = "as long as the battery" if thermal * 60 >= ENDLESS_S else f"{thermal:.1f} min"
    words = (
        f"holds {found.required_s / 60:g} min with probability {found.p_hold:.0%}: battery {battery:.1f} min, cool for {cool} "
        f"(medians); {binding} binds; on the UPS: {on}{bound}"
    )
    state = "ok" if found.p_hold >= 0.9 else "fails"
    return Check(name="hold", state=state, words=words, value=found.p_hold, limit=0.9)
