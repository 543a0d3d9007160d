"""How an enclosure warms, and what cooling it takes."""

from __future__ import annotations

from nearhall.core.elementwise import Value, maximum, minimum

AIR_DENSITY_KG_M3 = 1.2
"""Dry air at 20 degrees C and sea level, 101.3 kPa."""
AIR_HEAT_J_KG_K = 1005.0
"""Specific heat of dry air at constant pressure."""


def cop(
    *, nominal: Value, outdoor_c: Value, nominal_outdoor_c: float = 35.0, per_kelvin: float = 0.02, least: float = 1.0
) -> Value:
    """Watts of heat moved per watt of compressor: the nominal figure, 2 % better for each kelvin that it is cooler outside.

    A linear fit near the rating point; the slope is assumed, within the 1.5 to 3 % per kelvin of small direct-expansion units.
    """
    return maximum(nominal * (1.0 + per_kelvin * (nominal_outdoor_c - outdoor_c)), least)


def cooling_power_w(*, heat_w: Value, cop: Value, fan_w: Value) -> Value:
    """Electrical power that moves `heat_w` out, fans included."""
    return maximum(heat_w, 0.0) / cop + fan_w


def cooling_asked_w(*, inlet_c: Value, setpoint_c: float, gain_w_per_k: float, capacity_w: Value) -> Value:
    """Heat that a proportional controller removes: nothing below the set point, at most the unit's capacity."""
    return minimum(maximum((inlet_c - setpoint_c) * gain_w_per_k, 0.0), capacity_w)


def warmed_c(*, temperature_c: Value, net_heat_w: Value, thermal_mass_j_per_k: Value, seconds: Value) -> Value:
    """Temperature after `seconds` of constant net heat into a lumped thermal mass: T + Q t / C."""
    return temperature_c + net_heat_w * seconds / thermal_mass_j_per_k


def envelope_heat_w(*, outdoor_c: Value, indoor_c: Value, conductance_w_per_k: Value) -> Value:
    """Heat that comes in through the walls; negative when it leaks out."""
    return (outdoor_c - indoor_c) * conductance_w_per_k


def air_rise_k(*, heat_w: Value, airflow_m3_s: Value) -> Value:
    """How much warmer the air leaves: Q / (rho c V)."""
    return heat_w / (AIR_DENSITY_KG_M3 * AIR_HEAT_J_KG_K * airflow_m3_s)


def airflow_m3_s(*, heat_w: Value, rise_k: Value, density_kg_m3: Value = AIR_DENSITY_KG_M3) -> Value:
    """Air that carries `heat_w` away at a given rise: V = Q / (rho c dT)."""
    return heat_w / (density_kg_m3 * AIR_HEAT_J_KG_K * rise_k)
