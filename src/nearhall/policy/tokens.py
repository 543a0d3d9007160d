"""Who talks next with a language model, and when a first token would come: by tokens and cache, not by counts of chats.

A model that batches continuously takes one step at a time: a token for every sequence under way, and as many tokens of new
prompts as the step has room for. What it can hold is bounded by its key-value cache, in tokens. So a chat is admitted with its
prompt and the longest answer it may get, reserved at once: nothing is ever evicted half said. Values in, values out;
milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from math import ceil

from nearhall.policy.admit import Estimate

GROWTH = 0.15
"""Assumed until measured: what one more sequence adds to a step, as a share of a step with one (a 135M model on one core: 19
ms at 1, 40 ms at 8, which is 0.16)."""
PROMPT_SHARE = 0.03
"""Assumed until measured: a token of a prompt costs this share of a step with one sequence, since many are computed at once."""
FIRST_STEP_MS = 20.0
OVERHEAD_MS_MAX = 1000.0
"""What comes to a chat beside its steps in any case; of more, `STOOD_STILL` times what was usual is learnt at once."""
FIRST_ANSWER_TOKENS = 64.0
BYTES_A_TOKEN = 3.0
"""Of text, until a prompt has been counted; English has about four, so that the first guess is rather too many tokens."""
BYTES_LEAST, BYTES_MOST = 0.5, 8.0
SHORT_BYTES = 256
"""A shorter prompt is mostly what the model's template puts around it, and teaches that; a longer one teaches bytes a token."""
FIRST_FRAME_TOKENS = 32.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a loaded language model holds, as its runtime says."""

    sequences: int
    """Decoded together."""
    spare: int = 0
    """More of them, for a chat whose rank is before that of one that talks: it need not wait for a long answer to bulk."""
    kv_tokens: int
    """What the cache holds of all sequences together."""
    context: int
    """Prompt and answer of one."""
    step_tokens: int
    """Computed in one step at most: a prompt beyond it is read in pieces, between which the others get their tokens."""
    block: int = 1
    """Tokens that the cache gives out together."""

    def reserved(self, asked: Asked) -> int:
        """Tokens of the cache that one chat may come to use."""
        return ceil((asked.prompt_tokens + asked.max_tokens) / self.block) * self.block


@dataclass(frozen=True, slots=True)
class Asked:
    """The size of one chat."""

    prompt_tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A chat that has not begun."""

    rank: int
    """0 goes first, whatever else holds."""
    due_s: float
    """Of two with the same rank, the one that is due earlier goes first."""
    ticket: int
    """Of two that are due together, the one that came earlier."""
    asked: Asked

    @property
    def key(self) -> tuple[int, float, int]:
        """Smallest first."""
        return (self.rank, self.due_s, self.ticket)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A chat that is under way."""

    rank: int
    asked: Asked
    generated: int = 0
    """Tokens so far; at 0 its prompt is still being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the runtime says of one step."""

    took_ms: float
    running: int
    """Sequences that got a token, or read some of their prompt."""
    prompt_tokens: int | None = 0
    """Read in it; None where a prompt was known from before in part, so that nothing can be learned."""
    kv_tokens: int = 0
    """In use when it began; 0 once nothing is under way any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a model talks here: about the p90 of each part, learned from its steps."""

    prompt_ms: Estimate
    """Of one token of a prompt."""
    steps: tuple[Estimate | None, ...] = ()
    """A step without prompts, by the number of sequences in it; the first is for one."""
    answer_tokens: Estimate = field(default_factory=lambda: Estimate(FIRST_ANSWER_TOKENS))
    """Of one answer: how soon a place becomes free."""
    overhead_ms: Estimate = field(default_factory=lambda: Estimate(0.0))
    """From a chat's beginning to its first token, beyond its steps: the way to the runtime and back, turning text into tokens."""
    bytes_a_token: float = BYTES_A_TOKEN
    frame_tokens: Estimate = field(default_factory=lambda: Estimate(FIRST_FRAME_TOKENS))
    """Put around a prompt by the model's template."""

    @classmethod
    def assumed(cls, step_ms: float = FIRST_STEP_MS) -> Pace:
        """Before anything was measured."""
        return cls(prompt_ms=Estimate(step_ms * PROMPT_SHARE), steps=(Estimate(step_ms),))

    def step_ms(self, sequences: int) -> float:
        """A step with so many sequences; of numbers that were not seen, from the nearest below, or else above."""
        known = [(number, seen.service_ms) for number, seen in enumerate(self.steps, start=1) if seen is not None]
        if not known:
            return FIRST_STEP_MS
        below = [pair for pair in known if pair[0] <= sequences]
        number, took = below[-1] if below else known[0]
        return took * (1 + GROWTH * (max(1, sequences) - 1)) / (1 + GROWTH * (number - 1))

    def read_ms(self, tokens: int, *, beside: int, step_tokens: int) -> float:
        """Reading so many tokens of prompts while `beside` sequences get theirs in the same steps."""
        steps = max(1, ceil(tokens / max(1, step_tokens - beside)))
        return steps * self.step_ms(max(1, beside)) + tokens * self.prompt_ms.service_ms

    def tokens_of(self, size_bytes: int) -> int:
        """About how many tokens a text has, rather more than fewer."""
        return max(1, ceil(self.frame_tokens.service_ms + size_bytes / self.bytes_a_token))

    def seen(self, step: Step) -> Pace:
        """After one more step."""
        if step.prompt_tokens is None or step.running < 1:
            return self
        if step.prompt_tokens:
            beyond = max(0.0, step.took_ms - self.step_ms(step.running)) / step.prompt_tokens
            return replace(self, prompt_ms=self.prompt_ms.seen_run(beyond))
        steps = [*self.steps, *[None] * (step.running - len(self.steps))]
        before = steps[step.running - 1]
        steps[step.running - 1] = Estimate(step.took_ms) if before is None else before.seen_run(step.took_ms)
        return replace(self, steps=tuple(steps))

    def seen_first(self, *, expected_ms: float, took_ms: float) -> Pace:
        """After a first token came; `expected_ms` is what was expected of its beginning, this overhead included."""
        beyond = max(0.0, took_ms - expected_ms + self.overhead_ms.service_ms)
        return replace(self, overhead_ms=self.overhead_ms.seen_run(beyond, least_ms=OVERHEAD_MS_MAX))

    def seen_answer(self, *, prompt_bytes: int, prompt_tokens: int, answer_tokens: int) -> Pace:
        """After a whole answer: how long it was, and how many tokens its prompt turned out to be (about a p90)."""
        learned = replace(self, answer_tokens=self.answer_tokens.seen(answer_tokens))
        if prompt_bytes < SHORT_BYTES:
            frame = max(0.0, prompt_tokens - prompt_bytes / self.bytes_a_token)
            return replace(learned, frame_tokens=self.frame_tokens.seen(frame))
        size = min(BYTES_MOST, max(BYTES_LEAST, prompt_bytes / max(1.0, prompt_tokens - self.frame_tokens.service_ms)))
        return replace(learned, bytes_a_token=-Estimate(-self.bytes_a_token).seen(-size).service_ms)

    def aged(self, unseen_s: float) -> Pace:
        """After nothing was measured for a while: put to the test, as `Estimate.aged` says."""
        return replace(
            self,
            prompt_ms=self.prompt_ms.aged(unseen_s),
            steps=tuple(None if step is None else step.aged(unseen_s) for step in self.steps),
            overhead_ms=self.overhead_ms.aged(unseen_s),
        )


