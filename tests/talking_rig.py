"""Language models of a few lines: the next token is a function of all before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from nearhall.ports.runtime import ChatAsk, ChatPiece

END = 0
"""The token that ends an answer."""

Next = Callable[[Sequence[int]], int]
"""The most likely token after these."""


def tokens_of(text: str) -> list[int]:
    """As the tokenizer of these models numbers a prompt."""
    return [ord(letter) + 1 for letter in text]


@dataclass(slots=True)
class Model:
    """Tells its tokens, some in a piece, as a runtime does."""

    most_likely: Next
    pid: int = 0
    piece: int = 1
    tokenizer: Callable[[str], list[int]] = tokens_of
    fault: Exception | None = None
    alive: bool = True
    closed: bool = False
    asks: list[ChatAsk] = field(default_factory=list[ChatAsk])
    at_once: int = 0
    most_at_once: int = 0

    async def generate(self, ask: ChatAsk) -> AsyncIterator[ChatPiece]:
        self.asks.append(ask)
        if self.fault is not None:
            raise self.fault
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            prompt = self.tokenizer("".join(message.content for message in ask.messages))
            said = [*prompt, *(ask.begun or ())]
            held: list[int] = []
            for number in range(ask.max_tokens):
                await asyncio.sleep(0)
                token = self.most_likely(said)
                said.append(token)
                held.append(token)
                last = token == END or number + 1 == ask.max_tokens
                if last or len(held) == self.piece:
                    told = (
                        {"tokens": tuple(held), "prompt": tuple(prompt if number < self.piece else ())}
                        if ask.begun is not None
                        else {}
                    )
                    finish = ("stop" if token == END else "length") if last else None
                    yield ChatPiece(text="word ", finish=finish, completion_tokens=number + 1 if last else 0, **told)
                    held.clear()
                if last:
                    return
        finally:
            self.at_once -= 1

    async def close(self) -> None:
        self.closed = True
