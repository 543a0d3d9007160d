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
IMPATIENT_COSTS = 8.0
"""Of the budget, for a refusal of such a retry: 500 a second at once at most. On a machine that others kept busy, eight clients
that came back at once got 4,100 refusals a second and 3 % of the limit, where patient ones got 18 %; so they get 8 to 10 %."""
PER_S = 4000.0
"""Refusals told at once, a second: one costs the event loop 20 to 50 microseconds, so that these take a tenth or a fifth of it.
Within them nobody is made to wait: over the connections of a proxy many patient clients come, one at once after the other."""
BURST = 400.0
"""A tenth of a second's worth at once."""
OVER_BUDGET_S = 0.02
"""What each further one waits, so that whoever asks in a closed loop asks less often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A token bucket of refusals that are told at once."""

    tokens: float = BURST
    at_s: float = 0.0


def delay_s(budget: Budget, *, now_s: float, since_refusal_s: float) -> tuple[float, Budget]:
    """How long to keep this refusal back, and the budget after it.

    `since_refusal_s`: since the last one on the same connection was told; infinite if there was none.
    """
    tokens = min(BURST, budget.tokens + max(0.0, now_s - budget.at_s) * PER_S)
    impatient = since_refusal_s < AT_ONCE_S
    costs = IMPATIENT_COSTS if impatient else 1.0
    if tokens >= costs:
        return 0.0, Budget(tokens=tokens - costs, at_s=now_s)
    return IMPATIENT_S if impatient else OVER_BUDGET_S, Budget(tokens=tokens, at_s=now_s)
