"""How long a battery and a room hold without the mains."""

from __future__ import annotations

from collections.abc import Sequence
from math import log as ln

from nearhall.core.elementwise import Value, exp, interp, log, maximum, minimum

REFERENCE_C = 25.0
"""At which makers state capacity and life."""
CAPACITY_PER_K: dict[str, float] = {"vrla": 0.008, "li-ion": 0.004}
"""Share of the capacity that is missing for each kelvin below 25 degrees. Assumed; the maker's curve is better."""
LIFE_HALVES_PER_K = 10.0
"""A lead battery's life halves for each so many kelvin above 25 degrees (Arrhenius rule of thumb, as makers quote it)."""
VRLA_EXPONENT = 1.3
"""Of t2 / t1 = (P1 / P2)^k, where no table gives it: half the load runs 2.5 times as long. Published tables give 1.3 to 1.7."""
EXPONENT: dict[str, float] = {"vrla": VRLA_EXPONENT, "li-ion": 1.0}
"""By chemistry: a lithium battery gives about the same energy at any power that it may give."""
NOMINAL_S = 20 * 3600.0
"""Over which a lead battery's nominal energy is drawn (C20, IEC 60896-21 and makers' sheets of small blocks)."""
CHARGE_EFFICIENCY = 0.85
"""Energy that a charged battery holds over what the charger took for it; assumed, of charger and battery together."""


def hold_s(*, usable_j: Value, load_w: Value) -> Value:
    """Seconds that `usable_j` carries a constant load; an upper bound for lead-acid under an hour (use the maker's table)."""
    return usable_j / load_w


def rated_energy_j(*, amp_hours: Value, volts: Value, depth: Value = 1.0, efficiency: Value = 1.0) -> Value:
    """Ah x V x usable depth x efficiency of the inverter, in joules: an upper bound, reached only over many hours."""
    return amp_hours * volts * depth * efficiency * 3600.0


def table_hold_s(*, load_w: Value, minutes: Sequence[float], watts: Sequence[float], chem: str = "vrla") -> Value:
    """Seconds at constant power after the maker's table, straight on logarithmic axes.

    Rows in any order, each with a power of its own: the more watts, the fewer minutes. Beyond the table the safe side: below its
    lowest power the battery gives no more energy than there, above its highest the time falls at least as steeply as between the
    last two rows and as the chemistry's exponent has it. Where a share c of the capacity is left, ask for `load_w / c`: each cell
    does so much more of the work.
    """
    rows = sorted(zip(watts, minutes, strict=True))
    powers = [ln(watt) for watt, _ in rows]
    times = [ln(minute * 60.0) for _, minute in rows]
    low, high = -1.0, -EXPONENT[chem]
    if len(rows) > 1:
        low = max(low, (times[1] - times[0]) / (powers[1] - powers[0]))
        high = min(high, (times[-1] - times[-2]) / (powers[-1] - powers[-2]))
    at = log(load_w)
    inside = interp(at, powers, times)
    below, above = minimum(at - powers[0], 0.0), maximum(at - powers[-1], 0.0)
    return exp(inside + low * below + high * above)


def ratio_hold_s(*, known_s: Value, known_w: Value, load_w: Value, exponent: Value = VRLA_EXPONENT) -> Value:
    """From one known runtime to another load: t2 = t1 (P1 / P2)^k."""
    return known_s * (known_w / load_w) ** exponent


def capacity_factor(*, ageing: Value, celsius: Value, chem: str) -> Value:
    """Share of the new battery's capacity that is there: what age left (0.8 at the end of life), less what cold takes."""
    cold = maximum(REFERENCE_C - celsius, 0.0)
    return ageing * maximum(1.0 - CAPACITY_PER_K[chem] * cold, 0.0)


def life_factor(*, celsius: Value) -> Value:
    """Share of the stated life that a lead battery lives at a temperature; never more than all of it."""
    return minimum(exp(-ln(2.0) * (celsius - REFERENCE_C) / LIFE_HALVES_PER_K), 1.0)


def rate_share(*, seconds: Value, chem: str) -> Value:
    """Share of the nominal energy (that of 20 hours) which a battery gives within so short a time: 1 for lithium.

    With t2 / t1 = (P1 / P2)^k the energy P t goes with t^(1 - 1/k): lead gives about a third within ten minutes.
    """
    return minimum((seconds / NOMINAL_S) ** (1.0 - 1.0 / EXPONENT[chem]), 1.0)


def needed_j(*, load_w: Value, seconds: Value, health: Value = 1.0, efficiency: Value = 1.0) -> Value:
    """Energy that a new battery must be able to give so that what is left of it, `health`, carries a load for so long."""
    return load_w * seconds / (health * efficiency)


def recharge_w(*, used_j: Value, hours: Value, efficiency: Value = CHARGE_EFFICIENCY) -> Value:
    """What recharging adds to the UPS's input, at constant power over so many hours."""
    return used_j / (hours * 3600.0 * efficiency)


def thermal_hold_s(*, thermal_mass_j_per_k: Value, headroom_k: Value, heat_w: Value) -> Value:
    """Seconds until uncooled heat uses up the allowed rise: C dT / Q. With 100 kJ/K, 8 kW rises 4.8 K a minute."""
    return thermal_mass_j_per_k * headroom_k / heat_w


def site_hold_s(*, battery_s: Value, thermal_s: Value) -> Value:
    """A site holds as long as the shorter of the two."""
    return minimum(battery_s, thermal_s)
