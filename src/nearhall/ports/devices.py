"""The accelerators of a machine, and what counts the energy of its processors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator as its driver tells of it now; what it does not tell is None."""

    name: str
    driver: str
    """Version of the driver."""
    memory_total_mib: float | None = None
    memory_used_mib: float | None = None
    """By everything that runs on it, the driver's own share included."""
    power_w: float | None = None
    power_limit_w: float | None = None
    """What the driver holds it to."""
    energy_j: float | None = None
    """Since the driver was loaded."""
    busy_share: float | None = None
    """Share of the last moments (driver's choice, up to a second) in which a kernel ran on it; not how full it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpace:
    """A device's memory now."""

    total_mib: float
    free_mib: float
    """Whoever holds the rest: models, CUDA itself, other programs."""
    ours_mib: float | None = None
    """What the driver counts as this process's; None where it does not tell it, or this process holds none yet."""


class DeviceMemory(Protocol):
    """The memory of this machine's accelerators."""

    def look(self) -> Mapping[str, DeviceSpace]:
        """By name, as models' options count them (`cuda:0`); empty where there are none, or their driver does not answer."""
        ...

    def close(self) -> None:
        """Lets the driver go; safe to call twice."""
        ...


class Devices(Protocol):
    """The accelerators of this machine."""

    def look(self) -> Sequence[Device]:
        """All of them, by index; empty where there are none. Raises TemporaryError when the driver does not answer."""
        ...

    def close(self) -> None:
        """Lets the driver go; safe to call twice."""
        ...


class EnergyCounter(Protocol):
    """Something in this machine that counts its own energy: the processor's packages (RAPL), or its accelerators (NVML)."""

    @property
    def source(self) -> str:
        """`rapl` or `nvml`."""
        ...

    def joules(self) -> float:
        """Since the first call, growing monotonically; raises TemporaryError when it cannot be read."""
        ...

    def close(self) -> None:
        """Lets it go; safe to call twice."""
        ...
