"""ModelInfer's messages: what is sent is read, as the stock library reads it, and whatever else comes is refused in words."""

from __future__ import annotations

import math
import struct

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import BYTES, ITEM_BYTES, Tensor
from nearhall.gateway.grpc import open_inference_pb2 as pb
from nearhall.gateway.grpc.messages import encode_response, read, request_of, without_raw
from nearhall.wire.oip_tensors import InferRequest, pack_rows

FIELDS = {
    "BOOL": ("bool_contents", st.booleans()),
    "INT8": ("int_contents", st.integers(-128, 127)),
    "INT16": ("int_contents", st.integers(-(2**15), 2**15 - 1)),
    "INT32": ("int_contents", st.integers(-(2**31), 2**31 - 1)),
    "INT64": ("int64_contents", st.integers(-(2**63), 2**63 - 1)),
    "UINT8": ("uint_contents", st.integers(0, 255)),
    "UINT16": ("uint_contents", st.integers(0, 2**16 - 1)),
    "UINT32": ("uint_contents", st.integers(0, 2**32 - 1)),
    "UINT64": ("uint64_contents", st.integers(0, 2**64 - 1)),
    "FP32": ("fp32_contents", st.floats(width=32, allow_nan=False)),
    "FP64": ("fp64_contents", st.floats(allow_nan=False)),
    BYTES: ("bytes_contents", st.binary(max_size=6)),
}
CODES = {"BOOL": "?", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I"}
CODES |= {"UINT64": "Q", "FP32": "f", "FP64": "d"}


def asked(*, raw=(), inputs=(("x", "FP32", [1]),), **fields):
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=raw, **fields)
    for name, dtype, shape in inputs:
        message.inputs.add(name=name, datatype=dtype, shape=shape)
    return message


def decoded(message):
    found, raw = read(message.SerializeToString())
    return request_of(found, raw)


@given(st.data(), st.sampled_from(sorted(FIELDS)), st.lists(st.integers(0, 3), max_size=3))
def test_typed_values_are_packed_as_raw_bytes_would_be(data, dtype, shape):
    field, values = FIELDS[dtype]
    given_values = data.draw(st.lists(values, min_size=math.prod(shape), max_size=math.prod(shape)))
    message = asked(inputs=[("x", dtype, shape)])
    getattr(message.inputs[0].contents, field).extend(given_values)
    (found,) = decoded(message).inputs
    if dtype == BYTES:
        assert (bytes(found.data), tuple(found.rows)) == (pack_rows(given_values), tuple(given_values))
    else:
        assert bytes(found.data) == struct.pack(f"<{len(given_values)}{CODES[dtype]}", *given_values)
    assert (found.name, found.dtype, found.shape) == ("x", dtype, tuple(shape))


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=4), st.booleans())
def test_raw_tensors_are_views_into_the_message(lengths, tail_first):
    message = asked(inputs=[(f"x{i}", "UINT8", [n]) for i, n in enumerate(lengths)], id="7")
    head = message.SerializeToString()
    raw = pb.ModelInferRequest(raw_input_contents=[bytes([i]) * n for i, n in enumerate(lengths)]).SerializeToString()
    data = raw + head if tail_first else head + raw
    found, cut = read(data)
    request = request_of(found, cut)
    assert request.id == "7"
    assert [bytes(tensor.data) for tensor in request.inputs] == [bytes([i]) * n for i, n in enumerate(lengths)]
    assert all(tensor.data.obj is data for tensor in request.inputs)


parameters = st.dictionaries(
    st.sampled_from(["timeout", "priority", "binary_data_output", "sequence_id", "shared_memory_region", "classification", "x"]),
    st.one_of(
        st.integers(-(2**63), 2**63 - 1).map(lambda n: pb.InferParameter(int64_param=n)),
        st.booleans().map(lambda b: pb.InferParameter(bool_param=b)),
        st.text(max_size=3).map(lambda t: pb.InferParameter(string_param=t)),
        st.floats().map(lambda f: pb.InferParameter(double_param=f)),
        st.just(pb.InferParameter()),
    ),
    max_size=2,
)


