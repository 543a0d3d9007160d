"""simdjson's numbers are msgspec's and struct's, to the bit; what it does not take it leaves alone."""

from __future__ import annotations

import json
import math
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.tensor import ITEM_BYTES
from nearhall.drivers.json_numbers import IDLE_MAX, KEPT_BYTES_MAX, JsonNumbers
from nearhall.wire.oip_tensors import CODES

FLOAT_TEXTS = [
    "0",
    "-0",
    "-0.0",
    "-0e3",
    "1e-400",
    "-1e-400",
    "4.9e-324",
    "2.2250738585072011e-308",
    "1.401298464324817e-45",
    "7.006492321624085e-46",
    "7.006492321624086e-46",
    "3.4028235677973362e38",
    "1.00000005960464477539",
    "1.000000059604644775390625",
    "1.0000000596046447753906250000000000000000000001",
    "9007199254740993",
    "18446744073709551615",
    "123456789012345678901234567890e-20",
    "0.1" + "0" * 800 + "1",
]
"""Where rounding is easily wrong: halves between two values of FP32 and FP64, subnormal numbers, more digits than fit."""


def read(text, dtype, reader=None):
    found = (reader or JsonNumbers()).read(memoryview(text.encode()), dtype)
    return None if found is None else bytes(found)


@pytest.mark.parametrize("dtype", ["FP32", "FP64"])
@pytest.mark.parametrize("text", FLOAT_TEXTS)
def test_a_number_is_rounded_as_struct_does(dtype, text):
    expected = struct.pack(f"<{CODES[dtype]}", float(text) if text != "-0" else 0.0)
    assert read(f"[{text}]", dtype) == expected


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    st.sampled_from([repr, "{:.3e}".format, "{:.20e}".format]),
)
def test_doubles_are_exact(values, form):
    texts = [text for text in map(form, values) if math.isfinite(float(text))] or ["0"]
    assert read(f"[{','.join(texts)}]", "FP64") == struct.pack(f"<{len(texts)}d", *map(float, texts))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_float_that_overflows_is_not_taken(values):
    try:
        expected = struct.pack(f"<{len(values)}f", *values)
    except OverflowError:
        expected = None
    assert read(json.dumps(values), "FP32") == expected


@given(st.data(), st.sampled_from([dtype for dtype in CODES if not dtype.startswith("FP")]))
def test_integers_are_exact_or_not_taken(data, dtype):
    bits = 8 * ITEM_BYTES[dtype]
    least, most = (0, 2**bits - 1) if dtype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = data.draw(st.lists(st.integers(least, most) | st.sampled_from([least, most]), min_size=1))
    assert read(json.dumps(values), dtype) == struct.pack(f"<{len(values)}{CODES[dtype]}", *values)
    for wrong in (least - 1, most + 1, 0.5):
        assert read(json.dumps([*values, wrong]), dtype) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "true",
        "null",
        "{}",
        "[true]",
        "[null]",
        '["1"]',
        "[{}]",
        "[NaN]",
        "[Infinity]",
        "[1e400]",
        "[-1e400]",
        "[3.4028235677973366e38, 3.5e38]",
        "[18446744073709551616]",
        "[01]",
        "[1.]",
        "[.5]",
        "[+1]",
        "[1,]",
        "[1 2]",
        "[1",
        "[1]]",
        "[1] x",
        "[1]\0",
        "[1, [2, {}]]",
        "[" * 2000 + "1" + "]" * 2000,
    ],
)
def test_what_it_does_not_take(text):
    reader = JsonNumbers()
    assert read(text, "FP32", reader) is None
    assert read("[1, 2]", "FP32", reader) == struct.pack("<2f", 1, 2), "it can be used afterwards"


@pytest.mark.parametrize("dtype", ["FP16", "BOOL", "BYTES", "FP33"])
def test_types_that_json_has_no_numbers_for_are_not_taken(dtype):
    assert read("[1]", dtype) is None


def test_nested_arrays_are_read_in_the_order_of_their_text():
    assert read("[[1, 2], [3, [4]]]", "INT8") == b"\1\2\3\4"


def test_what_it_gave_stays_as_it_was():
    """A parser's memory is used again; what was read out of it must not be."""
    reader = JsonNumbers()
    text = b"[1, 2, 3]"
    first = {dtype: reader.read(memoryview(text), dtype) for dtype in CODES}
    for _ in range(5):
        assert read("[7, 8, 9, 10]", "FP64", reader) is not None
    assert {dtype: bytes(found or b"") for dtype, found in first.items()} == {
        dtype: struct.pack(f"<3{code}", 1, 2, 3) for dtype, code in CODES.items()
    }
    assert all(found is not None and found.readonly for found in first.values())


def test_it_keeps_few_parsers_and_none_that_has_grown_large():
    reader = JsonNumbers()
    many = "[" + "1," * (KEPT_BYTES_MAX // 2) + "1]"
    assert len(read(many, "UINT8", reader) or b"") == KEPT_BYTES_MAX // 2 + 1
    assert reader._idle == []
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda value: read(f"[{value}]", "INT64", reader), range(200)))
    assert found == [struct.pack("<q", value) for value in range(200)]
    assert 1 <= len(reader._idle) <= IDLE_MAX
