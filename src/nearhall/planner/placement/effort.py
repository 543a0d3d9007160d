"""How much of the time is spent: work is counted in cells of the cost matrix, without a clock, so that two runs agree."""

from __future__ import annotations

from collections.abc import Callable

from nearhall.planner.placement.solver import Limits

CELLS_PER_S = 4e8
"""At which a slow core takes the least of each cell and a price, and adds the cells up."""

Spend = Callable[[float], bool]
"""Told before a step how many cells it takes; True once it is time to end."""


class Effort:
    """The limits of one search, and what of them is left."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._spent_s = 0.0

    def spend(self, cells: float, share: float = 1.0) -> bool:
        """Counts the work; True once that share of the time is spent, or the caller wishes to end."""
        self._spent_s += cells / CELLS_PER_S
        return self.over(share)

    def spend_s(self, seconds: float) -> None:
        """Counts what HiGHS took by its own clock."""
        self._spent_s += seconds

    def over(self, share: float = 1.0) -> bool:
        """That share of the time is spent, or the caller wishes to end."""
        cancelled = self.limits.cancelled
        return self._spent_s > self.limits.time_limit_s * share or (cancelled is not None and cancelled())

    def left(self, share: float = 1.0) -> Limits:
        """The limits with a share of the time that is left."""
        return self.limits.within(max(self.limits.time_limit_s - self._spent_s, 0.0) * share)


def unlimited(cells: float) -> bool:
    """For whoever has all the time."""
    del cells
    return False
