"""Tensor requests over HTTP by the shortest way: judged by their head, run and answered without a task or a message between.

What a request costs beside its model is Python, and cold Python at that: each call less counts. Whatever is out of the ordinary
goes the way of every other request (`gateway.app`), with what is known of it so far.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.body import Body, check_json
from nearhall.gateway.exchange import ClientGoneError, Exchange, Header, Scope
from nearhall.gateway.http.app import FOR_WANT_OF_ROOM, App
from nearhall.gateway.http.connection import Turn, Turned
from nearhall.gateway.http.heads import Head, Heads
from nearhall.gateway.http.infer import giver, hopeless, tensors_of, written
from nearhall.gateway.http.pack import wanted
from nearhall.gateway.models.variants import Tensors
from nearhall.gateway.plane import Call, Lost, Plane, count, decide, refused
from nearhall.gateway.queues.lanes import Done, Outcome, RuntimeBrokenError
from nearhall.gateway.tensors import account, answered, broken, failed, job_of, learn, quick, run_at_once, said, told, understood
from nearhall.policy.route import Refuse, ServeLocal
from nearhall.wire.oip import decode_request
from nearhall.wire.oip_tensors import InferRequest

log = logging.getLogger("nearhall.gateway")

AWAY_S = 0.001
"""For so long a refusal holds for all who ask the same: a lane does not get on by more meanwhile, and judging each one anew took
the event loop's time from those who were accepted."""
AWAY_MAX = 256
_CONTENT_LENGTH = b"content-length"


@dataclass(frozen=True, slots=True)
class _Away:
    """A refusal that holds for a moment."""

    turned: Turned
    workload: str
    reason: Reason
    until_s: float


class Direct:
    """What the server of the service port asks before it asks the application."""

    def __init__(self, app: App, plane: Plane) -> None:
        self._app = app
        self._plane = plane
        self._heads = Heads(plane.workloads)
        self._away: dict[tuple[Head, bytes], _Away] = {}

    def turn_away(self, scope: Scope) -> Turned | None:
        """The refusal of a tensor request whose head says already that it cannot be answered in time; None: let it come.

        Under overload most requests are refused, and what that costs is taken from those that are not: here nothing is read,
        parsed or copied of them, and no task is made. What is refused holds for a moment for all who ask the same.
        """
        head: Head | None = scope.get("head") or self._heads.read(scope)  # known already where the client says the same again
        if head is None:
            return None
        scope["head"] = head
        ask = head.ask
        if ask.deadline_ms is None or ask.head_bytes is None:
            return None
        length = next((value for name, value in scope["headers"] if name == _CONTENT_LENGTH), b"")
        known = self._away.get((head, length))
        if known is not None and self._plane.clock.monotonic() < known.until_s:
            self._plane.stats.decided(known.workload, known.reason)
            self._plane.stats.refused(known.workload, known.reason)
            return replace(known.turned, delay_s=self._kept_back_s(Exchange(scope, _never, _never, self._plane.clock), head))
        found = self._judged(scope, head, length)
        if found is None:
            return None
        if len(self._away) >= AWAY_MAX:
            self._away.clear()
        self._away[head, length] = found
        return found.turned

    def _judged(self, scope: Scope, head: Head, length: bytes) -> _Away | None:
        """What the head alone decides; raises nothing."""
        plane = self._plane
        if not length.isdigit() or head.ask.head_bytes is None:
            return None
        exchange = _exchange(scope, _never, _never, plane, head)
        try:
            hopeless(plane, exchange, head, int(length) - head.ask.head_bytes)
        except Refusal as refusal:
            if refusal.reason not in FOR_WANT_OF_ROOM:
                return None  # it will be found again, with the body read
            status, headers, body, wait_s = self._app.refused(exchange, refusal)
            turned = Turned.put_together(status, headers, body, delay_s=wait_s)
            return _Away(turned, exchange.workload, refusal.reason, plane.clock.monotonic() + AWAY_S)
        return None

    def _kept_back_s(self, exchange: Exchange, head: Head) -> float:
        return self._app.kept_back_s(exchange, front=head.from_front and self._app.believed(exchange))

    def take(self, turns: Sequence[Turn]) -> list[Turn]:
        """Begins to answer requests that have come whole; returns those that are not for here, untouched."""
        return [turn for turn in turns if not self._took(turn)]

    def _took(self, turn: Turn) -> bool:
        head: Head | None = turn.scope.get("head")
        if head is None:
            return False
        plane = self._plane
        exchange = _exchange(turn.scope, turn.receive, turn.send, plane, head)
        if exchange.connections > plane.limits.connections:
            return False
        plane.stats.in_flight += 1
        errand = _Errand(self._app, turn, exchange)
        try:
            errand.begin(plane, head)
        except Exception as error:  # the net of `App.settle` says and counts it
            errand.fail(error)
        return True


