"""How much CPU a site's processes use."""

from __future__ import annotations

from typing import Protocol


class CpuUse(Protocol):
    """CPU time of a set of processes and their children."""

    def seconds(self) -> float:
        """CPU seconds used since the first call; grows monotonically, through restarts of the processes."""
        ...
