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
    """The maker's document, and what else the map was compared with."""
    checked_on: str
    """When it was compared (ISO 8601 date)."""
    function: int
    """Modbus function code to read with: 3 holding, 4 input registers."""
    class_percent: float | None
    """Accuracy class for active energy, percent of reading; None where accuracy is not a class."""
    quantities: tuple[Quantity, ...]
    low_word_first: bool = False
    serial_at: int | None = None
    """Where its serial number is, an unsigned 32 bit number in the holding registers; None where it has none to read."""
    unconfirmed: tuple[str, ...] = ()
    """What could not be confirmed, or depends on how the instrument is set: for whoever commissions it to look at."""


SDM630 = Profile(
    name="sdm630",
    title="Eastron SDM630-Modbus V2, three-phase meter",
    source="Eastron SDM630-Modbus V2 protocol, table of input registers (30001 is address 0), as ob121.com transcribes it; "
    "agrees with sdm_modbus 0.7.0 in every register; class 1 by IEC 62053-21 in the manual of its M-Bus sister",
    checked_on="2026-11-23",
    serial_at=64512,
    unconfirmed=(
        "the maker's own file was not at hand: compare every figure with the display",
        "a meter whose display is set to MWh may give its energy register in MWh: compare it with the display",
        "a meter for current transformers (SDM630MCT) knows their ratio itself: give ct_ratio 1 for it",
        "the serial number's register is known from sdm_modbus only; a meter without it is read all the same",
    ),
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
    source="Schneider Electric iEM3000 user manual DOCA0005EN, list of holding registers, each number less 1, as aggsoft.com and "
    "proxus.io transcribe it; the mbmap library tells of an iEM3155 (firmware 14002) read at one below the number, "
    "and energy-counters 1.3.0 reads there too",
    checked_on="2026-11-23",
    serial_at=129,
    unconfirmed=(
        "of the maker's manual only other pages were at hand: compare every figure with the display",
        "the manual calls its numbers the address in the frame, instruments were found to answer one below: "
        "compare volts with the display",
        "class 1 is what dealers name for this direct meter (0.5S is the iEM3255's): see the label",
    ),
    function=3,
    class_percent=1.0,
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
    checked_on="2026-11-23",
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
