"""Without mains: how long the battery carries the site, how long the room stays cool, and what is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan_place import Site, Ups
from nearhall.physics.battery import CHARGE_EFFICIENCY, site_hold_s, thermal_hold_s
from nearhall.physics.heat import highest_inlet_c
from nearhall.planner.power.battery import (
    Battery,
    battery_of,
    carried_w,
    cooling_on_ups_w,
    habits_of,
    highest_w,
    needed_kwh,
    nominal_kwh,
    recharge_of,
)
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
MUCH = 3.0
"""A battery of so many times the smallest that does is larger than it has to be, and is told."""
USUAL_KVA = (0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 120, 160, 200, 250, 300, 400, 500)
"""Sizes that UPS come in. Assumed."""
RATED_TO_M, PER_100_M = 1000.0, 0.01
"""A UPS carries its rating up to 1,000 m and a hundredth less for each 100 m beyond (IEC 62040-3; as commonly quoted)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Seconds, each of shape (samples,)."""

    required_s: float
    battery_s: Samples
    """At the end of the battery's life, where the required minutes are judged."""
    new_s: Samples
    """On its first day."""
    thermal_s: Samples
    hold_s: Samples
    """The shorter of battery and heat."""
    needed_kwh: float
    """The smallest battery that holds the required minutes, by what it has left at the end of its life, nominal."""
    needed_new_kwh: float
    """The same by what is printed on a new one."""
    recharge_w: Samples
    """Added to the UPS's input after an outage that emptied the battery; the feed is sized with it."""
    carried_w: float
    """Median of what the UPS carries in the busiest hour: servers, losses behind it, and cooling as far as that hangs on it."""
    kw_needed: float
    """P99 of what the UPS carries."""
    kva_needed: float
    """P99, with the excursion below a second."""
    upper_bound: bool
    """Whether the battery's time is amp-hours times volts, which no battery reaches within an hour."""
    checks: tuple[Check, ...]

    @property
    def p_hold(self) -> float:
        """Probability that the site holds as long as is required, at the end of the battery's life."""
        return float(np.mean(self.hold_s >= self.required_s))

    @property
    def recharge_heat_w(self) -> Samples:
        """What of the recharge warms the cabinet."""
        return self.recharge_w * (1.0 - CHARGE_EFFICIENCY)


def hold_of(
    site: Site,
    load: SiteLoad,
    *,
    cooling_w: Samples,
    heat_w: Samples,
    ledger: Ledger,
    fan_w: Samples | None = None,
    hottest_c: float | None = None,
) -> Hold | None:
    """The hold in the busiest hour; None without a UPS. `heat_w`: what has to be moved out then.

    `cooling_w`: compressor and fans; `fan_w`: the fans of it; `hottest_c`: outdoors, where not the design temperature alone.
    """
    ups = site.ups
    if ups is None:
        return None
    outdoor_c = site.cooling.design_out_c if hottest_c is None else hottest_c
    carried = carried_w(site, load.busiest_w, cooling_w, fan_w)
    battery = battery_of(site, ups, carried, ledger)
    mass_j_per_k = _thermal_mass_j_per_k(site, load, ledger)
    thermal_s = _thermal_s(site, heat_w, mass_j_per_k, outdoor_c)
    held = np.asarray(site_hold_s(battery_s=battery.seconds, thermal_s=thermal_s))
    peak_w = carried_w(site, load.burst_w, cooling_w, fan_w)
    on_ups_w = cooling_on_ups_w(site, cooling_w, fan_w)
    beside_va = peak_w - load.burst_w + on_ups_w * (1.0 / COOLING_POWER_FACTOR - 1.0)
    kw = float(np.quantile(peak_w, 0.99)) / 1e3
    kva = max(float(np.quantile(load.burst_va * load.excursion + beside_va, 0.99)) / 1e3, kw)
    needed, needed_new = needed_kwh(site, ups, carried, ups.hold_min, ledger, surely=P_HOLD_MIN)
    p_hold = float(np.mean(held >= ups.hold_min * 60.0))
    kelvin_per_min = float(np.median(60.0 * heat_w / mass_j_per_k))
    checks = [
        _size_check(site, ups, kw, kva),
        _hold_check(site, battery, thermal_s, p_hold=p_hold, kelvin_per_min=kelvin_per_min),
        _energy_check(ups, battery, needed, needed_new, carried),
        _power_check(ups, peak_w / battery.health),
    ]
    if site.cooling.compressor_on_ups and site.cooling.kind != "fans":
        words = "a compressor starts with several times its running current: ask for a soft start, or for what the UPS stands"
        checks.append(Check(name="compressor on the UPS", state="not_checked", words=words))
    return Hold(
        required_s=ups.hold_min * 60.0,
        battery_s=battery.seconds,
        new_s=battery.new_s,
        thermal_s=thermal_s,
        hold_s=held,
        needed_kwh=needed,
        needed_new_kwh=needed_new,
        recharge_w=recharge_of(ups, carried, habits_of(site, ledger)),
        carried_w=float(np.median(carried)),
        kw_needed=kw,
        kva_needed=kva,
        upper_bound=battery.upper_bound,
        checks=tuple(checks),
    )


