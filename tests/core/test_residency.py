"""Where data may go: a rule may be tightened, never loosened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.residency import Reach, Residency

CODES = ("DE", "FR", "US", "US-CA", "US-NY", "D")
PLACES = ("DE", "FR", "US", "US-CA", "US-NY", "DEX", "US-CALIFORNIA")
SITE, ANY = Residency(Reach.SITE), Residency(Reach.ANY)
rules = st.one_of(st.just(SITE), st.just(ANY), st.sampled_from(CODES[:5]).map(lambda code: Residency(Reach.JURISDICTION, code)))


@pytest.mark.parametrize("text", ["site", "any", "jurisdiction:DE", "jurisdiction:US-CA", "jurisdiction:GB-ENG"])
def test_a_rule_is_read_as_it_is_written(text: str):
    assert str(Residency.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Site",
        "ANY",
        "jurisdiction",
        "jurisdiction:",
        "jurisdiction:de",
        "jurisdiction:DEU",
        "jurisdiction:US-",
        "DE",
        "site ",
    ],
)
def test_a_slip_is_refused_with_what_would_be_right(text: str):
    with pytest.raises(ValueError, match="jurisdiction:XX"):
        Residency.parse(text)


@pytest.mark.parametrize(
    ("rule", "place", "allowed"),
    [
        ("any", "FR", True),
        ("site", "DE", False),
        ("jurisdiction:DE", "DE", True),
        ("jurisdiction:DE", "FR", False),
        ("jurisdiction:US", "US-CA", True),
        ("jurisdiction:US-CA", "US", False),
        ("jurisdiction:US-CA", "US-CALIFORNIA", False),
        ("jurisdiction:DE", "", False),
    ],
)
def test_where_data_may_go(rule: str, place: str, allowed: bool):
    assert Residency.parse(rule).permits(place) is allowed


def test_a_jurisdiction_without_a_name_permits_nowhere():
    assert not Residency(Reach.JURISDICTION).permits("DE")
    assert Residency(Reach.JURISDICTION).stricter(Residency.parse("jurisdiction:DE")) == SITE
    assert Residency.parse("jurisdiction:DE").stricter(Residency(Reach.JURISDICTION)) == SITE


@given(a=rules, b=rules, place=st.sampled_from(PLACES))
def test_the_stricter_of_two_permits_exactly_what_both_permit(a: Residency, b: Residency, place: str):
    assert a.stricter(b).permits(place) == (a.permits(place) and b.permits(place))


@given(a=rules, b=rules, c=rules)
def test_stricter_is_a_meet(a: Residency, b: Residency, c: Residency):
    assert a.stricter(a) == a
    assert a.stricter(b) == b.stricter(a)
    assert a.stricter(b).stricter(c) == a.stricter(b.stricter(c))
    assert a.stricter(a.stricter(b)) == a.stricter(b)
    assert a.stricter(ANY) == a
    assert a.stricter(SITE) == SITE
