"""The cable and the transformer of a feed: what they carry, what they drop, what a fault draws, and what leaks to earth."""

from __future__ import annotations

import numpy as np

from nearhall.documents.plan_place import Supply
from nearhall.physics import breakers as law
from nearhall.planner.power.check import Check
from nearhall.planner.power.lines import Lines, all_supplies, supplies_of
from nearhall.planner.samples.draws import Samples
from nearhall.planner.serving.load import SiteLoad

DROP_PERCENT_MAX: dict[str, float] = {"IEC": 4.0, "NEC": 3.0}
"""IEC 60364-5-52, table G.52.1: 5 % for other than lighting, less a percent for what is upstream (assumed). NEC 210.19(A),
informational note: 3 % of a branch circuit, which it recommends and does not demand."""
LEAKAGE_MA_MAX = 10.0
"""Above it IEC 60364-5-54 asks for a reinforced protective conductor; as commonly quoted."""
BREAKS_A: dict[str, float] = {"IEC": 6000.0, "NEC": 10_000.0}
"""Short-circuit current that the plainest miniature breaker of a code breaks; as commonly quoted."""


def cable_checks(
    supply: Supply, load: SiteLoad, lines: Lines, *, neutral: Samples, share: float, rating_a: float | None
) -> list[Check]:
    """`share`: of triplen harmonics in the lines; `rating_a`: of the breaker that is there, or else of the one that is needed."""
    return [
        _carrying_check(supply, rating_a, share),
        _drop_check(supply, lines, neutral),
        _short_circuit_check(supply),
        Check(
            name="fault at the cable's end",
            state="not_checked",
            words="whether the least fault current still trips at once: measure the loop's impedance (IEC 60364-4-41, 411.4)",
        ),
        _leakage_check(supply, load),
    ]


def carries_factor(supply: Supply, share: float) -> float:
    """Of the table's ampacity is left: in a warm place, among other cables, and where triplen harmonics load the neutral too."""
    loaded = law.NEUTRAL_LOADED[supply.code] if supply.to_neutral and share > law.TRIPLEN_LOADS else 1.0
    return loaded * (min(supply.ambient_factor, 1.0) * supply.grouping_factor if supply.code == "IEC" else 1.0)


def _carrying_check(supply: Supply, rating_a: float | None, share: float) -> Check:
    """I(b) <= I(n) <= I(z), of which the breaker's own check is the first half."""
    if rating_a is None:
        return Check(name="cable", state="not_checked", words="no breaker to hold the cable against")
    source, factor = f"{law.AMPACITY_FROM[supply.code]}, assumed", carries_factor(supply, share) * supply.cables
    wanted, largest = law.section_mm2(amps=rating_a / factor, code=supply.code), law.AMPACITY_A[supply.code][-1][0]
    wants = f"more than {_laid(supply, largest)}" if wanted is None else _laid(supply, wanted)
    wants = f"{rating_a:g} A want {wants} by {source}"
    if supply.mm2 is None:
        return Check(name="cable", state="not_checked", words=f"mm2 of the cable is not given; {wants}")
    value = factor * law.ampacity_a(mm2=supply.mm2, code=supply.code)
    carry = f"{_laid(supply, supply.mm2)} carry {value:.0f} A"
    if rating_a <= value * (1 + 1e-9):
        state, words = "ok", f"{carry} >= the breaker's {rating_a:g} A ({source})"
    elif supply.mm2 > largest:
        state, words = "not_checked", f"{_laid(supply, supply.mm2)} are beyond the table; {wants}"
    else:
        state, words = "fails", f"{carry} < {rating_a:g} A: the breaker does not protect them; {wants}"
    return Check(name="cable", state=state, words=words, value=rating_a, limit=value, unit="A")


def _laid(supply: Supply, mm2: float) -> str:
    return f"{supply.cables} x {mm2:g} mm2" if supply.cables > 1 else f"{mm2:g} mm2"


def _drop_check(supply: Supply, lines: Lines, neutral: Samples) -> Check:
    """To the neutral, line and neutral both drop; the neutral of a balanced feed carries nothing."""
    if supply.run_m is None or supply.mm2 is None:
        return Check(name="voltage drop", state="not_checked", words="run_m and mm2 of the cable are not given")
    cable = {"length_m": supply.run_m, "mm2": supply.mm2 * supply.cables}
    if supply.to_neutral:
        both = float(np.quantile(lines.worst_a + neutral, 0.99)) / 2.0
        value = float(law.voltage_drop_percent(current_a=both, volts=supply.volts / 3.0**0.5, phases=1, **cable))
    else:
        value = float(law.voltage_drop_percent(current_a=lines.p99_a, volts=supply.volts, phases=supply.phases, **cable))
    limit = DROP_PERCENT_MAX[supply.code]
    words = f"{value:.1f} % over {supply.run_m:g} m of {_laid(supply, supply.mm2)}"
    words += f"; {limit:g} % are recommended, not demanded (NEC 210.19(A), note)" if supply.code == "NEC" else ""
    return Check(name="voltage drop", state="ok" if value <= limit else "fails", words=words, value=value, limit=limit, unit="%")


def _short_circuit_check(supply: Supply) -> Check:
    if supply.transformer_kva is None or supply.impedance_percent is None:
        return Check(name="short circuit", state="not_checked", words="the transformer's kVA and impedance are not given")
    phases = supply.transformer_phases or supply.phases
    between_lines = supply.phases == 3 or phases == 1
    value = float(
        law.short_circuit_a(
            transformer_kva=supply.transformer_kva,
            volts=supply.volts if between_lines else supply.volts * 3.0**0.5,
            impedance_percent=supply.impedance_percent,
            phases=phases,
        )
    )
    if phases == 1 and supply.code == "NEC" and supply.volts >= law.SPLIT_VOLTS_AT_LEAST:
        value *= law.SPLIT_WINDING
    breaks = BREAKS_A[supply.code]
    words = f"{value / 1e3:.1f} kA at the transformer of {'three phases' if phases == 3 else 'one phase'} at most"
    if value <= breaks:
        return Check(name="short circuit", state="ok", words=words, value=value, limit=breaks, unit="A")
    words += f": the plainest breaker breaks {breaks / 1e3:g} kA; take one that breaks more, or reckon with the cable before it"
    return Check(name="short circuit", state="not_checked", words=words, value=value, limit=breaks, unit="A")


def _leakage_check(supply: Supply, load: SiteLoad) -> Check:
    value = sum(
        law.leakage_ma(supplies=supplies_of(rack), each_ma=float(np.quantile(rack.server.leakage_ma, 0.9))) for rack in load.racks
    )
    words = f"{value:.1f} mA to earth (P90 of {all_supplies(load)} supplies)"
    state = "ok"
    if value > LEAKAGE_MA_MAX and supply.reinforced_pe:
        words += ": the protective conductor is reinforced, as that asks for; no residual-current device of 30 mA before it"
    elif value > LEAKAGE_MA_MAX:
        words += ": wants a reinforced protective conductor (then write reinforced_pe) and no residual-current device of 30 mA"
        state = "fails"
    return Check(name="leakage", state=state, words=words, value=value, limit=LEAKAGE_MA_MAX, unit="mA")
