"""Inputs that a model can be run with when no client has asked yet, and payloads that say nothing: for warm-up and for probes."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod

from nearhall.core.tensor import BYTES, ITEM_BYTES, Tensor, TensorSpec
from nearhall.wire.oip_tensors import pack_rows

SCALARS_TRIED = (0, 1, 16_000)
"""What whole-number inputs of one element are set to, one after the other, until the model takes it: a switch, a length, a
sampling rate."""
_PATTERN = 1024
"""Random floats that are repeated over a tensor: drawing each of 50,000 would block the loop for 5 ms."""
_FLOATS = {"FP16": "e", "FP32": "f", "FP64": "d"}
_WHOLE = {"UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q"}


Example = tuple[tuple[int, ...] | None, float]
"""From model.yaml: `example_shape` (None: the input's own, free lengths 1) and `example_value`."""


def warm_up_samples(specs: Sequence[TensorSpec], examples: Mapping[str, Example]) -> Iterator[list[Tensor]]:
    """Inputs to try: as the document's examples say; else zeros, and in whole-number scalars each of `SCALARS_TRIED`."""
    for scalar in SCALARS_TRIED:
        yield [_sample(spec, examples.get(spec.name), scalar) for spec in specs if not spec.optional]


def _sample(spec: TensorSpec, example: Example | None, scalar: int) -> Tensor:
    given, value = example if example is not None else (None, 0.0)
    shape = given if given is not None else tuple(1 if length < 0 else length for length in spec.shape)
    count = prod(shape)
    if spec.dtype == BYTES:
        rows = (b"",) * count
        return Tensor(spec.name, BYTES, shape, memoryview(pack_rows(rows)), rows)
    if spec.dtype in _WHOLE:
        whole = scalar if example is None and count == 1 else int(value)
        whole = min(whole, 2 ** (8 * ITEM_BYTES[spec.dtype] - 1) - 1)
        return Tensor(spec.name, spec.dtype, shape, memoryview(struct.pack(f"<{_WHOLE[spec.dtype]}", whole) * count))
    code = _FLOATS.get(spec.dtype, "?")
    return Tensor(spec.name, spec.dtype, shape, memoryview(struct.pack(f"<{code}", value) * count))


def random_like(inputs: Sequence[Tensor], sample: Sequence[Tensor] | None, draw: random.Random) -> list[Tensor]:
    """Inputs of the same names, types and shapes whose values are drawn, never taken from `inputs`.

    Whole numbers choose behaviour (an index, a sampling rate) and may not be drawn freely: they are the sample's, or zero.
    """
    known = {tensor.name: tensor for tensor in sample or ()}
    return [_random(tensor, known.get(tensor.name), draw) for tensor in inputs]


def _random(tensor: Tensor, known: Tensor | None, draw: random.Random) -> Tensor:
    name, dtype, shape = tensor.name, tensor.dtype, tensor.shape
    if dtype == BYTES:
        rows = tuple(draw.randbytes((len(row) + 1) // 2).hex()[: len(row)].encode() for row in tensor.rows or ())
        return Tensor(name, dtype, shape, memoryview(pack_rows(rows)), rows)
    code = _FLOATS.get(dtype)
    if code is not None:
        data = struct.pack(f"<{_PATTERN}{code}", *(draw.uniform(-1, 1) for _ in range(_PATTERN)))
        return Tensor(name, dtype, shape, memoryview(_filled(data, len(tensor.data))))
    if dtype == "UINT8":
        return Tensor(name, dtype, shape, memoryview(draw.randbytes(len(tensor.data))))
    source = bytes(known.data) if known is not None and known.dtype == dtype and len(known.data) else bytes(ITEM_BYTES[dtype])
    return Tensor(name, dtype, shape, memoryview(_filled(source, len(tensor.data))))


def _filled(pattern: bytes, size: int) -> bytes:
    return (pattern * (size // len(pattern) + 1))[:size]


def random_words(text: str, draw: random.Random) -> str:
    """Words of common letters, as many characters as `text` has, and nothing of it."""
    letters = "etaoinshrdlu"
    return "".join(letters[b % 12] if b % 6 else " " for b in draw.randbytes(len(text)))
