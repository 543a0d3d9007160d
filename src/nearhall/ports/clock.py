"""Time, as something that is passed in."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two clocks: one to measure with, one to date with."""

    def monotonic(self) -> float:
        """Seconds that never step back; differences only."""
        ...

    def utc(self) -> float:
        """Seconds since 1970-01-01 UTC; may step when the clock is set."""
        ...