class _Errand:
    """One request on its way."""

    __slots__ = ("_app", "_call", "_exchange", "_reason", "_request", "_turn")

    _call: Call
    _request: InferRequest
    _reason: Reason

    def __init__(self, app: App, turn: Turn, exchange: Exchange) -> None:
        self._app = app
        self._turn = turn
        self._exchange = exchange

    def begin(self, plane: Plane, head: Head) -> None:
        """Runs the model at once, or queues for it; raises what a request may end with."""
        exchange = self._exchange
        if exchange.gone():
            raise ClientGoneError
        model = tensors_of(plane, head.name, head.version)
        raw = self._turn.take()
        check_json(plane.limits, len(raw) if head.ask.head_bytes is None else head.ask.head_bytes)
        request = self._request = decode_request(raw, head.ask.head_bytes, plane.numbers)
        call = self._call = Call(plane, exchange, head.rules, head.name, model, Body(raw, raw))
        understood(call, request)
        decision = decide(call, Lost())
        served = None if call.variant is None else call.variant.served
        if isinstance(decision, Refuse):
            failed(call)
            raise refused(call, decision)
        if not isinstance(decision, ServeLocal) or not isinstance(served, Tensors):
            return self._go_on(Lost())
        self._reason = decision.reason
        count(call, decision)
        try:
            job = job_of(call, request, served)
            if not quick(call, job, served):
                return served.lane.hand(job, self._told)
            done = run_at_once(call, job, served)
        except RuntimeBrokenError as error:
            return self._broken(error)
        except Refusal:
            failed(call)
            raise
        return self._give(done)

    def fail(self, error: BaseException) -> None:
        """Ends the request with an error; raises nothing, for others of its turn come after it."""
        if isinstance(error, Refusal) and error.reason in FOR_WANT_OF_ROOM and not self._exchange.started:
            try:
                return self._refuse(error)
            except Exception:  # a fault of ours, which the long way tells
                log.exception("a refusal could not be told")
        return self._leave(_raised(error))

    def _refuse(self, refusal: Refusal) -> None:
        status, headers, body, wait_s = self._app.refused(self._exchange, refusal)
        if wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._say, status, headers, body)
        else:
            self._say(status, headers, body)

    def _say(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Writes a refusal."""
        self._turn.respond(status, headers, body)
        self._app.done(self._exchange)
        self._exchange.depart()

    def _told(self, outcome: Outcome) -> None:
        """What came of the job; raises nothing, for others of its batch are told after it."""
        try:
            if isinstance(outcome, Done):
                return self._give(outcome)
            if isinstance(outcome, RuntimeBrokenError):
                return self._broken(outcome)
            if isinstance(outcome, Refusal):
                failed(self._call)
            self.fail(outcome)
        except Exception as error:  # the same net
            self.fail(error)

    def _give(self, done: Done) -> None:
        """Writes the answer, and accounts for it once it has left."""
        call, exchange, request = self._call, self._exchange, self._request
        if exchange.gone():
            raise ClientGoneError
        try:
            body, more = written(call, request, done)
        except Refusal:
            failed(call)
            raise
        if wanted(exchange.headers, len(body)) is not None:
            return self._leave(told(call, request, done, self._reason, giver(call, request)))
        learn(call)
        exchange.started = exchange.ended = True
        self._turn.respond(200, [*said(call, self._reason, done), *more], body)
        if not exchange.sent:
            return self._leave(self._accounted(done))
        account(call, done, request)
        self._app.done(exchange)
        return exchange.depart()

    async def _accounted(self, done: Done) -> None:
        await self._exchange.until_sent()
        account(self._call, done, self._request)

    def _broken(self, error: RuntimeBrokenError) -> None:
        lost = Lost()
        try:
            broken(self._call, lost, error)
        except Refusal:
            failed(self._call)
            raise
        self._go_on(lost)

    def _go_on(self, lost: Lost) -> None:
        """Lets it be answered the long way."""
        call, request = self._call, self._request
        self._leave(answered(call, request, giver(call, request), lost))

    def _leave(self, answering: Any) -> None:
        """Hands over to a task."""
        self._exchange.depart(self._app.settle(self._exchange, answering), self._turn)


async def _raised(error: BaseException) -> None:
    try:
        raise error
    finally:
        del error  # or it and this frame would hold each other, and the request's body, until the next look for garbage


def _exchange(scope: Scope, receive: Any, send: Any, plane: Plane, head: Head) -> Exchange:
    exchange = Exchange(scope, receive, send, plane.clock)
    exchange.ask = head.ask
    exchange.workload = head.rules.workload
    return exchange


async def _never(*_: object) -> Any:
    raise AssertionError  # a request that is judged by its head alone neither reads nor writes
