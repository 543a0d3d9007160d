"""One request on its way through the front: to a node, to another one where the first is silent or lost, back to the client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from nearhall.core.errors import Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.gateway.exchange import ClientGoneError, Exchange, Expired, Header
from nearhall.gateway.nodes.fleet import Fleet, Node
from nearhall.gateway.nodes.settings import FrontLimits
from nearhall.policy.able import PLAIN, Needs
from nearhall.policy.admit import size_class
from nearhall.policy.spread import MARGIN_MS, SIGN_MS, RefuseAll, SendTo, Standing, choose, first_look_ms, move_in_ms
from nearhall.ports.clock import Clock
from nearhall.ports.node import NodeAnswer, NodeAsk, NodeLostError, Pieces, Sending
from nearhall.wire import headers as names
from nearhall.wire.openai import error_event

TRIES_MAX = 3
"""Nodes that one request may be given to: a request that brings nodes down is not carried from one to the next."""
MARGIN_SHARE = 0.15
"""Of a deadline of a few milliseconds, for the answer's way to the client."""
DEADLINE_MS_MIN = 0.5
"""Handed on where less is left: the node refuses it then itself."""
STALL_S = 0.002
"""A look that is later than this says that the front, or all of the machine, was held up."""
LOOK_S = 0.5
"""Between looks at the node of a stream that is quiet: a dropped connection ends it at once, a frozen node when it is away."""
AGAIN_S = 0.1
"""Between looks for another node where there was none: one that is away may come back."""
FETCH_S = 0.5
"""For a small GET at one node: it takes a millisecond."""
ELSEWHERE = frozenset(
    reason.value.encode()
    for reason in (
        Reason.DEADLINE,
        Reason.QUEUE_FULL,
        Reason.DRAINING,
        Reason.RESTARTING,
        Reason.MODEL_NOT_READY,
        Reason.MODEL_UNKNOWN,
        Reason.HUB_UNREACHABLE,
        Reason.RESIDENCY,
    )
)
"""Refusals that another node may not share. A fault while it ran (`runtime_failed`) is not carried on."""
_SAYS: dict[Reason, str] = {
    Reason.MODEL_UNKNOWN: "model {model!r} is at none of the nodes; GET /v1/models or POST /v2/repository/index lists what is",
    Reason.MODEL_NOT_READY: "model {model!r} is ready at no node",
    Reason.NODES_AWAY: "no node that answers has model {model!r}; others are away",
    Reason.DRAINING: "the nodes with model {model!r} are being stopped",
}
_STANDS = {
    Reason.NODES_AWAY: "which is away or did not answer",
    Reason.MODEL_NOT_READY: "which is not ready for it",
    Reason.DRAINING: "which is being stopped",
}
"""How it is with the nodes that could do what a request asks for."""
_OWN = frozenset(
    {
        b"host",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"te",
        b"trailer",
        b"upgrade",
        b"expect",
        b"content-length",
        names.DEADLINE,
        names.TOTAL_DEADLINE,
        names.PEER,
        names.PEER_URI,
        names.FRONT,
    }
)
"""Headers of a request that do not go on as they are."""
_LENGTH = b"content-length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request, as far as the front understands it."""

    exchange: Exchange
    model: str
    version: str | None
    body: bytes
    due_s: float
    """When it must be answered, monotonic seconds; of a stream: its first part."""
    first_s: float = inf
    """When the first token is due where the answer comes whole after it: counts once the node is away."""
    deadline_ms: float | None
    """The client's own deadline, from the first byte on; None where only the front's own limit holds."""
    chat: bool
    """Of a language model: at one node at a time, and moved only before its first token."""
    repeatable: bool
    """Whether two nodes may have it at the same time."""
    sticky: bool = False
    needs: Needs = PLAIN
    """What only some of the nodes may be able to do, as far as that was read."""
    wish: str = ""
    """The first thing of it in words."""


def job_headers(exchange: Exchange) -> list[Header]:
    """The client's headers that go on."""
    return [header for header in exchange.headers if header[0] not in _OWN]


