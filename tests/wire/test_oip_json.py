"""With a quick reader of numbers, v2 JSON requests and refusals are what they are without; and it does get to read."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.cli.roots.bench.mutations import V2_JSON, V2_LONG, mutated
from nearhall.core.errors import Refusal
from nearhall.drivers.json_numbers import JsonNumbers
from nearhall.wire.oip import decode_request
from nearhall.wire.oip_json import LEAST_BYTES, MARK, Array, cut_out
from nearhall.wire.oip_tensors import RANK_MAX, TENSORS_MAX

SPACE = " " * LEAST_BYTES
"""JSON allows it between values; with it a short array is long."""
NUMBERS = JsonNumbers().read


class Reader:
    """Counts the arrays that were read quickly."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, text: memoryview, dtype: str) -> memoryview | None:
        found = NUMBERS(text, dtype)
        self.read += found is not None
        return found


def outcome(body, numbers):
    try:
        request = decode_request(body, None, numbers)
    except Refusal as refusal:
        return refusal.reason, refusal.message
    return replace(request, inputs=()), [(one.name, one.dtype, one.shape, bytes(one.data), one.rows) for one in request.inputs]


def agreed(body):
    """What both ways make of a body, and how many arrays were read quickly."""
    reader = Reader()
    quick = outcome(body, reader)
    assert quick == outcome(body, None)
    return quick, reader.read


def tensor(data, shape, dtype="FP32", name="x", more=""):
    """One input, with its data as the text that is given."""
    shape = json.dumps(shape)
    return f'{{"name": "{name}", "datatype": "{dtype}", "shape": {shape}, "data": {data}{more}}}'


def request(*inputs, more=""):
    return f'{{"inputs": [{", ".join(inputs)}]{more}}}'.encode()


LONG = f"[1, 2,{SPACE}3.5, -4]"
NESTED = f"[[1, 2],{SPACE}[3.5, -4]]"
FOUR = struct.pack("<4f", 1, 2, 3.5, -4)


@pytest.mark.parametrize(
    ("body", "quickly"),
    [
        pytest.param(request(tensor(LONG, [4])), 1, id="flat"),
        pytest.param(request(tensor(LONG, [1, 2, 2])), 1, id="flat, of three dimensions"),
        pytest.param(request(tensor(NESTED, [2, 2])), 1, id="nested"),
        pytest.param(request(tensor(json.dumps([[[1, 2], [3.5, -4]]], indent=1500), [1, 2, 2])), 1, id="in lines"),
        pytest.param(request(tensor(LONG, [4]), tensor(NESTED, [2, 2], name="y")), 2, id="two"),
        pytest.param(request(tensor(NESTED, [2, 2]), tensor("[1, 2, 3.5, -4]", [4], name="y")), 1, id="a long and a short"),
        pytest.param(request(tensor(LONG, [4], more=', "parameters": {}'), more=', "outputs": [{"name": "y"}]'), 1, id="more"),
        pytest.param(request(tensor(LONG, [2, 2], more=', "data": [[1, 2], [3.5, -4]]')), 0, id="data twice"),
        pytest.param(request(tensor(f"[1,{SPACE}2]", [4], more=f', "data": {LONG}')), 0, id="long data twice"),
        pytest.param(request(tensor("[1, 2, 3.5, -4]", [4])), 0, id="short"),
        pytest.param(request(tensor("[1, 2, 3.5, -4]", [4]), more=f', "x": "{SPACE}"'), 0, id="short in a long request"),
        pytest.param(request(tensor(LONG, [4]), more=', "id": "[0e0]"'), 0, id="the mark is a text of the request"),
        pytest.param(request(tensor(LONG, [4]), more=f', "x": {{"data": {LONG}}}'), 0, id="data of something else"),
        pytest.param(request(tensor("[1, 2, 3.5, -4]", [4]), more=f', "x": {{"data": {LONG}}}'), 0, id="only of something else"),
        pytest.param(request(tensor("[1, 2, 3.5, -4]", [4]), more=f', "x": "\\"data\\": {LONG}"'), 0, id="data in a text"),
        pytest.param(request(tensor(f"[1,2{SPACE},3.5E0,-40e-1]", [4])), 1, id="other forms of numbers"),
        pytest.param(
            request(tensor(LONG, [4]), more=', "parameters": {"data": ' + LONG + "}").replace(b'"parameters"', b'"x"'),
            0,
            id="in an object that nobody knows",
        ),
    ],
)
def test_requests_that_are_right(body, quickly):
    (_, inputs), read = agreed(body)
    assert read >= quickly
    assert {data for _, _, _, data, _ in inputs} == {FOUR}


