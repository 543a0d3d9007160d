"""Whose turn it is with another server: a number of slots, a bounded queue, earliest deadline first."""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from nearhall.core.reasons import Reason
from nearhall.gateway.exchange import Expired
from nearhall.policy.admit import Estimate, expected_ms, still_worth
from nearhall.ports.clock import Clock

FIRST_TOKEN_MS = 100.0
TOTAL_MS = 2000.0
"""Guesses before the first answer: a 135M model on one core starts in a tenth of a second and talks for two."""

_Key = tuple[int, float, int]


class Slots:
    """Admits chats to one model. All of it runs on the event loop."""

    def __init__(self, *, count: int, limit: int, clock: Clock) -> None:
        self.limit = limit
        self.first_token = Estimate(FIRST_TOKEN_MS)
        self.total = Estimate(TOTAL_MS)
        self._count = count
        self._clock = clock
        self._running: dict[int, float] = {}
        self._waiting: list[tuple[_Key, asyncio.Future[None]]] = []
        self._sequence = 0
        self._passed_over_s: float | None = None

    @property
    def waiting(self) -> int:
        """How many chats wait."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a chat holds a slot now."""
        return bool(self._running)

    def own_ms(self, input_bytes: int) -> float:
        """To the first token of a chat alone."""
        return self._aged().service_ms

    @property
    def free(self) -> int:
        """How many more chats would begin at once."""
        return max(0, self._count - len(self._running))

    @property
    def count(self) -> int:
        """How many chats run at the same time."""
        return self._count

    def expected_ms(self, due_s: float, priority: int, input_bytes: int) -> float:
        """Until the first token of a chat that arrived now."""
        ahead = bisect_right(self._waiting, (priority, due_s, self._sequence + 1), key=_key)
        left = 0.0
        if len(self._running) >= self._count:
            now = self._clock.monotonic()
            left = min(max(0.0, self.total.service_ms - (now - since) * 1e3) for since in self._running.values())
        return expected_ms(
            ahead_ms=(ahead * self.total.service_ms / self._count,), running_left_ms=(left,), own_ms=self._aged().service_ms
        )

    def passed_over(self, input_bytes: int) -> None:
        """Notes that a chat went elsewhere, or nowhere, because of the estimate: from then on it ages until it is tested."""
        if self._passed_over_s is None:
            self._passed_over_s = self._clock.monotonic()

    def seen(self, *, first_token_ms: float | None, total_ms: float) -> None:
        """Learns from one chat."""
        self.total = self.total.seen_run(total_ms)
        if first_token_ms is not None:
            self.first_token, self._passed_over_s = self._aged().seen_run(first_token_ms, least_ms=FIRST_TOKEN_MS), None

    def _aged(self) -> Estimate:
        since = self._passed_over_s
        return self.first_token if since is None else self.first_token.aged(self._clock.monotonic() - since)

    @asynccontextmanager
    async def turn(self, *, due_s: float, deadline_s: float | None, priority: int) -> AsyncGenerator[None]:
        """Waits for a slot and holds it; raises Expired when the deadline can no longer be met."""
        self._sequence += 1
        ticket = self._sequence
        if len(self._running) >= self._count or self._waiting:
            await self._wait((priority, due_s, ticket), deadline_s)
        self._running[ticket] = self._clock.monotonic()
        try:
            deadline = None if deadline_s is None else deadline_s * 1e3
            if not still_worth(self._clock.monotonic() * 1e3, deadline, self._aged().service_ms, client_gone=False):
                raise _late()
            yield
        finally:
            del self._running[ticket]
            self._next()

    async def _wait(self, key: _Key, deadline_s: float | None) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (key, future)
        insort(self._waiting, entry, key=_key)
        left_s = None if deadline_s is None else max(0.0, deadline_s - self._clock.monotonic())
        try:
            async with asyncio.timeout(left_s):
                await future
        except BaseException as error:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif not future.cancelled():
                self._next()
            if isinstance(error, TimeoutError):
                raise _late() from error
            raise

    def _next(self) -> None:
        while self._waiting and len(self._running) < self._count:
            _, future = self._waiting.pop(0)
            if not future.done():
                future.set_result(None)
                return


def _late() -> Expired:
    return Expired(Reason.DEADLINE, "the deadline passed in the queue", retry_after_ms=None)


def _key(entry: tuple[_Key, asyncio.Future[None]]) -> _Key:
    return entry[0]
