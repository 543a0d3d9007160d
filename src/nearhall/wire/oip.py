"""Open Inference Protocol v2 over REST: requests and responses, JSON and the binary tensor extension.

Sources: the KServe/Triton v2 "inference protocol" and its "binary tensor data extension" (a JSON head of
`Inference-Header-Content-Length` bytes, then each binary tensor's bytes in the order in which the head names them).
Decoding raises nothing but `Refusal(BAD_REQUEST | UNSUPPORTED)`, which names the tensor and what would be right.
Binary tensors are views into the body: nothing is copied.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, NoReturn, cast

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import BYTES, ITEM_BYTES, Tensor, TensorSpec

EXTENSIONS: tuple[str, ...] = ("binary_tensor_data", "model_repository")
"""Advertised in the server metadata; only what is really there."""
TENSORS_MAX = 64
RANK_MAX = 16

_CODES: dict[str, str] = {
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
_FLOATS = frozenset({"FP32", "FP64"})
_REQUEST_PARAMETERS = frozenset({"binary_data_output", "timeout", "priority", "content_type"})
"""`content_type` is MLServer's note on how a client's library packed the data; the bytes say the same."""
_INPUT_PARAMETERS = frozenset({"binary_data_size", "content_type"})
_OUTPUT_PARAMETERS = frozenset({"binary_data", "content_type"})


class _InputJson(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] = {}


class _OutputJson(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _RequestJson(msgspec.Struct):
    inputs: list[_InputJson]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_OutputJson] = []


_request = msgspec.json.Decoder(_RequestJson)
_flat_floats = msgspec.json.Decoder(list[float])
_flat_ints = msgspec.json.Decoder(list[int])
_flat_bools = msgspec.json.Decoder(list[bool])
_flat_texts = msgspec.json.Decoder(list[str])
_anything = msgspec.json.Decoder()


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


def decode_request(body: bytes | memoryview, head_bytes: int | None) -> InferRequest:
    """A request from its body; `head_bytes` is the header `inference-header-content-length`, None for plain JSON."""
    view = memoryview(body)
    if head_bytes is None:
        head, rest = view, view[len(view) :]
    elif 0 <= head_bytes <= len(view):
        head, rest = view[:head_bytes], view[head_bytes:]
    else:
        _refuse(f"inference-header-content-length is {head_bytes}, but the body has {len(view)} bytes")
    try:
        request = _request.decode(head)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        _refuse(f"the request is not an inference request: {error}")
    if not 1 <= len(request.inputs) <= TENSORS_MAX:
        _refuse(f"the request has {len(request.inputs)} inputs; 1 to {TENSORS_MAX} are allowed")
    inputs: list[Tensor] = []
    for item in request.inputs:
        tensor, rest = _input(item, rest)
        if any(tensor.name == known.name for known in inputs):
            _refuse(f"input {tensor.name!r} is given twice")
        inputs.append(tensor)
    if len(rest):
        _refuse(f"{len(rest)} bytes follow the last binary input; binary_data_size does not add up to the body")
    parameters = request.parameters
    _only_known(parameters, _REQUEST_PARAMETERS, "the request")
    return InferRequest(
        id=request.id,
        inputs=tuple(inputs),
        outputs=tuple(Wanted(name=o.name, binary=_wants_binary(o, parameters)) for o in request.outputs),
        binary_by_default=parameters.get("binary_data_output") is True,
        timeout_us=_whole(parameters, "timeout"),
        priority=_whole(parameters, "priority"),
    )


def _wants_binary(output: _OutputJson, parameters: Mapping[str, Any]) -> bool:
    if output.parameters.get("classification"):
        _refuse("the classification extension is not served; take the output itself", Reason.UNSUPPORTED)
    _only_known(
        {key: value for key, value in output.parameters.items() if key != "classification"},
        _OUTPUT_PARAMETERS,
        f"output {output.name!r}",
    )
    asked = output.parameters.get("binary_data")
    return asked if isinstance(asked, bool) else parameters.get("binary_data_output") is True


def _only_known(parameters: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for key in parameters:
        if key not in known:
            _refuse(
                f"{where} has the parameter {key!r}, which is not supported; known: {', '.join(sorted(known))}",
                Reason.UNSUPPORTED,
            )


def _whole(parameters: Mapping[str, Any], key: str) -> int | None:
    value = parameters.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _refuse(f"parameters.{key} is {value!r}; a whole number of at least 0 is right")
    return value


def _input(item: _InputJson, rest: memoryview) -> tuple[Tensor, memoryview]:
    """One input and what is left of the binary part."""
    name, dtype, shape = item.name, item.datatype, tuple(item.shape)
    if dtype != BYTES and dtype not in ITEM_BYTES:
        _refuse(f"input {name!r} has datatype {dtype!r}; known: {', '.join([*ITEM_BYTES, BYTES])}")
    if len(shape) > RANK_MAX or any(length < 0 for length in shape):
        _refuse(f"input {name!r} has shape {list(shape)}; lengths of at least 0 in at most {RANK_MAX} dimensions are right")
    if any(key.startswith("shared_memory") for key in item.parameters):
        _refuse(f"input {name!r} lies in shared memory, which is not served; send it in the body", Reason.UNSUPPORTED)
    _only_known(item.parameters, _INPUT_PARAMETERS, f"input {name!r}")
    size = item.parameters.get("binary_data_size")
    if size is None:
        return _from_json(name, dtype, shape, item.data), rest
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        _refuse(f"input {name!r} has binary_data_size {size!r}, but {len(rest)} bytes are left in the body")
    data, rest = rest[:size], rest[size:]
    if dtype == BYTES:
        return Tensor(name, dtype, shape, data, _rows(name, data, prod(shape))), rest
    expected = prod(shape) * ITEM_BYTES[dtype]
    if size != expected:
        _refuse(f"input {name!r} of shape {list(shape)} and datatype {dtype} needs {expected} bytes, but has {size}")
    if dtype == "BOOL" and bytes(data).translate(None, b"\0\1"):
        _refuse(f"input {name!r} is BOOL, but has a byte other than 0 and 1")
    return Tensor(name, dtype, shape, data), rest


def _rows(name: str, data: memoryview, count: int) -> tuple[bytes, ...]:
    rows: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            _refuse(f"input {name!r}: element {len(rows)} of its BYTES runs past the end of its data")
        rows.append(bytes(data[at + 4 : end]))
        at = end
    if len(rows) != count:
        _refuse(f"input {name!r} has {len(rows)} BYTES elements, but its shape says {count}")
    return tuple(rows)


def _from_json(name: str, dtype: str, shape: tuple[int, ...], raw: msgspec.Raw) -> Tensor:
    if dtype == "FP16":
        _refuse(f"input {name!r} is FP16, which has no JSON form; send it as binary data (binary_data_size)")
    if not memoryview(raw).nbytes:
        _refuse(f"input {name!r} has neither data nor binary_data_size")
    try:
        values = _flat(dtype, raw, shape)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        _refuse(f"input {name!r} is not a list of {dtype} values: {error}")
    if len(values) != prod(shape):
        _refuse(f"input {name!r} has {len(values)} values, but shape {list(shape)} needs {prod(shape)}")
    if dtype == BYTES:
        rows = tuple(text.encode() for text in values)
        return Tensor(name, dtype, shape, memoryview(pack_rows(rows)), rows)
    if dtype == "BOOL":
        return Tensor(name, dtype, shape, memoryview(bytes(values)))
    try:
        packed = struct.pack(f"<{len(values)}{_CODES[dtype]}", *values)
    except (struct.error, OverflowError):
        _refuse(f"input {name!r} holds a value that {dtype} cannot")
    return Tensor(name, dtype, shape, memoryview(packed))


def _flat(dtype: str, raw: msgspec.Raw, shape: tuple[int, ...]) -> list[Any]:
    """The values in row-major order; JSON may nest them by dimension or give them flat."""
    if dtype in _FLOATS:
        decoder: msgspec.json.Decoder[Any] = _flat_floats
    elif dtype == "BOOL":
        decoder = _flat_bools
    elif dtype == BYTES:
        decoder = _flat_texts
    else:
        decoder = _flat_ints
    if bytes(memoryview(raw)[:64]).lstrip()[1:].lstrip()[:1] != b"[":
        return decoder.decode(raw)
    found = cast("list[Any]", _anything.decode(raw))
    for length in shape[1:]:
        flat: list[Any] = []
        for part in found:
            if not isinstance(part, list) or len(cast("list[Any]", part)) != length:
                raise msgspec.DecodeError(f"the nesting does not follow the shape {list(shape)}")
            flat.extend(cast("list[Any]", part))
        found = flat
    return msgspec.convert(found, decoder.type)


def pack_rows(rows: Sequence[bytes]) -> bytes:
    """BYTES elements in the protocol's binary form: 4-byte little-endian length, then the bytes."""
    return b"".join(len(row).to_bytes(4, "little") + row for row in rows)


