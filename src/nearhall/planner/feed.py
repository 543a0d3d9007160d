"""The feed of a site: which line carries what, its breaker by code and by nameplate, neutral, inrush, cable, short circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan import Site, Supply
from nearhall.physics import breakers as law
from nearhall.planner.draws import Samples
from nearhall.planner.load import SiteLoad

UPS_INPUT_POWER_FACTOR = 0.99
"""Of a double-conversion UPS. Assumed."""
COOLING_POWER_FACTOR = 0.9
"""Of small compressors and fans. Assumed."""
DROP_PERCENT_MAX = 4.0
"""IEC 60364-5-52, table G.52.1: 5 % for other than lighting, less a percent for what is upstream (assumed)."""
LEAKAGE_MA_MAX = 10.0
"""Above it IEC 60364-5-54 asks for a reinforced protective conductor; as commonly quoted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that an engineer would look at."""

    name: str
    state: str
    """ok, fails, not_checked."""
    words: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What the feed carries and what protects it."""

    lines_a: tuple[Samples, ...]
    """Peak current of each line, samples."""
    unbalance_percent: float
    neutral_a: Samples
    worst_a: Samples
    """Of the most loaded line."""
    design_a: float
    """Its P99 with the code's factor."""
    factor: float
    needed_a: float | None
    """Next standard rating."""
    nameplate_a: float
    """Current by the nameplates' sum, on balanced lines."""
    nameplate_breaker_a: float | None
    va: Samples
    checks: tuple[Check, ...]

    @property
    def margin_percent(self) -> float:
        """What the needed breaker leaves above the design current."""
        return 100.0 * (self.needed_a / self.design_a - 1.0) if self.needed_a is not None else float("nan")


def feed_of(site: Site, load: SiteLoad, *, ups_side_w: Samples, cooling_w: Samples) -> Feed:
    """`ups_side_w`: peak of IT with its losses; `cooling_w`: compressor and fans at the design temperature."""
    supply = site.supply
    lines, va = _lines(site, load, ups_side_w, cooling_w)
    worst = np.maximum.reduce(lines)
    share = law.TRIPLEN_SHARE["server"] if site.ups is not None else _triplen(load)
    neutral = np.asarray(law.neutral_a(lines_a=lines, triplen_share=share)) if supply.phases == 3 else worst
    p99 = float(np.quantile(worst, 0.99))
    design = float(
        law.design_current_a(
            current_a=p99, code=supply.code, ambient_factor=supply.ambient_factor, grouping_factor=supply.grouping_factor
        )
    )
    nameplate = _balanced_a(supply, float(np.quantile(load.nameplate_w, 0.5)) + float(np.median(cooling_w)))
    named = law.design_current_a(
        current_a=nameplate, code=supply.code, ambient_factor=supply.ambient_factor, grouping_factor=supply.grouping_factor
    )
    needed = law.next_breaker_a(design_a=design, code=supply.code)
    return Feed(
        lines_a=lines,
        unbalance_percent=law.unbalance_percent([float(np.median(line)) for line in lines]),
        neutral_a=neutral,
        worst_a=worst,
        design_a=design,
        factor=design / p99,
        needed_a=needed,
        nameplate_a=nameplate,
        nameplate_breaker_a=law.next_breaker_a(design_a=float(named), code=supply.code),
        va=va,
        checks=tuple(_checks(site, load, worst=worst, neutral=neutral, design=design, needed=needed)),
    )


def balance(units_a: Sequence[float], lines: int = 3) -> tuple[list[list[int]], list[float]]:
    """Puts single-phase units on lines: the largest first, each on the line that carries least (Graham 1969).

    (indices by line, currents by line); units of the same current are the same, so that their order does not matter.
    """
    placed: list[list[int]] = [[] for _ in range(lines)]
    sums = [0.0] * lines
    for index in sorted(range(len(units_a)), key=lambda i: (-units_a[i], i)):
        line = min(range(lines), key=lambda k: (sums[k], k))
        placed[line].append(index)
        sums[line] += units_a[index]
    return placed, sums


