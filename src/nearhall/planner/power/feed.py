"""The feed of a site: its breaker by code and by nameplate, the neutral, and what else is held against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan_place import Site, Supply
from nearhall.physics import breakers as law
from nearhall.physics.electrical import UPS_PROPORTIONAL_LOSS
from nearhall.planner.power.battery import Habits, carried_w, recharge_of
from nearhall.planner.power.cable import cable_checks
from nearhall.planner.power.check import Check
from nearhall.planner.power.inrush import compressor_check, inrush_checks
from nearhall.planner.power.lines import Lines, lines_of
from nearhall.planner.power.neutral import behind_ups_checks, neutral_checks, neutral_of, triplen_share
from nearhall.planner.samples.draws import Samples
from nearhall.planner.serving.load import SiteLoad

UPS_INPUT_POWER_FACTOR = 0.99
"""Of a double-conversion UPS. Assumed."""
COOLING_POWER_FACTOR = 0.9
"""Of small compressors and fans. Assumed."""
OWN_POWER_FACTOR = 0.9
"""Of switch, meters and control. Assumed."""
LARGE = 2.0
"""A breaker of so many times the next standard rating is larger than it has to be, and is told."""
COMPRESSOR_START = 6.0
"""Where nobody passes one."""
ALTITUDE_MAX_M = 2000.0
"""IEC 60898-1 and 60947-2 hold to here."""


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
    def margin_percent(self) -> float | None:
        """What the needed breaker leaves above the design current; None where no rating is enough."""
        return 100.0 * (self.needed_a / self.design_a - 1.0) if self.needed_a is not None else None


def feed_of(
    site: Site,
    load: SiteLoad,
    *,
    ups_side_w: Samples,
    cooling_w: Samples,
    habits: Habits | None = None,
    compressor_start: float = COMPRESSOR_START,
) -> Feed:
    """`ups_side_w`: peak of IT with its losses; `cooling_w`: compressor and fans at the design temperature.

    `compressor_start`: the current of a compressor's start over its running current, by the plan or else by the ledger.
    """
    supply = site.supply
    it_va, cooling_va = _into_va(site, load, ups_side_w, cooling_w)
    recharge_va = _recharge_w(site, load, cooling_w, habits or Habits()) / UPS_INPUT_POWER_FACTOR
    lines = lines_of(site, load, it_va=it_va + recharge_va, cooling_va=cooling_va)
    neutral = neutral_of(site, load, lines)
    p99 = lines.p99_a
    design = _design_a(supply, p99)
    nameplate_va = _nameplate_va(site, load, ups_side_w, cooling_w)
    named = lines_of(site, load, it_va=nameplate_va, cooling_va=cooling_va)
    nameplate_a = float(np.median(named.worst_a))
    needed = needed_for(supply, p99)
    rating, usable = supply.breaker_a or needed, _usable_a(supply, needed)
    compressor = compressor_check(site, load, lines, cooling_va=cooling_va, rating_a=rating, multiple=compressor_start)
    checks = [
        _breaker_check(supply, lines, design, needed),
        *_altitude_checks(site),
        *inrush_checks(site, load, lines, cooling_va=cooling_va, rating_a=rating),
        *([compressor] if compressor is not None else []),
        *_bypass_checks(site, load, ups_side_w=ups_side_w, cooling_w=cooling_w, usable_a=usable),
        *behind_ups_checks(site, load, usable_a=usable),
        *neutral_checks(site, load, neutral, usable_a=usable, needed_a=needed_for(supply, float(np.quantile(neutral, 0.99)))),
        *cable_checks(supply, load, lines, neutral=neutral, share=triplen_share(site, load), rating_a=rating),
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
        nameplate_breaker_a=needed_for(supply, nameplate_a),
        va=it_va + cooling_va,
        checks=tuple(checks),
    )


def needed_for(supply: Supply, current_a: float) -> float | None:
    """The smallest standard rating that carries a current for hours; None beyond the largest."""
    return law.next_breaker_a(design_a=_design_a(supply, current_a), code=supply.code)


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


def _breaker_check(supply: Supply, lines: Lines, design: float, needed: float | None) -> Check:
    p99 = lines.p99_a
    line = f"line {lines.worst_line()}" if supply.phases == 3 else "the line"
    if supply.breaker_a is None:
        words = f"{p99:.1f} A on {line} (P99) is {design:.1f} A by {supply.code}: "
        words += f"next standard rating {needed:g} A" if needed is not None else "beyond the standard ratings"
        return Check(name="breaker", state="ok" if needed else "fails", words=words, value=design, limit=needed, unit="A")
    usable = supply.breaker_a * p99 / design
    fits = p99 <= usable * (1 + 1e-9)
    words = f"breaker {supply.breaker_a:g} A: {p99:.3g} A {'<=' if fits else '>'} {usable:.3g} A on {line} (P99)"
    words += f"; {needed:g} A would carry it" if not fits and needed is not None else ""
    words += f"; {needed:g} A would do" if fits and needed is not None and needed * LARGE <= supply.breaker_a else ""
    return Check(name="breaker", state="ok" if fits else "fails", words=words, value=p99, limit=usable, unit="A")


def _altitude_checks(site: Site) -> list[Check]:
    """Thin air cools and insulates less."""
    if site.altitude_m <= ALTITUDE_MAX_M:
        return []
    words = (
        f"{site.altitude_m:g} m: standards hold to {ALTITUDE_MAX_M:g} m, above it a breaker carries up to 4 % less for each "
        "1,000 m and insulates less; ask the maker"
    )
    return [
        Check(name="breaker at altitude", state="not_checked", words=words, value=site.altitude_m, limit=ALTITUDE_MAX_M, unit="m")
    ]


def _bypass_checks(site: Site, load: SiteLoad, *, ups_side_w: Samples, cooling_w: Samples, usable_a: float | None) -> list[Check]:
    """On bypass the feed carries the supplies themselves, with their own power factor."""
    if site.ups is None:
        return []
    apparent, cooling_va = load.burst_va * (ups_side_w / load.burst_w), cooling_w / COOLING_POWER_FACTOR
    if site.cooling.on_ups:
        apparent, cooling_va = apparent + cooling_va, np.zeros_like(cooling_va)
    value = lines_of(site, load, it_va=apparent, cooling_va=cooling_va).p99_a
    words = f"on bypass the supplies' own volt-amperes: {value:.1f} A"
    if usable_a is None:
        return [
            Check(
                name="UPS bypass", state="not_checked", words=f"{words}; no breaker to hold them against", value=value, unit="A"
            )
        ]
    fits = value <= usable_a * (1 + 1e-9)
    words += f" {'<=' if fits else '>'} {usable_a:.1f} A (P99)"
    return [Check(name="UPS bypass", state="ok" if fits else "fails", words=words, value=value, limit=usable_a, unit="A")]
