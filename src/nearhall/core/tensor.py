"""A tensor as it travels between socket and runtime: a typed view, never a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

ITEM_BYTES: dict[str, int] = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
}
"""Bytes of one element by Open Inference Protocol v2 data type; BYTES has no fixed size."""

BYTES = "BYTES"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named input or output.

    `data` is little-endian, row-major. For BYTES it holds each element as a 4-byte little-endian length and that many bytes
    (the Open Inference Protocol's binary form). `rows` holds BYTES elements already taken apart, so that JSON needs no
    second pass; None for other types.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview
    rows: Sequence[bytes] | None = None

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model takes or gives: `-1` in `shape` is any length. `optional` inputs may be left out."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    optional: bool = False