def encode_response(
    *, model: str, version: str, request: InferRequest, outputs: Sequence[Tensor], parameters: Mapping[str, Any] | None = None
) -> tuple[bytes, int | None]:
    """The response's body, and the length of its JSON head when binary tensors follow it (None: plain JSON)."""
    binary = {wanted.name: wanted.binary for wanted in request.outputs}
    described: list[dict[str, Any]] = []
    tail: list[memoryview] = []
    for tensor in outputs:
        described.append(item := {"name": tensor.name, "datatype": tensor.dtype, "shape": tensor.shape})
        if binary.get(tensor.name, request.binary_by_default):
            item["parameters"] = {"binary_data_size": len(tensor.data)}
            tail.append(tensor.data)
        else:
            item["data"] = json_values(tensor)
    head: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if request.id:
        head["id"] = request.id
    if parameters:
        head["parameters"] = dict(parameters)
    encoded = msgspec.json.encode(head)
    return (b"".join([encoded, *tail]), len(encoded)) if tail else (encoded, None)


def json_values(tensor: Tensor) -> list[Any]:
    """The tensor's values as JSON holds them; refuses what JSON cannot hold (FP16, non-finite, bytes that are no text)."""
    if tensor.dtype == BYTES:
        rows = tensor.rows if tensor.rows is not None else _rows(tensor.name, tensor.data, tensor.count)
        try:
            return [row.decode() for row in rows]
        except UnicodeDecodeError:
            _refuse(f"output {tensor.name!r} holds bytes that are no UTF-8 text; ask for it as binary_data", Reason.UNSUPPORTED)
    if tensor.dtype == "FP16":
        _refuse(f"output {tensor.name!r} is FP16, which has no JSON form; ask for it as binary_data", Reason.UNSUPPORTED)
    if tensor.dtype == "BOOL":
        return [byte != 0 for byte in tensor.data]
    values: list[Any] = list(struct.unpack(f"<{tensor.count}{_CODES[tensor.dtype]}", tensor.data))
    if tensor.dtype in _FLOATS and not isfinite(sum(values)) and not all(map(isfinite, values)):
        _refuse(f"output {tensor.name!r} holds a value that is not finite; ask for it as binary_data", Reason.UNSUPPORTED)
    return values