@st.composite
def odd_messages(draw):
    message = pb.ModelInferRequest(model_name=draw(st.text(max_size=4)), raw_input_contents=draw(st.lists(st.binary(max_size=9))))
    for _ in range(draw(st.integers(0, 3))):
        item = message.inputs.add(
            name=draw(st.sampled_from(["x", "y", ""])),
            datatype=draw(st.sampled_from([*ITEM_BYTES, BYTES, "FP8", ""])),
            shape=draw(st.lists(st.integers(-2, 3) | st.integers(-(2**63), 2**63 - 1), max_size=4)),
        )
        for key, value in draw(parameters).items():
            item.parameters[key].CopyFrom(value)
        if draw(st.booleans()):
            item.contents.fp32_contents.extend(draw(st.lists(st.floats(width=32), max_size=3)))
        if draw(st.booleans()):
            item.contents.int_contents.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)))
    for key, value in draw(parameters).items():
        message.parameters[key].CopyFrom(value)
    for _ in range(draw(st.integers(0, 2))):
        output = message.outputs.add(name=draw(st.text(max_size=3)))
        for key, value in draw(parameters).items():
            output.parameters[key].CopyFrom(value)
    return message.SerializeToString()


def spoilt(data, place, byte):
    at = place % max(1, len(data))
    return data[:at] + bytes([byte]) + data[at + 1 :]


messages = st.binary(max_size=80) | odd_messages() | st.builds(spoilt, odd_messages(), st.integers(0, 400), st.integers(0, 255))


@given(messages)
def test_a_message_is_cut_exactly_where_the_stock_library_would(data):
    try:
        stock = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        with pytest.raises(Refusal):
            read(data)
        return
    try:
        found, raw = read(data)
    except Refusal as refusal:
        assert "begins no field" in refusal.message  # noqa: PT017 (groups, which the protocol has none of)
        return
    assert [bytes(view) for view in raw] == list(stock.raw_input_contents)
    del stock.raw_input_contents[:]
    assert found.SerializeToString(deterministic=True) == stock.SerializeToString(deterministic=True)


@given(messages)
def test_nothing_but_a_refusal_is_ever_raised(data):
    try:
        request_of(*read(data))
    except Refusal as refusal:
        assert refusal.reason in {Reason.BAD_REQUEST, Reason.UNSUPPORTED}  # noqa: PT017 (most of them are refused, some are not)


def typed(dtype, field, values):
    message = asked(inputs=[("x", dtype, [len(values)])])
    getattr(message.inputs[0].contents, field).extend(values)
    return message


def with_parameter(where, key, **value):
    message = asked(raw=[bytes(4)])
    message.outputs.add(name="y")
    holder = {"request": message, "input": message.inputs[0], "output": message.outputs[0]}[where]
    holder.parameters[key].CopyFrom(pb.InferParameter(**value))
    return message


