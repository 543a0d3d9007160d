"""The nodes behind a front: what each reported last, what the front has under way there, and how far it is trusted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

from msgspec.structs import replace

from nearhall.core.errors import TemporaryError
from nearhall.core.histogram import Histogram
from nearhall.policy.able import PLAIN, Able, By, Needs, answered_by
from nearhall.policy.spread import REPORT_GRACE_MS, Seen, Standing, allowed_silence_ms
from nearhall.ports.clock import Clock
from nearhall.ports.node import NodeAnswer, NodeAsk, NodeLink, NodeLostError
from nearhall.wire.load import PATH, ModelLoad, NodeLoad, decode_load

log = logging.getLogger("nearhall.front")

BUSY_S = 0.05
"""Between two reports of a node that was sent something within the last second: an estimate ages quickly under load."""
IDLE_S = 0.25
"""The same for a node that was sent nothing: a quarter of a percent of a core."""
PAUSE_S = 0.002
"""The least between two reports that are asked for out of turn."""
AWAY_S = 0.2
"""Between two attempts to reach a node that is away."""
SILENT_S = 0.4
"""A node of which nothing has been heard for so long while its report is due is away."""
AWAY_ANSWER_S = 1.0
"""How long one that is away may take to answer before it is asked on a new connection: a frozen node that goes on answers the old
question at once, one whose host has come back only a new one."""
REPORT_S_MAX = 5.0
"""A node that answers requests, but for so long no report, is away as well: its figures would be of no time that is known."""
PROOF = 3
"""Reports in a row that end a trial where no request does."""
RTT_SHARE = 0.05
"""Of a newly measured round trip in the one that is reckoned with, where it is longer: a shorter one counts at once, since what
makes a round trip longer is mostly chance."""
OFTEN_S = 1.0
"""A node that was sent something within it is asked for its load often."""
SAID_MAX = 8
"""Reasons that are logged of one absence."""
UNUSED_MS_MAX = 3_600_000.0
"""A node that was not used for an hour is as untested as one that never was."""


@dataclass(slots=True)
class Counts:
    """What one node has been given and gave back, since the front started."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    """Answers that were refusals or errors."""
    moved: int = 0
    """Requests that were given to another node because this one was silent, lost or refused."""
    lost: int = 0
    """Requests that ended because the node dropped them or did not answer in time."""
    expected: Histogram = field(default_factory=Histogram)
    finished: Histogram = field(default_factory=Histogram)
    """What answered requests were expected to take there, and what they took, milliseconds (streams: to their first part)."""


@dataclass(slots=True)
class _Book:
    """One model at one node: the last report's line, and what the front has sent since."""

    load: ModelLoad
    epochs: dict[int, tuple[int, float]] = field(default_factory=dict[int, tuple[int, float]])
    """Unanswered requests and their milliseconds, by the number of the report that was asked for last when they were sent."""

    def since(self, epoch: int) -> tuple[int, float]:
        """Unanswered requests that were sent after report `epoch` was asked for, and their milliseconds."""
        count, ms = 0, 0.0
        for number, (more, more_ms) in self.epochs.items():
            if number >= epoch:
                count, ms = count + more, ms + more_ms
        return count, ms

    def book(self, epoch: int, count: int, ms: float) -> None:
        """One more, or one less."""
        before, before_ms = self.epochs.get(epoch, (0, 0.0))
        if before + count <= 0:
            self.epochs.pop(epoch, None)
        else:
            self.epochs[epoch] = (before + count, before_ms + ms)

    def own_ms(self, size: int) -> float:
        """The service estimate for an input of this class, or of the nearest that was seen."""
        known = self.load.own_by_size_ms
        if not known:
            return self.load.own_ms
        return known[size] if size in known else known[min(known, key=lambda one: (abs(one - size), one))]

    def hold_ms(self, own_ms: float) -> float:
        """For how long a request keeps others waiting."""
        return self.load.hold_ms if self.load.chat else own_ms


@dataclass(frozen=True, slots=True)
class Ticket:
    """A booked request."""

    epoch: int
    hold_ms: float
    book: _Book | None
    """None: the model was not in the node's last report."""


_UNKNOWN = ModelLoad(name="")
_NO_LOAD = "set load_report there, or name a gateway if it is none"


def able_of(line: ModelLoad) -> Able:
    """What a node can do for a model, by its report."""
    engine = line.engine
    return Able(tokens=line.tokens_max, engine=engine is not None, engine_tokens=None if engine is None else engine.tokens_max)


