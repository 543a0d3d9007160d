"""Requests on their way to a node, by whatever protocol they came: how many may be under way, and what is counted."""

from __future__ import annotations

import asyncio
from typing import Any

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.body import MIB
from nearhall.gateway.exchange import EXTENSION, ClientGoneError, Exchange
from nearhall.gateway.http.connection import GONE
from nearhall.gateway.nodes.fleet import Fleet
from nearhall.gateway.nodes.metrics import FrontStats
from nearhall.gateway.nodes.passing import Job, Passing
from nearhall.gateway.nodes.settings import FrontLimits
from nearhall.policy.storm import Budget, delay_s
from nearhall.ports.clock import Clock

TOLD_S = 0.002
"""A refusal that is kept back is told this long before its deadline."""
_FOR_WANT_OF_ROOM = frozenset({Reason.QUEUE_FULL, Reason.DEADLINE, Reason.NODES_AWAY})
_ROOM_STATUSES = frozenset({429, 503})


class Relay:
    """Has nodes answer."""

    def __init__(self, fleet: Fleet, *, limits: FrontLimits, clock: Clock, stats: FrontStats) -> None:
        self.fleet = fleet
        self.limits = limits
        self.clock = clock
        self.stats = stats
        self.draining = False
        """Set when the front is being stopped."""
        self._budget = Budget()
        self._held = 0
        """Bytes of all bodies under way."""

    def check_open(self) -> None:
        """Raises Refusal(DRAINING) while the front is being stopped."""
        if self.draining:
            raise Refusal(Reason.DRAINING, "this front is being stopped", retry_after_ms=1000)

    async def answer(self, job: Job, *, beside: int = 0) -> None:
        """Has a node answer; counted. Raises Refusal, or ClientGoneError.

        `beside`: bytes that the request takes here beside its body.
        """
        held = len(job.body) + beside
        if self._held + held > self.limits.held_mib * MIB:
            text = "the requests under way hold all the memory that they may; come back"
            raise Refusal(Reason.QUEUE_FULL, text, retry_after_ms=1000)
        exchange = job.exchange
        passing = Passing(self.fleet, job, self.clock, self.limits)
        notes = _notes(exchange)
        notes[GONE] = passing.client_gone
        self._held += held
        try:
            if exchange.gone():
                raise ClientGoneError
            answer = await passing.first()
            if answer.status in _ROOM_STATUSES:
                await self._hold_back(exchange, job.due_s)
            whole = await passing.deliver(answer)
        finally:
            self._held -= held
            notes.pop(GONE, None)
            passing.close()
        if whole and answer.status < 400:
            self.stats.latency.add(exchange.elapsed_ms())

    async def hold_back(self, exchange: Exchange, refusal: Refusal) -> None:
        """The same for a refusal of the front's own, where it is for want of room."""
        if refusal.reason in _FOR_WANT_OF_ROOM:
            stated_ms = exchange.ask.deadline_ms
            await self._hold_back(exchange, float("inf") if stated_ms is None else exchange.first_byte_s + stated_ms / 1e3)

    async def _hold_back(self, exchange: Exchange, due_s: float) -> None:
        """Lets a client that comes again at once after a refusal wait for the next one, within its deadline (`policy.storm`)."""
        now_s = self.clock.monotonic()
        wait_s, self._budget = delay_s(self._budget, now_s=now_s, since_refusal_s=exchange.since_refusal_s())
        wait_s = min(wait_s, max(0.0, due_s - now_s - TOLD_S))
        exchange.refused_in(wait_s)
        if wait_s:
            await asyncio.sleep(wait_s)


def _notes(exchange: Exchange) -> dict[str, Any]:
    """What lives as long as the client's connection."""
    extensions: dict[str, Any] = exchange.scope.get("extensions") or {}
    own: dict[str, Any] = extensions.get(EXTENSION) or {}
    return own.get("connection", {})