def _lines(site: Site, load: SiteLoad, ups_side_w: Samples, cooling_w: Samples) -> tuple[tuple[Samples, ...], Samples]:
    supply = site.supply
    cooling_va = cooling_w / COOLING_POWER_FACTOR
    behind_ups = site.ups is not None
    it_va = ups_side_w / UPS_INPUT_POWER_FACTOR if behind_ups else load.burst_va * (ups_side_w / load.burst_w)
    total = it_va + cooling_va
    if supply.phases == 1:
        return (total / supply.volts,), total
    spread = np.full(3, 1.0 / 3.0)
    if site.ups is None:
        spread = _spread_of_units(load)
    volts = supply.volts / 3.0**0.5
    if supply.code == "NEC":
        banks = [it_va * part / supply.volts for part in spread]
        it_lines = law.delta_line_currents_a(ab_a=banks[0], bc_a=banks[1], ca_a=banks[2])
    else:
        it_lines = tuple(it_va * part / volts for part in spread)
    even = cooling_va / (3.0 * volts)
    return tuple(np.asarray(line) + even for line in it_lines), total


def _spread_of_units(load: SiteLoad) -> np.ndarray:
    """Share of the IT load on each line when whole servers are balanced."""
    units = [float(np.median(rack.server.busy_w / rack.server.power_factor)) for rack in load.racks for _ in range(rack.servers)]
    sums = np.array(balance(units)[1])
    return sums / sums.sum() if sums.sum() > 0 else np.full(3, 1.0 / 3.0)


def _balanced_a(supply: Supply, watts: float) -> float:
    return watts / (supply.volts * (3.0**0.5 if supply.phases == 3 else 1.0))


def _triplen(load: SiteLoad) -> float:
    watts = [rack.servers * float(np.median(rack.server.busy_w)) for rack in load.racks]
    if not watts:
        return 0.0
    return float(np.average([law.TRIPLEN_SHARE[rack.server.supply] for rack in load.racks], weights=watts))


def _checks(site: Site, load: SiteLoad, *, worst: Samples, neutral: Samples, design: float, needed: float | None) -> list[Check]:
    supply = site.supply
    found = [_breaker_check(supply, worst, design, needed), *_inrush_checks(site, load, worst, needed)]
    if supply.phases == 3:
        value, limit = float(np.quantile(neutral, 0.99)), float(np.quantile(worst, 0.99))
        words = f"neutral {value:.1f} A (P99) against {limit:.1f} A in the lines"
        state = "ok" if value <= limit else "fails"
        more = "" if state == "ok" else ": a neutral of full section is too thin, triplen harmonics add up in it"
        found.append(Check(name="neutral", state=state, words=words + more, value=value, limit=limit, unit="A"))
    found.append(_drop_check(supply, worst))
    found.append(_short_circuit_check(supply))
    found.append(_leakage_check(load))
    found.append(Check(name="selectivity", state="not_checked", words="needs the curves of all breakers in series"))
    return found


def _breaker_check(supply: Supply, worst: Samples, design: float, needed: float | None) -> Check:
    p99 = float(np.quantile(worst, 0.99))
    if supply.breaker_a is None:
        words = f"{p99:.1f} A (P99) x code = {design:.1f} A: next standard rating {needed:g} A" if needed else "beyond 630 A"
        return Check(name="breaker", state="ok" if needed else "fails", words=words, value=design, limit=needed, unit="A")
    usable = supply.breaker_a * p99 / design
    state = "ok" if p99 <= usable * (1 + 1e-9) else "fails"
    sign = "<=" if state == "ok" else ">"
    words = f"breaker {supply.breaker_a:g} A: {p99:.1f} A on the most loaded line (P99) {sign} {usable:.1f} A"
    return Check(name="breaker", state=state, words=words, value=p99, limit=usable, unit="A")


