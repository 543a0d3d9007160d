"""What a connection remembers of its last request: a machine that asks says the same head again and again.

A request with the same head, byte for byte, and a body as long is the same request but for its body. It is taken in without the
parser, which spares a tenth of the Python of an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Header = tuple[bytes, bytes]

REMEMBERED_BYTES_MAX = 4096
"""Longer heads are parsed each time, so that what all connections remember stays within a few megabytes."""
_END = b"\r\n\r\n"
_ODD = frozenset({b"transfer-encoding", b"upgrade", b"expect"})
"""With these there is more to a request than its head and so many bytes."""


@dataclass(frozen=True, slots=True)
class Said:
    """A request that came in one piece and was all that came."""

    head: bytes
    """As it came."""
    size: int
    """Bytes of head and body."""
    scope: Mapping[str, Any]
    """The head as it was understood: ASGI's scope, but for what is another in each request."""

    def again(self, read: bytearray, nbytes: int) -> bool:
        """Whether the `nbytes` that were read are such a request; the parser must be between two of them."""
        return nbytes == self.size and read.startswith(self.head)


def plain_head(read: bytearray, nbytes: int, headers: Iterable[Header]) -> bytes | None:
    """The head of the one request that the parser has found in `nbytes`, if there can be no two opinions where it ends.

    That is so where its lines end with CRLF and with nothing else, the first empty one ends it, and the length that it says its
    body has brings it to the last byte that was read. Then every parser takes these bytes for this request (RFC 9112, 2.2 and
    6.3), whatever the body holds. None for any other, which is parsed each time.
    """
    named = dict(headers)
    end = read.find(_END, 0, REMEMBERED_BYTES_MAX) + len(_END)
    if not _ODD.isdisjoint(named) or end + int(named.get(b"content-length", b"0")) != nbytes:
        return None
    head = bytes(memoryview(read)[:end])
    return head if head.count(b"\n") == head.count(b"\r\n") and not head.startswith(b"\r") else None