WRONG = {
    "too few": tensor(LONG, [5]),
    "too many": tensor(LONG, [3]),
    "nested otherwise": tensor(NESTED, [1, 4]),
    "nested too deep": tensor(NESTED, [4]),
    "nested too little": tensor(NESTED, [1, 2, 2]),
    "nested unevenly": tensor(f"[[1, 2,{SPACE} 3.5], [-4]]", [2, 2]),
    "nested in part": tensor(f"[1, [],{SPACE}[2, 3.5], -4]", [4]),
    "numbers beside arrays": tensor(f"[[1, 2]3.5,{SPACE}[, -4]]", [2, 2]),
    "a number before an array": tensor(f"[1[],{SPACE}[2]]", [2, 1]),
    "many lengths, little data": tensor(NESTED, [2, 10**12]),
    "a shape without end": tensor(NESTED, [10**12, 2]),
    "a negative length": tensor(NESTED, [-2, -2]),
    "too many dimensions": tensor(NESTED, [1] * (RANK_MAX + 1)),
    "a bracket too many": tensor(NESTED + "]", [2, 2]),
    "no end": tensor(LONG[:-1], [4]),
    "no end of what is nested": tensor(NESTED[:-2], [2, 2]),
    "a comma too many": tensor(f"[1, 2,{SPACE}3.5, -4,]", [4]),
    "two commas": tensor(f"[1, 2,,{SPACE}3.5, -4]", [4]),
    "infinite": tensor(f"[1, 2,{SPACE}3.5, Infinity]", [4]),
    "no number": tensor(f"[1, 2,{SPACE}3.5, NaN]", [4]),
    "too large a number": tensor(f"[1, 2,{SPACE}3.5, 1e400]", [4]),
    "too large for FP32": tensor(f"[1, 2,{SPACE}3.5, 3.5e38]", [4]),
    "too large an integer": tensor(f"[1, 2,{SPACE}18446744073709551616]", [3], "UINT64"),
    "negative": tensor(f"[1, 2,{SPACE}-1]", [3], "UINT64"),
    "a fraction": tensor(f"[1, 2,{SPACE}1.5]", [3], "INT32"),
    "a truth": tensor(f"[1, 2,{SPACE}true]", [3]),
    "a text": tensor(f'[1, 2,{SPACE}"]"]', [3]),
    "nothing": tensor(f"[1, 2,{SPACE}null]", [3]),
    "an object": tensor(f'[1, 2,{SPACE}{{"data": [1]}}]', [3]),
    "numbers for truths": tensor(f"[1,{SPACE}0]", [2], "BOOL"),
    "numbers for texts": tensor(f"[1,{SPACE}0]", [2], "BYTES"),
    "half precision": tensor(f"[1,{SPACE}0]", [2], "FP16"),
    "no type": tensor(f"[1,{SPACE}0]", [2], "FP33"),
    "twice": f"{tensor(LONG, [4])}, {tensor(LONG, [4])}",
    "binary as well": tensor(LONG, [4], more=', "parameters": {"binary_data_size": 0}'),
    "an unknown parameter": tensor(LONG, [4], more=', "parameters": {"x": 0}'),
    "a name that is none": tensor(LONG, [4]).replace('"x"', "7"),
    "something behind": tensor(LONG, [4]) + "] x",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_requests_that_are_wrong_are_refused_in_the_same_words(wrong):
    body = request(wrong)
    (reason, message), _ = agreed(body)
    assert reason.value in {"bad_request", "unsupported"}
    assert "quickly" not in message


def test_a_number_that_msgspec_alone_takes_is_taken():
    (_, inputs), read = agreed(request(tensor(f"[1,{SPACE}18446744073709551616]", [2])))
    assert (inputs[0][3], read) == (struct.pack("<2f", 1, 2.0**64), 0)


def test_more_arrays_than_a_request_may_have():
    inputs = [tensor(LONG, [4], name=f"x{index}") for index in range(TENSORS_MAX + 1)]
    assert agreed(request(*inputs))[0][1].endswith("1 to 64 are allowed")
    (_, found), read = agreed(request(*inputs[1:]))
    assert len(found) == read == TENSORS_MAX


def test_a_view_and_a_binary_request_are_decoded_as_before():
    reader = Reader()
    body = request(tensor(LONG, [4]))
    for given_body, head_bytes in ((memoryview(body), None), (body, len(body))):
        assert bytes(decode_request(given_body, head_bytes, reader).inputs[0].data) == FOUR
    assert reader.read == 0


def test_a_mark_takes_an_arrays_place():
    body = request(tensor(LONG, [4]), tensor("[5]", [1], name="y"), tensor(NESTED, [2, 2], name="z"))
    cut = cut_out(body)
    assert cut is not None
    assert cut.head == body.replace(LONG.encode(), MARK).replace(NESTED.encode(), MARK)
    assert [(bytes(array.text).decode(), array.depth) for array in cut.arrays] == [(LONG, 1), (NESTED, 2)]


nestings = st.recursive(st.just(0), lambda inner: st.lists(inner, max_size=3), max_leaves=12)


@given(nestings.filter(lambda nesting: isinstance(nesting, list)), st.lists(st.integers(0, 3), min_size=2, max_size=3))
def test_an_array_follows_a_shape_if_its_brackets_and_its_count_do(nesting, shape):
    def of(lengths):
        return [of(lengths[1:]) for _ in range(lengths[0])] if lengths else 0

    for one in (nesting, of(shape)):
        text = json.dumps(one)
        array = Array(memoryview(text.encode()), len(shape))
        follows = array.follows(shape) and text.count("0") == prod(shape)
        assert follows <= (one == of(shape))
        assert follows or one != of(shape) or 0 in shape, "an array without numbers is never cut out, so it may go either way"
        assert not Array(array.text, len(shape) + 1).follows(shape)
        assert Array(array.text, 1).follows(shape)


NUMBER = st.sampled_from(["0", "-0", "1", "-1", "255", "256", "1.5", "-2e3", "1e400", "3.5e38", "18446744073709551615", "9" * 30])
ODD = st.sampled_from(
    ["true", "null", '"1"', '"]"', "[]", "[1]", "{}", '{"data": [1, 2]}', "NaN", "01", "1.", "", "1 2", "1,", "]", "["]
)


@st.composite
def bodies(draw):
    """Requests that are right, or wrong in ways that concern their arrays."""
    inputs = []
    for index in range(draw(st.integers(1, 3))):
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        values = [draw(NUMBER) if draw(st.integers(0, 9)) else draw(ODD) for _ in range(prod(shape))]
        if draw(st.booleans()):
            for length in reversed(shape[1:]):
                values = [f"[{','.join(values[i : i + length])}]" for i in range(0, len(values), length or 1)]
        space = SPACE if draw(st.integers(0, 3)) else ""
        at = draw(st.integers(0, len(values)))
        data = f"[{','.join([*values[:at], *values[at:]])}]"
        cut = data.find(",") + 1
        dtype = draw(st.sampled_from(["FP32", "FP64", "INT8", "UINT8", "INT64", "UINT64", "BOOL", "BYTES", "FP16"]))
        fields = [
            f'"name": "{draw(st.sampled_from(["x", f"x{index}"]))}"',
            f'"datatype": "{dtype}"',
            f'"shape": {json.dumps(shape)}',
            f'"data": {data[:cut]}{space}{data[cut:]}',
            *draw(
                st.lists(
                    st.sampled_from(['"parameters": {}', '"more": {"data": [1, 2]}', '"data": [0e0]', '"\\"data": [3]']),
                    max_size=1,
                )
            ),
        ]
        inputs.append("{" + ", ".join(draw(st.permutations(fields))) + "}")
    more = draw(
        st.sampled_from(["", ', "id": "[0e0]"', f', "x": {{"data": [1,{SPACE}2]}}', f', "id": "\\"data\\": [1,{SPACE}2]"'])
    )
    return request(*inputs, more=more)


@settings(max_examples=400)
@given(bodies(), st.data())
def test_both_ways_agree_on_whatever_comes(body, data):
    agreed(body)
    for _ in range(3):
        at = data.draw(st.integers(0, len(body)))
        if body[at : at + 8] == b" " * 8:
            continue
        length = data.draw(st.integers(0, 2))
        inserted = data.draw(
            st.sampled_from([b"", b"[", b"]", b",", b'"', b"\\", b"0", b"-", b" ", b"\xff", b"\0", b'"data":[1'])
        )
        agreed(body[:at] + inserted + body[at + length :])


def test_both_ways_agree_on_what_is_almost_right():
    seed = random.randrange(1 << 30)
    draw = random.Random(seed)
    taken = quickly = 0
    for index in range(3000):
        case = mutated(draw, V2_LONG if index % 3 else V2_JSON)
        try:
            found, read = agreed(case.body)
        except AssertionError as error:
            raise AssertionError((seed, case)) from error
        taken += len(found) == 2 and isinstance(found[1], list)
        quickly += read > 0
    assert taken > 200, seed
    assert quickly > 200, seed
