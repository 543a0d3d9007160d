"""Whose turn it is with a language model that batches continuously, by `policy.tokens`; all of it on the event loop."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf

from nearhall.core.reasons import Reason
from nearhall.gateway.exchange import Expired
from nearhall.policy.admit import still_worth
from nearhall.policy.tokens import Asked, Capacity, Pace, Running, Step, Waiting, first_token_ms, next_to_start
from nearhall.ports.clock import Clock
from nearhall.ports.runtime import ChatPiece

WAIT_S_MAX = 60.0
"""Bulk that critical chats keep from its turn for a minute is told so: nobody reads a chat that has not begun by then."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What a client asks of a language model, as far as can be told before its prompt is cut into tokens."""

    prompt_bytes: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageUse:
    """What a language model does now and has done, for metrics."""

    running: int
    waiting: int
    kv_tokens: int
    """In use, as the runtime said last."""
    kv_tokens_budget: int
    prompt_tokens: int
    generated_tokens: int
    steps: int
    step_s: float
    """The time of all steps."""


@dataclass(slots=True, eq=False)
class Turn:
    """One chat that is under way."""

    rank: int
    asked: Asked
    talk: Talk
    began_s: float
    expected_ms: float
    """To its first token, from its beginning."""
    generated: int = 0

    @property
    def running(self) -> Running:
        """As the policy sees it."""
        return Running(rank=self.rank, asked=self.asked, generated=self.generated)


