"""Air at a site's altitude: pressure, density and the flow that carries heat away (psychrolib, ASHRAE Fundamentals 2017)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import psychrolib  # pyright: ignore[reportMissingTypeStubs]

from nearhall.physics.heat import AIR_HEAT_J_KG_K

_air = cast("Any", psychrolib)


@lru_cache(maxsize=4096)
def pressure_pa(altitude_m: float) -> float:
    """Standard atmospheric pressure at an altitude."""
    _air.SetUnitSystem(_air.SI)  # a setting of the whole library
    return float(_air.GetStandardAtmPressure(altitude_m))


@lru_cache(maxsize=4096)
def density_kg_m3(*, celsius: float, relative_humidity: float = 0.5, altitude_m: float = 0.0) -> float:
    """Density of moist air; `relative_humidity` from 0 to 1."""
    pressure = pressure_pa(altitude_m)
    _air.SetUnitSystem(_air.SI)
    ratio = _air.GetHumRatioFromRelHum(celsius, relative_humidity, pressure)
    return float(_air.GetMoistAirDensity(celsius, ratio, pressure))


def flow_m3_s(*, heat_w: float, rise_k: float, inlet_c: float, altitude_m: float = 0.0) -> float:
    """Flow at the inlet's density that warms by `rise_k`: Q / (rho cp dT)."""
    return heat_w / (density_kg_m3(celsius=inlet_c, altitude_m=altitude_m) * AIR_HEAT_J_KG_K * rise_k)
