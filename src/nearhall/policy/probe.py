"""Which answered requests are asked of the hub too, so that a pilot can say what the hub would have taken.

Randomised, so that the pairs are a fair sample; bounded per second, so that probes stay a small part of the link.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nearhall.core.residency import Residency


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A token bucket of probes: at most `per_second` on average, a second's worth at once."""

    per_second: float
    tokens: float
    at_s: float


def fresh(per_second: float, now_s: float) -> Budget:
    """A full bucket."""
    return Budget(per_second=per_second, tokens=max(1.0, per_second), at_s=now_s)


@dataclass(frozen=True, slots=True)
class Probe:
    """Send one: with the request's own payload, or with random bytes of its size where the data may not leave."""

    random_payload: bool
    wait_ms: float
    """A random wait, so that probes do not line up with arrivals."""


WAIT_MS_MAX = 50.0


def choose(
    budget: Budget, *, draw: float, wait_draw: float, share: float, may_leave: bool, now_s: float
) -> tuple[Probe | None, Budget]:
    """Whether to probe, from two uniform draws in [0, 1), and the budget after it."""
    tokens = min(max(1.0, budget.per_second), budget.tokens + max(0.0, now_s - budget.at_s) * budget.per_second)
    filled = replace(budget, tokens=tokens, at_s=now_s)
    if draw >= share or tokens < 1.0:
        return None, filled
    return Probe(random_payload=not may_leave, wait_ms=wait_draw * WAIT_MS_MAX), replace(filled, tokens=tokens - 1.0)


def payload_may_leave(residency: Residency, hub_jurisdiction: str) -> bool:
    """Whether the probe may carry the request's own data: only where the request itself might have gone."""
    return residency.permits(hub_jurisdiction)
