"""An instrument at a site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from nearhall.core.evidence import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterIdentity:
    """What the instrument says of itself, read once when connected."""

    vendor: str
    model: str
    serial: str
    virtual: bool
    """A virtual device says so in its identity; everything derived from it is `simulated`. No setting can remove this."""
    class_percent: float | None = None
    """Accuracy class from the profile's data sheet (IEC 62053): percent of reading."""
    ct_ratio: float | None = None
    """Of the current transformers, from the commissioning record; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One poll of one instrument."""

    at_s: float
    """Seconds since 1970 UTC, by the site's clock."""
    values: Mapping[str, float]
    """By quantity, unit last: `power_w`, `energy_import_kwh`, `apparent_va`, `power_factor`, `volts_l1`, `current_a_l1`,
    `frequency_hz`, `inlet_c`, `outlet_c`, `door_open`, ..."""
    kind: Kind
    """`simulated` from a virtual device; `measured` only with a commissioning record; else `assumed`."""


class Meter(Protocol):
    """A connected instrument."""

    @property
    def identity(self) -> MeterIdentity | None:
        """None until the first successful read."""
        ...

    async def read(self) -> Reading:
        """Polls once; raises TemporaryError when it does not answer in time, PermanentError for a wrong profile."""
        ...

    async def close(self) -> None:
        """Closes its connection."""
        ...
