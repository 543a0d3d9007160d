"""The machine it runs on: the CPU's name, and how many cores a process of ours may really use."""

from __future__ import annotations

import os
import platform
from pathlib import Path

ROOT = Path("/")


def cpu_name(root: Path = ROOT) -> str:
    """The CPU's name from /proc/cpuinfo, or what the platform calls it."""
    info = root / "proc/cpuinfo"
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "Model"}:
                return value.strip()
    return platform.processor() or platform.machine()


def cpu_quota(root: Path = ROOT) -> float | None:
    """Cores that the control group grants (cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`); None for no limit."""
    group = root / "sys/fs/cgroup"
    words = _words(group / "cpu.max")
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
        return int(words[0]) / int(words[1])
    quota, period = _words(group / "cpu/cpu.cfs_quota_us"), _words(group / "cpu/cpu.cfs_period_us")
    if quota and period and quota[0].isdigit() and period[0].isdigit():
        return int(quota[0]) / int(period[0])
    return None


def cores() -> int:
    """Cores that this process may be scheduled on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
