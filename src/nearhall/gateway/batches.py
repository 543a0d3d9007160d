"""Several requests' tensors as one run's, and its outputs taken apart again: along the first dimension, which is the batch."""

from __future__ import annotations

from collections.abc import Sequence

from nearhall.core.tensor import BYTES, Tensor, TensorSpec

Key = tuple[tuple[tuple[str, str, tuple[int, ...]], ...], tuple[str, ...]]
"""What requests must have in common to run together: names, types and shapes but for the batch, and the outputs asked for."""


def takes_batches(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether a model's first dimension is a free batch in everything that it takes and gives."""
    specs = [*inputs, *outputs]
    return bool(inputs) and all(len(spec.shape) > 0 and spec.shape[0] == -1 and spec.dtype != BYTES for spec in specs)


def key_of(inputs: Sequence[Tensor], outputs: Sequence[str]) -> Key | None:
    """What this request may share a run with; None where its inputs do not agree on their batch."""
    rows = rows_of(inputs)
    if any(tensor.shape[0] != rows for tensor in inputs):
        return None
    described = sorted((tensor.name, tensor.dtype, tensor.shape[1:]) for tensor in inputs)
    return tuple(described), tuple(outputs)


def rows_of(inputs: Sequence[Tensor]) -> int:
    """The request's own batch."""
    return inputs[0].shape[0]


def joined(requests: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """One set of inputs from several that have the same key: row-major data lies end to end."""
    by_name = [{tensor.name: tensor for tensor in inputs} for inputs in requests]
    rows = sum(rows_of(inputs) for inputs in requests)
    return [
        Tensor(
            tensor.name,
            tensor.dtype,
            (rows, *tensor.shape[1:]),
            memoryview(b"".join(inputs[tensor.name].data for inputs in by_name)),
        )
        for tensor in requests[0]
    ]


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
