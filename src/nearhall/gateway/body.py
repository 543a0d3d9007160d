"""Reading a request's body: bounded while it comes in, bounded while it is inflated."""

from __future__ import annotations

import asyncio
import zlib
from typing import Protocol

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.exchange import ClientGoneError, Exchange
from nearhall.gateway.settings import Limits

MIB = 1024 * 1024
_ENCODINGS: dict[str, int] = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""zlib's window sizes; HTTP's `deflate` is the zlib format, though some clients send raw deflate (tried second)."""
_STEP = MIB
"""Inflated at a time, so that no more than one step over the limit is ever held."""
_IN_THREAD = 64 * 1024
"""Compressed bodies above this are inflated in a thread: below, the hand-over costs more than the work."""


class Rest(Protocol):
    """A request in its REST form, for whoever answers it elsewhere."""

    @property
    def raw(self) -> bytes:
        """As it came, perhaps compressed."""
        ...

    @property
    def plain(self) -> bytes:
        """As it is meant."""
        ...


class Body(msgspec.Struct, frozen=True):
    """A body as it came, and as it is meant. Made in a tenth of the time of a frozen dataclass."""

    raw: bytes
    plain: bytes


NO_BODY = Body(b"", b"")
"""Of a request of which only the head is known."""


async def read_body(exchange: Exchange, limits: Limits) -> Body:
    """The request's body; raises Refusal (TOO_LARGE, UNSUPPORTED, BAD_REQUEST) or ClientGoneError."""
    most = int(limits.body_mib * MIB)
    encoding = exchange.ask.encoding
    if encoding not in {"", "identity", *_ENCODINGS}:
        raise Refusal(Reason.UNSUPPORTED, f"content-encoding {encoding!r} is not supported; known: gzip, deflate")
    raw = await received(exchange, most)
    plain = raw if encoding in {"", "identity"} else await _inflated(raw, encoding, limits)
    head = exchange.ask.head_bytes
    check_json(limits, len(plain) if head is None else head)
    return Body(raw, plain)


def check_json(limits: Limits, size: int) -> None:
    """Raises Refusal(TOO_LARGE) for more JSON, in bytes, than a request may hold."""
    if size > limits.json_mib * MIB:
        raise Refusal(
            Reason.TOO_LARGE,
            f"the request's JSON is over the limit of {limits.json_mib:g} MiB; send tensors as binary data (binary_data_size)",
        )


async def received(exchange: Exchange, most: int) -> bytes:
    """The body as it comes, at most `most` bytes; raises Refusal(TOO_LARGE) or ClientGoneError."""
    mib = most / MIB
    if exchange.no_room:
        raise Refusal(Reason.QUEUE_FULL, "too many large requests are being received; come back", retry_after_ms=1000)
    if exchange.ask.content_length is not None and exchange.ask.content_length > most:
        raise _too_large(f"the body of {exchange.ask.content_length} bytes", mib)
    message = await exchange.receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        first: bytes = message.get("body", b"")
        if len(first) > most:
            raise _too_large("the body", mib)
        return first
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_large("the body", mib)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await exchange.receive()


def _too_large(what: str, mib: float) -> Refusal:
    return Refusal(Reason.TOO_LARGE, f"{what} is over the limit of {mib:g} MiB; send less at a time")


async def _inflated(raw: bytes, encoding: str, limits: Limits) -> bytes:
    most = int(limits.inflated_mib * MIB)
    if len(raw) > _IN_THREAD:
        return await asyncio.to_thread(inflate, raw, encoding, most)
    return inflate(raw, encoding, most)


def inflate(raw: bytes, encoding: str, most: int) -> bytes:
    """The decompressed body; never holds more than `most` bytes and a step. Raises Refusal(TOO_LARGE | BAD_REQUEST)."""
    try:
        return _inflate(raw, _ENCODINGS[encoding], most)
    except zlib.error as error:
        if encoding == "deflate":
            try:
                return _inflate(raw, -zlib.MAX_WBITS, most)
            except zlib.error:
                pass
        raise Refusal(Reason.BAD_REQUEST, f"the body is not valid {encoding}: {error}") from error


def _inflate(raw: bytes, window: int, most: int) -> bytes:
    engine = zlib.decompressobj(window)
    parts: list[bytes] = []
    size = 0
    left = raw
    while True:
        part = engine.decompress(left, _STEP)
        size += len(part)
        if size > most:
            raise _too_large("the decompressed body", most / MIB)
        parts.append(part)
        left = engine.unconsumed_tail
        if engine.eof:
            break
        if not left and not part:
            raise zlib.error("it ends too early")
    if engine.unused_data:
        raise zlib.error("bytes follow its end")
    return b"".join(parts)
