"""ModelInfer's two messages: what protocol buffers read, and tensors that stay where they are.

A request's raw tensors are cut out of the message before it is parsed, as views, and an answer's are put behind the rest: the
stock classes copy each tensor twice on its way in and twice on its way out, which for a camera frame takes longer than the rest.
Source: the protocol buffers encoding (a message is a run of tagged fields, in any order; of two in a row, one message is made).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import BYTES, Tensor
from nearhall.gateway.grpc import open_inference_pb2 as pb
from nearhall.wire.oip_tensors import (
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
    whole,
)

_RAW_INPUT = 7 << 3 | 2
_RAW_OUTPUT = bytes([6 << 3 | 2])
_INPUT_PARAMETERS = frozenset({"binary_data_size", "content_type"})
_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""Where the values of a type are when they are not raw bytes; FP16 has no such place."""


def read(data: bytes) -> tuple[pb.ModelInferRequest, list[memoryview]]:
    """The message without its raw tensors, and those; raises Refusal(BAD_REQUEST)."""
    rest, raw = without_raw(data)
    try:
        return pb.ModelInferRequest.FromString(rest), raw
    except DecodeError as error:
        raise Refusal(Reason.BAD_REQUEST, f"the message is no ModelInferRequest: {error}") from error


def request_of(message: pb.ModelInferRequest, raw: Sequence[memoryview]) -> InferRequest:
    """What the message asks for; raises Refusal(BAD_REQUEST | UNSUPPORTED)."""
    check_count(len(message.inputs))
    if raw and len(raw) != len(message.inputs):
        refuse(
            f"raw_input_contents has {len(raw)} entries for {len(message.inputs)} inputs; one for each input, or none, is right"
        )
    inputs: list[Tensor] = []
    for index, item in enumerate(message.inputs):
        tensor = _input(item, raw[index] if raw else None)
        if any(tensor.name == known.name for known in inputs):
            refuse(f"input {tensor.name!r} is given twice")
        inputs.append(tensor)
    parameters = _plain(message.parameters)
    only_known(parameters, REQUEST_PARAMETERS, "the request")
    return InferRequest(
        id=message.id,
        inputs=tuple(inputs),
        outputs=tuple(_wanted(item) for item in message.outputs),
        binary_by_default=True,
        timeout_us=whole(parameters, "timeout"),
        priority=whole(parameters, "priority"),
    )


def without_raw(data: bytes) -> tuple[bytes, list[memoryview]]:
    """The message without its raw tensors, and those; raises Refusal(BAD_REQUEST) for bytes that are no message."""
    view = memoryview(data)
    raw: list[memoryview] = []
    kept: list[memoryview] = []
    at = since = 0
    end = len(data)
    while at < end:
        begun = at
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(data, at)
            if tag == _RAW_INPUT:
                raw.append(view[at : at + length])
                kept.append(view[since:begun])
                since = at + length
            at += length
        elif kind == 0:
            _, at = _varint(data, at)
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        else:
            refuse(f"the message is no ModelInferRequest: byte {begun} begins no field")
        if at > end:
            refuse(f"the message is no ModelInferRequest: the field at byte {begun} runs past its end")
    kept.append(view[since:])
    return b"".join(kept), raw


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to ten bytes, seven bits in each, the lowest first; and where it ends."""
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
            shift += 7
            if shift > 63:
                refuse(f"the message is no ModelInferRequest: the number at byte {at} does not end")
    except IndexError:
        refuse("the message is no ModelInferRequest: it ends too early")


def _input(item: pb.ModelInferRequest.InferInputTensor, raw: memoryview | None) -> Tensor:
    name, dtype, shape = item.name, item.datatype, tuple(item.shape)
    check_head(name, dtype, shape)
    if item.parameters:
        check_input_parameters(name, _plain(item.parameters), _INPUT_PARAMETERS)
    if raw is not None:
        if item.HasField("contents"):
            refuse(f"input {name!r} has contents beside raw_input_contents; one of them is right")
        return from_bytes(name, dtype, shape, raw)
    field = _CONTENTS.get(dtype)
    if field is None:
        refuse(f"input {name!r} is {dtype}, which only raw_input_contents can hold")
    contents = item.contents
    for other, _ in contents.ListFields():
        if other.name != field:
            refuse(f"input {name!r} is {dtype}, so its values go into {field}, not into {other.name}")
    return from_values(name, dtype, shape, getattr(contents, field))


def _wanted(item: pb.ModelInferRequest.InferRequestedOutputTensor) -> Wanted:
    check_output_parameters(item.name, _plain(item.parameters))
    return Wanted(name=item.name, binary=True)


def _plain(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    """Parameters as plain values; one without a value is None."""
    plain: dict[str, Any] = {}
    for key, value in parameters.items():
        which = value.WhichOneof("parameter_choice")
        plain[key] = None if which is None else getattr(value, which)
    return plain


def encode_response(*, model: str, version: str, request: InferRequest, outputs: Sequence[Tensor]) -> bytes:
    """The answer, its tensors as raw bytes: in an array's own form they need no second look at either end."""
    head = pb.ModelInferResponse(model_name=model, model_version=version, id=request.id)
    for tensor in outputs:
        head.outputs.add(name=tensor.name, datatype=tensor.dtype, shape=tensor.shape)
    return b"".join([head.SerializeToString(), *_raw_fields(outputs)])


def _raw_fields(outputs: Iterable[Tensor]) -> Iterable[bytes | memoryview]:
    for tensor in outputs:
        yield _RAW_OUTPUT + _as_varint(tensor.data.nbytes)
        yield tensor.data


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
