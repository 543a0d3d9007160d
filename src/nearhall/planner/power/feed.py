"""The feed of a site: its breaker by code and by nameplate, the neutral, and what else is held against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan_place import Site, Supply
from nearhall.physics import breakers as law
from nearhall.physics.electrical import UPS_PROPORTIONAL_LOSS
from nearhall.planner.power.battery import Habits, carried_w, recharge_of
from nearhall.planner.power.check import Check
from nearhall.planner.power.inrush import inrush_checks
from nearhall.planner.power.lines import Lines, lines_of, on_one_line
from nearhall.planner.samples.draws import Samples
from nearhall.planner.serving.load import SiteLoad

UPS_INPUT_POWER_FACTOR = 0.99
"""Of a double-conversion UPS. Assumed."""
COOLING_POWER_FACTOR = 0.9
"""Of small compressors and fans. Assumed."""
OWN_POWER_FACTOR = 0.9
"""Of switch, meters and control. Assumed."""
DROP_PERCENT_MAX = 4.0
"""IEC 60364-5-52, table G.52.1: 5 % for other than lighting, less a percent for what is upstream (assumed)."""
LEAKAGE_MA_MAX = 10.0
"""Above it IEC 60364-5-54 asks for a reinforced protective conductor; as commonly quoted."""
LARGE = 2.0
"""A breaker of so many times the next standard rating is larger than it has to be, and is told."""
BREAKS_A: dict[str, float] = {"IEC": 6000.0, "NEC": 10_000.0}
"""Short-circuit current that the plainest miniature breaker of a code breaks; as commonly quoted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What the feed carries and what protects it."""

    lines_a: tuple[Samples, ...]
    """Peak current of each line, samples; a battery that recharges is in it."""
    unbalance_percent: float
    neutral_a: Samples
    worst_a: Samples
    """Of the most loaded line."""
    design_a: float
    """Its P99 with the code's factor."""
    factor: float
    needed_a: float | None
    """Next standard rating."""
    nameplate_va: float
    """The servers' nameplates as the feed sees them, with the losses and the cooling that `va` has too."""
    nameplate_a: float
    """Current of the most loaded line by the nameplates."""
    nameplate_breaker_a: float | None
    va: Samples
    """At the peak, with a full battery."""
    checks: tuple[Check, ...]

    @property
    def margin_percent(self) -> float:
        """What the needed breaker leaves above the design current."""
        return 100.0 * (self.needed_a / self.design_a - 1.0) if self.needed_a is not None else float("nan")


def feed_of(site: Site, load: SiteLoad, *, ups_side_w: Samples, cooling_w: Samples, habits: Habits | None = None) -> Feed:
    """`ups_side_w`: peak of IT with its losses; `cooling_w`: compressor and fans at the design temperature."""
    supply = site.supply
    it_va, cooling_va = _into_va(site, load, ups_side_w, cooling_w)
    recharge_va = _recharge_w(site, load, cooling_w, habits or Habits()) / UPS_INPUT_POWER_FACTOR
    lines = lines_of(site, load, it_va=it_va + recharge_va, cooling_va=cooling_va)
    neutral = _neutral_a(site, load, lines)
    p99 = lines.p99_a
    design = _design_a(supply, p99)
    nameplate_va = _nameplate_va(site, load, ups_side_w, cooling_w)
    named = lines_of(site, load, it_va=nameplate_va, cooling_va=cooling_va)
    nameplate_a = float(np.median(named.worst_a))
    needed = law.next_breaker_a(design_a=design, code=supply.code)
    checks = [
        _breaker_check(supply, lines, design, needed),
        *inrush_checks(site, load, lines, needed),
        *_ups_checks(site, load, ups_side_w=ups_side_w, cooling_w=cooling_w, usable_a=_usable_a(supply, needed)),
        *_neutral_checks(supply, lines, neutral),
        _drop_check(supply, lines, neutral),
        _short_circuit_check(supply),
        _leakage_check(supply, load),
        Check(name="selectivity", state="not_checked", words="needs the curves of all breakers in series"),
    ]
    return Feed(
        lines_a=lines.currents_a,
        unbalance_percent=law.unbalance_percent([float(np.median(line)) for line in lines.currents_a]),
        neutral_a=neutral,
        worst_a=lines.worst_a,
        design_a=design,
        factor=design / p99,
        needed_a=needed,
        nameplate_va=float(np.median(nameplate_va + cooling_va)),
        nameplate_a=nameplate_a,
        nameplate_breaker_a=law.next_breaker_a(design_a=_design_a(supply, nameplate_a), code=supply.code),
        va=it_va + cooling_va,
        checks=tuple(checks),
    )


