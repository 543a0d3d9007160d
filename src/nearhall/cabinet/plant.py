"""The plant of a virtual cabinet, step by step: load in, watts, heat and energy out. Pure; all laws are `physics`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil

from nearhall.cabinet.settings import Settings
from nearhall.physics import electrical, heat, power

FEED, UPS_IN, UPS_OUT, IT, COOLING = 1, 2, 3, 4, 5
"""Modbus units, which are also the meters' positions in the chain."""
UNITS = (FEED, UPS_IN, UPS_OUT, IT, COOLING)
ENVIRONMENT = 10
JOULES_PER_KWH = 3.6e6
STEP_SECONDS_MAX = 10.0
"""A fiftieth of the default room's time constant (thermal mass over the cooling's gain); a process that was stopped for
hours would otherwise leap, and oscillate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """The state between two steps."""

    inlet_c: float
    power_w: dict[int, float] = field(default_factory=dict[int, float])
    """By unit, during the last step."""
    energy_kwh: dict[int, float] = field(default_factory=dict[int, float])
    """By unit, since the cabinet was made."""
    outlet_c: float = 0.0
    load: float = 0.0


def fresh(settings: Settings, energy_kwh: dict[int, float] | None = None) -> Plant:
    """A plant that has idled long enough for its temperature to be steady, so that a short run does not measure a start-up."""
    it_w = power.server_power_w(idle_w=settings.server.idle_w, busy_w=settings.server.busy_w, load=0.0)
    heat_w = it_w + electrical.ups_loss_w(rating_w=settings.ups.rating_w, load_w=it_w)
    cooling, room = settings.cooling, settings.room
    # Steady: gain x (T - setpoint) = heat + conductance x (outdoor - T)
    numerator = heat_w + room.conductance_w_per_k * room.outdoor_c + cooling.gain_w_per_k * cooling.setpoint_c
    inlet_c = numerator / (room.conductance_w_per_k + cooling.gain_w_per_k)
    return step(Plant(inlet_c=inlet_c, energy_kwh=energy_kwh or dict.fromkeys(UNITS, 0.0)), settings, load=0.0, seconds=0.0)


def step(plant: Plant, settings: Settings, *, load: float, seconds: float) -> Plant:
    """The plant after `seconds` at `load` (0 to 1 of the server), in steps short against the room's time constant."""
    parts = max(1, ceil(seconds / STEP_SECONDS_MAX))
    for _ in range(parts):
        plant = _short_step(plant, settings, load=load, seconds=seconds / parts)
    return plant


def _short_step(plant: Plant, settings: Settings, *, load: float, seconds: float) -> Plant:
    server, ups, cooling, room = settings.server, settings.ups, settings.cooling, settings.room
    it_w = power.server_power_w(idle_w=server.idle_w, busy_w=server.busy_w, load=load)
    loss_w = electrical.ups_loss_w(rating_w=ups.rating_w, load_w=it_w)
    asked_w = heat.cooling_asked_w(
        inlet_c=plant.inlet_c, setpoint_c=cooling.setpoint_c, gain_w_per_k=cooling.gain_w_per_k, capacity_w=cooling.capacity_w
    )
    moved = heat.cop(nominal=cooling.nominal_cop, outdoor_c=room.outdoor_c)
    cooling_w = heat.cooling_power_w(heat_w=asked_w, cop=moved, fan_w=cooling.fan_w)
    walls_w = heat.envelope_heat_w(outdoor_c=room.outdoor_c, indoor_c=plant.inlet_c, conductance_w_per_k=room.conductance_w_per_k)
    inlet_c = heat.warmed_c(
        temperature_c=plant.inlet_c,
        net_heat_w=it_w + loss_w + walls_w - asked_w,
        thermal_mass_j_per_k=room.thermal_mass_j_per_k,
        seconds=seconds,
    )
    watts = {FEED: it_w + loss_w + cooling_w, UPS_IN: it_w + loss_w, UPS_OUT: it_w, IT: it_w, COOLING: cooling_w}
    energy = {unit: plant.energy_kwh[unit] + watts[unit] * seconds / JOULES_PER_KWH for unit in UNITS}
    outlet_c = inlet_c + heat.air_rise_k(heat_w=it_w, airflow_m3_s=room.airflow_m3_s)
    return replace(plant, inlet_c=inlet_c, power_w=watts, energy_kwh=energy, outlet_c=outlet_c, load=load)
