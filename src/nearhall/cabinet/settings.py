"""Settings of a virtual cabinet."""

from __future__ import annotations

from dataclasses import dataclass, field

from nearhall.core.errors import InputError

STEP_SECONDS_MAX = 10.0
"""Seconds; longer steps would make the registers stand still between two reads of a meter."""
SCALE_ERROR_MAX = 100.0
METERED_UNITS = ("1", "2", "3", "4", "5")
"""Feed, UPS input, UPS output, IT, cooling (`cabinet.plant`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The catalogue server whose power curve the site's CPU use drives."""

    id: str
    idle_w: float
    busy_w: float
    power_factor: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ups:
    """A double-conversion UPS."""

    rating_w: float = 800.0
    """About twice the default server's busy power: small UPS are sized so, and their fixed loss is felt."""
    power_factor: float = 0.99
    """Of its input; current UPS correct it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooling:
    """A small direct-expansion unit with its fans."""

    nominal_cop: float = 3.0
    """At 35 degrees C outside; assumed, range of such units 2.3 to 3.5."""
    capacity_w: float = 2000.0
    setpoint_c: float = 24.0
    """Inside ASHRAE's recommended 18 to 27 degrees C (TC 9.9, 2021)."""
    gain_w_per_k: float = 200.0
    """Proportional control: full capacity 10 K above the set point."""
    fan_w: float = 25.0
    power_factor: float = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Enclosure and surroundings."""

    outdoor_c: float = 22.0
    thermal_mass_j_per_k: float = 100_000.0
    """A 600 mm cabinet's steel and equipment; with it 8 kW uncooled rises 4.8 K a minute."""
    conductance_w_per_k: float = 5.0
    airflow_m3_s: float = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the program needs; one JSON object."""

    site: str
    host: str = "127.0.0.1"
    port: int
    follow: tuple[str, ...]
    """Pid files of the processes that are the site's IT load."""
    server: Server
    state_file: str
    host_cores: int
    """CPU seconds a second that count as full load."""
    ups: Ups = field(default_factory=Ups)
    cooling: Cooling = field(default_factory=Cooling)
    room: Room = field(default_factory=Room)
    scale_error: dict[str, float] = field(default_factory=dict[str, float])
    """By Modbus unit: a factor by which its registers lie; for tests and demonstrations of the energy balance."""
    step_s: float = 0.2
    """Twice the rate at which power matters to a meter that is read each second, and a hundredth of a core at most."""
    exit_with_stdin: bool = False

    def __post_init__(self) -> None:
        _refuse(not 0 <= self.port <= 65_535, f"port is {self.port}", "0 (any free one) to 65535")
        _refuse(self.host_cores < 1, f"host_cores is {self.host_cores}", "at least 1")
        _refuse(not 0 < self.step_s <= STEP_SECONDS_MAX, f"step_s is {self.step_s:g}", f"above 0, at most {STEP_SECONDS_MAX:g}")
        server = self.server
        _refuse(
            not 0 <= server.idle_w < server.busy_w,
            f"server {server.id} draws {server.idle_w:g} W idle and {server.busy_w:g} W busy",
            "busy_w above idle_w",
        )
        factors = (server.power_factor, self.ups.power_factor, self.cooling.power_factor)
        _refuse(not all(0 < factor <= 1 for factor in factors), "a power factor is out of its range", "above 0, at most 1")
        for unit, factor in self.scale_error.items():
            known = ", ".join(METERED_UNITS)
            _refuse(unit not in METERED_UNITS, f"scale_error names unit {unit!r}", f"one of: {known}")
            _refuse(not 0 < factor <= SCALE_ERROR_MAX, f"scale_error of unit {unit} is {factor:g}", "a factor such as 1.1")


def _refuse(wrong: bool, what: str, right: str) -> None:
    if wrong:
        raise InputError(what, right=right)
