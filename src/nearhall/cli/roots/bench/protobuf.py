"""Just enough of protobuf's wire format to write a small message and to take one apart, without generated code.

Source: protobuf.dev, "Encoding". Only varints (wire type 0), 8 and 4 bytes (1, 5) and length-delimited fields (2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_FIXED = {1: 8, 5: 4}


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as its 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return varint(field << 3) + varint(value)


def chunk(field: int, value: bytes | str) -> bytes:
    """A field that holds bytes, a text, or a message that is written already."""
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def packed(field: int, values: Iterable[int]) -> bytes:
    """A repeated field of whole numbers, packed."""
    return chunk(field, b"".join(map(varint, values)))


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field, in order; raises ValueError for bytes that are no message."""
    at = 0
    while at < len(message):
        tag, at = _varint_at(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint_at(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint_at(message, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"a field of {size} bytes runs past the end")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint_at(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("a varint runs past the end")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            return value, at
