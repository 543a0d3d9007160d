"""Between v2 tensors and numpy arrays, without a copy where the memory allows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nearhall.core.tensor import BYTES, Tensor
from nearhall.wire.oip_tensors import pack_rows

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""v2 data type to numpy's."""
NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}

Array = npt.NDArray[Any]


def to_array(tensor: Tensor) -> Array:
    """The tensor as an array over the same memory (BYTES: a new array of str, which is what runtimes take)."""
    if tensor.dtype == BYTES:
        rows = tensor.rows or ()
        return np.array([row.decode(errors="surrogateescape") for row in rows], dtype=object).reshape(tensor.shape)
    return np.ndarray(tensor.shape, DTYPES[tensor.dtype], tensor.data)


def to_tensor(name: str, array: Array) -> Tensor:
    """The array as a tensor over the same memory (copied only if it is not contiguous)."""
    if array.dtype.kind in {"O", "U", "S"}:
        rows = tuple(
            item if isinstance(item, bytes) else str(item).encode(errors="surrogateescape") for item in array.ravel().tolist()
        )
        return Tensor(name, BYTES, array.shape, memoryview(pack_rows(rows)), rows)
    flat = np.ascontiguousarray(array)
    data = flat.data.cast("B") if flat.size else memoryview(b"")
    return Tensor(name, NAMES[flat.dtype], array.shape, data)
