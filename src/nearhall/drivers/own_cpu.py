"""CPU seconds of this process and its children, read from /proc without walking every process of the machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def own_cpu_seconds() -> float:
    """User and system seconds of this process, of children that have ended, and of those that live (proc(5), `stat`)."""
    return _ticks(Path("/proc/self/stat"), ended_children=True) / _TICKS_PER_S + living_children_cpu_seconds()


def living_children_cpu_seconds() -> float:
    """User and system seconds of this process's living children and of their own that have ended: language models."""
    ticks = 0
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for pid in children.read_text().split():
                ticks += _ticks(Path("/proc") / pid / "stat", ended_children=True)
    return ticks / _TICKS_PER_S


def start_ticks() -> int:
    """When this process started, in clock ticks since boot: with the pid, it names a process for ever (field 22 of `stat`)."""
    return int(_fields(Path("/proc/self/stat"))[19])


def _ticks(stat: Path, *, ended_children: bool) -> int:
    with suppress(OSError):
        fields = _fields(stat)
        return sum(int(value) for value in fields[11 : 15 if ended_children else 13])
    return 0


def _fields(stat: Path) -> list[str]:
    """The fields after the command's name, which may hold spaces and brackets: field 3 is at 0."""
    return stat.read_text().rpartition(")")[2].split()