def check_inputs(given: Sequence[Tensor], specs: Sequence[TensorSpec], model: str) -> None:
    """Refuses inputs that do not fit the model: an unknown or missing name, another datatype, another shape."""
    by_name = {spec.name: spec for spec in specs}
    for tensor in given:
        spec = by_name.get(tensor.name)
        if spec is None:
            _refuse(f"model {model!r} has no input {tensor.name!r}; it takes {', '.join(by_name)}")
        if tensor.dtype != spec.dtype:
            _refuse(f"input {tensor.name!r} of model {model!r} is {spec.dtype}, but the request sends {tensor.dtype}")
        fits = len(tensor.shape) == len(spec.shape) and all(s in (-1, t) for t, s in zip(tensor.shape, spec.shape, strict=True))
        if not fits:
            _refuse(f"input {tensor.name!r} of model {model!r} has shape {list(spec.shape)}, but {list(tensor.shape)} was sent")
    missing = [spec.name for spec in specs if not spec.optional and all(spec.name != tensor.name for tensor in given)]
    if missing:
        _refuse(f"input {missing[0]!r} of model {model!r} is missing")


def check_outputs(wanted: Sequence[Wanted], specs: Sequence[TensorSpec], model: str) -> None:
    """Refuses an output that the model does not give."""
    known = [spec.name for spec in specs]
    for output in wanted:
        if output.name not in known:
            _refuse(f"model {model!r} has no output {output.name!r}; it gives {', '.join(known)}")


def server_metadata(version: str) -> bytes:
    """GET /v2."""
    return msgspec.json.encode({"name": "nearhall", "version": version, "extensions": EXTENSIONS})


def model_metadata(
    *, name: str, versions: Sequence[str], platform: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> bytes:
    """GET /v2/models/{name}."""

    def described(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [{"name": spec.name, "datatype": spec.dtype, "shape": spec.shape} for spec in specs]

    head = {"name": name, "versions": versions, "platform": platform, "inputs": described(inputs), "outputs": described(outputs)}
    return msgspec.json.encode(head)


def _refuse(message: str, reason: Reason = Reason.BAD_REQUEST) -> NoReturn:
    raise Refusal(reason, message)
