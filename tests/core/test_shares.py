"""A share beside what is asked never reads as if it lay on the other side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.shares import DIGITS_MAX, percent_beside, side

SHARES = st.integers(0, 10**DIGITS_MAX).map(lambda n: n / 10**DIGITS_MAX)


@pytest.mark.parametrize(
    ("share", "asked", "text", "where"),
    [
        (0.797, 0.8, "79.7", "just below"),
        (0.8, 0.8, "80", "exactly"),
        (0.8004, 0.8, "80.04", "just above"),
        (0.64, 0.8, "64", "below"),
        (0.8234, 0.8, "82", "above"),
        (0.95021, 0.95, "95.02", "just above"),
        (0.56999, 0.57, "56.999", "just below"),
        (0.7999999999, 0.8, "80.000000", "just below"),
    ],
)
def test_a_share_is_told_as_finely_as_it_lies_near(share: float, asked: float, text: str, where: str) -> None:
    assert percent_beside(share, asked) == text
    assert side(share, asked) == where


@given(SHARES, st.integers(0, 1000).map(lambda n: n / 1000))
def test_the_text_lies_on_the_share_s_own_side(share: float, asked: float) -> None:
    told, wanted = float(percent_beside(share, asked)), round(100 * asked, DIGITS_MAX)
    assert (told >= wanted) is (share >= asked)
    assert (told == wanted) is (share == asked)
