"""Conductors and what protects them: line currents, neutrals, breakers by code, inrush, voltage drop, short circuit.

A plan's first look, for review by a licensed engineer; where a figure was not checked against its standard it says `assumed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from nearhall.core.elementwise import Value, sqrt

NEC_CONTINUOUS = 1.25
"""NEC 210.20(A) and 215.3: a load that lasts three hours or more counts a quarter more."""
NEC_RATINGS_A: tuple[float, ...] = (
    *(15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100),
    *(110, 125, 150, 175, 200, 225, 250, 300, 350, 400, 450, 500, 600, 700, 800),
    *(1000, 1200, 1600, 2000, 2500, 3000, 4000, 5000, 6000),
)
"""NEC 240.6(A); as commonly quoted."""
IEC_RATINGS_A: tuple[float, ...] = (
    *(6, 10, 13, 16, 20, 25, 32, 40, 50, 63, 80, 100, 125, 160, 200, 250, 315, 400, 500, 630),
    *(800, 1000, 1250, 1600, 2000, 2500, 3200, 4000, 5000, 6300),
)
"""IEC 60898-1 up to 125 A, then the usual frames of IEC 60947-2; as commonly quoted."""
MAGNETIC_AT_LEAST: dict[str, float] = {"B": 3.0, "C": 5.0, "D": 10.0}
"""IEC 60898-1: a breaker of this curve may trip at once from so many times its rating on.

Larger breakers than 125 A are set rather than made to a curve: then it stands for a setting of so many times the rating.
"""
SINE_CREST = 2.0**0.5
"""Crest of a sine over its root mean square."""
SPLIT_WINDING = 1.5
"""Fault to the centre tap of a single-phase 120/240 V transformer, over that between its lines: at most, as commonly quoted
(half the turns, and more than half of their impedance)."""
SPLIT_VOLTS_AT_LEAST = 200.0
"""Between the lines of such a transformer; a supply of fewer volts stands on half the winding already."""
AMPACITY_A: dict[str, tuple[tuple[float, float], ...]] = {
    "IEC": (
        *((1.5, 15.0), (2.5, 20.0), (4.0, 27.0), (6.0, 34.0), (10.0, 46.0), (16.0, 62.0), (25.0, 80.0), (35.0, 99.0)),
        *((50.0, 118.0), (70.0, 149.0), (95.0, 179.0), (120.0, 206.0), (150.0, 225.0), (185.0, 255.0), (240.0, 297.0)),
        (300.0, 339.0),
    ),
    "NEC": (
        *((2.08, 15.0), (3.31, 20.0), (5.26, 30.0), (8.37, 40.0), (13.3, 55.0), (21.2, 70.0), (26.7, 85.0), (33.6, 95.0)),
        *((42.4, 110.0), (53.5, 125.0), (67.4, 145.0), (85.0, 165.0), (107.2, 195.0), (126.7, 215.0), (152.0, 240.0)),
        *((177.0, 260.0), (202.7, 280.0), (253.0, 320.0)),
    ),
}
"""[mm2, A] of copper in air of 30 degrees C. Assumed, as commonly quoted: of the ways to lay a cable, careful ones.

IEC 60364-5-52 table B.52.4, method B2: a PVC cable in a conduit on a wall, three loaded conductors. NEC 310.16, 60 degrees C
(14 AWG to 500 kcmil): what terminals are good for where nobody says more (110.14(C)); 240.4(D) is kept by it.
"""
AMPACITY_FROM: dict[str, str] = {"IEC": "IEC 60364-5-52 B.52.4, method B2", "NEC": "NEC 310.16, 60 degrees"}
NEUTRAL_LOADED: dict[str, float] = {"IEC": 0.86, "NEC": 0.8}
"""Ampacity left where triplen harmonics load the neutral too: IEC 60364-5-52 annex E, NEC 310.15(C)(1) and (E)(3)."""
TRIPLEN_LOADS = 0.15
"""From this share of triplen harmonics on the neutral counts as loaded: IEC 60364-5-52 annex E."""
TRIPLEN_SHARE: dict[str, float] = {"brick": 0.577, "shared_dc": 0.1, "server": 0.05}
"""Triplen harmonics (3, 9, 15, ...) over the line's current, root mean squares, by kind of supply. Assumed.

