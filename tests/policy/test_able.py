"""Which node can do what a request asks for, and that no other one is asked while such a one is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.reasons import Reason
from nearhall.policy.able import PLAIN, Able, By, Needs, answered_by, worth_reading
from nearhall.policy.spread import RefuseAll, Seen, SendTo, Standing, choose, expected_ms, usable

OWN = Able(tokens=1024)
ENGINE = Able(tokens=1024, engine=True)
BOUNDED = Able(tokens=1024, engine=True, engine_tokens=4096)
TOOLS = Needs(engine=True)

limits = st.none() | st.integers(1, 5000)
ables = st.builds(Able, tokens=limits, engine=st.booleans(), engine_tokens=limits)
needs = st.builds(Needs, engine=st.booleans(), tokens=st.integers(0, 6000))


@pytest.mark.parametrize(
    ("asked", "able", "by"),
    [
        (PLAIN, OWN, By.ANY),
        (PLAIN, ENGINE, By.ANY),
        (TOOLS, OWN, By.NONE),
        (TOOLS, ENGINE, By.ENGINE),
        (Needs(tokens=1024), ENGINE, By.ANY),
        (Needs(tokens=1025), OWN, By.NONE),
        (Needs(tokens=1025), ENGINE, By.ENGINE),
        (Needs(tokens=1025), Able(), By.ANY),
        (Needs(tokens=4096), BOUNDED, By.ENGINE),
        (Needs(tokens=4097), BOUNDED, By.NONE),
        (Needs(engine=True, tokens=4097), BOUNDED, By.NONE),
    ],
)
def test_who_answers(asked, able, by):
    assert answered_by(asked, able) is by


@given(needs, ables)
def test_who_asks_for_less_is_answered_where_more_would_be(asked, able):
    less = [replace(asked, engine=False), replace(asked, tokens=asked.tokens // 2), PLAIN]
    if answered_by(asked, able) is not By.NONE:
        assert all(answered_by(each, able) is not By.NONE for each in less)
    assert answered_by(PLAIN, able) is By.ANY


@pytest.mark.parametrize(
    ("nodes", "worth"),
    [
        ([], False),
        ([ENGINE], False),
        ([OWN, OWN], False),
        ([None, None], False),
        ([OWN, Able(tokens=2048)], True),
        ([OWN, ENGINE], True),
        ([ENGINE, ENGINE], True),
        ([OWN, None], True),
    ],
)
def test_a_body_is_read_only_where_nodes_differ_or_have_engines_that_may_be_gone(nodes, worth):
    assert worth_reading(nodes) is worth


@given(st.lists(ables, max_size=4), needs)
def test_what_is_not_read_would_have_gone_the_same_way_anywhere(nodes, asked):
    if not worth_reading(nodes):
        assert len({answered_by(asked, able) for able in nodes}) <= 1


UP = Seen(standing=Standing.UP, own_ms=2.0)
CANNOT = replace(UP, by=By.NONE)
SLOW = replace(UP, by=By.ENGINE, own_ms=500.0)
AWAY = replace(SLOW, standing=Standing.AWAY)
BLIND = Seen(standing=Standing.AWAY, known=False)


@pytest.mark.parametrize(
    ("says", "fleet", "answer"),
    [
        ("the one that can, though another would be sooner", [CANNOT, SLOW], SendTo(1, 500.0)),
        ("one that cannot says what is wrong, where none can", [CANNOT, CANNOT], SendTo(0, 2.0)),
        ("not one that cannot, while the one that can is away", [CANNOT, AWAY], Reason.NODES_AWAY),
        ("nor while it loads", [CANNOT, replace(SLOW, ready=False)], Reason.MODEL_NOT_READY),
        ("nor while it is being stopped", [CANNOT, replace(SLOW, draining=True)], Reason.DRAINING),
        ("nor after it has been asked", [CANNOT, replace(SLOW, tried=True)], Reason.NODES_AWAY),
        ("nor while one that might is away", [CANNOT, BLIND], Reason.NODES_AWAY),
        ("one that is there without the model might not", [CANNOT, replace(BLIND, standing=Standing.UP)], SendTo(0, 2.0)),
        ("nobody twice", [replace(UP, tried=True), replace(UP, own_ms=9.0)], SendTo(1, 9.0)),
        ("nobody at all, if all were asked", [replace(UP, tried=True)], Reason.NODES_AWAY),
    ],
)
def test_it_goes_to(says, fleet, answer):
    told = choose(fleet, 1e4)
    assert (told.reason if isinstance(told, RefuseAll) else told) == answer, says
    assert isinstance(told, SendTo) or told.retry_after_ms is not None, says


seen = st.builds(
    Seen,
    standing=st.sampled_from(Standing),
    draining=st.booleans(),
    known=st.booleans(),
    by=st.sampled_from(By),
    tried=st.booleans(),
    ready=st.booleans(),
    own_ms=st.floats(0, 1e4),
)
fleets = st.lists(seen, min_size=1, max_size=6)


@given(fleets, st.floats(0, 1e4))
def test_none_that_cannot_is_asked_while_another_can_and_none_twice(fleet, left_ms):
    answer = choose(fleet, left_ms)
    if isinstance(answer, SendTo):
        assert usable(fleet[answer.index])
        assert not fleet[answer.index].tried
        if fleet[answer.index].by is By.NONE:
            assert all(each.by is By.NONE for each in fleet if each.known)
    else:
        assert not any(usable(each) and each.by is not By.NONE for each in fleet)


@given(fleets, st.floats(0, 1e4))
def test_among_those_that_can_it_is_as_if_there_were_no_others(fleet, left_ms):
    able = [each for each in fleet if each.known and each.by is not By.NONE]
    alone, answer = choose(able, left_ms), choose(fleet, left_ms)
    if isinstance(alone, SendTo):
        assert isinstance(answer, SendTo)
        assert fleet[answer.index] == able[alone.index]
        assert answer.expected_ms == expected_ms(able[alone.index])
