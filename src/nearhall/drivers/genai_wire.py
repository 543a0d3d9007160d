"""What the gateway and its language-model process say to each other over pipes: a 4-byte length, then MessagePack."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

FRAME_BYTES_MAX = 8 * 1024 * 1024
"""A prompt fills at most the model's context, some tens of kilobytes."""
READ_BYTES = 1 << 20


class Turn(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Generate an answer."""

    id: int
    messages: list[Turn]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] = []
    prompt: str | None = None
    """Goes on from this text as it stands; `messages` is empty then."""
    shorten: bool = False
    """`max_tokens` may be less, as the context has room."""
    begun: list[int] | None = None
    """The answer is taken to begin with these tokens; then pieces tell theirs."""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody waits for it any more."""

    id: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded and warmed up; and what it holds, in tokens."""

    load_s: float
    kv_tokens: int
    context: int
    step_tokens: int
    block: int


class Piece(msgspec.Struct, frozen=True, tag="piece", array_like=True):
    """Some of an answer; the last one has `finish`, and the first and the last one the counts."""

    id: int
    text: str
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens: list[int] = []
    prompt: list[int] = []
    """Its tokens, with the first of `tokens`."""


class Stepped(msgspec.Struct, frozen=True, tag="step"):
    """What one step gave, to all answers at once: one message and one wake of the gateway's loop, however many talk."""

    pieces: list[Piece]
    took_ms: float
    running: int
    prompt_tokens: int | None
    kv_tokens: int


class Fault(msgspec.Struct, frozen=True, tag="fault"):
    """An answer that will not come; `id` 0 is the process itself."""

    id: int
    text: str
    of_client: bool = False


ToChild = Ask | Cancel
FromChild = Ready | Stepped | Fault
_to_child = msgspec.msgpack.Decoder(ToChild)
_from_child = msgspec.msgpack.Decoder(FromChild)


def send(stream: BinaryIO, message: ToChild | FromChild) -> None:
    """Writes one message; raises OSError when the other end has gone."""
    body = msgspec.msgpack.encode(message)
    stream.write(len(body).to_bytes(4, "little") + body)
    stream.flush()


class Inbox:
    """The gateway's messages, read by the very thread that takes the steps: between two of them, and waited for when idle."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bytes = bytearray()

    def messages(self, *, wait: bool) -> list[ToChild]:
        """What has come; `wait`: at least some bytes of it. Raises EOFError at the end."""
        while select.select([self._descriptor], [], [], None if wait else 0)[0]:
            wait = False
            part = os.read(self._descriptor, READ_BYTES)
            if not part:
                raise EOFError
            self._bytes += part
        return list(self._whole())

    def _whole(self) -> Iterator[ToChild]:
        while len(self._bytes) >= 4:
            size = int.from_bytes(self._bytes[:4], "little")
            if size > FRAME_BYTES_MAX:
                raise EOFError
            if len(self._bytes) < 4 + size:
                return
            body = bytes(self._bytes[4 : 4 + size])
            del self._bytes[: 4 + size]
            yield _to_child.decode(body)


def receive_in_gateway(stream: BinaryIO) -> FromChild | None:
    """The next message from the process; None at its end."""
    body = _frame(stream)
    return None if body is None else _from_child.decode(body)


def _frame(stream: BinaryIO) -> bytes | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    size = int.from_bytes(head, "little")
    if size > FRAME_BYTES_MAX:
        return None
    body = stream.read(size)
    return body if len(body) == size else None
