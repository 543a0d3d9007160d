"""How many CPUs this process may use: what the scheduler gives it, or less where a control group bounds it.

A runtime that counts the host's cores starts more threads than its quota runs; they are throttled together, for tens of
milliseconds at a time. Sources: Linux, Documentation/admin-guide/cgroup-v2.rst (`cpu.max`); scheduler/sched-bwc.rst (version 1).
"""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
CGROUP_BYTES_MAX = 64 * 1024


def cpus_allowed(cgroups: Path = CGROUPS, own: Path = OWN) -> float:
    """CPUs, perhaps a fraction; never more than this process may be scheduled on."""
    scheduled = float(len(os.sched_getaffinity(0)))
    return min([scheduled, *(quota for quota in (_version_2(cgroups, own), _version_1(cgroups, own)) if quota is not None)])


def threads_beside(others: int, cpus: float) -> int:
    """Threads for a runtime that leaves `others` CPUs to what must not wait for it; at least one."""
    return max(1, int(cpus) - others)


def _version_2(cgroups: Path, own: Path) -> float | None:
    """The tightest `cpu.max` from this process's group up: every one of them bounds it."""
    found = [quota for place in _places(cgroups, own, "0::") if (quota := _cpu_max(place / "cpu.max")) is not None]
    return min(found, default=None)


def _version_1(cgroups: Path, own: Path) -> float | None:
    found: list[float] = []
    for controller in ("cpu", "cpu,cpuacct"):
        for place in _places(cgroups / controller, own, f":{controller}:"):
            quota, period = _number(place / "cpu.cfs_quota_us"), _number(place / "cpu.cfs_period_us")
            if quota is not None and quota > 0 and period:
                found.append(quota / period)
    return min(found, default=None)


def _places(root: Path, own: Path, mark: str) -> list[Path]:
    """The folder of this process's group and those above it; in a container the group's own is the root."""
    lines = (_text(own) or "").splitlines()
    path = next((line.partition(mark)[2] for line in lines if mark in line), "/")
    inner = root / path.strip("/")
    return [place for place in (inner, *inner.parents) if place == root or root in place.parents]


def _cpu_max(file: Path) -> float | None:
    quota, _, period = (_text(file) or "").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _number(file: Path) -> int | None:
    text = (_text(file) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _text(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            return opened.read(CGROUP_BYTES_MAX).decode(errors="replace")
    except OSError:
        return None
