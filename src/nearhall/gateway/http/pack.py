"""Compressing an answer for a client that asks for it by name."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence

from nearhall.gateway.exchange import Header
from nearhall.gateway.forward import header

LEAST_BYTES = 1024
"""Below this the answer fits the packet that its headers need anyway."""
IN_THREAD_BYTES = 64 * 1024
"""Above this it is done in a thread: below, the hand-over costs more than the work."""
LEVEL = 1
"""zlib's fastest: an answer is waited for, and the next level costs a third more time for a few per cent less."""
_CODINGS: Mapping[bytes, int] = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
"""zlib's window sizes; HTTP's `deflate` is the zlib format."""


def wanted(headers: Sequence[Header], size: int) -> bytes | None:
    """The coding that a client asks for; None where the answer of `size` bytes goes as it is.

    Only one coding named alone is a wish, as Triton's client sends it. A list is the habit of a library: to compress for each of
    those would cost more time than the whole of a small model.
    """
    if size < LEAST_BYTES:
        return None
    asked = (header(headers, b"accept-encoding") or b"").strip().lower()
    return asked if asked in _CODINGS else None


async def packed(body: bytes, coding: bytes) -> bytes:
    """The body in a coding that `wanted` gave."""
    if len(body) > IN_THREAD_BYTES:
        return await asyncio.to_thread(_pack, body, _CODINGS[coding])
    return _pack(body, _CODINGS[coding])


def _pack(body: bytes, window: int) -> bytes:
    engine = zlib.compressobj(LEVEL, zlib.DEFLATED, window)
    return engine.compress(body) + engine.flush()