def _design_a(supply: Supply, current_a: float) -> float:
    return float(
        law.design_current_a(
            current_a=current_a,
            code=supply.code,
            ambient_factor=supply.ambient_factor,
            grouping_factor=supply.grouping_factor,
        )
    )


def _usable_a(supply: Supply, needed_a: float | None) -> float | None:
    """What the given breaker, or else the needed one, may carry for hours."""
    rating = supply.breaker_a or needed_a
    return rating / _design_a(supply, 1.0) if rating is not None else None


def _into_va(site: Site, load: SiteLoad, ups_side_w: Samples, cooling_w: Samples) -> tuple[Samples, Samples]:
    """(volt-amperes of IT and its losses, of cooling) as the feed sees them; cooling on the UPS passes through it."""
    if site.ups is None:
        return load.burst_va * (ups_side_w / load.burst_w), cooling_w / COOLING_POWER_FACTOR
    if site.cooling.on_ups:
        through = ups_side_w + cooling_w * (1.0 + UPS_PROPORTIONAL_LOSS)
        return through / UPS_INPUT_POWER_FACTOR, np.zeros_like(cooling_w)
    return ups_side_w / UPS_INPUT_POWER_FACTOR, cooling_w / COOLING_POWER_FACTOR


def _recharge_w(site: Site, load: SiteLoad, cooling_w: Samples, habits: Habits) -> Samples:
    """After an outage in the busiest hour the battery recharges while everything runs."""
    if site.ups is None:
        return np.zeros_like(cooling_w)
    return recharge_of(site.ups, carried_w(site, load.busiest_w, cooling_w), habits)


def _nameplate_va(site: Site, load: SiteLoad, ups_side_w: Samples, cooling_w: Samples) -> Samples:
    """Nameplates in place of what servers draw; losses grow with them."""
    losses = float(ups_side_w.mean() / load.burst_w.mean())
    if site.ups is not None:
        through = cooling_w * (1.0 + UPS_PROPORTIONAL_LOSS) if site.cooling.on_ups else 0.0
        return (load.nameplate_w * losses + through) / UPS_INPUT_POWER_FACTOR
    named = load.own_w / OWN_POWER_FACTOR
    for rack in load.racks:
        named = named + rack.servers * rack.server.nameplate_w / rack.server.power_factor
    return named * losses


def _neutral_a(site: Site, load: SiteLoad, lines: Lines) -> Samples:
    if site.supply.phases == 1:
        return lines.worst_a
    if site.supply.code == "NEC":
        return np.zeros_like(lines.worst_a)
    share = law.TRIPLEN_SHARE["server"] if site.ups is not None else _triplen(load)
    return np.asarray(law.neutral_a(lines_a=lines.currents_a, triplen_share=share))


def _triplen(load: SiteLoad) -> float:
    amps = [rack.servers * va for rack, va in zip(load.racks, load.server_va, strict=True)]
    if not amps:
        return 0.0
    return float(np.average([law.TRIPLEN_SHARE[rack.server.supply] for rack in load.racks], weights=amps))


def _breaker_check(supply: Supply, lines: Lines, design: float, needed: float | None) -> Check:
    p99 = lines.p99_a
    line = f"line {lines.worst_line()}" if supply.phases == 3 else "the line"
    if supply.breaker_a is None:
        words = f"{p99:.1f} A on {line} (P99) is {design:.1f} A by {supply.code}: "
        words += f"next standard rating {needed:g} A" if needed is not None else "beyond the standard ratings"
        return Check(name="breaker", state="ok" if needed else "fails", words=words, value=design, limit=needed, unit="A")
    usable = supply.breaker_a * p99 / design
    fits = p99 <= usable * (1 + 1e-9)
    words = f"breaker {supply.breaker_a:g} A: {p99:.1f} A {'<=' if fits else '>'} {usable:.1f} A on {line} (P99)"
    words += f"; {needed:g} A would do" if fits and needed is not None and needed * LARGE <= supply.breaker_a else ""
    return Check(name="breaker", state="ok" if fits else "fails", words=words, value=p99, limit=usable, unit="A")


