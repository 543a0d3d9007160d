"""The processor's own energy counters (RAPL) by Linux's powercap (`ports.devices.EnergyCounter`).

They count the packages and, where it tells, the memory beside them; fans, network card, disks, board and the supply's losses are
not in them, so a figure from them is less than what the plug sees. They have no class and no commissioning record: `assumed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nearhall.core.errors import PermanentError, TemporaryError

POWERCAP = Path("/sys/class/powercap")
MICRO = 1e-6


@dataclass(slots=True)
class _Zone:
    path: Path
    wraps_at: float
    """Microjoules after which it begins again; 0 where it does not say, and what lies around a wrap is then not counted."""
    last: float | None = None
    sum_j: float = 0.0


def open_rapl(root: Path = POWERCAP) -> Rapl:
    """The counters of this machine; raises PermanentError that says in one clause why there are none."""
    zones = _zones(root)
    if not zones:
        raise PermanentError("this machine shows no energy counters of its processor")
    rapl = Rapl(zones)
    try:
        rapl.joules()
    except TemporaryError as error:
        raise PermanentError(str(error)) from error
    return rapl


class Rapl:
    """Packages and memory, added up; made by `open_rapl`."""

    source = "rapl"

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = [_Zone(path, _wraps_at(path)) for path in zones]

    def joules(self) -> float:
        """Since the first call, through wraps of the counters; must be read before one wraps twice (minutes at full load)."""
        for zone in self._zones:
            now = _count(zone.path / "energy_uj")
            if zone.last is not None:
                zone.sum_j += max(0.0, now - zone.last + (zone.wraps_at if now < zone.last else 0.0)) * MICRO
            zone.last = now
        return sum(zone.sum_j for zone in self._zones)

    def close(self) -> None:
        """Nothing is held."""


def _zones(root: Path) -> list[Path]:
    """Zones that hold no other one twice: every package, and memory (`dram`), which lies outside of the package's count."""
    found: list[Path] = []
    for path in sorted(root.glob("*:*")):
        name = _name(path)
        if name.startswith("package") or name == "dram":
            found.append(path)
    return found


def _name(path: Path) -> str:
    try:
        return (path / "name").read_text().strip()
    except OSError:
        return ""


def _wraps_at(path: Path) -> float:
    try:
        return _count(path / "max_energy_range_uj")
    except TemporaryError:
        return 0.0


def _count(path: Path) -> float:
    try:
        return float(path.read_text())
    except PermissionError as error:
        raise TemporaryError(f"{path} may be read by root alone; sudo chmod a+r {path}") from error
    except (OSError, ValueError) as error:
        raise TemporaryError(f"{path} cannot be read") from error
