"""Without mains: how long the battery carries the site, how long the room stays cool, and what is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan_place import Site, Ups
from nearhall.physics.battery import site_hold_s, thermal_hold_s
from nearhall.physics.heat import highest_inlet_c
from nearhall.planner.power.battery import Battery, battery_of, carried_w, habits_of, highest_w, recharge_of
from nearhall.planner.power.check import Check
from nearhall.planner.power.cooling import free_below_c, inlet_of
from nearhall.planner.power.feed import COOLING_POWER_FACTOR
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.load import SiteLoad

ENDLESS_S = 86_400.0
"""What cooling that stays on holds: longer than any battery."""
P_HOLD_MIN = 0.9
"""A hold that is kept less surely than this fails."""
LARGE = 2.0
"""What is so many times the next usual size is larger than it has to be, and is told."""
USUAL_KVA = (0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 120, 160, 200, 250, 300, 400, 500)
"""Sizes that UPS come in. Assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Seconds, each of shape (samples,)."""

    required_s: float
    battery_s: Samples
    thermal_s: Samples
    hold_s: Samples
    """The shorter of the two."""
    recharge_w: Samples
    """Added to the UPS's input after the required hold was used up; the feed is sized with it."""
    carried_w: float
    """Median of what the UPS carries in the busiest hour: servers, losses behind it, and cooling where that hangs on it."""
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
    carried = carried_w(site, load.busiest_w, cooling_w)
    battery = battery_of(site, ups, carried, ledger)
    mass_j_per_k = ledger.take(f"sites.{site.id}.thermal", None, "thermal.kj_per_k") * 1e3 * site.it_budget_kw
    thermal_s = _thermal_s(site, heat_w, mass_j_per_k)
    held = np.asarray(site_hold_s(battery_s=battery.seconds, thermal_s=thermal_s))
    peak_w = carried_w(site, load.burst_w, cooling_w)
    beside_va = peak_w - load.burst_w + (cooling_w * (1.0 / COOLING_POWER_FACTOR - 1.0) if site.cooling.on_ups else 0.0)
    kw = float(np.quantile(peak_w, 0.99)) / 1e3
    kva = max(float(np.quantile(load.burst_va * load.excursion + beside_va, 0.99)) / 1e3, kw)
    p_hold = float(np.mean(held >= ups.hold_min * 60.0))
    kelvin_per_min = float(np.median(60.0 * heat_w / mass_j_per_k))
    checks = [
        _size_check(ups, kw, kva),
        _hold_check(site, battery, thermal_s, hold_min=ups.hold_min, p_hold=p_hold, kelvin_per_min=kelvin_per_min),
        _power_check(ups, peak_w / battery.health),
    ]
    if site.cooling.on_ups and site.cooling.kind != "fans":
        words = "a compressor starts with several times its running current: ask for a soft start, or for what the UPS stands"
        checks.append(Check(name="compressor on the UPS", state="not_checked", words=words))
    return Hold(
        required_s=ups.hold_min * 60.0,
        battery_s=battery.seconds,
        thermal_s=thermal_s,
        hold_s=held,
        recharge_w=recharge_of(ups, carried, habits_of(site, ledger)),
        carried_w=float(np.median(carried)),
        kw_needed=kw,
        kva_needed=kva,
        upper_bound=battery.upper_bound,
        checks=tuple(checks),
    )


def _thermal_s(site: Site, heat_w: Samples, mass_j_per_k: Samples) -> Samples:
    """Until the inlet is as warm as the class allows, less what a compressor takes to come back once the mains have."""
    if site.cooling.on_ups:
        return np.full_like(heat_w, ENDLESS_S)
    highest = float(highest_inlet_c(ashrae=site.cooling.ashrae, altitude_m=site.altitude_m))
    until = np.asarray(
        thermal_hold_s(thermal_mass_j_per_k=mass_j_per_k, headroom_k=max(highest - inlet_of(site), 0.0), heat_w=heat_w)
    )
    compressor = site.cooling.design_out_c > free_below_c(site)
    return np.maximum(until - (site.cooling.restart_delay_s if compressor else 0.0), 0.0)


def _size_check(ups: Ups, kw: float, kva: float) -> Check:
    fits = kw <= ups.kw and kva <= ups.kva
    words = f"{kw:.2f} kW and {kva:.2f} kVA (P99, kVA with excursions) {'<=' if fits else '>'} {ups.kw:g} kW and {ups.kva:g} kVA"
    needed = max(kva, kw * ups.kva / ups.kw)
    size = next((size for size in USUAL_KVA if size >= needed), None)
    if fits and size is not None and size * LARGE <= ups.kva:
        words += f"; {size:g} kVA would do"
    if not fits:
        words += f"; the next usual size is {size:g} kVA" if size is not None else "; beyond the usual sizes"
    return Check(name="UPS", state="ok" if fits else "fails", words=words, value=kva, limit=ups.kva, unit="kVA")


def _hold_check(
    site: Site, battery: Battery, thermal_s: Samples, *, hold_min: float, p_hold: float, kelvin_per_min: float
) -> Check:
    held, cool = (float(np.median(part)) / 60.0 for part in (battery.seconds, thermal_s))
    on = "servers, fans and cooling" if site.cooling.on_ups else f"servers alone; without cooling {kelvin_per_min:.1f} K a minute"
    as_long = "as long as the battery" if site.cooling.on_ups else f"{cool:.1f} min"
    words = (
        f"holds {hold_min:g} min in {_cases(p_hold)} of the cases: battery {held:.1f} min, cool for {as_long} (medians); "
        f"{'battery' if held <= cool else 'heat'} binds; on the UPS: {on}; "
        f"warmth leaves the battery {float(np.mean(battery.life_share)):.0%} of its stated life"
    )
    state = "ok" if p_hold >= P_HOLD_MIN else "fails"
    if battery.upper_bound:
        words += "; amp-hours times volts is an upper bound: ask for the maker's constant-power table"
        state = "not_checked" if state == "ok" else state
    return Check(name="hold", state=state, words=words, value=p_hold, limit=P_HOLD_MIN)


def _cases(share: float) -> str:
    """What was drawn is never quite certain."""
    return "more than 99 %" if share > 0.995 else f"{100 * share:.0f} %"


def _power_check(ups: Ups, peak_w: Samples) -> Check:
    """`peak_w`: what a new battery would give when this one works as hard."""
    highest, peak = highest_w(ups), float(np.quantile(peak_w, 0.99))
    if highest is None:
        words = f"{peak / 1e3:.2f} kW (P99, for what age and cold left): the battery's highest power is not given"
        return Check(name="battery power", state="not_checked", words=words, value=peak / 1e3, unit="kW")
    fits = peak <= highest
    words = f"{peak / 1e3:.2f} kW (P99, for what age and cold left) {'<=' if fits else '>'} {highest / 1e3:g} kW of the table"
    return Check(
        name="battery power",
        state="ok" if fits else "fails",
        words=words if fits else f"{words}: its minutes there are a guess",
        value=peak / 1e3,
        limit=highest / 1e3,
        unit="kW",
    )
