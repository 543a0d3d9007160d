"""The v2 codec: what is encoded comes back, and malformed input raises a Refusal and nothing else."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import BYTES, ITEM_BYTES, Tensor, TensorSpec
from nearhall.wire import oip
from nearhall.wire.oip import decode_request, decode_response, encode_request, encode_response
from nearhall.wire.oip_tensors import (
    InferRequest,
    Wanted,
    check_inputs,
    check_outputs,
    pack_rows,
    rank_of,
)

CODES = {"UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q"}
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def tensors(draw, *, in_json: bool = False, name: str = "t"):
    shape = draw(shapes)
    count = math.prod(shape)
    dtype = draw(st.sampled_from([BYTES, *(kind for kind in ITEM_BYTES if not (in_json and kind == "FP16"))]))
    if dtype == BYTES:
        row = st.text(max_size=8).map(lambda text: text.encode()) if in_json else st.binary(max_size=8)
        rows = tuple(draw(st.lists(row, min_size=count, max_size=count)))
        return Tensor(name, dtype, shape, memoryview(pack_rows(rows)), rows)
    if dtype == "BOOL":
        data = bytes(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    elif dtype.startswith("FP"):
        bits = int(dtype[2:])
        values = draw(st.lists(st.floats(width=bits, allow_nan=False, allow_infinity=False), min_size=count, max_size=count))
        data = struct.pack(f"<{count}{ {16: 'e', 32: 'f', 64: 'd'}[bits] }".replace(" ", ""), *values)
    else:
        data = draw(st.binary(min_size=count * ITEM_BYTES[dtype], max_size=count * ITEM_BYTES[dtype]))
    return Tensor(name, dtype, shape, memoryview(data))


def json_data(tensor, *, nested):
    if tensor.dtype == BYTES:
        flat = [row.decode() for row in tensor.rows]
    elif tensor.dtype == "BOOL":
        flat = [bool(byte) for byte in tensor.data]
    else:
        code = {"FP32": "f", "FP64": "d"}.get(tensor.dtype) or CODES[tensor.dtype]
        flat = list(struct.unpack(f"<{tensor.count}{code}", tensor.data))
    if nested and tensor.count:
        for length in reversed(tensor.shape[1:]):
            flat = [flat[i : i + length] for i in range(0, len(flat), length)]
    return flat


def same(found, expected):
    assert (found.name, found.dtype, found.shape, bytes(found.data)) == (
        expected.name,
        expected.dtype,
        expected.shape,
        bytes(expected.data),
    )
    assert expected.dtype != BYTES or tuple(found.rows) == tuple(expected.rows)


@given(tensors(in_json=True), st.booleans())
def test_json_tensors_come_back(tensor, nested):
    item = {"name": "t", "datatype": tensor.dtype, "shape": tensor.shape, "data": json_data(tensor, nested=nested)}
    found = decode_request(json.dumps({"id": "7", "inputs": [item]}).encode(), None)
    assert found.id == "7"
    same(found.inputs[0], tensor)


@given(st.lists(tensors(), min_size=1, max_size=4))
def test_binary_tensors_come_back_without_a_copy(given_tensors):
    named = [Tensor(f"t{i}", t.dtype, t.shape, t.data, t.rows) for i, t in enumerate(given_tensors)]
    items = [
        {"name": t.name, "datatype": t.dtype, "shape": t.shape, "parameters": {"binary_data_size": len(t.data)}} for t in named
    ]
    head = json.dumps({"inputs": items, "parameters": {"timeout": 5, "priority": 1, "binary_data_output": True}}).encode()
    body = head + b"".join(bytes(t.data) for t in named)
    found = decode_request(body, len(head))
    assert (found.timeout_us, found.priority, found.binary_by_default) == (5, 1, True)
    for one, expected in zip(found.inputs, named, strict=True):
        same(one, expected)
        assert one.data.obj is body


def request(*, outputs=(), binary=False, identity=""):
    return InferRequest(id=identity, inputs=(), outputs=tuple(outputs), binary_by_default=binary, timeout_us=None, priority=None)


@given(tensors(in_json=True), st.booleans(), st.booleans())
def test_responses_are_read_back_as_requests(tensor, binary, named):
    asked = request(outputs=[Wanted(name="t", binary=binary)] if named else [], binary=binary, identity="9")
    body, head = encode_response(model="m", version="1", request=asked, outputs=[tensor])
    assert (head is not None) == binary
    plain = json.loads(body[:head])
    assert (plain["model_name"], plain["model_version"], plain["id"]) == ("m", "1", "9")
    again = json.dumps({"inputs": plain["outputs"]}).encode()
    if head is None:
        same(decode_request(again, None).inputs[0], tensor)
    else:
        same(decode_request(again + body[head:], len(again)).inputs[0], tensor)


BINARY = {"name": "a", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}


def head_and_body(item, tail):
    head = json.dumps({"inputs": [item] if isinstance(item, dict) else item}).encode()
    return head + tail, len(head)


EMPTY = {"name": "a", "datatype": "FP32", "shape": [0], "data": []}


def plain(item, **more):
    return json.dumps({"inputs": [item], **more}).encode(), None


MALFORMED = {
    "bytes missing": (head_and_body(BINARY, bytes(7)), "7 bytes are left"),
    "bytes left over": (head_and_body(BINARY, bytes(9)), "1 bytes follow the last binary input"),
    "size is no number": (head_and_body(BINARY | {"parameters": {"binary_data_size": True}}, bytes(8)), "binary_data_size True"),
    "size and shape apart": (head_and_body(BINARY | {"shape": [3]}, bytes(8)), "needs 12 bytes, but has 8"),
    "a bool of 2": (
        head_and_body({"name": "a", "datatype": "BOOL", "shape": [1], "parameters": {"binary_data_size": 1}}, b"\2"),
        "a byte other than 0 and 1",
    ),
    "a text too short": (
        head_and_body({"name": "a", "datatype": BYTES, "shape": [1], "parameters": {"binary_data_size": 5}}, b"\5\0\0\0x"),
        "runs past the end",
    ),
    "half a length": (
        head_and_body({"name": "a", "datatype": BYTES, "shape": [1], "parameters": {"binary_data_size": 2}}, b"\0\0"),
        "runs past the end",
    ),
    "texts missing": (
        head_and_body({"name": "a", "datatype": BYTES, "shape": [2], "parameters": {"binary_data_size": 4}}, bytes(4)),
        "has 1 BYTES elements",
    ),
    "shared memory": (head_and_body(BINARY | {"parameters": {"shared_memory_region": "r"}}, b""), "shared memory"),
    "unknown parameter": (head_and_body(BINARY | {"parameters": {"codec": "x"}}, b""), "'codec'"),
    "head too long": ((b"{}", 3), "inference-header-content-length is 3"),
    "no list": ((b"[]", None), "not an inference request"),
    "no UTF-8": ((b'{"inputs":[{"name":"\xff"}]}', None), "not an inference request"),
    "deep": ((b'{"inputs":' + b"[" * 100_000, None), "not an inference request"),
    "deep data": (
        (b'{"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":' + b"[" * 2000 + b"]" * 2000 + b"}]}", None),
        "recursion",
    ),
    "uneven": (
        (b'{"inputs":[{"name":"a","datatype":"FP32","shape":[2,2],"data":[[1,2,3],[4]]}]}', None),
        "the nesting does not follow",
    ),
    "too many dimensions": (plain({"name": "a", "datatype": "FP32", "shape": [1] * 17}), "'a'"),
    "a lone surrogate": (
        (b'{"inputs":[{"name":"a","datatype":"BYTES","shape":[1],"data":["\\ud800"]}]}', None),
        "not an inference request",
    ),
    "a timeout in words": (plain(EMPTY, parameters={"timeout": "1"}), "timeout"),
    "a negative priority": (plain(EMPTY, parameters={"priority": -1}), "priority"),
    "binary as a word": (plain(EMPTY, parameters={"binary_data_output": "yes"}), "binary_data_output is 'yes'; true or false"),
    "binary as a number": (plain(EMPTY, outputs=[{"name": "y", "parameters": {"binary_data": 1}}]), "binary_data is '1'"),
    "NaN": (plain(EMPTY | {"shape": [1], "data": [math.nan]}), "JSON has no NaN: send the tensor as binary data"),
    "minus infinity": (plain(EMPTY | {"shape": [1], "data": [-math.inf]}), "JSON has no Infinity: send"),
    "twice": (
        (json.dumps({"inputs": [EMPTY, EMPTY]}).encode(), None),
        "given twice",
    ),
    "FP16 as JSON": (plain(EMPTY | {"datatype": "FP16"}), "has no JSON form"),
    "no data": (plain({"name": "a", "datatype": "FP32", "shape": [0]}), "neither data nor binary_data_size"),
    "a type that is none": (plain(EMPTY | {"datatype": "FP8"}), "has datatype 'FP8'"),
    "values missing": (plain(EMPTY | {"shape": [1]}), "has 0 values, but shape [1] needs 1"),
    "a value too large": (plain(EMPTY | {"datatype": "INT8", "shape": [1], "data": [128]}), "holds a value that INT8 cannot"),
    "an output in shared memory": (
        plain(EMPTY, outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}]),
        "shall go to shared memory",
    ),
    "classification": (plain(EMPTY, outputs=[{"name": "y", "parameters": {"classification": 3}}]), "classification"),
}


@pytest.mark.parametrize("case", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_told_what_is_wrong(case):
    (body, head), says = case
    with pytest.raises(Refusal) as caught:
        decode_request(body, head)
    assert says in caught.value.message
    assert caught.value.reason in {Reason.BAD_REQUEST, Reason.UNSUPPORTED}


def test_a_character_that_is_no_json_is_not_taken_for_a_number():
    with pytest.raises(Refusal) as caught:
        decode_request(b'{"inputs": [?]}', None)
    assert caught.value.message.endswith("invalid character (byte 12)")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
odd_inputs = st.fixed_dictionaries(
    {
        "name": st.just("a") | anything,
        "datatype": st.sampled_from([*ITEM_BYTES, BYTES, "X"]) | anything,
        "shape": st.lists(st.integers(-2, 3), max_size=3) | anything,
    },
    optional={
        "data": anything,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 20) | anything}),
    },
)


@given(
    st.binary(max_size=60)
    | st.fixed_dictionaries({"inputs": st.lists(odd_inputs, max_size=2) | anything}).map(lambda o: json.dumps(o).encode()),
    st.none() | st.integers(0, 80),
    st.binary(max_size=20),
)
def test_nothing_but_a_refusal_is_ever_raised(head, length, tail):
    try:
        decode_request(head + tail, len(head) if length == 0 else length)
    except Refusal:
        return


def test_outputs_that_json_cannot_hold_are_refused_by_name():
    nan = Tensor("y", "FP32", (1,), memoryview(struct.pack("<f", math.nan)))
    half = Tensor("y", "FP16", (1,), memoryview(bytes(2)))
    blob = Tensor("y", BYTES, (1,), memoryview(pack_rows([b"\xff"])))
    for tensor in (nan, half, blob):
        with pytest.raises(Refusal, match="'y'"):
            encode_response(model="m", version="1", request=request(), outputs=[tensor])
        assert encode_response(model="m", version="1", request=request(binary=True), outputs=[tensor])[1] is not None


def test_parameters_are_passed_on():
    body, _ = encode_response(model="m", version="1", request=request(), outputs=[], parameters={"k": 1})
    assert json.loads(body)["parameters"] == {"k": 1}


SPECS = [TensorSpec("x", "FP32", (-1, 4)), TensorSpec("n", "INT64", (1,), optional=True)]


def given_tensor(name="x", dtype="FP32", shape=(2, 4)):
    return Tensor(name, dtype, shape, memoryview(b""))


def test_inputs_and_outputs_are_checked_against_the_model():
    check_inputs([given_tensor()], SPECS, "m")
    check_inputs([given_tensor(), given_tensor("n", "INT64", (1,))], SPECS, "m")
    check_outputs([Wanted(name="x", binary=True)], SPECS, "m")
    wrong = {
        "no input 'q'": [given_tensor("q")],
        "is FP32, but the request sends FP64": [given_tensor(dtype="FP64")],
        "has shape [-1, 4]": [given_tensor(shape=(4,))],
        "input 'x' of model 'm' is missing": [given_tensor("n", "INT64", (1,))],
    }
    for says, inputs in wrong.items():
        with pytest.raises(Refusal) as caught:
            check_inputs(inputs, SPECS, "m")
        assert says in caught.value.message
    with pytest.raises(Refusal, match="no output 'z'"):
        check_outputs([Wanted(name="z", binary=True)], SPECS, "m")


@given(st.lists(tensors(), min_size=1, max_size=3), st.booleans(), st.text(max_size=5))
def test_a_request_goes_on_in_the_binary_form_whatever_it_came_as(given_tensors, named, identity):
    inputs = tuple(Tensor(f"t{i}", t.dtype, t.shape, t.data, t.rows) for i, t in enumerate(given_tensors))
    outputs = (Wanted(name="y", binary=False),) if named else ()
    asked = InferRequest(id=identity, inputs=inputs, outputs=outputs, binary_by_default=False, timeout_us=5, priority=1)
    found = decode_request(*encode_request(asked))
    assert (found.id, found.binary_by_default, found.timeout_us, found.priority) == (identity, True, None, None)
    assert found.outputs == tuple(Wanted(name=wanted.name, binary=True) for wanted in outputs)
    for one, expected in zip(found.inputs, inputs, strict=True):
        same(one, expected)


@given(tensors(in_json=True), st.booleans())
def test_an_answer_is_read_as_what_was_answered(tensor, binary):
    body, head = encode_response(model="m", version="3", request=request(binary=binary), outputs=[tensor])
    name, version, (found,) = decode_response(body, head)
    assert (name, version) == ("m", "3")
    same(found, tensor)


@given(st.binary(max_size=60), st.integers(-2, 70))
def test_an_answer_that_cannot_be_read_is_a_fault_of_the_server_behind(body, length):
    with pytest.raises(Refusal) as caught:
        decode_response(b"{" + body, length)
    assert caught.value.reason is Reason.RUNTIME_FAILED


def test_what_another_server_adds_to_an_answer_does_no_harm():
    item = {"name": "y", "datatype": "INT8", "shape": [1], "data": [7], "parameters": {"units": "K"}}
    body = json.dumps({"outputs": [item], "extra": 1}).encode()
    assert bytes(decode_response(body, None)[2][0].data) == b"\7"
    with pytest.raises(Refusal, match="1 bytes follow its last output"):
        decode_response(body + b"x", len(body))


@pytest.mark.parametrize(("priority", "rank"), [(None, None), (0, None), (1, 0), (2, 1), (10, 9), (11, 9), (2**63, 9)])
def test_v2_priorities_begin_at_one_and_our_ranks_at_nought(priority, rank):
    assert rank_of(priority) == rank


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_higher_priority_is_never_behind_a_lower_one(one, other):
    assert (rank_of(min(one, other)) or 0) <= (rank_of(max(one, other)) or 0)


# ---- what is remembered of a request's head --------------------------------------------------------------------------------


def _whole(head, data):
    """The request as it is read without anything remembered."""
    return oip._decoded(memoryview(head), memoryview(data))


def _either(read):
    try:
        return read()
    except Refusal as refusal:
        return refusal.reason, str(refusal)


DATATYPES = st.sampled_from(["FP32", "INT64", "BOOL", "BYTES", "UINT8", "FP16", "FP99"])


@given(
    inputs=st.lists(
        st.tuples(
            st.sampled_from(["x", "y", "z"]),
            DATATYPES,
            st.lists(st.integers(-1, 3), max_size=3),
            st.one_of(st.none(), st.booleans(), st.integers(-1, 40), st.just("exact")),
        ),
        max_size=3,
    ),
    parameters=st.dictionaries(
        st.sampled_from(["timeout", "priority", "binary_data_output", "surprise"]), st.one_of(st.integers(-1, 9), st.booleans())
    ),
    outputs=st.lists(st.sampled_from(["a", "b"]), max_size=2),
    data=st.binary(max_size=64),
    cut=st.booleans(),
)
def test_a_remembered_head_is_read_as_it_was_the_first_time(inputs, parameters, outputs, data, cut):
    sized = []
    total = 0
    for name, dtype, shape, size in inputs:
        exact = math.prod(shape) * {"FP32": 4, "INT64": 8, "FP16": 2}.get(dtype, 1)
        bytes_ = exact if size == "exact" else size
        total += bytes_ if type(bytes_) is int else 0
        more = {} if bytes_ is None else {"parameters": {"binary_data_size": bytes_}}
        sized.append({"name": name, "datatype": dtype, "shape": shape, **more})
    head = json.dumps({"id": "1", "inputs": sized, "parameters": parameters, "outputs": [{"name": o} for o in outputs]}).encode()
    data = data if cut else bytes(max(0, total))
    first, again = (_either(lambda: oip.decode_request(head + data, len(head))) for _ in range(2))
    assert first == again == _either(lambda: _whole(head, data))


def test_a_form_is_told_apart_from_another():
    def asked(size, shape, dtype="FP32"):
        one = {"name": "x", "datatype": dtype, "shape": shape, "parameters": {"binary_data_size": size}}
        head = json.dumps({"inputs": [one]}).encode()
        return oip.decode_request(head + bytes(size), len(head))

    assert asked(8, [2]).form is asked(8, [2]).form is not None
    assert asked(8, [1, 2]).form is not asked(8, [2]).form
    assert asked(2, [2], "BOOL").form is not None
    long = "x" * oip.FORM_BYTES_MAX
    head = json.dumps({"id": long, "inputs": [{"name": "x", "datatype": "UINT8", "shape": [1], "data": [1]}]}).encode()
    assert oip.decode_request(head, len(head)).form is None


def test_a_remembered_head_does_not_vouch_for_the_bytes():
    one = {"name": "x", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}}
    head = json.dumps({"inputs": [one]}).encode()
    assert bytes(oip.decode_request(head + b"\0\1", len(head)).inputs[0].data) == b"\0\1"
    with pytest.raises(Refusal, match="other than 0 and 1"):
        oip.decode_request(head + b"\0\2", len(head))
    with pytest.raises(Refusal, match="1 bytes follow"):
        oip.decode_request(head + b"\0\1\1", len(head))
