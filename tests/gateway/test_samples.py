"""Inputs made up for warm-up and probes: valid by type and shape, and never the client's values."""

from __future__ import annotations

import math
import random
import struct

from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.tensor import BYTES, ITEM_BYTES, Tensor, TensorSpec
from nearhall.gateway.models.samples import SCALARS_TRIED, random_like, random_words, warm_up_samples
from nearhall.wire.oip_tensors import check_inputs, pack_rows

kinds = st.sampled_from([*ITEM_BYTES, BYTES])
specs = st.lists(st.tuples(kinds, st.lists(st.integers(-1, 3), max_size=3)), max_size=4).map(
    lambda found: [TensorSpec(f"t{i}", kind, tuple(shape)) for i, (kind, shape) in enumerate(found)]
)


@given(specs)
def test_every_sample_is_what_the_model_takes(wanted):
    for sample in warm_up_samples(wanted, {}):
        check_inputs(sample, wanted, "m")
        for tensor in sample:
            assert tensor.dtype == BYTES or len(tensor.data) == tensor.count * ITEM_BYTES[tensor.dtype]


def test_examples_and_scalars():
    wanted = [TensorSpec("x", "FP32", (-1, 4)), TensorSpec("sr", "INT64", ()), TensorSpec("o", "BOOL", (1,), optional=True)]
    values = [struct.unpack("<q", sample[1].data)[0] for sample in warm_up_samples(wanted, {})]
    assert values == list(SCALARS_TRIED)
    sample = next(iter(warm_up_samples(wanted, {"x": ((2, 4), 0.5), "sr": (None, 8000.0)})))
    assert sample[0].shape == (2, 4)
    assert struct.unpack("<8f", sample[0].data) == (0.5,) * 8
    assert struct.unpack("<q", sample[1].data) == (8000,)
    small = list(warm_up_samples([TensorSpec("n", "UINT8", (1,))], {}))
    assert [bytes(s[0].data)[0] for s in small] == [0, 1, 127]


@given(kinds, st.lists(st.integers(0, 3), max_size=3), st.integers())
def test_a_random_payload_has_the_size_and_none_of_the_data(kind, shape, seed):
    count = math.prod(shape)
    rows = tuple(b"MARKER" for _ in range(count))
    data = pack_rows(rows) if kind == BYTES else b"\x5a" * (count * ITEM_BYTES[kind])
    given_tensor = Tensor("x", kind, tuple(shape), memoryview(data), rows if kind == BYTES else None)
    found = random_like([given_tensor], None, random.Random(seed))[0]
    assert (found.name, found.dtype, found.shape, len(found.data)) == ("x", kind, tuple(shape), len(data))
    assert b"MARKER" not in bytes(found.data)
    assert kind not in {"FP32", "FP64"} or all(map(math.isfinite, found.data.cast("f" if kind == "FP32" else "d")))
    known = Tensor("x", kind, (1,), memoryview(bytes(ITEM_BYTES.get(kind, 0))))
    assert len(random_like([given_tensor], [known], random.Random(seed))[0].data) == len(data)


@given(st.text(max_size=200), st.integers())
def test_random_words_are_as_long(text, seed):
    assert len(random_words(text, random.Random(seed))) == len(text)