class Node:
    """One node. Only the event loop touches it."""

    def __init__(self, name: str, url: str, link: NodeLink, clock: Clock) -> None:
        self.name = name
        self.url = url
        self.link = link
        self.counts = Counts()
        self.standing = Standing.AWAY
        self.detail = "it has not been asked yet"
        """Why it is away."""
        self.load: NodeLoad | None = None
        self.rtt_ms = 0.0
        self.last_turn = 0
        self.in_flight = 0
        self._clock = clock
        self._books: dict[str, _Book] = {}
        self._engines: dict[str, _Book] = {}
        """Of another engine that does not stand for its model itself: it has a queue of its own."""
        self._epoch = 0
        self._reported_epoch = 0
        self._reported_s = 0.0
        self._first_unheard_s = 0.0
        self._due_s = inf
        self._last_allowed_s = 0.0
        self._asked = False
        self._asked_s = 0.0
        self._proofs = 0
        self._sent_s = -inf
        self._wake = asyncio.Event()
        self._said: set[str] = set()
        """Why it is away, as far as the log has it: whoever mends one thing learns of the next."""
        self.on_away: set[Callable[[], None]] = set()
        """Told when the node goes away: those that wait for it."""
        self.twin_of: Callable[[Node, str], Node | None] = lambda _node, _gateway_id: None
        """Another node that is the gateway of this id, and not away."""
        self.reported = asyncio.Event()
        """Set by the first report, or the first failure to get one."""

    def seen(self, model: str, version: str | None, size: int, needs: Needs = PLAIN, *, tried: bool = False) -> Seen:
        """For the policy: what is known of it for a request to one model, whose input is of this size (`size_class`)."""
        book = self._books.get(model)
        load = _UNKNOWN if book is None else book.load
        known = book is not None and load.name == model and version in {None, load.version}
        by = By.ANY
        if needs is not PLAIN and book is not None:
            by = answered_by(needs, able_of(load))
            book = self._book(model, needs) or book
            load = book.load
        sent, sent_ms = (0, 0.0) if book is None else book.since(self._reported_epoch)
        now = self._clock.monotonic()
        return Seen(
            standing=self.standing,
            draining=self.load is not None and self.load.draining,
            known=known,
            by=by,
            tried=tried,
            ready=load.ready or load.loadable,
            backlog_ms=load.backlog_ms,
            own_ms=0.0 if book is None else book.own_ms(size),
            slots=load.slots,
            free=load.free,
            report_age_ms=(now - self._reported_s) * 1e3,
            rtt_ms=self.rtt_ms,
            sent_since=sent,
            sent_since_ms=sent_ms,
            in_flight=self.in_flight,
            overdue_ms=self.overdue_ms(now),
            unused_ms=min((now - self._sent_s) * 1e3, UNUSED_MS_MAX),
            last_turn=self.last_turn,
        )

    def model(self, name: str) -> ModelLoad | None:
        """The last report's line of a model."""
        book = self._books.get(name)
        return None if book is None or not book.load.name else book.load

    def overdue_ms(self, now_s: float) -> float:
        """For how long it has been silent beyond what is allowed while something is due from it."""
        if self.in_flight == 0 and not self._asked:
            return 0.0
        heard = self.link.heard_s
        due = self._due_s if self._first_unheard_s > heard else heard + self._last_allowed_s
        return max(0.0, (now_s - due) * 1e3)

    def silent_ms(self, since_s: float) -> float:
        """How long ago it was last heard, or `since_s` if that is later."""
        return (self._clock.monotonic() - max(self.link.heard_s, since_s)) * 1e3

    def sent(self, model: str, size: int, expected_ms: float, *, turn: int, needs: Needs = PLAIN) -> Ticket:
        """Books a request; returns what `ended` must be given."""
        self.last_turn = turn
        self.counts.sent += 1
        self.in_flight += 1
        self._sent_s = self._clock.monotonic()
        self._expect(allowed_silence_ms(expected_ms) / 1e3)
        book = self._book(model, needs)
        ticket = Ticket(self._epoch, 0.0 if book is None else book.hold_ms(book.own_ms(size)), book)
        if book is not None:
            book.book(self._epoch, 1, ticket.hold_ms)
        return ticket

    def ended(self, ticket: Ticket) -> None:
        """Books that a request has been answered, was lost, or was given up."""
        self.in_flight -= 1
        if ticket.book is not None:
            ticket.book.book(ticket.epoch, -1, -ticket.hold_ms)

    def _book(self, model: str, needs: Needs) -> _Book | None:
        """Where such a request is booked: with the model, or with an engine that has a queue of its own."""
        book = self._books.get(model)
        if needs is PLAIN or book is None or answered_by(needs, able_of(book.load)) is not By.ENGINE:
            return book
        return self._engines.get(model, book)

    def answered(self) -> None:
        """A request was answered: a trial has been passed."""
        if self.standing is Standing.TRIAL:
            self._stands(Standing.UP, "")

    def drains(self) -> None:
        """It said so in a refusal; the next report says it again."""
        if self.load is not None and not self.load.draining:
            self.load = replace(self.load, draining=True)

    def lost(self, why: str, *, reached: bool) -> None:
        """A request was lost there. One that cannot be connected to is away; after a dropped connection its report decides."""
        if not reached:
            self._stands(Standing.AWAY, why)
        elif self.standing is Standing.UP:
            self._stands(Standing.TRIAL, why)
        self._wake.set()

    def wants_a_sign(self) -> None:
        """Asks it for its load now, if it has not just been asked: whether it answers says whether it lives."""
        if not self._asked:
            self._wake.set()

    async def watch(self) -> None:
        """Asks for its load again and again, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._ask_load()
                if not self.reported.is_set() and self.standing is not Standing.AWAY:
                    await self._ask_load()  # the first round trip made the connection: the second one tells how long it takes
            except Exception:  # the last net: a watch that ends would leave the node as it stands for ever
                log.exception("the watch of node %s", self.name)
            self.reported.set()
            self.link.tidy()
            wait_s = AWAY_S
            if self.standing is not Standing.AWAY:
                wait_s = BUSY_S if self._clock.monotonic() - self._sent_s < OFTEN_S else IDLE_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
                    # One that drops every connection is not asked without a pause, nor one that answers every question at once.
                    again_s = self._asked_s + (BUSY_S if self.standing is Standing.AWAY else PAUSE_S)
                    await asyncio.sleep(max(0.0, again_s - self._clock.monotonic()))

    async def _ask_load(self) -> None:
        answer: asyncio.Future[NodeAnswer | NodeLostError] = asyncio.get_running_loop().create_future()

        def told(outcome: NodeAnswer | NodeLostError) -> None:
            if not answer.done():
                answer.set_result(outcome)

        self._epoch += 1
        epoch, asked_s = self._epoch, self._clock.monotonic()
        self._asked_s = asked_s
        self._expect((self.rtt_ms + REPORT_GRACE_MS) / 1e3)
        ask = NodeAsk("GET", PATH.encode(), ((b"x-nearhall-front", b"1"),), b"", repeatable=True)
        sending = self.link.send(ask, told)
        self._asked = True
        try:
            outcome = await self._patiently(answer, asked_s)
        finally:
            self._asked = False
            sending.cancel()
        took_s = self._clock.monotonic() - asked_s
        if outcome is None:
            self._stands(Standing.AWAY, "it does not answer")
        elif isinstance(outcome, NodeLostError):
            self._stands(Standing.AWAY, str(outcome))
        else:
            self._take(outcome, epoch, asked_s, took_s)

    async def _patiently(
        self, answer: asyncio.Future[NodeAnswer | NodeLostError], asked_s: float
    ) -> NodeAnswer | NodeLostError | None:
        """The answer; None when the node has been silent for too long, though its other answers count as signs of life."""
        while self._clock.monotonic() - asked_s < REPORT_S_MAX:
            limit_s = AWAY_ANSWER_S if self.standing is Standing.AWAY else SILENT_S
            left_s = limit_s - (self._clock.monotonic() - max(asked_s, self.link.heard_s))
            if left_s <= 0:
                if self.standing is Standing.AWAY:
                    return None
                self._stands(Standing.AWAY, "it does not answer")
                continue
            done, _ = await asyncio.wait({answer}, timeout=left_s)
            if done:
                return answer.result()
        return None

    def _take(self, answer: NodeAnswer, epoch: int, asked_s: float, took_s: float) -> None:
        """A report has come."""
        if not isinstance(answer.body, bytes):
            answer.body.close()
        try:
            if answer.status != 200 or not isinstance(answer.body, bytes):
                raise TemporaryError(f"it answers, but tells no load (status {answer.status}): {_NO_LOAD}")
            load = decode_load(answer.body)
        except TemporaryError as error:
            return self._stands(Standing.AWAY, str(error))
        if (twin := self.twin_of(self, load.gateway_id)) is not None:
            return self._stands(Standing.AWAY, f"it is the same gateway as node {twin.name}, and stands by for that address")
        if took_s > SILENT_S:
            return self._wake.set()  # an old question was answered late: ask anew before trusting it
        self.load = load
        self._reported_epoch, self._reported_s = epoch, asked_s
        measured = took_s * 1e3
        self.rtt_ms = measured if self.rtt_ms == 0 else min(measured, self.rtt_ms + RTT_SHARE * (measured - self.rtt_ms))
        self._keep_books(load)
        if self.standing is Standing.AWAY:
            first = not self.reported.is_set()
            return self._stands(Standing.UP if first else Standing.TRIAL, "")
        self._proofs += 1
        if self.standing is Standing.TRIAL and self._proofs >= PROOF and self.in_flight == 0:
            self._stands(Standing.UP, "")
        return None

    def _keep_books(self, load: NodeLoad) -> None:
        lines = {line.name: line for line in load.models}
        for name in [name for name, book in self._books.items() if name not in lines and not book.epochs]:
            del self._books[name]
        for name, line in lines.items():
            book = self._books.get(name)
            if book is None:
                self._books[name] = _Book(line)
            else:
                book.load = line
        for name, book in self._books.items():
            if name not in lines:
                book.load = _UNKNOWN
        engines = {line.name: line.engine for line in load.models if line.engine and line.engine.variant != line.variant}
        for name in [name for name in self._engines if name not in engines]:
            del self._engines[name]
        for name, line in engines.items():
            self._engines.setdefault(name, _Book(line)).load = line

    def _expect(self, allowed_s: float) -> None:
        """Something is due from it: a sound within `allowed_s`."""
        now = self._clock.monotonic()
        if self._first_unheard_s <= self.link.heard_s:
            self._first_unheard_s, self._due_s = now, now + allowed_s
        else:
            self._due_s = min(self._due_s, now + allowed_s)
        self._last_allowed_s = allowed_s

    def _stands(self, standing: Standing, detail: str) -> None:
        if standing is self.standing:
            self.detail = detail
            if standing is Standing.AWAY and detail not in self._said and len(self._said) < SAID_MAX:
                self._said.add(detail)
                log.warning("node %s is away: %s", self.name, detail)
            return
        level = logging.WARNING if standing is Standing.AWAY else logging.INFO
        log.log(level, "node %s is %s%s", self.name, standing.value, f": {detail}" if detail else "")
        self.standing, self.detail, self._proofs = standing, detail, 0
        self._said = {detail}
        if standing is Standing.AWAY:
            for tell in list(self.on_away):
                tell()


class Fleet:
    """All nodes of a front."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self._turn = 0
        self._watching: list[asyncio.Task[None]] = []
        for node in nodes:
            node.twin_of = self._twin_of

    def start(self) -> None:
        """Begins to watch the nodes; must run inside the event loop."""
        self._watching = [asyncio.create_task(node.watch(), name=f"node-{node.name}") for node in self.nodes]

    async def until_known(self, seconds: float) -> None:
        """Until every node has reported or could not be reached, `seconds` at most."""
        waits = [asyncio.create_task(node.reported.wait()) for node in self.nodes]
        await asyncio.wait(waits, timeout=seconds)
        for wait in waits:
            wait.cancel()

    def next_turn(self) -> int:
        """A number that grows."""
        self._turn += 1
        return self._turn

    def up(self) -> Sequence[Node]:
        """Those that may be asked."""
        return [node for node in self.nodes if node.standing is not Standing.AWAY]

    def load_of(self, model: str) -> ModelLoad | None:
        """What some node says of a model, one that is not away first."""
        away: ModelLoad | None = None
        for node in self.nodes:
            load = node.model(model)
            if load is not None and node.standing is not Standing.AWAY:
                return load
            away = away or load
        return away

    def abilities(self, model: str) -> Sequence[Able | None]:
        """What each node can do that has the model, or might: None for one that is away and never told of it."""
        told = [(node, node.model(model)) for node in self.nodes]
        return [
            None if line is None else able_of(line) for node, line in told if line is not None or node.standing is Standing.AWAY
        ]

    def able(self, model: str, needs: Needs) -> Sequence[Node]:
        """The nodes that can answer such a request, wherever they stand."""
        having = [(node, line) for node in self.nodes if (line := node.model(model)) is not None]
        return [node for node, line in having if answered_by(needs, able_of(line)) is not By.NONE]

    def _twin_of(self, node: Node, gateway_id: str) -> Node | None:
        """Of a gateway with two addresses, or named twice, one is asked: its queue would be counted twice."""
        if not gateway_id:
            return None
        told = ((each, each.load) for each in self.up() if each is not node)
        return next((each for each, load in told if load is not None and load.gateway_id == gateway_id), None)

    async def close(self) -> None:
        """Ends the watching and closes all connections."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for node in self.nodes:
            node.link.close()