A brick's rectifier draws short pulses about the crests. Where those of three lines do not overlap, the neutral's mean square is
the sum of the lines': sqrt 3 x one line, a share of 1 / sqrt 3. More is impossible for such pulses.
"""
COPPER_OHM_MM2_M = 0.0225
"""Resistivity of copper at 70 degrees C, as installed cables are reckoned (IEC 60364-5-52 annex G, 0.0225)."""
BREAKER_TOLERANCE = 1e-9
SECTION_TOLERANCE = 0.01
"""Sections of wire gauges are quoted in three digits."""


def rating_va(*, volts: Value, amps: Value, phases: int, share: Value = 1.0, line_to_neutral: bool = False) -> Value:
    """Volt-amperes that a supply carries: V x A x share, three-phase times sqrt 3 of the line-to-line voltage.

    `share` is 0.8 for a continuous load by the NEC. With `line_to_neutral`, three phases are 3 x V x A: 3 x 230 x 32 = 22,080 VA,
    where 400 V line to line would say 22,170.
    """
    factor = 1.0 if phases == 1 else (3.0 if line_to_neutral else sqrt(3.0))
    return volts * amps * factor * share


def delta_line_currents_a(*, ab_a: Value, bc_a: Value, ca_a: Value) -> tuple[Value, Value, Value]:
    """Line currents (A, B, C) from the currents of three banks between lines, of one power factor: sqrt(x^2 + y^2 + x y)."""
    return (_two(ab_a, ca_a), _two(ab_a, bc_a), _two(bc_a, ca_a))


def _two(x: Value, y: Value) -> Value:
    return sqrt(x * x + y * y + x * y)


def unbalance_percent(lines_a: Sequence[float]) -> float:
    """The largest deviation from the mean over the mean (as power distribution units report it); 0 without any current."""
    mean = sum(lines_a) / len(lines_a)
    return 100.0 * max(abs(line - mean) for line in lines_a) / mean if mean > 0 else 0.0


def neutral_a(*, lines_a: Sequence[Value], triplen_share: Value) -> Value:
    """Current of the neutral of three lines: what their unbalance leaves, and the triplen harmonics, which add up.

    sqrt((1 - s^2) (I1^2 + I2^2 + I3^2 - I1 I2 - I2 I3 - I3 I1) + (s (I1 + I2 + I3))^2), lines as root mean squares of which s is
    triplen; of one line alone it gives that line's current. Other harmonics are counted as if they were of mains frequency.
    """
    one, two, three = lines_a
    unbalance = one * one + two * two + three * three - one * two - two * three - three * one
    triplen = triplen_share * (one + two + three)
    return sqrt((1.0 - triplen_share * triplen_share) * unbalance * (unbalance > 0) + triplen * triplen)


def design_current_a(*, current_a: Value, code: str, ambient_factor: float = 1.0, grouping_factor: float = 1.0) -> Value:
    """What the breaker's rating must reach: by NEC 1.25 x the continuous current, by IEC the current over the derating factors.

    The code's factor is applied once, here, and nowhere else.
    """
    if code == "NEC":
        return NEC_CONTINUOUS * current_a
    return current_a / (ambient_factor * grouping_factor)


def standard_ratings_a(code: str) -> tuple[float, ...]:
    """The ratings that breakers come in, ascending."""
    return NEC_RATINGS_A if code == "NEC" else IEC_RATINGS_A


def next_breaker_a(*, design_a: float, code: str) -> float | None:
    """The smallest standard rating that is enough; None beyond the largest."""
    return next((rating for rating in standard_ratings_a(code) if rating >= design_a * (1.0 - BREAKER_TOLERANCE)), None)


def magnetic_threshold_a(*, rating_a: Value, curve: str) -> Value:
    """The least current that may trip a breaker at once (the band's lower bound)."""
    return rating_a * MAGNETIC_AT_LEAST[curve]


def at_once(*, inrush_peak_a: float, threshold_a: float, running_peak_a: float = 0.0) -> int:
    """How many supplies may be switched on together: running peak + n x inrush peak stays below the threshold; 0 if not one.

    Crest values (`running_peak_a` is the root mean square times the load's crest factor) against a threshold that standards state
    as a root mean square: it errs to the safe side by up to sqrt 2, since a magnetic release follows the crest.
    """
    times = (threshold_a - running_peak_a) / inrush_peak_a
    return max(0, ceil(times - 1e-9) - 1)


def stagger(
    *, supplies: int, inrush_peak_a: float, threshold_a: float, running_peak_a: float, beside_peak_a: float = 0.0
) -> tuple[int, ...] | None:
    """How many of `supplies` come on in each step, those of earlier steps running; None where a step could not hold even one.

    `running_peak_a`: crest of the line with all of them running, of which `beside_peak_a` is there before any of them.
    """
    steps: list[int] = []
    each = max(running_peak_a - beside_peak_a, 0.0) / supplies if supplies else 0.0
    on = 0
    while on < supplies:
        more = at_once(inrush_peak_a=inrush_peak_a, threshold_a=threshold_a, running_peak_a=beside_peak_a + on * each)
        if more == 0:
            return None
        steps.append(min(more, supplies - on))
        on += steps[-1]
    return tuple(steps)


def voltage_drop_percent(*, current_a: Value, length_m: Value, mm2: Value, volts: Value, phases: int) -> Value:
    """Drop along a copper cable over the voltage (line to line for three phases); resistance alone, which suits thin cables."""
    ways = 2.0 if phases == 1 else sqrt(3.0)
    return 100.0 * ways * current_a * COPPER_OHM_MM2_M * length_m / mm2 / volts


def short_circuit_a(*, transformer_kva: Value, volts: Value, impedance_percent: Value, phases: int = 3) -> Value:
    """Short-circuit current at a transformer's terminals, the grid behind it taken as endless.

    S / (sqrt 3 x V) / Z of three phases, S / V / Z of one. `volts`: line to line of three phases, across the winding of one.
    """
    return transformer_kva * 1e3 / (volts * (sqrt(3.0) if phases == 3 else 1.0)) / (impedance_percent / 100.0)


def ampacity_a(*, mm2: float, code: str) -> float:
    """What a copper conductor carries for hours by the table: as the next smaller section, in proportion below the smallest."""
    table = AMPACITY_A[code]
    held = [amps for section, amps in table if section <= mm2 * (1.0 + SECTION_TOLERANCE)]
    return held[-1] if held else table[0][1] * mm2 / table[0][0]


def section_mm2(*, amps: float, code: str) -> float | None:
    """The smallest section that carries so much by that table; None beyond the largest."""
    return next((section for section, held in AMPACITY_A[code] if held >= amps * (1.0 - BREAKER_TOLERANCE)), None)


def leakage_ma(*, supplies: Value, each_ma: Value) -> Value:
    """Protective-conductor current of supplies in parallel: they add up."""
    return supplies * each_ma


def diversified_kva(*, kva: Sequence[float], demand: Sequence[float], diversity: float) -> tuple[float, float]:
    """(sum of demands, that over the diversity factor), the electrician's arithmetic for unlike loads.

    Like sites under one weather coincide, so their diversity is near 1: use a fleet's simulated coincidence for them, never this.
    """
    total = sum(load * factor for load, factor in zip(kva, demand, strict=True))
    return total, total / diversity
