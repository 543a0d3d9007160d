"""The system's clocks behind `ports.clock.Clock`, and one that a test turns by hand."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)
    """Seconds that never step back. Without a call between: an answer asks for them a dozen times."""

    def utc(self) -> float:
        """Seconds since 1970 UTC."""
        return time.time()  # noqa: TID251 (the one place)


class ManualClock:
    """A clock that stands still until it is told otherwise; both hands can be set apart, as a clock that is set back does."""

    def __init__(self, utc_s: float = 1_700_000_000.0) -> None:
        self._monotonic_s = 1000.0
        self._utc_s = utc_s

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self._monotonic_s

    def utc(self) -> float:
        """Seconds since 1970 UTC."""
        return self._utc_s

    def pass_by(self, seconds: float) -> None:
        """Lets time pass for both."""
        self._monotonic_s += seconds
        self._utc_s += seconds

    def set_utc(self, utc_s: float) -> None:
        """Sets the calendar, as an operator or NTP would."""
        self._utc_s = utc_s
