"""What this machine is, for the sites' self-descriptions."""

from __future__ import annotations

import os
import platform
from typing import Any

import psutil

from nearhall.drivers.host import cpu_name


def describe() -> dict[str, Any]:
    """CPU, cores, memory, operating system and Python, as a report's reader needs them to place the latencies."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
