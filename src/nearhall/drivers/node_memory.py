"""Memory from /proc and the control group (proc(5); cgroup v1 and v2): what this process holds and what it may still take."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MIB = 1024 * 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")
Names = tuple[str, str, str]
"""Of a group's limit and usage, and what its caches' names begin with."""
UNLIMITED_MIB = 1 << 40
"""cgroup v1 says "no limit" by a number near 2^63."""


class SystemMemory:
    """The real one. `root` stands for `/` in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        self._groups = root / "sys" / "fs" / "cgroup"

    def resident_mib(self, pid: int | None = None) -> float:
        """What a process holds now, MiB; this one without a pid, 0 for one that is gone."""
        with suppress(OSError, IndexError, ValueError):
            return int((self._proc / ("self" if pid is None else str(pid)) / "statm").read_text().split()[1]) * _PAGE / MIB
        return 0.0

    def free_mib(self) -> float:
        """The least of what the machine and every control group above this process have left; a group's file cache is free."""
        return min([self._machine_mib(), *(_left_mib(place, names) for place, names in self._places())])

    def _machine_mib(self) -> float:
        with suppress(OSError, ValueError):
            for line in (self._proc / "meminfo").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name == "MemAvailable":
                    return int(rest.split()[0]) / 1024
        return UNLIMITED_MIB

    def _places(self) -> list[tuple[Path, Names]]:
        """The groups of this process, from its own up to the root, with the names of limit, usage and cache."""
        found: list[tuple[Path, Names]] = []
        with suppress(OSError):
            for line in (self._proc / "self" / "cgroup").read_text().splitlines():
                number, kinds, path = line.split(":", 2)
                if number == "0":
                    top, names = self._groups, ("memory.max", "memory.current", "")
                elif "memory" in kinds.split(","):
                    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
                    top = self._groups / "memory"
                else:
                    continue
                own = top / path.strip("/")
                # In a container the path is the host's and is not there; the container's own group is then the top.
                inside = [own, *own.parents] if own.is_dir() else [top]
                found += [(place, names) for place in inside if place == top or top in place.parents]
        return found


def _left_mib(place: Path, names: Names) -> float:
    """What a group has left of its limit, MiB; the kernel takes back the cache of files before it kills anybody."""
    limit, usage, prefix = names
    caches = {f"{prefix}inactive_file", f"{prefix}active_file"}
    try:
        most = int((place / limit).read_text())
        used = int((place / usage).read_text())
    except (OSError, ValueError):
        return UNLIMITED_MIB
    with suppress(OSError, ValueError):
        for line in (place / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in caches:
                used -= int(value)
    return max(0.0, (most - used) / MIB)


class FixedMemory:
    """Memory as a test says it is."""

    def __init__(self, free_mib: float = 4096.0) -> None:
        self.free = free_mib
        self.resident = 100.0
        """Of this process."""
        self.children: dict[int, float] = {}

    def resident_mib(self, pid: int | None = None) -> float:
        """What was set."""
        return self.resident if pid is None else self.children.get(pid, 0.0)

    def free_mib(self) -> float:
        """What was set."""
        return self.free
