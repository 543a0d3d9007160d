"""When a refusal is told: at once, as long as there are not too many; else only after a while, and later to who does not wait.

A client that comes back at once after each refusal is refused again and takes the time of those whose turn it is: in a trial
eight such clients brought a gateway to a quarter of what its models could do. `Retry-After` asks for patience; who has none is
made to wait.
"""

from __future__ import annotations

from dataclasses import dataclass

AT_ONCE_S = 0.01
"""A request so soon after a refusal on the same connection is a retry that did not wait: the least that `retry-after-ms` asks
is five times as long."""
IMPATIENT_S = 0.05
"""What such a retry waits for its next refusal."""
PER_S = 4000.0
"""Refusals told at once, a second: one costs the event loop 20 to 50 microseconds, so that these take a tenth or a fifth of it.
Within them nobody is made to wait: over the connections of a proxy many patient clients come, one at once after the other."""
PER_ANSWER = 4.0
LEAST_PER_S = 250.0
"""But no more than so many for each answer, and so many besides. Where a busy machine leaves the models little, refusals must not
take that too: eight clients that came back at once got 4,100 a second there, and a sixth to a third of the answers that patient
ones got."""
BURST = 400.0
"""A tenth of a second's worth at once."""
OVER_BUDGET_S = 0.02
"""What each further one waits, so that whoever asks in a closed loop asks less often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Two token buckets of refusals that are told at once: each of these takes one of both."""

    tokens: float = BURST
    """By time."""
    earned: float = BURST
    """By answers."""
    at_s: float = 0.0
    answers: int = 0
    """Given until then."""


def delay_s(budget: Budget, *, now_s: float, since_refusal_s: float, answers: int | None = None) -> tuple[float, Budget]:
    """How long to keep this refusal back, and the budget after it.

    `since_refusal_s`: since the last one on the same connection was told; infinite if there was none. `answers`: how many have
    been given since the start; None where that says nothing of what refusals take from whom.
    """
    lasted_s = max(0.0, now_s - budget.at_s)
    tokens, earned = min(BURST, budget.tokens + lasted_s * PER_S), BURST
    if answers is not None:
        earned = min(BURST, budget.earned + lasted_s * LEAST_PER_S + max(0, answers - budget.answers) * PER_ANSWER)
    at_once = min(tokens, earned) >= 1.0
    costs = 1.0 if at_once else 0.0
    after = Budget(tokens=tokens - costs, earned=earned - costs, at_s=now_s, answers=answers or 0)
    if at_once:
        return 0.0, after
    return IMPATIENT_S if since_refusal_s < AT_ONCE_S else OVER_BUDGET_S, after
