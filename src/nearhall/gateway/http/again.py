"""What a server remembers of the heads that requests came with: a machine that asks says the same head again and again.

A request that comes whole, with a head that is known byte for byte, is the same request as before but for its body. It is taken
in without the parser, which spares a tenth of the Python of an answer, and more of that of a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Header = tuple[bytes, bytes]

KEPT_MAX = 256
"""Heads; a site has some dozens of clients, each of them with one or a few. When there are more, all are forgotten."""
KEPT_BYTES_MAX = 1024
"""Longer ones are parsed each time, so that what is kept stays under a megabyte or two whatever clients send."""
_END = b"\r\n\r\n"
_ODD = frozenset({b"transfer-encoding", b"upgrade", b"expect"})
"""With these there is more to a request than its head and so many bytes."""


@dataclass(frozen=True, slots=True)
class Known:
    """What was understood of a head."""

    head_bytes: int
    body_bytes: int
    scope: Mapping[str, Any]
    """ASGI's, but for what is another in each request."""


class KnownHeads:
    """Remembers heads, for all connections of a server."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Known] = {}

    def find(self, read: bytearray, nbytes: int) -> Known | None:
        """What is known of the request that these `nbytes` are; the parser must be between two of them."""
        end = read.find(_END, 0, min(nbytes, KEPT_BYTES_MAX)) + len(_END)
        known = self._kept.get(bytes(memoryview(read)[:end]))
        return known if known is not None and end + known.body_bytes == nbytes else None

    def keep(self, read: bytearray, nbytes: int, scope: Mapping[str, Any]) -> None:
        """Remembers the head of the one request that the parser has found in `nbytes`, if it is plain."""
        head = plain_head(read, nbytes, scope["headers"])
        if head is None:
            return
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[head] = Known(len(head), nbytes - len(head), scope)


def plain_head(read: bytearray, nbytes: int, headers: Iterable[Header]) -> bytes | None:
    """The head of the one request that the parser has found in `nbytes`, if there can be no two opinions where it ends.

    That is so where its lines end with CRLF and with nothing else, the first empty one ends it, and the length that it says its
    body has brings it to the last byte that was read. Then every parser takes these bytes for this request (RFC 9112, 2.2 and
    6.3), whatever the body holds. None for any other, which is parsed each time.
    """
    named = dict(headers)
    end = read.find(_END, 0, min(nbytes, KEPT_BYTES_MAX)) + len(_END)
    if not _ODD.isdisjoint(named) or end + int(named.get(b"content-length", b"0")) != nbytes:
        return None
    head = bytes(memoryview(read)[:end])
    return head if head.count(b"\n") == head.count(b"\r\n") and not head.startswith(b"\r") else None
