"""Where instruments keep their figures: register maps as data, each with its source.

Addresses are on the wire (from 0). Words are big-endian, high word first, unless the profile says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOAT32, UINT32, INT64 = "float32", "uint32", "int64"
WORDS: dict[str, int] = {FLOAT32: 2, UINT32: 2, INT64: 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One figure of an instrument."""

    name: str
    """Unit last: `power_w`, `energy_import_kwh`."""
    address: int
    form: str = FLOAT32
    scale: float = 1.0
    """Register value times this is the figure in its unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One type of instrument."""

    name: str
    title: str
    source: str
    function: int
    """Modbus function code to read with: 3 holding, 4 input registers."""
    class_percent: float | None
    """Accuracy class for active energy, percent of reading; None where accuracy is not a class."""
    quantities: tuple[Quantity, ...]
    low_word_first: bool = False


SDM630 = Profile(
    name="sdm630",
    title="Eastron SDM630-Modbus V2, three-phase meter",
    source="Eastron SDM630-Modbus V2 protocol, input registers; class 1 by IEC 62053-21",
    function=4,
    class_percent=1.0,
    quantities=(
        Quantity(name="volts_l1", address=0),
        Quantity(name="volts_l2", address=2),
        Quantity(name="volts_l3", address=4),
        Quantity(name="current_a_l1", address=6),
        Quantity(name="current_a_l2", address=8),
        Quantity(name="current_a_l3", address=10),
        Quantity(name="power_w", address=52),
        Quantity(name="apparent_va", address=56),
        Quantity(name="power_factor", address=62),
        Quantity(name="frequency_hz", address=70),
        Quantity(name="energy_import_kwh", address=72),
    ),
)
IEM3155 = Profile(
    name="iem3155",
    title="Schneider Electric iEM3155, three-phase meter",
    source="Schneider Electric iEM3000 user manual, holding registers (manual number less 1); class C by EN 50470-3 (0.5 %)",
    function=3,
    class_percent=0.5,
    quantities=(
        Quantity(name="volts_l1", address=3027),
        Quantity(name="power_w", address=3059, scale=1000.0),
        Quantity(name="energy_import_kwh", address=3203, form=INT64, scale=0.001),
    ),
)
ENVIRONMENT = Profile(
    name="nearhall-env",
    title="nearhall's virtual environment sensor",
    source="nearhall, room cabinet: registers.py",
    function=4,
    class_percent=None,
    quantities=(
        Quantity(name="inlet_c", address=0),
        Quantity(name="outlet_c", address=2),
        Quantity(name="outdoor_c", address=4),
        Quantity(name="door_open", address=6),
    ),
)
PROFILES: dict[str, Profile] = {profile.name: profile for profile in (SDM630, IEM3155, ENVIRONMENT)}