def may_start(asked: Asked, rank: int, running: Sequence[Running], capacity: Capacity) -> bool:
    """Whether a chat has a place now: a sequence, and room in the cache for all that it may come to."""
    floor = _Floor(capacity)
    for one in running:
        floor.take(0.0, capacity.reserved(one.asked), one.rank)
    return floor.has_place(capacity.reserved(asked), rank)


def next_to_start(waiting: Sequence[Waiting], running: Sequence[Running], capacity: Capacity) -> Waiting | None:
    """The chat that begins now, if any: the first in order, and no other, so that small ones never pass a large one for ever."""
    first = min(waiting, key=lambda one: one.key, default=None)
    return first if first is not None and may_start(first.asked, first.rank, running, capacity) else None


def first_token_ms(new: Waiting, waiting: Iterable[Waiting], running: Sequence[Running], capacity: Capacity, pace: Pace) -> float:
    """Until the first token of a chat that arrives now: places that must become free, prompts before it, and its own.

    `waiting` in order (by `Waiting.key`); those that come after it do not count.
    """
    floor = _Floor(capacity)
    answer_tokens = pace.answer_tokens.service_ms
    now_ms = pace.step_ms(len(running)) if running else 0.0
    for one in running:
        left = max(1.0, min(max(answer_tokens, one.generated), one.asked.max_tokens) - one.generated)
        floor.take(left * pace.step_ms(len(running)), capacity.reserved(one.asked), one.rank)
    unread = sum(one.asked.prompt_tokens for one in running if not one.generated)
    for one in waiting:
        if one.key > new.key:
            break
        now_ms, unread = _begin(one, floor, pace, now_ms, unread)
    now_ms, unread = _begin(new, floor, pace, now_ms, unread)
    read_ms = pace.read_ms(unread, beside=floor.talking - 1, step_tokens=capacity.step_tokens)
    return now_ms + read_ms + pace.overhead_ms.service_ms


def _begin(one: Waiting, floor: _Floor, pace: Pace, now_ms: float, unread: int) -> tuple[float, int]:
    """When it gets a place, and the tokens of prompts that are unread then, its own included."""
    capacity = floor.capacity
    reserved = capacity.reserved(one.asked)
    while not floor.has_place(reserved, one.rank):
        ended_ms = floor.end()
        if ended_ms > now_ms:
            now_ms, unread = ended_ms, 0
    unread += one.asked.prompt_tokens
    tokens = min(pace.answer_tokens.service_ms, one.asked.max_tokens)
    read_ms = pace.read_ms(unread, beside=floor.talking, step_tokens=capacity.step_tokens)
    floor.take(now_ms + read_ms + tokens * pace.step_ms(floor.talking + 1), reserved, one.rank)
    return now_ms, unread


class _Floor:
    """Who has a place, and when places become free."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self._ends: list[tuple[float, int, int]] = []
        self._used = 0

    @property
    def talking(self) -> int:
        """Sequences that have a place."""
        return len(self._ends)

    def has_place(self, reserved: int, rank: int) -> bool:
        """By sequences and by cache; what is larger than the cache has one when it is alone, for the runtime to refuse."""
        if not self._ends:
            return True
        capacity = self.capacity
        if max(taken for _, _, taken in self._ends) > rank:
            return len(self._ends) < capacity.sequences + capacity.spare and self._used + reserved <= capacity.kv_tokens
        share = capacity.kv_tokens * capacity.sequences // (capacity.sequences + capacity.spare)
        return len(self._ends) < capacity.sequences and self._used + reserved <= share

    def take(self, end_ms: float, reserved: int, rank: int) -> None:
        """Gives a place until then."""
        heappush(self._ends, (end_ms, reserved, rank))
        self._used += reserved

    def end(self) -> float:
        """The next place that becomes free; when."""
        end_ms, reserved, _ = heappop(self._ends)
        self._used -= reserved
        return end_ms
