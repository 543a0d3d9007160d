"""Arrays of numbers out of JSON with simdjson, which parses them into a buffer without an object for each (ADR 0026)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import simdjson

from nearhall.drivers.arrays import DTYPES

KEPT_BYTES_MAX = 1024 * 1024
"""Text after which a parser is used again. It holds up to fourteen times as much; a new one for 100 KB takes 100 microseconds."""
IDLE_MAX = 2
"""Parsers that are kept: one for the event loop, and one to spare."""
_WIDE: dict[str, tuple[Literal["d", "i", "u"], np.dtype[Any]]] = {
    "f": ("d", DTYPES["FP64"]),
    "i": ("i", DTYPES["INT64"]),
    "u": ("u", DTYPES["UINT64"]),
}
"""By numpy's kind of the type that is asked for: what simdjson reads."""


class JsonNumbers:
    """Reads arrays; may be called from several threads."""

    def __init__(self) -> None:
        self._idle: list[simdjson.Parser] = []

    def read(self, text: memoryview, dtype: str) -> memoryview | None:
        """The numbers, as `wire.oip_json.Numbers` says."""
        narrow = DTYPES.get(dtype)
        wide = None if narrow is None or dtype == "FP16" else _WIDE.get(narrow.kind)
        if narrow is None or wide is None:
            return None
        parser = self._parser()
        try:
            array: Any = parser.parse(text)
            octets: Any = array.as_buffer(of_type=wide[0])
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return None  # and the parser goes: an array of it may live on in the traceback
        del array  # a parser refuses to be used again while what it has parsed is held
        if len(text) <= KEPT_BYTES_MAX and len(self._idle) < IDLE_MAX:
            self._idle.append(parser)
        found = _narrowed(np.frombuffer(octets, dtype=wide[1]), narrow)
        return None if found is None else memoryview(found).cast("B").toreadonly()

    def _parser(self) -> simdjson.Parser:
        try:
            return self._idle.pop()
        except IndexError:
            return simdjson.Parser()


def _narrowed(values: Any, dtype: np.dtype[Any]) -> Any:
    """The values as `dtype`; None if it cannot hold one of them."""
    if values.dtype == dtype:
        return values
    if dtype.kind != "f":
        found = values.astype(dtype)
        return found if (found == values).all() else None
    try:
        with np.errstate(over="raise"):  # less than to look for infinities afterwards: numpy sees the processor's flag
            return values.astype(dtype)
    except FloatingPointError:
        return None
