"""Settings of a virtual cabinet."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    exit_with_stdin: bool = False