BOTH = asked(raw=[bytes(4)])
BOTH.inputs[0].contents.fp32_contents.append(1.0)
REFUSED = {
    "no inputs": (asked(inputs=[]), "has 0 inputs"),
    "raw for some": (asked(inputs=[("x", "INT8", [1]), ("z", "INT8", [1])], raw=[b"1"]), "1 entries for 2 inputs"),
    "raw of another size": (asked(raw=[bytes(3)]), "needs 4 bytes, but has 3"),
    "both forms": (BOTH, "has contents beside raw_input_contents"),
    "neither form": (asked(), "has 0 values, but shape [1] needs 1"),
    "FP16 typed": (asked(inputs=[("x", "FP16", [1])]), "which only raw_input_contents can hold"),
    "the wrong field": (typed("FP32", "fp64_contents", [1.0]), "go into fp32_contents, not into fp64_contents"),
    "too large a value": (typed("INT8", "int_contents", [200]), "holds a value that INT8 cannot"),
    "a type that is none": (asked(inputs=[("x", "FP8", [1])], raw=[b"1"]), "has datatype 'FP8'"),
    "a negative length": (asked(inputs=[("x", "FP32", [-1])], raw=[b""]), "has shape [-1]"),
    "a name twice": (asked(inputs=[("x", "INT8", [1]), ("x", "INT8", [1])], raw=[b"1", b"2"]), "given twice"),
    "a half text": (asked(inputs=[("x", BYTES, [1])], raw=[b"\5\0\0\0a"]), "runs past the end"),
    "shared memory in": (with_parameter("input", "shared_memory_region", string_param="r"), "lies in shared memory"),
    "shared memory out": (with_parameter("output", "shared_memory_region", string_param="r"), "shall go to shared memory"),
    "classification": (with_parameter("output", "classification", int64_param=3), "classification extension"),
    "a sequence": (with_parameter("request", "sequence_id", int64_param=1), "'sequence_id'"),
    "a timeout in words": (with_parameter("request", "timeout", string_param="1"), "timeout"),
    "a negative timeout": (with_parameter("request", "timeout", int64_param=-1), "timeout is -1"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_told(case):
    message, says = case
    with pytest.raises(Refusal) as caught:
        decoded(message)
    assert says in caught.value.message
    assert caught.value.reason in {Reason.BAD_REQUEST, Reason.UNSUPPORTED}


TORN = {
    "past the end": (b"\x3a\x09abc", "runs past its end"),
    "an endless number": (b"\x08" + b"\xff" * 11, "does not end"),
    "cut in a number": (b"\x08\xff", "ends too early"),
    "cut in a tag": (b"\xff", "ends too early"),
    "a group": (b"\x0b\x0c", "begins no field"),
    "a fixed number cut off": (b"\x0d\x01", "runs past its end"),
    "field nought": (b"\x00\x01", "is no ModelInferRequest"),
    "no UTF-8": (b"\x0a\x01\xff", "is no ModelInferRequest"),
}


@pytest.mark.parametrize("case", TORN.values(), ids=TORN)
def test_torn_messages_are_told(case):
    data, says = case
    with pytest.raises(Refusal, match=says):
        read(data)


def test_fields_of_newer_clients_are_skipped():
    more = b"\xa0\x06\x01" + b"\xa5\x06abcd" + b"\xa1\x06abcdefgh" + b"\xa2\x06\x03abc"
    rest, raw = without_raw(more)
    assert (rest, raw) == (more, [])
    message = asked(raw=[bytes(4)], id="1")
    found, cut = read(more + message.SerializeToString() + more)
    assert request_of(found, cut).id == "1"


def test_parameters_are_read():
    message = with_parameter("request", "timeout", uint64_param=5)
    message.parameters["priority"].uint64_param = 2
    request = decoded(message)
    assert (request.timeout_us, request.priority, [wanted.name for wanted in request.outputs]) == (5, 2, ["y"])


@given(st.lists(st.binary(max_size=300), max_size=3), st.text(max_size=4))
def test_the_stock_library_reads_our_answer(blobs, identity):
    request = InferRequest(id=identity, inputs=(), outputs=(), binary_by_default=True, timeout_us=None, priority=None)
    outputs = [Tensor(f"y{i}", "UINT8", (len(blob),), memoryview(blob)) for i, blob in enumerate(blobs)]
    found = pb.ModelInferResponse.FromString(encode_response(model="m", version="3", request=request, outputs=outputs))
    assert (found.model_name, found.model_version, found.id) == ("m", "3", identity)
    assert list(found.raw_output_contents) == blobs
    assert [(o.name, o.datatype, list(o.shape)) for o in found.outputs] == [(t.name, "UINT8", list(t.shape)) for t in outputs]