def _thermal_mass_j_per_k(site: Site, load: SiteLoad, ledger: Ledger) -> Samples:
    """As measured at the site, else by what there is to warm: servers, the UPS with its battery, and the empty cabinet.

    What the cabinet may draw one day warms nothing.
    """
    said = site.cooling.thermal_kj_per_k
    if said is not None:
        return ledger.take(f"sites.{site.id}.cooling.thermal_kj_per_k", said) * 1e3
    servers = ledger.take(f"sites.{site.id}.thermal", None, "thermal.kj_per_k") * load.installed_w
    cabinet = ledger.take(f"sites.{site.id}.thermal.cabinet", None, "thermal.cabinet_kj_per_k") * 1e3
    rated_w = site.ups.kw * 1e3 if site.ups is not None else 0.0
    return servers + cabinet + ledger.take(f"sites.{site.id}.thermal.ups", None, "thermal.ups_kj_per_k") * rated_w


def _thermal_s(site: Site, heat_w: Samples, mass_j_per_k: Samples, outdoor_c: float) -> Samples:
    """Until the inlet is as warm as the class allows.

    Cooling that goes on without mains has no end: behind a double-conversion UPS a compressor never stops. One that does stop
    takes its delay once the mains are back, so that comes off.
    """
    cooling = site.cooling
    highest = float(highest_inlet_c(ashrae=cooling.ashrae, altitude_m=site.altitude_m))
    headroom_k = max(highest - inlet_of(site, outdoor_c), 0.0)
    until = np.asarray(thermal_hold_s(thermal_mass_j_per_k=mass_j_per_k, headroom_k=headroom_k, heat_w=heat_w))
    compressor = outdoor_c > free_below_c(site)
    if cooling.on_ups or (cooling.fans_on_ups and not compressor):
        return np.full_like(heat_w, ENDLESS_S)
    return np.maximum(until - (cooling.restart_delay_s if compressor else 0.0), 0.0)


def _size_check(site: Site, ups: Ups, kw: float, kva: float) -> Check:
    share = max(1.0 - PER_100_M * max(site.altitude_m - RATED_TO_M, 0.0) / 100.0, 0.0)
    fits = kw <= ups.kw * share and kva <= ups.kva * share
    words = (
        f"{kw:.2f} kW and {kva:.2f} kVA (P99, kVA with excursions) {'<=' if fits else '>'} "
        f"{ups.kw * share:.3g} kW and {ups.kva * share:.3g} kVA"
    )
    words += f", {share:.0%} of its rating at {site.altitude_m:g} m" if share < 1.0 else ""
    needed = max(kva, kw * ups.kva / ups.kw) / max(share, 0.01)
    size = next((size for size in USUAL_KVA if size >= needed), None)
    if fits and size is not None and size * LARGE <= ups.kva:
        words += f"; {size:g} kVA would do"
    if not fits:
        words += f"; the next usual size is {size:g} kVA" if size is not None else "; beyond the usual sizes"
    return Check(name="UPS", state="ok" if fits else "fails", words=words, value=kva, limit=ups.kva * share, unit="kVA")


def _hold_check(site: Site, battery: Battery, thermal_s: Samples, *, p_hold: float, kelvin_per_min: float) -> Check:
    ups = site.ups
    assert ups is not None  # noqa: S101 (there is no hold without one)
    held, new, cool = (float(np.median(part)) / 60.0 for part in (battery.seconds, battery.new_s, thermal_s))
    as_long = "as long as the battery" if float(np.median(thermal_s)) >= ENDLESS_S else f"{cool:.1f} min"
    binds = "battery" if held <= cool else "heat"
    words = (
        f"holds {ups.hold_min:g} min in {_cases(p_hold)} of the cases: battery {held:.1f} min at the end of its life "
        f"({new:.1f} new), cool for {as_long} (medians); {binds} binds; on the UPS: {_on_ups(site, kelvin_per_min)}"
    )
    if ups.chem == "vrla":
        words += f"; warmth leaves the battery {float(np.mean(battery.life_share)):.0%} of its stated life"
    words += f"; {battery.beyond}" if battery.beyond else ""
    state = "ok" if p_hold >= P_HOLD_MIN else "fails"
    if battery.upper_bound:
        words += "; amp-hours times volts is an upper bound: ask for the maker's constant-power table"
        state = "not_checked" if state == "ok" else state
    return Check(name="hold", state=state, words=words, value=100.0 * p_hold, limit=100.0 * P_HOLD_MIN, unit="% of cases")


def _energy_check(ups: Ups, battery: Battery, needed: float, needed_new: float, carried: Samples) -> Check:
    """The smallest battery that does, whatever the heat does, beside the one that stands there."""
    words = (
        f"{needed_new:.2g} kWh new, {needed:.2g} kWh at the end of its life (nominal), hold {ups.hold_min:g} min of "
        f"{float(np.median(carried)) / 1e3:.2f} kW"
    )
    given = nominal_kwh(ups)
    words += f"; {given:.2g} kWh stand there" if given is not None else "; the maker's table tells of the one that stands there"
    enough = float(np.mean(battery.seconds >= ups.hold_min * 60.0)) >= P_HOLD_MIN
    state = "ok" if enough else "fails"
    if enough and battery.upper_bound and given is not None and given < needed_new:
        words, state = (
            f"{words}: too little for lead within so short a time, unless the maker's table says otherwise",
            "not_checked",
        )
    elif enough and given is not None and needed_new * MUCH <= given:
        words += ", much more than has to"
    return Check(name="battery", state=state, words=words, value=needed_new, limit=given, unit="kWh")


def _on_ups(site: Site, kelvin_per_min: float) -> str:
    if site.cooling.on_ups:
        return "servers and fans" if site.cooling.kind == "fans" else "servers, fans and cooling"
    what = "servers and fans, no compressor" if site.cooling.fans_on_ups else "servers alone"
    return f"{what}; without cooling {kelvin_per_min:.1f} K a minute"


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
