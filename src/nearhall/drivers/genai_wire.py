"""What the gateway and its language-model process say to each other over pipes: a 4-byte length, then JSON."""

from __future__ import annotations

from typing import BinaryIO

import msgspec

FRAME_BYTES_MAX = 8 * 1024 * 1024
"""A prompt fills at most the model's context, some tens of kilobytes."""


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


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody waits for it any more."""

    id: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded and warmed up."""

    load_s: float


class Piece(msgspec.Struct, frozen=True, tag="piece"):
    """Some of an answer; the last one has `finish` and the counts."""

    id: int
    text: str
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Fault(msgspec.Struct, frozen=True, tag="fault"):
    """An answer that will not come; `id` 0 is the process itself."""

    id: int
    text: str
    of_client: bool = False


ToChild = Ask | Cancel
FromChild = Ready | Piece | Fault
_to_child = msgspec.json.Decoder(ToChild)
_from_child = msgspec.json.Decoder(FromChild)


def send(stream: BinaryIO, message: ToChild | FromChild) -> None:
    """Writes one message; raises OSError when the other end has gone."""
    body = msgspec.json.encode(message)
    stream.write(len(body).to_bytes(4, "little") + body)
    stream.flush()


def receive_in_child(stream: BinaryIO) -> ToChild | None:
    """The next message from the gateway; None at its end."""
    body = _frame(stream)
    return None if body is None else _to_child.decode(body)


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
