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
    *(110, 125, 150, 175, 200, 225, 250, 300, 350, 400),
)
"""NEC 240.6(A), up to 400 A; as commonly quoted."""
IEC_RATINGS_A: tuple[float, ...] = (6, 10, 13, 16, 20, 25, 32, 40, 50, 63, 80, 100, 125, 160, 200, 250, 315, 400, 500, 630)
"""IEC 60898-1 up to 125 A, then IEC 60947-2's usual frames; as commonly quoted."""
MAGNETIC_AT_LEAST: dict[str, float] = {"B": 3.0, "C": 5.0, "D": 10.0}
"""IEC 60898-1: a breaker of this curve may trip at once from so many times its rating on."""
TRIPLEN_SHARE: dict[str, float] = {"brick": 0.577, "shared_dc": 0.1, "server": 0.05}
"""Triplen harmonics (3, 9, 15, ...) over the line's current, root mean squares, by kind of supply. Assumed.

A brick's rectifier draws short pulses about the crests. Where those of three lines do not overlap, the neutral's mean square is
the sum of the lines': sqrt 3 x one line, a share of 1 / sqrt 3. More is impossible for such pulses.
"""
COPPER_OHM_MM2_M = 0.0225
"""Resistivity of copper at 70 degrees C, as installed cables are reckoned (IEC 60364-5-52 annex G, 0.0225)."""
BREAKER_TOLERANCE = 1e-9


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

    Crest values (`running_peak_a` is sqrt 2 x the root mean square of a sine) against a threshold that standards state as a root
    mean square: it errs to the safe side by up to sqrt 2, since a magnetic release follows the crest.
    """
    times = (threshold_a - running_peak_a) / inrush_peak_a
    return max(0, ceil(times - 1e-9) - 1)


def stagger_steps(*, supplies: int, at_once: int) -> int | None:
    """In how many steps `supplies` come on; None where not even one may."""
    return ceil(supplies / at_once) if at_once > 0 else None


def voltage_drop_percent(*, current_a: Value, length_m: Value, mm2: Value, volts: Value, phases: int) -> Value:
    """Drop along a copper cable over the voltage (line to line for three phases); resistance alone, which suits thin cables."""
    ways = 2.0 if phases == 1 else sqrt(3.0)
    return 100.0 * ways * current_a * COPPER_OHM_MM2_M * length_m / mm2 / volts


def short_circuit_a(*, transformer_kva: Value, volts: Value, impedance_percent: Value) -> Value:
    """Three-phase short-circuit current at a transformer's terminals, the grid behind it taken as endless."""
    return transformer_kva * 1e3 / (sqrt(3.0) * volts) / (impedance_percent / 100.0)


def leakage_ma(*, supplies: Value, each_ma: Value) -> Value:
    """Protective-conductor current of supplies in parallel: they add up."""
    return supplies * each_ma


def diversified_kva(*, kva: Sequence[float], demand: Sequence[float], diversity: float) -> tuple[float, float]:
    """(sum of demands, that over the diversity factor), the electrician's arithmetic for unlike loads.

    Like sites under one weather coincide, so their diversity is near 1: use a fleet's simulated coincidence for them, never this.
    """
    total = sum(load * factor for load, factor in zip(kva, demand, strict=True))
    return total, total / diversity
