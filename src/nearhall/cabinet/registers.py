"""What the virtual cabinet's Modbus units hold: the Eastron SDM630's input registers, and an environment profile of our own.

SDM630: function code 4, IEEE 754 float32, big-endian, two registers a value (Eastron "SDM630-Modbus V2 protocol"). All load is on
line 1. Energy registers start at zero: a float32 that has counted to 20,000 kWh steps by 2 Wh, more than a pilot's minute.

Environment (profile `nearhall-env`): function code 4, float32 big-endian: 0 inlet_c, 2 outlet_c, 4 outdoor_c, 6 door_open (0, 1).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from nearhall.cabinet.plant import COOLING, ENVIRONMENT, FEED, IT, UPS_IN, UPS_OUT, Plant
from nearhall.cabinet.settings import Settings
from nearhall.physics.electrical import apparent_va

VOLTS = 230.0
HERTZ = 50.0
SDM630_REGISTERS = 80
ENVIRONMENT_REGISTERS = 8
VENDOR = "nearhall"
MODEL = "virtual: simulated, not a meter"
PRODUCTS = {**dict.fromkeys((FEED, UPS_IN, UPS_OUT, IT, COOLING), "virtual-sdm630"), ENVIRONMENT: "virtual-env"}


def serial(site: str, unit: int) -> str:
    """The identity that says what this is; it is part of every reading and no setting removes it."""
    return f"VIRTUAL-{site}-{unit}"


def values(plant: Plant, settings: Settings, unit: int) -> Mapping[int, float]:
    """Register address to value, for one unit."""
    if unit == ENVIRONMENT:
        return {0: plant.inlet_c, 2: plant.outlet_c, 4: settings.room.outdoor_c, 6: 0.0}
    lie = settings.scale_error.get(str(unit), 1.0)
    watts = plant.power_w[unit] * lie
    factor = _power_factor(plant, settings, unit)
    va = apparent_va(power_w=watts, power_factor=factor)
    amperes = va / VOLTS
    return {
        0: VOLTS,
        2: VOLTS,
        4: VOLTS,
        6: amperes,
        12: watts,
        18: va,
        30: factor,
        42: VOLTS,
        46: amperes / 3.0,
        48: amperes,
        52: watts,
        56: va,
        62: factor,
        70: HERTZ,
        72: plant.energy_kwh[unit] * lie,
    }


def _power_factor(plant: Plant, settings: Settings, unit: int) -> float:
    """Of the load itself; at the feed, in-phase watts over the sum of volt-amperes (an upper bound of the true sum)."""
    own = {UPS_IN: settings.ups.power_factor, UPS_OUT: settings.server.power_factor, IT: settings.server.power_factor}
    if unit in own:
        return own[unit]
    if unit == COOLING:
        return settings.cooling.power_factor
    va = plant.power_w[UPS_IN] / settings.ups.power_factor + plant.power_w[COOLING] / settings.cooling.power_factor
    return plant.power_w[FEED] / va


def encoded(values: Mapping[int, float]) -> dict[int, int]:
    """Register address to 16-bit word: each float32 takes two registers, high word first."""
    words: dict[int, int] = {}
    for address, value in values.items():
        words[address], words[address + 1] = struct.unpack(">HH", struct.pack(">f", value))
    return words
