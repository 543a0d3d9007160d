"""What the Open Inference Protocol v2 says of tensors and parameters, whether they come as JSON, binary REST or gRPC.

Nothing raises but `Refusal(BAD_REQUEST | UNSUPPORTED)`, which names the tensor and what would be right. Binary tensors are views
into the message: nothing is copied.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NoReturn

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import BYTES, ITEM_BYTES, Tensor, TensorSpec

TENSORS_MAX = 64
RANK_MAX = 16
WHOLE_MAX = (1 << 63) - 1
"""Of a parameter: what every client's library can hold; JSON's own numbers have no end, and arithmetic with floats does."""

CODES: dict[str, str] = {
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}
"""`struct` codes in standard, little-endian form. `struct.pack` took half the time of `array` and refuses what overflows."""
REQUEST_PARAMETERS = frozenset({"binary_data_output", "timeout", "priority", "content_type"})
"""`content_type` is MLServer's note on how a client's library packed the data; the bytes say the same."""
OUTPUT_PARAMETERS = frozenset({"binary_data", "content_type"})
RANK_LAST = 9
"""The last of our ranks; `x-nearhall-priority` goes as far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An output that the client asked for by name."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A decoded request."""

    id: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...]
    """Empty: all outputs, in the form of `binary_by_default`."""
    binary_by_default: bool
    timeout_us: int | None
    """v2 `parameters.timeout`, microseconds."""
    priority: int | None
    """v2 `parameters.priority`: 0 is the default, 1 the highest."""
    form: object | None = field(default=None, compare=False)
    """The same object for requests that have everything but their tensors' bytes in common; None where that is not known."""


def rank_of(priority: int | None) -> int | None:
    """Our rank (0 first, 9 last) of a v2 priority (1 first); None for 0 or nothing, the default: the workload's own rank.

    Source: Triton's schedule policy extension. Levels beyond our last rank share it.
    """
    return None if not priority else min(priority - 1, RANK_LAST)


def whole(parameters: Mapping[str, Any], key: str) -> int | None:
    """A parameter that is a whole number from 0 to `WHOLE_MAX`; None if it is not given."""
    value = parameters.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= WHOLE_MAX:
        refuse(f"parameters.{key} is {str(value)[:40]}; a whole number from 0 to {WHOLE_MAX} is right")
    return value


def whether(parameters: Mapping[str, Any], key: str) -> bool | None:
    """A parameter that is true or false; None if it is not given."""
    value = parameters.get(key)
    if value is not None and not isinstance(value, bool):
        refuse(f"parameters.{key} is {str(value)[:40]!r}; true or false is right")
    return value