def _inrush_checks(site: Site, load: SiteLoad, worst: Samples, needed: float | None) -> list[Check]:
    rating = site.supply.breaker_a or needed
    supplies = load.servers
    if rating is None or supplies == 0:
        return [Check(name="inrush", state="not_checked", words="no breaker, or nothing to switch on")]
    per_line = -(-supplies // (3 if site.supply.phases == 3 else 1))
    peak = max(float(np.quantile(rack.server.inrush_peak_a, 0.5)) for rack in load.racks)
    threshold = float(law.magnetic_threshold_a(rating_a=rating, curve=site.supply.curve))
    running = float(np.quantile(worst, 0.99)) * 2.0**0.5
    cold = law.at_once(inrush_peak_a=peak, threshold_a=threshold)
    warm = law.at_once(inrush_peak_a=peak, threshold_a=threshold, running_peak_a=running)
    shown = f"{per_line} a line, {peak:.0f} A peak each; curve {site.supply.curve} may trip from {threshold:.0f} A on"
    found = [_start_check(site, per_line, cold, shown)]
    words = f"beside {running:.0f} A running peak {warm} more may be switched on ({shown})"
    found.append(Check(name="inrush beside load", state="ok" if warm >= 1 else "fails", words=words, value=warm, limit=1))
    if site.ups is not None:
        bypass = "ok" if per_line <= cold else "fails"
        said = "on bypass or retransfer all supplies meet the mains at once: "
        found.append(Check(name="UPS bypass", state=bypass, words=f"{said}{per_line} against {cold}", value=per_line, limit=cold))
    return found


def _start_check(site: Site, per_line: int, cold: int, shown: str) -> Check:
    """When the mains come back: behind a UPS its walk-in limits the inrush, with switched outlets the steps do."""
    if site.ups is not None:
        words = f"the UPS's walk-in limits it; without it {cold} could start at once ({shown})"
        return Check(name="inrush", state="ok", words=words, value=per_line, limit=cold)
    if per_line <= cold:
        return Check(name="inrush", state="ok", words=f"all start at once ({shown})", value=per_line, limit=cold)
    steps = law.stagger_steps(supplies=per_line, at_once=cold)
    if site.supply.switched_outlets and steps is not None:
        return Check(
            name="inrush", state="ok", words=f"switched outlets start them in {steps} steps ({shown})", value=per_line, limit=cold
        )
    words = f"all start at once when power returns, and only {cold} may ({shown}); switched outlets or a limiter, or curve D"
    return Check(name="inrush", state="fails", words=words, value=per_line, limit=cold)


def _drop_check(supply: Supply, worst: Samples) -> Check:
    if supply.run_m is None or supply.mm2 is None:
        return Check(name="voltage drop", state="not_checked", words="run_m and mm2 of the cable are not given")
    value = float(
        law.voltage_drop_percent(
            current_a=float(np.quantile(worst, 0.99)),
            length_m=supply.run_m,
            mm2=supply.mm2,
            volts=supply.volts,
            phases=supply.phases,
        )
    )
    state = "ok" if value <= DROP_PERCENT_MAX else "fails"
    words = f"{value:.1f} % over {supply.run_m:g} m of {supply.mm2:g} mm2"
    return Check(name="voltage drop", state=state, words=words, value=value, limit=DROP_PERCENT_MAX, unit="%")


def _short_circuit_check(supply: Supply) -> Check:
    if supply.transformer_kva is None or supply.impedance_percent is None:
        return Check(name="short circuit", state="not_checked", words="the transformer's kVA and impedance are not given")
    value = float(
        law.short_circuit_a(
            transformer_kva=supply.transformer_kva, volts=supply.volts, impedance_percent=supply.impedance_percent
        )
    )
    words = f"{value / 1e3:.1f} kA at the transformer at most: take a breaker that breaks as much, or reckon with the cable"
    return Check(
        name="short circuit", state="ok" if value <= 6000 else "not_checked", words=words, value=value, limit=6000, unit="A"
    )


def _leakage_check(load: SiteLoad) -> Check:
    value = sum(float(np.quantile(rack.server.leakage_ma, 0.9)) * rack.servers for rack in load.racks)
    state = "ok" if value <= LEAKAGE_MA_MAX else "fails"
    words = f"{value:.1f} mA to earth (P90 of {load.servers} supplies)"
    more = "" if state == "ok" else ": reinforce the protective conductor, no residual-current device of 30 mA"
    return Check(name="leakage", state=state, words=words + more, value=value, limit=LEAKAGE_MA_MAX, unit="mA")
