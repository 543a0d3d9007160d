"""Open Inference Protocol v2 over REST: requests and responses, JSON and the binary tensor extension.

Sources: the KServe/Triton v2 "inference protocol" and its "binary tensor data extension" (a JSON head of
`Inference-Header-Content-Length` bytes, then each binary tensor's bytes in the order in which the head names them).
Decoding raises nothing but `Refusal(BAD_REQUEST | UNSUPPORTED)`, which names the tensor and what would be right.
Binary tensors are views into the body: nothing is copied.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, prod
from typing import Any, cast

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import BYTES, ITEM_BYTES, Tensor
from nearhall.wire.oip_json import MARK, Array, Numbers, cut_out
from nearhall.wire.oip_tensors import (
    CODES,
    REQUEST_PARAMETERS,
    InferRequest,
    Wanted,
    check_count,
    check_head,
    check_input_parameters,
    check_output_parameters,
    from_bytes,
    from_values,
    only_known,
    refuse,
    rows_of,
    whether,
    whole,
)

_FLOATS = frozenset({"FP32", "FP64"})
_NESTED = re.compile(rb"[ \t\n\r]*+\[[ \t\n\r]*+\[")
_INPUT_PARAMETERS = frozenset({"binary_data_size", "content_type"})
_TELLING = frozenset({BYTES, "BOOL"})
"""Datatypes whose bytes may be wrong though their number is right."""


class _InputJson(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] = {}


class _OutputJson(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _AnswerJson(msgspec.Struct):
    outputs: list[_InputJson]
    model_name: str = ""
    model_version: str = ""


class _RequestJson(msgspec.Struct):
    inputs: list[_InputJson]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_OutputJson] = []


_request = msgspec.json.Decoder(_RequestJson)
_answer = msgspec.json.Decoder(_AnswerJson)
_flat_floats = msgspec.json.Decoder(list[float])
_flat_ints = msgspec.json.Decoder(list[int])
_flat_bools = msgspec.json.Decoder(list[bool])
_flat_texts = msgspec.json.Decoder(list[str])
_anything = msgspec.json.Decoder()


FORMS_KEPT = 256
FORM_BYTES_MAX = 2048
"""Heads of requests that are remembered, and how long they may be: a machine that asks sends the same one again and again, and
reading it anew was two thirds of the decoding, under a profiler. Together half a megabyte and what they are read to."""


_Announced = tuple[str, str, tuple[int, ...], int, bool]
"""Of an input: name, datatype, shape, bytes, and whether their number alone says if they are right."""


@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """A head, read and checked; the data of all inputs is elsewhere: behind it, or in arrays that were cut out of it.

    Compared by identity.
    """

    request: InferRequest
    """But for its inputs."""
    inputs: tuple[_Announced, ...]
    size: int
    """Bytes of all inputs."""


def decode_request(body: bytes | memoryview, head_bytes: int | None, numbers: Numbers | None = None) -> InferRequest:
    """A request from its body; `head_bytes` is the header `inference-header-content-length`, None for plain JSON.

    With `numbers`, which reads long arrays of them quickly, requests and refusals are the same.
    """
    view = memoryview(body)
    if head_bytes is None:
        quick = _decoded_quickly(body, numbers) if numbers is not None and isinstance(body, bytes) else None
        return _decoded(view, view[len(view) :]) if quick is None else quick
    if not 0 <= head_bytes <= len(view):
        refuse(f"inference-header-content-length is {head_bytes}, but the body has {len(view)} bytes")
    head, rest = view[:head_bytes], view[head_bytes:]
    form = _form(bytes(head)) if head_bytes <= FORM_BYTES_MAX else None
    if form is None or form.size != len(rest):
        return _decoded(head, rest)
    inputs: list[Tensor] = []
    at = 0
    for name, dtype, shape, size, plain in form.inputs:
        data = rest[at : at + size]
        inputs.append(Tensor(name, dtype, shape, data) if plain else from_bytes(name, dtype, shape, data))
        at += size
    return _with(form, inputs)


def _with(form: _Form, inputs: Sequence[Tensor]) -> InferRequest:
    """A request of this form."""
    known = form.request
    return InferRequest(
        id=known.id,
        inputs=tuple(inputs),
        outputs=known.outputs,
        binary_by_default=known.binary_by_default,
        timeout_us=known.timeout_us,
        priority=known.priority,
        form=form,
    )


@lru_cache(maxsize=FORMS_KEPT)
def _form(head: bytes) -> _Form | None:
    """What a head says; None where that is not all of it, or not right: then whoever reads it with its data says why."""
    try:
        request = _request.decode(head)
        check_count(len(request.inputs))
        inputs = [_announced(item) for item in request.inputs]
        known = _asked(request, ())
    except (Refusal, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return _known(known, inputs)


def _known(request: InferRequest, inputs: Sequence[_Announced]) -> _Form | None:
    if len({name for name, *_ in inputs}) < len(inputs) or any(size < 0 for _, _, _, size, _ in inputs):
        return None
    return _Form(request, tuple(inputs), sum(size for _, _, _, size, _ in inputs))


def _announced(item: _InputJson, *, of_numbers: bool = False) -> _Announced:
    """An input as `_Form` keeps it; -1 bytes where its data is not what a form can tell of."""
    name, dtype, shape = item.name, item.datatype, tuple(item.shape)
    check_head(name, dtype, shape)
    check_input_parameters(name, item.parameters, _INPUT_PARAMETERS)
    size = item.parameters.get("binary_data_size")
    needed = prod(shape) * ITEM_BYTES.get(dtype, 0)
    if of_numbers:
        size = needed if size is None and bytes(item.data) == MARK and dtype != BYTES else -1
    elif type(size) is not int or (dtype != BYTES and size != needed):
        size = -1
    return name, dtype, shape, size, dtype not in _TELLING


def _decoded(head: memoryview, rest: memoryview) -> InferRequest:
    """Reads all of a request."""
    try:
        request = _request.decode(head)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        refuse(f"the request is not an inference request: {error}{_of_no_number(head, str(error))}")
    return _taken(request, rest, _from_json)


def _of_no_number(head: memoryview, said: str) -> str:
    """What to do about NaN or an infinity, which some libraries write into JSON though it has no such words; else nothing."""
    found = re.search(r"invalid character \(byte (\d+)\)", said)
    at = 0 if found is None else int(found[1])
    word = next((word for word in (b"NaN", b"Infinity", b"nan", b"inf") if word in bytes(head[max(0, at - 8) : at + 9])), None)
    if found is None or word is None:
        return ""
    return f"; JSON has no {word.decode()}: send the tensor as binary data (binary_data_size)"


def _decoded_quickly(body: bytes, numbers: Numbers) -> InferRequest | None:
    """A request with long arrays of numbers; None for any other, and for what is to be refused: the plain way has the words."""
    cut = cut_out(body)
    if cut is None:
        return None
    form = _form_of_numbers(cut.head) if len(cut.head) <= FORM_BYTES_MAX else None
    if form is not None and len(form.inputs) == len(cut.arrays):
        return _filled(form, cut.arrays, numbers)
    arrays = iter(cut.arrays)

    def read(item: _InputJson) -> Tensor:
        if bytes(item.data) != MARK:
            return _from_json(item)
        array, shape = next(arrays), tuple(item.shape)
        data = numbers(array.text, item.datatype) if array.follows(shape) else None
        if data is None or len(data) != prod(shape) * ITEM_BYTES[item.datatype]:
            refuse("not as it is read quickly")
        return Tensor(item.name, item.datatype, shape, data)

    try:
        request = _taken(_request.decode(cut.head), memoryview(b""), read)
    except (Refusal, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return request if next(arrays, None) is None else None


@lru_cache(maxsize=FORMS_KEPT)
def _form_of_numbers(head: bytes) -> _Form | None:
    """What is left of a request whose inputs are all long arrays; None for any other, and for what is not right."""
    try:
        request = _request.decode(head)
        check_count(len(request.inputs))
        inputs = [_announced(item, of_numbers=True) for item in request.inputs]
        known = _asked(request, ())
    except (Refusal, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return _known(known, inputs)


def _filled(form: _Form, arrays: Sequence[Array], numbers: Numbers) -> InferRequest | None:
    """The request of this form with these arrays, one for each input; None where one is not what its input says."""
    inputs: list[Tensor] = []
    for (name, dtype, shape, size, _), array in zip(form.inputs, arrays, strict=True):
        data = numbers(array.text, dtype) if array.follows(shape) else None
        if data is None or len(data) != size:
            return None
        inputs.append(Tensor(name, dtype, shape, data))
    return _with(form, inputs)


def _taken(request: _RequestJson, rest: memoryview, read: Callable[[_InputJson], Tensor]) -> InferRequest:
    """The request, checked; `rest` is the binary part, and `read` takes the inputs whose data is JSON."""
    check_count(len(request.inputs))
    inputs: list[Tensor] = []
    for item in request.inputs:
        tensor, rest = _input(item, rest, read)
        if any(tensor.name == known.name for known in inputs):
            refuse(f"input {tensor.name!r} is given twice")
        inputs.append(tensor)
    if len(rest):
        refuse(f"{len(rest)} bytes follow the last binary input; binary_data_size does not add up to the body")
    return _asked(request, tuple(inputs))


def _asked(request: _RequestJson, inputs: tuple[Tensor, ...]) -> InferRequest:
    parameters = request.parameters
    only_known(parameters, REQUEST_PARAMETERS, "the request")
    return InferRequest(
        id=request.id,
        inputs=inputs,
        outputs=tuple(Wanted(name=o.name, binary=_wants_binary(o, parameters)) for o in request.outputs),
        binary_by_default=whether(parameters, "binary_data_output") is True,
        timeout_us=whole(parameters, "timeout"),
        priority=whole(parameters, "priority"),
    )


def _wants_binary(output: _OutputJson, parameters: Mapping[str, Any]) -> bool:
    check_output_parameters(output.name, output.parameters)
    asked = whether(output.parameters, "binary_data")
    return whether(parameters, "binary_data_output") is True if asked is None else asked


def _input(item: _InputJson, rest: memoryview, read: Callable[[_InputJson], Tensor]) -> tuple[Tensor, memoryview]:
    """One input and what is left of the binary part."""
    name, dtype, shape = item.name, item.datatype, tuple(item.shape)
    check_head(name, dtype, shape)
    check_input_parameters(name, item.parameters, _INPUT_PARAMETERS)
    size = item.parameters.get("binary_data_size")
    if size is None:
        return read(item), rest
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        refuse(f"input {name!r} has binary_data_size {size!r}, but {len(rest)} bytes are left in the body")
    return from_bytes(name, dtype, shape, rest[:size]), rest[size:]


def _from_json(item: _InputJson) -> Tensor:
    name, dtype, shape, raw = item.name, item.datatype, tuple(item.shape), item.data
    if dtype == "FP16":
        refuse(f"input {name!r} is FP16, which has no JSON form; send it as binary data (binary_data_size)")
    if not memoryview(raw).nbytes:
        refuse(f"input {name!r} has neither data nor binary_data_size")
    try:
        values = _flat(dtype, raw, shape)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        refuse(f"input {name!r} is not a list of {dtype} values: {error}")
    return from_values(name, dtype, shape, [text.encode() for text in values] if dtype == BYTES else values)


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
    if _NESTED.match(raw) is None:
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


def encode_request(request: InferRequest) -> tuple[bytes, int]:
    """A request in the binary form, whatever it came as, with all its outputs asked for as binary; the length of its JSON head.

    Deadlines and priority are left out: forwarding states what is left of them in headers.
    """
    head: dict[str, Any] = {
        "inputs": [
            {"name": t.name, "datatype": t.dtype, "shape": t.shape, "parameters": {"binary_data_size": len(t.data)}}
            for t in request.inputs
        ],
        "parameters": {"binary_data_output": True},
    }
    if request.outputs:
        head["outputs"] = [{"name": wanted.name, "parameters": {"binary_data": True}} for wanted in request.outputs]
    if request.id:
        head["id"] = request.id
    encoded = msgspec.json.encode(head)
    return b"".join([encoded, *(tensor.data for tensor in request.inputs)]), len(encoded)


def decode_response(body: bytes, head_bytes: int | None) -> tuple[str, str, tuple[Tensor, ...]]:
    """Model, version and outputs from another server's answer; raises Refusal(RUNTIME_FAILED) where it cannot be read."""
    view = memoryview(body)
    length = len(view) if head_bytes is None else head_bytes
    try:
        answer = _answer.decode(view[:length])
        rest = view[length:]
        outputs: list[Tensor] = []
        for item in answer.outputs:
            item.parameters = {key: value for key, value in item.parameters.items() if key in _INPUT_PARAMETERS}
            tensor, rest = _input(item, rest, _from_json)
            outputs.append(tensor)
        if len(rest):
            refuse(f"{len(rest)} bytes follow its last output")
    except (Refusal, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        refuse(f"the answer of the server behind this one cannot be read: {error}", Reason.RUNTIME_FAILED)
    return answer.model_name, answer.model_version, tuple(outputs)


def json_values(tensor: Tensor) -> list[Any]:
    """The tensor's values as JSON holds them; refuses what JSON cannot hold (FP16, non-finite, bytes that are no text)."""
    if tensor.dtype == BYTES:
        rows = tensor.rows if tensor.rows is not None else rows_of(tensor.name, tensor.data, tensor.count)
        try:
            return [row.decode() for row in rows]
        except UnicodeDecodeError:
            refuse(f"output {tensor.name!r} holds bytes that are no UTF-8 text; ask for it as binary_data", Reason.UNSUPPORTED)
    if tensor.dtype == "FP16":
        refuse(f"output {tensor.name!r} is FP16, which has no JSON form; ask for it as binary_data", Reason.UNSUPPORTED)
    if tensor.dtype == "BOOL":
        return [byte != 0 for byte in tensor.data]
    values: list[Any] = list(struct.unpack(f"<{tensor.count}{CODES[tensor.dtype]}", tensor.data))
    if tensor.dtype in _FLOATS and not isfinite(sum(values)) and not all(map(isfinite, values)):
        refuse(f"output {tensor.name!r} holds a value that is not finite; ask for it as binary_data", Reason.UNSUPPORTED)
    return values
