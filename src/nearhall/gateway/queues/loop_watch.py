"""How long the event loop's turns take: what comes meanwhile lies unseen in the kernel, and what is done waits to be said."""

from __future__ import annotations

import asyncio

from nearhall.policy.admit import Estimate
from nearhall.ports.clock import Clock

CROWDED_MS = 1.0
"""From here on the loop, and not a model, is what requests wait for."""


class LoopWatch:
    """Times the turns of the loop while something comes in; costs one call a turn, and nothing while all is quiet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = Estimate(0.0)
        self._turn_s = self._computed_s = 0.0
        self._stirred = self._turning = False

    @property
    def lag_ms(self) -> float:
        """A turn, as about the p90 of the last ones: requests and answers wait half of it each, on average."""
        return self._turn.service_ms

    @property
    def crowded(self) -> bool:
        """Whether the loop has more to do than it gets time for."""
        return self._turn.service_ms > CROWDED_MS

    def computed(self, ms: float) -> None:
        """So much of this turn was a model's run, for somebody who was alone: the next turn will not be as long for it.

        Nor is there anything to be timed after it, unless something comes again.
        """
        self._computed_s += ms / 1e3
        self._stirred = False

    def stirred(self) -> None:
        """Something has come."""
        self._stirred = True
        if not self._turning:
            self._turning = True
            self._turn_s = self._clock.monotonic()
            asyncio.get_running_loop().call_soon(self._turned)

    def _turned(self) -> None:
        now_s = self._clock.monotonic()
        self._turn = self._turn.seen(max(0.0, now_s - self._turn_s - self._computed_s) * 1e3)
        self._turn_s, self._computed_s = now_s, 0.0
        self._turning = self._stirred
        if self._stirred:
            self._stirred = False
            asyncio.get_running_loop().call_soon(self._turned)