class _Attempt:
    """A request at one node."""

    __slots__ = ("_ended", "_ticket", "asked_s", "expected_ms", "node", "passing", "sending", "sent_s")

    def __init__(self, passing: Passing, node: Node, expected_ms: float) -> None:
        self.passing = passing
        self.node = node
        self.expected_ms = expected_ms
        self.sent_s = passing.clock.monotonic()
        self.asked_s = -inf
        """When its node was asked for a sign of life."""
        self._ended = False
        self.sending: Sending = node.link.send(passing.ask_of(node), self._told)  # first: the node works while the rest is done
        job, turn = passing.job, passing.fleet.next_turn()
        self._ticket = node.sent(job.model, passing.size, expected_ms, turn=turn, needs=job.needs)
        node.on_away.add(passing.wake)

    def _told(self, outcome: NodeAnswer | NodeLostError) -> None:
        self.passing.outcomes.append((self, outcome))
        self.passing.wake()

    def end(self) -> None:
        """Books its end, once; what still goes on is given up."""
        if not self._ended:
            self._ended = True
            self.node.ended(self._ticket)
            self.sending.cancel()


class Passing:
    """Passes one request on."""

    def __init__(self, fleet: Fleet, job: Job, clock: Clock, limits: FrontLimits) -> None:
        self.fleet = fleet
        self.job = job
        self.clock = clock
        self.outcomes: deque[tuple[_Attempt, NodeAnswer | NodeLostError]] = deque()
        self.size = size_class(len(job.body))
        self._served: _Attempt | None = None
        self._came: tuple[_Attempt, int, float] | None = None
        """Whose answer has come, its status, and when (a stream's head): booked once the client has it, or has left."""
        self._limits = limits
        self._headers = job_headers(job.exchange)
        self._target = _target(job.exchange)
        self._running: list[_Attempt] = []
        self._tried: set[str] = set()
        self._gone = False
        self._margin_ms = min(MARGIN_MS, MARGIN_SHARE * (job.due_s - job.exchange.first_byte_s) * 1e3)
        self._due_s = job.due_s - self._margin_ms / 1e3
        self._look_s = inf
        self._waiting: asyncio.Future[None] | None = None

    async def first(self) -> NodeAnswer:
        """A node's answer: whole, or the head of a stream; raises Refusal, or ClientGoneError."""
        if self.clock.monotonic() >= self._due_s:
            raise Expired(Reason.DEADLINE, "the deadline passed before the request was read", retry_after_ms=None)
        choice = self._choice()
        if isinstance(choice, RefuseAll):
            raise self._nobody(choice)
        self._begin(choice)
        while True:
            await self._wait()
            if self._gone:
                raise ClientGoneError
            while self.outcomes:
                attempt, outcome = self.outcomes.popleft()
                if isinstance(outcome, NodeLostError):
                    self._after_loss(attempt, outcome)
                elif not self._goes_elsewhere(attempt, outcome):
                    self._keep_only(attempt, outcome)
                    return outcome
            if self.clock.monotonic() >= self._due_s:
                raise self._too_late()
            self._look_after(self._running[0])

    async def deliver(self, answer: NodeAnswer) -> bool:
        """Sends the answer to the client, and says whether all of it came; raises ClientGoneError."""
        if isinstance(answer.body, bytes):
            headers = [header for header in answer.headers if header[0] != _LENGTH]
            await self.job.exchange.reply(answer.status, headers, answer.body)
        elif self._served is not None:
            return await self._stream(self._served, answer, answer.body)
        return True

    def close(self) -> None:
        """Books what is not booked yet, and gives up what is still under way."""
        if self._came is not None:
            self._book(*self._came)
        for left in self._running:
            left.end()
            left.node.on_away.discard(self.wake)
        for _, outcome in self.outcomes:  # of the second of two nodes, in the same turn
            _give_up(outcome)

    def client_gone(self) -> None:
        """The client has closed its connection."""
        self._gone = True
        self.wake()

    def wake(self) -> None:
        """Something has happened."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def ask_of(self, node: Node) -> NodeAsk:
        """The request as it goes to a node: deadlines are what is left of them, less the way back."""
        job, ask = self.job, self.job.exchange.ask
        spent_ms = job.exchange.elapsed_ms() + node.rtt_ms
        headers = [*self._headers, (names.FRONT, b"1")]
        if job.deadline_ms is not None:
            headers.append((names.DEADLINE, b"%.3f" % max(DEADLINE_MS_MIN, job.deadline_ms - spent_ms)))
        if ask.total_deadline_ms is not None:
            headers.append((names.TOTAL_DEADLINE, b"%.3f" % max(DEADLINE_MS_MIN, ask.total_deadline_ms - spent_ms)))
        return NodeAsk(job.exchange.method, self._target, headers, job.body, repeatable=job.repeatable)

    async def _wait(self) -> None:
        """Until something happens, a look is due, or the deadline."""
        if self.outcomes or self._gone:
            return
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        after_s = min(self._look_s, self._due_s) - self.clock.monotonic()
        timer = loop.call_later(max(0.0, after_s), self.wake)
        try:
            await self._waiting
        finally:
            timer.cancel()
            self._waiting = None

    def _begin(self, choice: tuple[Node, float]) -> None:
        node, expected_ms = choice
        self._tried.add(node.name)
        self._running.append(_Attempt(self, node, expected_ms))
        if self.job.repeatable and len(self.fleet.nodes) > 1:
            now = self.clock.monotonic()
            self._look_s = now + first_look_ms(expected=expected_ms, left_ms=self._left_ms()) / 1e3

    def _left_ms(self) -> float:
        return (self._due_s - self.clock.monotonic()) * 1e3 + self._margin_ms

    def _choice(self) -> tuple[Node, float] | RefuseAll:
        job, nodes, tried = self.job, self.fleet.nodes, self._tried
        seen = [node.seen(job.model, job.version, self.size, job.needs, tried=node.name in tried) for node in nodes]
        for node, each in zip(nodes, seen, strict=True):
            if each.overdue_ms and not each.tried:
                node.wants_a_sign()
        chosen = choose(seen, self._left_ms(), sticky=job.sticky)
        return (nodes[chosen.index], chosen.expected_ms) if isinstance(chosen, SendTo) else chosen

    def _another(self) -> tuple[Node, float] | RefuseAll:
        if len(self._tried) >= TRIES_MAX:
            return RefuseAll(Reason.NODES_AWAY, 1000)
        return self._choice()

    def _end(self, attempt: _Attempt) -> None:
        attempt.end()
        self._running.remove(attempt)
        if all(left.node is not attempt.node for left in self._running):
            attempt.node.on_away.discard(self.wake)

    def _after_loss(self, attempt: _Attempt, error: NodeLostError) -> None:
        """A node has dropped the request: on to another one, where that is allowed; raises Refusal."""
        self._end(attempt)
        node = attempt.node
        if not error.busy:
            node.lost(str(error), reached=error.sent)
        if self._running:
            return
        if error.sent and not (self.job.repeatable or self.job.chat):
            node.counts.lost += 1
            text = f"node {node.name} was lost while it worked on the request, which may not be repeated"
            raise Refusal(Reason.NODES_AWAY, text)
        another = self._another()
        if isinstance(another, RefuseAll):
            node.counts.lost += 1
            if error.busy:
                raise self._nobody(RefuseAll(Reason.QUEUE_FULL, 1000))
            raise self._nobody(another, after=f"node {node.name} was lost with the request ({error}), and ")
        node.counts.moved += 1
        self._begin(another)

    def _goes_elsewhere(self, attempt: _Attempt, answer: NodeAnswer) -> bool:
        """Whether a refusal is not the last word: another node is asked, where one can still make it."""
        if answer.status < 400:
            return False
        reason = next((value for name, value in answer.headers if name == names.REASON), b"")
        if reason == Reason.DRAINING.value.encode():
            attempt.node.drains()
        if reason not in ELSEWHERE or answer.status == 504:
            return False
        if len(self._running) > 1:
            self._end(attempt)
            _give_up(answer)
            return True
        another = self._another()
        if isinstance(another, RefuseAll) or self.clock.monotonic() + another[1] / 1e3 > self._due_s:
            return False
        self._end(attempt)
        _give_up(answer)
        attempt.node.counts.moved += 1
        self._begin(another)
        return True

    def _keep_only(self, attempt: _Attempt, answer: NodeAnswer) -> None:
        """Gives all other attempts up. What came is booked when it has gone on to the client: a stream may still break."""
        for other in [other for other in self._running if other is not attempt]:
            self._end(other)
        self._served = attempt
        self._came = (attempt, answer.status, self.clock.monotonic())
        if not isinstance(answer.body, bytes):
            attempt.node.answered()

    def _book(self, attempt: _Attempt, status: int, at_s: float) -> None:
        node = attempt.node
        node.answered()
        if status < 400:
            node.counts.answered += 1
            node.counts.expected.add(attempt.expected_ms)
            node.counts.finished.add((at_s - attempt.sent_s) * 1e3)
        else:
            node.counts.refused += 1

    def _look_after(self, attempt: _Attempt) -> None:
        """Gives a request of a silent node to another one."""
        planned_s, self._look_s = self._look_s, inf
        if self.job.repeatable:
            return self._hedge(attempt, planned_s)
        if attempt.node.standing is not Standing.AWAY or not self.job.chat:
            return None
        another = self._another()
        if isinstance(another, RefuseAll):
            self._due_s = min(self._due_s, self.job.first_s)
            return self._look_for_another()
        self._end(attempt)  # never two of them
        attempt.node.counts.moved += 1
        self._begin(another)
        return None

    def _hedge(self, attempt: _Attempt, planned_s: float) -> None:
        """`planned_s`: when this look was to be. A front that was held up itself cannot say that a node was silent meanwhile."""
        two = len(self._running) > 1
        if two and any(one.node.standing is not Standing.AWAY for one in self._running):
            return None
        another = self._another()
        if isinstance(another, RefuseAll):
            return self._look_for_another()
        if two:
            self._end(attempt)  # never three of them
            return self._move(attempt, another)
        now = self.clock.monotonic()
        held_up = now - planned_s > STALL_S and self._left_ms() > another[1] + MARGIN_MS + SIGN_MS
        in_ms = move_in_ms(
            silent_ms=attempt.node.silent_ms(attempt.sent_s),
            expected=attempt.expected_ms,
            left_ms=self._left_ms(),
            other_ms=another[1],
        )
        if in_ms is None:
            return None
        if in_ms > SIGN_MS:
            self._look_s = now + (in_ms - SIGN_MS) / 1e3
            return None
        if held_up or attempt.asked_s <= attempt.node.link.heard_s:  # nothing was asked of it since it was heard last
            attempt.asked_s = now
            attempt.node.wants_a_sign()
            in_ms = max(in_ms, SIGN_MS)
        if in_ms > 0:
            self._look_s = now + in_ms / 1e3
            return None
        return self._move(attempt, another)

    def _move(self, attempt: _Attempt, another: tuple[Node, float]) -> None:
        """Has another node answer it; two of them are not looked after as long as one of them is there."""
        attempt.node.counts.moved += 1
        self._begin(another)
        self._look_s = inf

    def _look_for_another(self) -> None:
        """Looks again soon, where a node is left that might take it."""
        if len(self._tried) < min(TRIES_MAX, len(self.fleet.nodes)):
            self._look_s = self.clock.monotonic() + AGAIN_S

    async def _stream(self, attempt: _Attempt, answer: NodeAnswer, pieces: Pieces) -> bool:
        """Passes a stream on as it comes. One that breaks off after its head is never begun anew: it ends with an error event."""
        exchange = self.job.exchange
        events = any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in answer.headers)
        try:
            await exchange.head(answer.status, [header for header in answer.headers if header[0] != _LENGTH])
            while (piece := await self._piece(attempt, pieces)) is not None:
                await exchange.part(piece)
            await exchange.part(b"", more=False)
        except TemporaryError as error:
            self._came = None  # lost, and not answered as well
            attempt.node.counts.lost += 1
            if events:
                await exchange.part(error_event(f"node {attempt.node.name}: {error}", Reason.NODES_AWAY), more=False)
            else:
                exchange.abort()
            return False
        finally:
            pieces.close()
        return True

    async def _piece(self, attempt: _Attempt, pieces: Pieces) -> bytes | None:
        total = self.job.exchange.ask.total_deadline_ms
        begun = self.clock.monotonic()
        end_s = begun + self._limits.quiet_s
        if total is not None:
            end_s = min(end_s, self.job.exchange.first_byte_s + total / 1e3)
        while True:
            now = self.clock.monotonic()
            if now >= end_s:
                raise TemporaryError("it did not go on with its answer")
            if attempt.node.standing is Standing.AWAY and now - begun > LOOK_S:
                raise TemporaryError("it does not answer")
            if self._gone:
                raise ClientGoneError
            try:
                async with asyncio.timeout(min(LOOK_S, end_s - now)):
                    return await pieces.next()
            except TimeoutError:
                continue

    def _nobody(self, choice: RefuseAll, *, after: str = "") -> Refusal:
        told = (
            "no other node that answers can take it" if after and choice.reason is Reason.NODES_AWAY else _SAYS.get(choice.reason)
        )
        model = self.job.model[:64]
        if choice.reason is Reason.MODEL_UNKNOWN and self.job.version and any(n.model(self.job.model) for n in self.fleet.nodes):
            told = "no node serves version {version!r} of model {model!r}"
        said = told or "no node can take the request for model {model!r}"
        text = after + said.format(model=model, version=(self.job.version or "")[:64])
        if self.job.wish and choice.reason in _STANDS:
            able = ", ".join(node.name for node in self.fleet.able(self.job.model, self.job.needs))
            only = f"only {able} could, {_STANDS[choice.reason]}" if able else "no node that answers could, and others are away"
            text = f"{after}model {self.job.model[:64]!r} cannot answer this now: {only}; elsewhere: {self.job.wish}"
        return Refusal(choice.reason, text, retry_after_ms=choice.retry_after_ms)

    def _too_late(self) -> Refusal:
        for attempt in self._running:
            attempt.node.counts.lost += 1
        nodes = " and ".join(attempt.node.name for attempt in self._running)
        whose = "the front's own limit for requests without a deadline" if self.job.deadline_ms is None else "the deadline"
        return Expired(Reason.DEADLINE, f"{whose} passed before {nodes} had answered", retry_after_ms=None)


def _target(exchange: Exchange) -> bytes:
    path: bytes = exchange.scope.get("raw_path") or exchange.path.encode()
    query: bytes = exchange.scope.get("query_string", b"")
    return b"%s?%s" % (path, query) if query else path


def _give_up(outcome: NodeAnswer | NodeLostError) -> None:
    """Lets go of an answer that nobody wants: one that comes piece by piece would hold its connection."""
    if isinstance(outcome, NodeAnswer) and not isinstance(outcome.body, bytes):
        outcome.body.close()


async def fetch(nodes: Sequence[Node], target: bytes, *, seconds: float) -> NodeAnswer | None:
    """A small GET of the first of these nodes that answers; None when none does within `seconds`, all together."""
    end_s = asyncio.get_running_loop().time() + seconds
    for node in nodes:
        left_s = end_s - asyncio.get_running_loop().time()
        if left_s <= 0:
            return None
        answer: asyncio.Future[NodeAnswer | NodeLostError] = asyncio.get_running_loop().create_future()
        sending = node.link.send(NodeAsk("GET", target, (), b"", repeatable=True), answer.set_result)
        try:
            async with asyncio.timeout(min(FETCH_S, left_s)):
                outcome = await answer
        except TimeoutError:
            continue
        finally:
            sending.cancel()
        if isinstance(outcome, NodeAnswer) and isinstance(outcome.body, bytes):
            return outcome
        _give_up(outcome)
    return None
