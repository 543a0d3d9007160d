"""Evidence, reasons, errors and tensors: small tables that others rely on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import InputError, NearhallError, PermanentError, Refusal, TemporaryError
from nearhall.core.evidence import STRENGTH, Kind, weakest
from nearhall.core.reasons import FAILURES, SENT_TO_HUB, SERVED_HERE, Reason
from nearhall.core.tensor import BYTES, ITEM_BYTES, Tensor, TensorSpec

kinds = st.sampled_from(list(Kind))


def test_a_figure_is_as_weak_as_its_weakest_input():
    assert weakest([Kind.MEASURED]) is Kind.MEASURED
    assert weakest([Kind.MEASURED, Kind.VENDOR]) is Kind.VENDOR
    assert weakest([Kind.STANDARD, Kind.SIMULATED, Kind.MEASURED]) is Kind.SIMULATED
    assert weakest([Kind.SIMULATED, Kind.ASSUMED]) is Kind.ASSUMED
    assert weakest([]) is Kind.ASSUMED, "a figure from nothing is assumed"


@given(inputs=st.lists(kinds, min_size=1), more=kinds)
def test_another_input_never_strengthens(inputs: list[Kind], more: Kind):
    assert weakest(inputs) in inputs
    assert STRENGTH[weakest([*inputs, more])] <= STRENGTH[weakest(inputs)]
    assert STRENGTH[weakest(reversed(inputs))] == STRENGTH[weakest(inputs)]


def test_every_kind_has_a_strength():
    assert set(STRENGTH) == set(Kind)


def test_reasons_are_words_for_the_wire_and_in_at_most_one_group():
    groups = [SERVED_HERE, SENT_TO_HUB, FAILURES]
    for reason in Reason:
        assert reason.value == reason.name.lower()
        assert sum(reason in group for group in groups) <= 1
    assert len({reason.value for reason in Reason}) == len(Reason)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("is wrong"), "is wrong"),
        (InputError("is wrong", where="--out"), "--out: is wrong"),
        (InputError("is wrong", right="be right"), "is wrong; be right"),
        (InputError("is wrong", where="site.yaml:3", right="be right"), "site.yaml:3: is wrong; be right"),
        (Refusal(Reason.QUEUE_FULL, "256 wait"), "queue_full: 256 wait"),
        (TemporaryError("later"), "later"),
        (PermanentError("never"), "never"),
    ],
)
def test_an_error_is_one_line(error: NearhallError, line: str):
    assert str(error) == line
    assert isinstance(error, NearhallError)


def test_a_refusal_says_when_to_come_back_or_that_it_is_futile():
    assert Refusal(Reason.RESTARTING, "soon", retry_after_ms=500).retry_after_ms == 500
    assert Refusal(Reason.RESIDENCY, "never").retry_after_ms is None


def test_a_tensor_counts_its_elements_without_copying():
    data = bytearray(24)
    tensor = Tensor("x", "FP32", (2, 3), memoryview(data))
    assert tensor.count == 6
    assert Tensor("scalar", "FP32", (), memoryview(data)[:4]).count == 1
    assert tensor.count * ITEM_BYTES[tensor.dtype] == len(tensor.data)
    data[0] = 7
    assert tensor.data[0] == 7
    assert BYTES not in ITEM_BYTES
    assert not TensorSpec("x", "FP32", (-1, 3)).optional
