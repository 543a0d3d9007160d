"""What a lane may take on: how long a new request would wait, and how long its own service will take.

Values in, values out: the lane keeps an `Estimate` per model and asks `expected_ms` when a request arrives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

RISE = 0.10
FALL = 0.02
"""A decaying high quantile by asymmetric steps: up by a tenth of an overshoot, down by a fiftieth of an undershoot; with these
weights a steady stream settles near its p90 (measured in the trials: 98 to 99 % in deadline)."""

HALF_LIFE_S = 1.0
TESTS_SHARE = 20.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """About the p90 of a model's service time, milliseconds."""

    service_ms: float

    def seen(self, service_ms: float) -> Estimate:
        """The estimate after one more observation."""
        step = service_ms - self.service_ms
        return replace(self, service_ms=self.service_ms + (RISE if step > 0 else FALL) * step)

    def aged(self, unseen_s: float) -> Estimate:
        """The estimate after nothing was seen for a while: it halves again and again, so that it is put to the test.

        An estimate that refuses everybody would never be corrected. Half of it lasts a second, or twenty times as long as
        the service itself: what a test may cost in vain stays a small share of the lane's time.
        """
        half_life_s = max(HALF_LIFE_S, TESTS_SHARE * self.service_ms / 1e3)
        return replace(self, service_ms=self.service_ms * 0.5 ** (max(0.0, unseen_s) / half_life_s))


def expected_ms(*, ahead_ms: Iterable[float], running_left_ms: float, own_ms: float) -> float:
    """Until the answer of a request that arrives now: what runs, what waits with an earlier deadline, and its own service."""
    return max(0.0, running_left_ms) + sum(ahead_ms) + own_ms


def queue_full(waiting: int, limit: int) -> bool:
    """Whether the bounded queue takes no more."""
    return waiting >= limit


def still_worth(now_ms: float, deadline_ms: float | None, own_ms: float, *, client_gone: bool) -> bool:
    """Whether a request that reaches the head of the queue is worth running: its client waits, its deadline can be met."""
    return not client_gone and (deadline_ms is None or now_ms + own_ms <= deadline_ms)
