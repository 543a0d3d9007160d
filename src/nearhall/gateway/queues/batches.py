"""Several requests' tensors as one run's, and its outputs taken apart again: along the first dimension, which is the batch.

Texts may be put together as well, where they are short and about as long: the runtime pads them to the longest.
"""

from __future__ import annotations

from collections.abc import Sequence

from nearhall.core.tensor import BYTES, Tensor, TensorSpec

Key = tuple[tuple[tuple[str, str, tuple[int, ...], int], ...], tuple[str, ...]]
"""What requests must have in common to run together: names, types, shapes but for the batch, lengths of texts by class, and the
outputs asked for."""
TEXT_BYTES_MAX = 255
"""Of a text that shares a run. Measured with a text model of 22 million weights on one core of a busy machine: of texts of 20
words, 8 in a run gave 2.8 times as many a second as one by one, and of 100 words no more than one by one."""
TEXT_BYTES_CLASS = 63
"""Up to so many bytes all texts are of one class; above, those whose longest is within a factor of two: more would be padding."""


def takes_batches(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether a model's first dimension is a free batch in everything that it takes and gives."""
    specs = [*inputs, *outputs]
    free = bool(inputs) and all(len(spec.shape) > 0 and spec.shape[0] == -1 for spec in specs)
    return free and all(spec.dtype != BYTES or len(spec.shape) == 1 for spec in inputs) and not takes_texts(outputs)


def takes_texts(specs: Sequence[TensorSpec]) -> bool:
    """Whether any of these tensors holds texts."""
    return any(spec.dtype == BYTES for spec in specs)


def key_of(inputs: Sequence[Tensor], outputs: Sequence[str]) -> Key | None:
    """What this request may share a run with; None where its inputs are empty or differ in their batch, or a text is long."""
    rows = rows_of(inputs)
    if rows == 0 or any(tensor.shape[0] != rows for tensor in inputs):
        return None
    longest = [max((len(row) for row in tensor.rows or ()), default=0) for tensor in inputs]
    if max(longest) > TEXT_BYTES_MAX:
        return None
    described = sorted(
        (tensor.name, tensor.dtype, tensor.shape[1:], max(length, TEXT_BYTES_CLASS).bit_length() if tensor.dtype == BYTES else 0)
        for tensor, length in zip(inputs, longest, strict=True)
    )
    return tuple(described), tuple(outputs)


def rows_of(inputs: Sequence[Tensor]) -> int:
    """The request's own batch."""
    return inputs[0].shape[0]


def joined(requests: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """One set of inputs from several that have the same key: row-major data lies end to end, and so do texts."""
    by_name = [{tensor.name: tensor for tensor in inputs} for inputs in requests]
    rows = sum(rows_of(inputs) for inputs in requests)
    return [
        Tensor(
            tensor.name,
            tensor.dtype,
            (rows, *tensor.shape[1:]),
            memoryview(b"".join(inputs[tensor.name].data for inputs in by_name)),
            None if tensor.rows is None else tuple(row for inputs in by_name for row in inputs[tensor.name].rows or ()),
        )
        for tensor in requests[0]
    ]


def padded(inputs: Sequence[Tensor], rows: int) -> Sequence[Tensor]:
    """The same with the last row again and again, up to so many: numbers that the model takes, for nobody to read the answers."""
    own = rows_of(inputs)
    if rows <= own:
        return inputs
    found: list[Tensor] = []
    for tensor in inputs:
        row = tensor.data[-(len(tensor.data) // own) :]
        data = memoryview(b"".join([tensor.data, *[row] * (rows - own)]))
        found.append(Tensor(tensor.name, tensor.dtype, (rows, *tensor.shape[1:]), data))
    return found


def parted(outputs: Sequence[Tensor], rows: Sequence[int]) -> list[list[Tensor]] | None:
    """Each request's own outputs, by the rows that each put in; None where an output does not have one row for each."""
    total = sum(rows)
    if any(not tensor.shape or tensor.shape[0] != total for tensor in outputs):
        return None
    parts: list[list[Tensor]] = []
    at = 0
    for count in rows:
        parts.append([_rows(tensor, at, count, total) for tensor in outputs])
        at += count
    return parts


def _rows(tensor: Tensor, at: int, count: int, total: int) -> Tensor:
    each = len(tensor.data) // total
    return Tensor(tensor.name, tensor.dtype, (count, *tensor.shape[1:]), tensor.data[at * each : (at + count) * each])