def only_known(parameters: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    """Refuses a parameter that would change the answer if we knew it."""
    for key in parameters:
        if key not in known:
            refuse(
                f"{where} has the parameter {key!r}, which is not supported; known: {', '.join(sorted(known))}",
                Reason.UNSUPPORTED,
            )


def check_input_parameters(name: str, parameters: Mapping[str, Any], known: frozenset[str]) -> None:
    """The same for an input's, where shared memory has words of its own."""
    if any(key.startswith("shared_memory") for key in parameters):
        refuse(f"input {name!r} lies in shared memory, which is not served; send it in the body", Reason.UNSUPPORTED)
    only_known(parameters, known, f"input {name!r}")


def check_output_parameters(name: str, parameters: Mapping[str, Any]) -> None:
    """The same for an output's."""
    if any(key.startswith("shared_memory") for key in parameters):
        refuse(f"output {name!r} shall go to shared memory, which is not served; take it from the body", Reason.UNSUPPORTED)
    if parameters.get("classification"):
        refuse("the classification extension is not served; take the output itself", Reason.UNSUPPORTED)
    only_known(
        {key: value for key, value in parameters.items() if key != "classification"}, OUTPUT_PARAMETERS, f"output {name!r}"
    )


def check_count(count: int) -> None:
    """Refuses a request with no input, or with more than any model takes."""
    if not 1 <= count <= TENSORS_MAX:
        refuse(f"the request has {count} inputs; 1 to {TENSORS_MAX} are allowed")


def check_head(name: str, dtype: str, shape: Sequence[int]) -> None:
    """Refuses a data type that is none, a negative length or too many dimensions."""
    if dtype != BYTES and dtype not in ITEM_BYTES:
        refuse(f"input {name!r} has datatype {dtype!r}; known: {', '.join([*ITEM_BYTES, BYTES])}")
    if len(shape) > RANK_MAX or any(length < 0 for length in shape):
        refuse(f"input {name!r} has shape {list(shape)}; lengths of at least 0 in at most {RANK_MAX} dimensions are right")


def from_bytes(name: str, dtype: str, shape: tuple[int, ...], data: memoryview) -> Tensor:
    """A tensor out of its binary form: little-endian, row-major; `check_head` has passed."""
    if dtype == BYTES:
        return Tensor(name, dtype, shape, data, rows_of(name, data, prod(shape)))
    expected = prod(shape) * ITEM_BYTES[dtype]
    if len(data) != expected:
        refuse(f"input {name!r} of shape {list(shape)} and datatype {dtype} needs {expected} bytes, but has {len(data)}")
    if dtype == "BOOL" and bytes(data).translate(None, b"\0\1"):
        refuse(f"input {name!r} is BOOL, but has a byte other than 0 and 1")
    return Tensor(name, dtype, shape, data)


def from_values(name: str, dtype: str, shape: tuple[int, ...], values: Sequence[Any]) -> Tensor:
    """A tensor out of its values in row-major order (BYTES: bytes); `check_head` has passed, and FP16 has no such form."""
    if len(values) != prod(shape):
        refuse(f"input {name!r} has {len(values)} values, but shape {list(shape)} needs {prod(shape)}")
    if dtype == BYTES:
        rows = tuple(values)
        return Tensor(name, dtype, shape, memoryview(pack_rows(rows)), rows)
    if dtype == "BOOL":
        return Tensor(name, dtype, shape, memoryview(bytes(values)))
    try:
        packed = struct.pack(f"<{len(values)}{CODES[dtype]}", *values)
    except (struct.error, OverflowError):
        refuse(f"input {name!r} holds a value that {dtype} cannot")
    return Tensor(name, dtype, shape, memoryview(packed))


def rows_of(name: str, data: memoryview, count: int) -> tuple[bytes, ...]:
    """The elements of BYTES in their binary form."""
    rows: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            refuse(f"input {name!r}: element {len(rows)} of its BYTES runs past the end of its data")
        rows.append(bytes(data[at + 4 : end]))
        at = end
    if len(rows) != count:
        refuse(f"input {name!r} has {len(rows)} BYTES elements, but its shape says {count}")
    return tuple(rows)


def pack_rows(rows: Sequence[bytes]) -> bytes:
    """BYTES elements in the protocol's binary form: 4-byte little-endian length, then the bytes."""
    return b"".join(len(row).to_bytes(4, "little") + row for row in rows)


def check_inputs(given: Sequence[Tensor], specs: Sequence[TensorSpec], model: str) -> None:
    """Refuses inputs that do not fit the model: an unknown or missing name, another datatype, another shape."""
    by_name = {spec.name: spec for spec in specs}
    for tensor in given:
        spec = by_name.get(tensor.name)
        if spec is None:
            refuse(f"model {model!r} has no input {tensor.name!r}; it takes {', '.join(by_name)}")
        if tensor.dtype != spec.dtype:
            refuse(f"input {tensor.name!r} of model {model!r} is {spec.dtype}, but the request sends {tensor.dtype}")
        fits = len(tensor.shape) == len(spec.shape) and all(s in (-1, t) for t, s in zip(tensor.shape, spec.shape, strict=True))
        if not fits:
            refuse(f"input {tensor.name!r} of model {model!r} has shape {list(spec.shape)}, but {list(tensor.shape)} was sent")
    missing = [spec.name for spec in specs if not spec.optional and all(spec.name != tensor.name for tensor in given)]
    if missing:
        refuse(f"input {missing[0]!r} of model {model!r} is missing")


def check_outputs(wanted: Sequence[Wanted], specs: Sequence[TensorSpec], model: str) -> None:
    """Refuses an output that the model does not give."""
    known = [spec.name for spec in specs]
    for output in wanted:
        if output.name not in known:
            refuse(f"model {model!r} has no output {output.name!r}; it gives {', '.join(known)}")


def refuse(message: str, reason: Reason = Reason.BAD_REQUEST) -> NoReturn:
    """Raises the refusal of a request that is not right as it is."""
    raise Refusal(reason, message)