@dataclass(slots=True, eq=False)
class _Place:
    """One chat in the queue."""

    waiting: Waiting
    talk: Talk
    deadline_s: float | None
    begins: asyncio.Future[Turn] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Turns:
    """Admits chats to one model."""

    def __init__(self, capacity: Capacity, *, limit: int, clock: Clock, wait_s_max: float = WAIT_S_MAX) -> None:
        self.limit = limit
        self.capacity = capacity
        self.pace = Pace.assumed()
        self._clock = clock
        self._wait_s_max = wait_s_max
        self._running: list[Turn] = []
        self._waiting: list[_Place] = []
        self._ticket = 0
        self._passed_over_s: float | None = None
        self._kv_tokens = 0
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._steps = 0
        self._step_s = 0.0

    @property
    def waiting(self) -> int:
        """How many chats wait."""
        return len(self._waiting)

    @property
    def use(self) -> LanguageUse:
        """For metrics."""
        return LanguageUse(
            running=len(self._running),
            waiting=len(self._waiting),
            kv_tokens=self._kv_tokens,
            kv_tokens_budget=self.capacity.kv_tokens,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens,
            steps=self._steps,
            step_s=self._step_s,
        )

    @property
    def answer_ms(self) -> float:
        """A whole answer of the usual length, to its last token, among as many others as talk now."""
        return self.own_ms(0) + self.pace.answer_tokens.service_ms * self.pace.step_ms(max(1, len(self._running)))

    @property
    def busy(self) -> bool:
        """Whether somebody talks."""
        return bool(self._running)

    def own_ms(self, input_bytes: int) -> float:
        """What a chat would take to its first token if nobody else were here."""
        new = self._new(Talk(input_bytes, 1), inf, 0)
        return first_token_ms(new, (), (), self.capacity, self._aged())

    def expected_ms(self, due_s: float, priority: int, input_bytes: int, talk: Talk | None = None) -> float:
        """Until the first token of a chat that arrived now; without a `talk`, of an answer as long as others."""
        wanted = talk or Talk(input_bytes, max(1, round(self.pace.answer_tokens.service_ms)))
        new = self._new(wanted, due_s, priority)
        return self._expected_ms(new, [place.waiting for place in self._waiting])

    def passed_over(self, input_bytes: int) -> None:
        """Notes that a chat went elsewhere, or nowhere, because of the estimate: from then on it ages until it is tested.

        While somebody talks, every step tests it.
        """
        if self._passed_over_s is None and not self._running:
            self._passed_over_s = self._clock.monotonic()

    def heard(self, step: Step) -> None:
        """Learns from one step of the runtime."""
        self.pace, self._passed_over_s = self._aged().seen(step), None
        self._kv_tokens = step.kv_tokens
        self._steps += 1
        self._step_s += step.took_ms / 1e3

    @asynccontextmanager
    async def turn(self, talk: Talk, *, due_s: float, deadline_s: float | None, priority: int) -> AsyncGenerator[Turn]:
        """Waits for a place and holds it; raises Expired when the deadline to the first token can no longer be met."""
        place = _Place(self._new(talk, due_s, priority), talk, deadline_s)
        insort(self._waiting, place, key=_key)
        self._begin()
        turn = await self._begun(place)
        try:
            yield turn
        finally:
            self._running.remove(turn)
            self._begin()

    def hear(self, turn: Turn, piece: ChatPiece) -> None:
        """Notes what a chat said: its first piece tells how long the prompt was and when it came, the last one the rest."""
        if piece.prompt_tokens and not turn.generated:
            turn.asked = Asked(piece.prompt_tokens, turn.asked.max_tokens)
            self._prompt_tokens += piece.prompt_tokens
            took_ms = (self._clock.monotonic() - turn.began_s) * 1e3
            self.pace = self._aged().seen_first(expected_ms=turn.expected_ms, took_ms=took_ms)
        said = max(turn.generated + bool(piece.text), piece.completion_tokens)
        self._generated_tokens += said - turn.generated
        turn.generated = said
        if piece.finish is not None:
            self.pace = self.pace.seen_answer(
                prompt_bytes=turn.talk.prompt_bytes, prompt_tokens=piece.prompt_tokens, answer_tokens=piece.completion_tokens
            )

    async def _begun(self, place: _Place) -> Turn:
        left_s = inf if place.deadline_s is None else max(0.0, place.deadline_s - self._clock.monotonic())
        try:
            async with asyncio.timeout(min(self._wait_s_max, left_s)):
                return await place.begins
        except BaseException as error:
            if place in self._waiting:
                self._waiting.remove(place)
            elif place.begins.done() and not place.begins.cancelled() and place.begins.exception() is None:
                self._running.remove(place.begins.result())  # it was given up in the very moment in which it was to begin
            self._begin()
            if isinstance(error, TimeoutError) and left_s < self._wait_s_max:
                raise _late() from error
            if isinstance(error, TimeoutError):
                text = f"others went first for {self._wait_s_max:g} s"
                raise Expired(Reason.QUEUE_FULL, text, retry_after_ms=round(self._wait_s_max * 1e3)) from error
            raise

    def _begin(self) -> None:
        """Lets begin who can; who could not be in time any more is told so."""
        while self._waiting:
            running = [turn.running for turn in self._running]
            if next_to_start([self._waiting[0].waiting], running, self.capacity) is None:
                return
            place = self._waiting.pop(0)
            if place.begins.done():
                continue
            now_s = self._clock.monotonic()
            expected_ms = self._expected_ms(place.waiting, ())
            deadline_ms = None if place.deadline_s is None else place.deadline_s * 1e3
            if not still_worth(now_s * 1e3, deadline_ms, expected_ms, client_gone=False):
                place.begins.set_exception(_late())
                continue
            turn = Turn(place.waiting.rank, place.waiting.asked, place.talk, now_s, expected_ms)
            self._running.append(turn)
            place.begins.set_result(turn)

    def _new(self, talk: Talk, due_s: float, priority: int) -> Waiting:
        self._ticket += 1
        room = self.capacity.context
        prompt_tokens = min(room, self.pace.tokens_of(talk.prompt_bytes))
        asked = Asked(prompt_tokens, min(talk.max_tokens, max(1, room - prompt_tokens)))
        return Waiting(rank=priority, due_s=due_s, ticket=self._ticket, asked=asked)

    def _expected_ms(self, new: Waiting, waiting: Sequence[Waiting]) -> float:
        return first_token_ms(new, waiting, [turn.running for turn in self._running], self.capacity, self._aged())

    def _aged(self) -> Pace:
        since = self._passed_over_s
        return self.pace if since is None else self.pace.aged(self._clock.monotonic() - since)


def _late() -> Expired:
    return Expired(Reason.DEADLINE, "the deadline passed in the queue", retry_after_ms=None)


def _key(place: _Place) -> tuple[int, float, int]:
    return place.waiting.key
