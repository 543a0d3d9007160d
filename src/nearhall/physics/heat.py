"""How an enclosure warms, and what cooling it takes."""

from __future__ import annotations

from nearhall.core.elementwise import Value, maximum, minimum

AIR_DENSITY_KG_M3 = 1.2
"""Dry air at 20 degrees C and sea level, 101.3 kPa."""
AIR_HEAT_J_KG_K = 1005.0
"""Specific heat of dry air at constant pressure."""


DISTRIBUTION_FIXED, DISTRIBUTION_PROPORTIONAL = 0.01, 0.02
"""Losses of distribution over its rating and over the IT load. Schneider Electric white paper 25; as commonly quoted."""
LIGHT_W_M2 = 21.5
"""2 W a square foot. Same source; as commonly quoted."""
PERSON_W = 100.0
"""Same source; as commonly quoted."""
CFM_PER_M3_S = 2118.88
"""Cubic feet a minute in a cubic metre a second."""
ASHRAE: dict[str, tuple[float, float]] = {
    "A1": (15.0, 32.0),
    "A2": (10.0, 35.0),
    "A3": (5.0, 40.0),
    "A4": (5.0, 45.0),
    "H1": (5.0, 25.0),
}
"""Allowable inlet temperature, lowest and highest, degrees C. ASHRAE TC 9.9, 2021 reference card (H1 as commonly quoted)."""
RECOMMENDED_C: dict[str, tuple[float, float]] = {**dict.fromkeys(("A1", "A2", "A3", "A4"), (18.0, 27.0)), "H1": (18.0, 22.0)}
"""Recommended inlet. Same source (H1 as commonly quoted)."""
ALTITUDE_MAX_M = 3050.0
"""The classes end there. Same source."""
CAPACITY_RATED_AT_C, CAPACITY_PER_K = 35.0, 0.008
"""Where direct-expansion units are rated (EN 14511, AHRI 210/240), and the share of capacity lost per kelvin beyond. The share is
assumed; the maker's table tells."""
ALTITUDE_FREE_M = 900.0
METRES_PER_K: dict[str, float] = {"A1": 300.0, "A2": 300.0, "A3": 175.0, "A4": 125.0, "H1": 500.0}
"""Above 900 m the highest allowable inlet falls by a kelvin for each so many metres. As commonly quoted."""


def highest_inlet_c(*, ashrae: str, altitude_m: Value) -> Value:
    """The highest allowable inlet of a class at an altitude."""
    return ASHRAE[ashrae][1] - maximum(altitude_m - ALTITUDE_FREE_M, 0.0) / METRES_PER_K[ashrae]


def room_heat_w(
    *,
    it_w: Value,
    ups_loss_w: Value = 0.0,
    distribution_w: Value = 0.0,
    floor_m2: Value = 0.0,
    people: Value = 0.0,
    envelope_w: Value = 0.0,
) -> Value:
    """Heat to be moved out: IT, losses, light by floor, people, and what comes through the walls (white paper 25)."""
    return it_w + ups_loss_w + distribution_w + LIGHT_W_M2 * floor_m2 + PERSON_W * people + envelope_w


def cooling_capacity_w(*, rated_w: Value, outdoor_c: Value) -> Value:
    """What a compressor's unit rated at 35 degrees outside moves at another temperature; never more than it is rated."""
    return rated_w * (1.0 - CAPACITY_PER_K * maximum(outdoor_c - CAPACITY_RATED_AT_C, 0.0))


def distribution_loss_w(*, rating_w: Value, load_w: Value) -> Value:
    """Heat of switchgear and cables: 0.01 x rating + 0.02 x load."""
    return DISTRIBUTION_FIXED * rating_w + DISTRIBUTION_PROPORTIONAL * load_w


def airflow_cfm(*, heat_kw: Value, rise_f: Value) -> Value:
    """Cubic feet a minute at sea level by the usual rule, 3412 kW / (1.085 dF), which is air of about 70 degrees F."""
    return 3412.0 * heat_kw / (1.085 * rise_f)


COP_GAIN_MOST = 1.5
"""COP in the cold over the nominal one: small units keep their condensing pressure up, so that it ends somewhere. Assumed."""


def cop(
    *,
    nominal: Value,
    outdoor_c: Value,
    nominal_outdoor_c: float = 35.0,
    per_kelvin: float = 0.02,
    least: float = 1.0,
    gain_most: float = COP_GAIN_MOST,
) -> Value:
    """Watts of heat moved per watt of compressor: the nominal figure, 2 % better for each kelvin that it is cooler outside.

    A linear fit near the rating point; the slope is assumed, within the 1.5 to 3 % per kelvin of small direct-expansion units.
    In the cold it is never better than `gain_most` times the nominal figure.
    """
    return maximum(nominal * minimum(1.0 + per_kelvin * (nominal_outdoor_c - outdoor_c), gain_most), least)


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
