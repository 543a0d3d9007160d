"""The neutral of three lines: what unbalance and triplen harmonics put into it, against what a conductor of its size carries."""

from __future__ import annotations

import numpy as np

from nearhall.documents.plan_place import Site
from nearhall.physics import breakers as law
from nearhall.planner.power.cable import carries_factor
from nearhall.planner.power.check import Check
from nearhall.planner.power.lines import Lines, on_one_line
from nearhall.planner.samples.draws import Samples
from nearhall.planner.serving.load import SiteLoad

UPS_TRIPLEN = law.TRIPLEN_SHARE["server"]
"""Of a UPS's corrected input. Assumed."""


def triplen_share(site: Site, load: SiteLoad) -> float:
    """Triplen harmonics over the current of the feed's lines."""
    return UPS_TRIPLEN if site.ups is not None else _of_supplies(load)


def _of_supplies(load: SiteLoad) -> float:
    amps = [rack.servers * va for rack, va in zip(load.racks, load.server_va, strict=True)]
    if not amps:
        return 0.0
    return float(np.average([law.TRIPLEN_SHARE[rack.server.supply] for rack in load.racks], weights=amps))


def neutral_of(site: Site, load: SiteLoad, lines: Lines) -> Samples:
    """Its current; of one phase that of the line, and nothing where equipment stands between lines."""
    if site.supply.phases == 1:
        return lines.worst_a
    if not site.supply.to_neutral:
        return np.zeros_like(lines.worst_a)
    return np.asarray(law.neutral_a(lines_a=lines.currents_a, triplen_share=triplen_share(site, load)))


def neutral_checks(
    site: Site, load: SiteLoad, neutral: Samples, *, usable_a: float | None, needed_a: float | None
) -> list[Check]:
    """Against what a neutral of the lines' size may carry for hours (`usable_a`); `needed_a`: the rating that it would need."""
    supply = site.supply
    if supply.phases == 1:
        return []
    if not supply.to_neutral:
        words = "supplies stand between lines: the neutral carries nothing; where they do not, write plugged: line_to_neutral"
        return [Check(name="neutral", state="ok", words=words, value=0.0, unit="A")]
    value = float(np.quantile(neutral, 0.99))
    if usable_a is None:
        words = f"neutral {value:.1f} A (P99); no breaker to tell its size by"
        return [Check(name="neutral", state="not_checked", words=words, value=value, unit="A")]
    fits = value <= usable_a * (1 + 1e-9)
    words = f"neutral {value:.1f} A (P99) {'<=' if fits else '>'} {usable_a:.1f} A that one of the lines' size carries"
    if not fits:
        factor = carries_factor(supply, triplen_share(site, load))
        section = law.section_mm2(amps=needed_a / factor, code=supply.code) if needed_a is not None else None
        words += ": triplen harmonics add up in it; it wants to be sized for "
        words += f"{needed_a:g} A" if needed_a is not None else "more than any standard rating"
        words += f", {section:g} mm2 ({law.AMPACITY_FROM[supply.code]}, assumed)" if section is not None else ""
    return [Check(name="neutral", state="ok" if fits else "fails", words=words, value=value, limit=usable_a, unit="A")]


def behind_ups_checks(site: Site, load: SiteLoad, *, usable_a: float | None) -> list[Check]:
    """A UPS on three lines feeds bricks whose triplen harmonics meet in its neutral, and on bypass in the feed's (`usable_a`)."""
    ups, supply, share = site.ups, site.supply, _of_supplies(load)
    if ups is None or not supply.to_neutral or on_one_line(supply, ups.kva * 1e3) or share <= 1.0 / 3.0:
        return []
    line_a = float(np.quantile(load.burst_va, 0.99)) / (3.0**0.5 * supply.volts)
    value, limits = (
        3.0 * share * line_a,
        {"neutral behind the UPS": (ups.kva * 1e3 / (3.0**0.5 * supply.volts), "the UPS's lines")},
    )
    if usable_a is not None:
        limits["neutral on bypass"] = (usable_a, "one of the lines' size")
    found: list[Check] = []
    for name, (limit, of) in limits.items():
        fits = value <= limit * (1 + 1e-9)
        words = f"{3.0 * share:.1f} times a line's current, triplen harmonics of bricks: "
        words += f"{value:.1f} A (P99) {'<=' if fits else '>'} {limit:.1f} A of {of}"
        found.append(Check(name=name, state="ok" if fits else "fails", words=words, value=value, limit=limit, unit="A"))
    return found
