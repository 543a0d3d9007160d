"""How well one language model agrees with another, token by token, along the other's own greedy answers.

The share of positions at which the most likely token of both is the same. llama.cpp's `perplexity --kl-divergence` prints it as
"Same top p" (its tools/perplexity/README.md); there along a given text, here along what the reference answers.

A runtime that tells tokens and no distributions is enough: greedy decoding gives the most likely token at each position, as long
as all tokens before it are the reference's. So the variant answers until it says another token; that one counts against it, the
reference's is put in its place, and it goes on from there: every position is judged, however early the two part.

Tokens that are read round otherwise than tokens that were said (other kernels, other sums), and near ties fall the other way.
What that makes is measured too, by the reference itself: the first half of its answers is read to it, and it says the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import floor, sqrt
from typing import TypeVar, cast

from nearhall.cli.profiling.prompts import Prompts
from nearhall.core.errors import InputError, PermanentError, Refusal, TemporaryError
from nearhall.documents.profile import Agreement
from nearhall.ports.runtime import ChatAsk, ChatMessage, ChatPiece, ChatRuntime

TOKENS = 64
"""Of each answer at most; later ones cost as much and tell the same."""
AT_ONCE = 8
"""Prompts that are answered together: what a model does is to be seen, and it does most tokens a second so."""
SECONDS_MAX = 300.0
"""For each variant; a large model on a small machine is asked less then, and says so."""
Z95 = 1.96

Clock = Callable[[], float]
"""Seconds."""
Prompt = Sequence[ChatMessage]
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the reference said to one prompt."""

    prompt: tuple[int, ...]
    """The tokens that it made of the messages."""
    tokens: tuple[int, ...]
    """Its most likely ones, the end of the answer among them where it came to that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One prompt's answer, held against the reference's."""

    same: int
    of: int


class OtherTokensError(Exception):
    """The two do not make the same tokens of the same messages, so that their tokens cannot be compared."""


@dataclass(slots=True)
class Until:
    """An end of the time that may be spent, and what is told of each prompt that is done."""

    clock: Clock
    ends_s: float
    tell: Callable[[int], None]
    done: int = 0

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self.clock() >= self.ends_s

    def count(self) -> None:
        """One prompt more."""
        self.done += 1
        self.tell(self.done)


async def answered(runtime: ChatRuntime, prompts: Prompts, until: Until) -> list[Answer]:
    """The reference's own answers, in order; fewer where the time was over.

    Raises InputError for a prompt that it cannot take, PermanentError where its process ends or says nothing.
    """

    async def one(index: int) -> Answer | None:
        said: list[int] = []
        prompt: list[int] = []
        ask = ChatAsk(messages=prompts.prompts[index], max_tokens=TOKENS, begun=(), shorten=True)
        async with aclosing(_pieces(runtime, ask)) as pieces:
            async for piece in pieces:
                prompt.extend(piece.prompt)
                said.extend(piece.tokens)
                if until.over and piece.finish is None:
                    return None
        if not said:
            raise PermanentError("the language model gave no token")
        return Answer(prompt=tuple(prompt), tokens=tuple(said))

    return await _each(one, len(prompts.prompts), prompts, until)


async def held(
    runtime: ChatRuntime, prompts: Prompts, answers: Sequence[Answer], until: Until, *, halves: bool = False
) -> list[Held]:
    """The variant along the reference's answers, in order; fewer where the time was over. `halves`: along second halves alone.

    Raises OtherTokensError where the two do not number tokens alike, InputError and PermanentError as `answered`.
    """

    async def one(index: int) -> Held | None:
        answer = answers[index]
        return await _along(runtime, prompts.prompts[index], answer, len(answer.tokens) // 2 if halves else 0, until)

    return await _each(one, len(answers), prompts, until)


def score_of(compared: Sequence[Held]) -> float:
    """The share of all positions together."""
    return sum(each.same for each in compared) / sum(each.of for each in compared)


def agreement(compared: Sequence[Held], prompts: Prompts, *, name: str, sha256: str, itself: float | None = None) -> Agreement:
    """As a profile has it; `name`, `sha256` and `itself` (its score with itself, of second halves) are the reference's.

    Prompts are drawn, and tokens of one answer hang together: the spread is that of a ratio of sums over clusters (Cochran,
    "Sampling Techniques", chapter 6).
    """
    same, of = sum(each.same for each in compared), sum(each.of for each in compared)
    score, n = score_of(compared), len(compared)
    off = sum((each.same - score * each.of) ** 2 for each in compared)
    spread = Z95 * sqrt(n / (n - 1) * off) / of if n > 1 and off > 0 else None
    whole = sum(each.same == each.of for each in compared)
    about = "" if spread is None else f", ±{spread:.1%} (95 %)"
    counts = f"the same most likely token at {same:,} of {of:,} positions along the reference's greedy answers{about}"
    alone = "" if itself is None else f"; the reference itself, its answers read to it by half: {floor(itself * 1000) / 10:.1f}%"
    return Agreement(
        reference=name,
        reference_sha256=sha256,
        score=round(score, 5),
        how=f"tokens: {counts}; {whole} of {n} answers are the same in all of their first {TOKENS} tokens{alone}",
        n=n,
        positions=of,
        spread=None if spread is None else round(spread, 5),
        itself=None if itself is None else round(itself, 5),
        worst=round(min(each.same / each.of for each in compared), 5),
        kind=prompts.kind.value,
    )


async def _along(runtime: ChatRuntime, messages: Prompt, answer: Answer, begin: int, until: Until) -> Held | None:
    at, same, of = begin, 0, len(answer.tokens)
    while at < of:
        before = at
        ask = ChatAsk(messages=messages, max_tokens=of - at, begun=answer.tokens[:at])
        async with aclosing(_pieces(runtime, ask)) as pieces:
            async for piece in pieces:
                if piece.prompt and tuple(piece.prompt) != answer.prompt:
                    raise OtherTokensError
                agreed = _agreed(piece.tokens, answer.tokens[at:])
                parted = agreed < len(piece.tokens)
                same, at = same + agreed, at + agreed + parted
                if parted:
                    break
                if until.over and at < of:
                    return None
        if at == before:
            raise PermanentError("the language model gave no token")
    return Held(same=same, of=of - begin)


def _agreed(said: Sequence[int], wanted: Sequence[int]) -> int:
    """How many tokens from the first on are the same."""
    pairs = zip(said, wanted, strict=False)
    return next((index for index, (ours, theirs) in enumerate(pairs) if ours != theirs), len(said))


async def _each(one: Callable[[int], Awaitable[Done | None]], count: int, prompts: Prompts, until: Until) -> list[Done]:
    """Every prompt, some of them at once; those up to the first one that the time did not suffice for."""
    found: list[Done | None] = [None] * count
    rest = iter(range(count))

    async def worker() -> None:
        for index in rest:
            if until.over:
                return
            try:
                found[index] = await one(index)
            except Refusal as error:
                where = f"prompt {index + 1} of {prompts.source}"
                raise InputError(error.message, where=where, right="shorten it, or leave it out") from error
            except TemporaryError as error:
                raise PermanentError("the language model's process ended while it was compared") from error
            if found[index] is not None:
                until.count()

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    whole: list[Done] = []
    for each in found:
        if each is None:
            break
        whole.append(each)
    return whole


async def _pieces(runtime: ChatRuntime, ask: ChatAsk) -> AsyncGenerator[ChatPiece]:
    """Closed early, it cancels the work within a step."""
    async with aclosing(cast("AsyncGenerator[ChatPiece]", runtime.generate(ask))) as pieces:
        async for piece in pieces:
            yield piece
