"""Long arrays of numbers, taken out of a v2 JSON request as text, so that a quicker reader than the rest's can have them.

`cut_out` looks for the arrays by their bytes alone and puts a mark where each was. That is sound, for whoever decodes what is
left: bytes before a mark are the request's own, so a mark that comes out as an input's data stood where a value begins, and there
the request had an array that ends where the cut does, if the text that was cut is JSON. A mark that comes out nowhere, or
elsewhere, was cut out of a text or of something that nobody asked for: then nothing of the cut may be used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nearhall.wire.oip_tensors import TENSORS_MAX

Numbers = Callable[[memoryview, str], memoryview | None]
"""The numbers of a JSON array (nested ones in the order of their text) in the data type's little-endian form.

None: it does not take them. It never takes what is no valid JSON, what holds anything but numbers and arrays, or a number that
the data type cannot hold; and what it takes, it rounds as `struct.pack` does.
"""

LEAST_BYTES = 4096
"""Of an array's text that is cut out: for less, decoding it with the rest took no longer, cold caches or warm (ADR 0026)."""
MARK = b"[0e0]"
"""An array, so that it is one wherever an array was; of a form that no library writes."""

_ARRAY = re.compile(rb'"data"[ \t\n\r]*+:[ \t\n\r]*+(\[[\[ \t\n\r]*+)[-0-9]')
_CLOSING = re.compile(rb"[\] \t\n\r]*+")
_AFTER = b" \t\n\r,:{}[]"
"""What stands between an array's last number and the next name."""
_NUMBER = b"0123456789+-.eE \t\n\r"


@dataclass(frozen=True, slots=True)
class Array:
    """The text of one array, from its first bracket to its last."""

    text: memoryview
    depth: int
    """Brackets before the first number. With 1 there is no closing bracket but the last, so valid JSON has no array in it."""

    def follows(self, shape: Sequence[int]) -> bool:
        """Whether its brackets are flat, or nested by `shape` (lengths of at least 0).

        What stands between them is not looked at: a list of one and an empty one are the same here, so it says what the array is
        only of valid JSON with as many numbers as `shape` has, and nothing else.
        """
        if self.depth == 1:
            return True
        if self.depth != len(shape):
            return False
        brackets = bytes(self.text).translate(None, _NUMBER)
        expected = b""
        for length in reversed(shape):
            if length * (len(expected) + 1) > len(brackets):
                return False
            expected = b"[%b]" % b",".join([expected] * length)
        return brackets == expected


@dataclass(frozen=True, slots=True)
class Cut:
    """A request without its long arrays."""

    head: bytes
    """The request, with `MARK` where an array was, and nowhere else."""
    arrays: Sequence[Array]
    """In the order in which they were."""


def cut_out(body: bytes) -> Cut | None:
    """The request's long arrays of numbers and what is left of it; None if it has none, or not as clients write them."""
    if len(body) < LEAST_BYTES:
        return None
    arrays: list[Array] = []
    left: list[bytes] = []
    kept = at = 0
    view = memoryview(body)
    for _ in range(TENSORS_MAX):
        found = _ARRAY.search(body, at)
        if found is None:
            break
        start, at = found.span(1)
        depth = body.count(b"[", start, at)
        end = body.find(b"]", at) + 1 if depth == 1 else _end_of_nested(body, at, depth)
        if not end:
            return None
        if end - start >= LEAST_BYTES:
            left.append(body[kept:start])
            arrays.append(Array(view[start:end], depth))
            kept = end
        at = end
    if not arrays:
        return None
    left.append(body[kept:])
    head = MARK.join(left)
    return Cut(head, arrays) if head.count(MARK) == len(arrays) else None


def _end_of_nested(body: bytes, start: int, depth: int) -> int:
    """Where an array of `depth` ends, from its first number on; 0 if its brackets do not close together.

    Numbers have no quotation marks, so it ends before the next one; from there back it is a few bytes.
    """
    quote = body.find(b'"', start)
    numbers = body[start : len(body) if quote < 0 else quote].rstrip(_AFTER)
    closing = _CLOSING.match(body, start + len(numbers))
    if closing is None or closing[0].count(b"]") != depth:
        return 0
    return closing.start() + closing[0].rindex(b"]") + 1