def _ups_checks(site: Site, load: SiteLoad, *, ups_side_w: Samples, cooling_w: Samples, usable_a: float | None) -> list[Check]:
    """On bypass the feed carries the supplies themselves, with their own power factor and harmonics."""
    ups = site.ups
    if ups is None or usable_a is None:
        return []
    apparent, cooling_va = load.burst_va * (ups_side_w / load.burst_w), cooling_w / COOLING_POWER_FACTOR
    if site.cooling.on_ups:
        apparent, cooling_va = apparent + cooling_va, np.zeros_like(cooling_va)
    bypass = lines_of(site, load, it_va=apparent, cooling_va=cooling_va)
    value = bypass.p99_a
    fits = value <= usable_a * (1 + 1e-9)
    words = f"on bypass the supplies' own volt-amperes: {value:.1f} A {'<=' if fits else '>'} {usable_a:.1f} A (P99)"
    found = [Check(name="UPS bypass", state="ok" if fits else "fails", words=words, value=value, limit=usable_a, unit="A")]
    share = _triplen(load)
    if site.supply.phases == 3 and site.supply.code == "IEC" and not on_one_line(site.supply, ups.kva * 1e3) and share > 1 / 3:
        words = f"the neutral behind the UPS carries {3.0 * share:.1f} times a line's current: triplen harmonics of bricks"
        found.append(Check(name="neutral behind the UPS", state="fails", words=words, value=3.0 * share, limit=1.0))
    return found


def _neutral_checks(supply: Supply, lines: Lines, neutral: Samples) -> list[Check]:
    if supply.phases == 1:
        return []
    if supply.code == "NEC":
        return [
            Check(
                name="neutral", state="ok", words="supplies stand between lines: the neutral carries nothing", value=0.0, unit="A"
            )
        ]
    value, limit = float(np.quantile(neutral, 0.99)), lines.p99_a
    fits = value <= limit * (1 + 1e-9)
    words = f"neutral {value:.1f} A (P99) against {limit:.1f} A in the lines"
    more = "" if fits else ": a neutral of full section is too thin, triplen harmonics add up in it"
    return [Check(name="neutral", state="ok" if fits else "fails", words=words + more, value=value, limit=limit, unit="A")]


def _drop_check(supply: Supply, lines: Lines, neutral: Samples) -> Check:
    """To the neutral, line and neutral both drop; the neutral of a balanced feed carries nothing."""
    if supply.run_m is None or supply.mm2 is None:
        return Check(name="voltage drop", state="not_checked", words="run_m and mm2 of the cable are not given")
    cable = {"length_m": supply.run_m, "mm2": supply.mm2}
    if supply.phases == 3 and supply.code == "IEC":
        both = float(np.quantile(lines.worst_a + neutral, 0.99)) / 2.0
        value = float(law.voltage_drop_percent(current_a=both, volts=supply.volts / 3.0**0.5, phases=1, **cable))
    else:
        value = float(law.voltage_drop_percent(current_a=lines.p99_a, volts=supply.volts, phases=supply.phases, **cable))
    state = "ok" if value <= DROP_PERCENT_MAX else "fails"
    words = f"{value:.1f} % over {supply.run_m:g} m of {supply.mm2:g} mm2"
    return Check(name="voltage drop", state=state, words=words, value=value, limit=DROP_PERCENT_MAX, unit="%")


def _short_circuit_check(supply: Supply) -> Check:
    if supply.transformer_kva is None or supply.impedance_percent is None:
        return Check(name="short circuit", state="not_checked", words="the transformer's kVA and impedance are not given")
    value = float(
        law.short_circuit_a(
            transformer_kva=supply.transformer_kva,
            volts=supply.volts if supply.phases == 3 else supply.volts * 3.0**0.5,
            impedance_percent=supply.impedance_percent,
        )
    )
    breaks = BREAKS_A[supply.code]
    words = f"{value / 1e3:.1f} kA at the transformer at most"
    if value <= breaks:
        return Check(name="short circuit", state="ok", words=words, value=value, limit=breaks, unit="A")
    words += f": the plainest breaker breaks {breaks / 1e3:g} kA; take one that breaks more, or reckon with the cable before it"
    return Check(name="short circuit", state="not_checked", words=words, value=value, limit=breaks, unit="A")


def _leakage_check(supply: Supply, load: SiteLoad) -> Check:
    value = sum(float(np.quantile(rack.server.leakage_ma, 0.9)) * rack.servers for rack in load.racks)
    words = f"{value:.1f} mA to earth (P90 of {load.servers} supplies)"
    state = "ok"
    if value > LEAKAGE_MA_MAX and supply.reinforced_pe:
        words += ": the protective conductor is reinforced, as that asks for; no residual-current device of 30 mA before it"
    elif value > LEAKAGE_MA_MAX:
        words += ": wants a reinforced protective conductor (then write reinforced_pe) and no residual-current device of 30 mA"
        state = "fails"
    return Check(name="leakage", state=state, words=words, value=value, limit=LEAKAGE_MA_MAX, unit="mA")
