"""To which node a request goes, and when it is given to another one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.reasons import Reason
from nearhall.policy.spread import (
    GRACE_MS,
    MARGIN_MS,
    RefuseAll,
    Seen,
    SendTo,
    Standing,
    allowed_silence_ms,
    choose,
    expected_ms,
    first_look_ms,
    in_doubt,
    move_in_ms,
    usable,
)

IDLE = Seen(standing=Standing.UP, own_ms=2.0, rtt_ms=0.3)
AWAY = replace(IDLE, standing=Standing.AWAY)
BUSY = replace(IDLE, backlog_ms=20.0, free=0)

times = st.floats(0, 1e4)
counts = st.integers(0, 50)
nodes = st.builds(
    Seen,
    standing=st.sampled_from(Standing),
    draining=st.booleans(),
    known=st.booleans(),
    ready=st.booleans(),
    backlog_ms=times,
    own_ms=times,
    slots=st.integers(1, 8),
    free=st.integers(0, 8),
    report_age_ms=times,
    rtt_ms=times,
    sent_since=counts,
    sent_since_ms=times,
    in_flight=counts,
    overdue_ms=st.sampled_from([0.0, 0.0, 5.0, 500.0]),
    unused_ms=times,
    last_turn=counts,
)
fleets = st.lists(nodes, min_size=1, max_size=6)


def able(seen: Seen) -> Seen:
    return replace(seen, standing=Standing.UP, known=True, ready=True, draining=False, overdue_ms=0.0)


@pytest.mark.parametrize(
    ("says", "fleet", "chosen"),
    [
        ("the idle one", [BUSY, IDLE], 1),
        ("the nearer one", [replace(IDLE, rtt_ms=5.0), IDLE], 1),
        ("the one that has the model", [replace(IDLE, known=False), BUSY], 1),
        ("the one where it is loaded", [replace(IDLE, ready=False), BUSY], 1),
        ("the one that is not being stopped", [replace(IDLE, draining=True), BUSY], 1),
        ("the one that is there", [AWAY, BUSY], 1),
        ("one that is heard rather than a silent one", [replace(IDLE, overdue_ms=0.5), BUSY], 1),
        ("a silent one rather than none", [replace(IDLE, overdue_ms=50.0), AWAY], 0),
        ("one on trial, while it has nothing yet", [BUSY, replace(IDLE, standing=Standing.TRIAL)], 1),
        ("not one on trial that has its request", [BUSY, replace(IDLE, standing=Standing.TRIAL, in_flight=1)], 0),
        ("the one with less sent since its report", [replace(IDLE, sent_since=3, sent_since_ms=6.0), IDLE], 1),
        ("one whose backlog has drained since its report", [BUSY, replace(BUSY, report_age_ms=25.0)], 1),
        ("in turn where they are alike", [replace(IDLE, last_turn=4), replace(IDLE, last_turn=3)], 1),
        ("one with free slots", [replace(IDLE, sent_since=1, sent_since_ms=90.0), replace(IDLE, slots=4, free=4)], 1),
    ],
)
def test_a_request_goes_to(says, fleet, chosen):
    answer = choose(fleet, 1000.0)
    assert isinstance(answer, SendTo), says
    assert answer.index == chosen, says
    assert answer.expected_ms == expected_ms(fleet[chosen])


@pytest.mark.parametrize(
    ("fleet", "reason", "futile"),
    [
        ([replace(IDLE, known=False)], Reason.MODEL_UNKNOWN, True),
        ([replace(IDLE, known=False), replace(AWAY, known=False)], Reason.NODES_AWAY, False),
        ([AWAY, replace(IDLE, known=False)], Reason.NODES_AWAY, False),
        ([replace(IDLE, draining=True), AWAY], Reason.DRAINING, False),
        ([replace(IDLE, ready=False), replace(IDLE, draining=True)], Reason.MODEL_NOT_READY, False),
    ],
)
def test_where_nobody_can_be_asked_it_says_why(fleet, reason, futile):
    answer = choose(fleet, 1000.0)
    assert isinstance(answer, RefuseAll)
    assert answer.reason is reason
    assert (answer.retry_after_ms is None) == futile


def test_a_stateful_models_requests_stay_with_one_node():
    assert choose([BUSY, IDLE], 1000.0, sticky=True) == SendTo(0, expected_ms(BUSY))
    assert choose([AWAY, IDLE], 1000.0, sticky=True) == SendTo(1, expected_ms(IDLE))


def test_turns_are_taken_evenly_whoever_else_is_away():
    last = [0, 0, 0, 0]
    got = [0, 0, 0, 0]
    for turn in range(1, 301):
        fleet = [replace(IDLE, last_turn=n, standing=Standing.AWAY if i == 1 else Standing.UP) for i, n in enumerate(last)]
        answer = choose(fleet, 50.0)
        assert isinstance(answer, SendTo)
        got[answer.index] += 1
        last[answer.index] = turn
    assert got == [100, 0, 100, 100]


def test_a_node_that_was_slow_once_is_tried_again():
    slow = replace(IDLE, own_ms=20.0)
    assert choose([slow, replace(IDLE, last_turn=1)], 1000.0) == SendTo(1, expected_ms(IDLE))
    rested = replace(slow, unused_ms=5_000.0)
    assert choose([rested, replace(IDLE, last_turn=1)], 1000.0) == SendTo(0, expected_ms(rested))
    assert choose([rested, replace(IDLE, last_turn=1)], 10.0) == SendTo(1, expected_ms(IDLE)), "not where it would be too late"


@given(fleets, st.floats(0, 1e4))
def test_no_request_goes_where_it_cannot_be_answered(fleet, left_ms):
    answer = choose(fleet, left_ms)
    if isinstance(answer, SendTo):
        assert usable(fleet[answer.index])
    else:
        assert not any(map(usable, fleet))


@given(fleets, st.floats(0, 1e4))
def test_none_is_late_where_one_that_is_heard_would_be_in_time(fleet, left_ms):
    answer = choose(fleet, left_ms)
    heard = [seen for seen in fleet if usable(seen) and not in_doubt(seen)]
    if isinstance(answer, SendTo) and any(expected_ms(seen) + MARGIN_MS <= left_ms for seen in heard):
        assert expected_ms(fleet[answer.index]) + MARGIN_MS <= left_ms
        assert not in_doubt(fleet[answer.index])


@given(fleets, st.floats(0, 1e4), st.data())
def test_a_node_that_was_not_chosen_is_not_chosen_for_being_busier(fleet, left_ms, data):
    answer = choose(fleet, left_ms)
    index = data.draw(st.integers(0, len(fleet) - 1))
    busier = [*fleet]
    busier[index] = replace(fleet[index], backlog_ms=fleet[index].backlog_ms + data.draw(times))
    again = choose(busier, left_ms)
    if isinstance(answer, SendTo) and answer.index != index and expected_ms(fleet[index]) >= _first_of(fleet, left_ms):
        assert isinstance(again, SendTo)
        assert again.index != index


def _first_of(fleet, left_ms):
    """The least expected finish of those that were to be chosen from."""
    pool = [seen for seen in fleet if usable(seen)]
    pool = [seen for seen in pool if not in_doubt(seen)] or pool
    pool = [seen for seen in pool if expected_ms(seen) + MARGIN_MS <= left_ms] or pool
    return min(expected_ms(seen) for seen in pool)


@given(nodes, times)
def test_the_expected_finish_only_grows_with_work_way_and_silence(seen, more):
    for name in ("backlog_ms", "own_ms", "rtt_ms", "overdue_ms", "sent_since_ms"):
        grown = replace(seen, **{name: getattr(seen, name) + more})
        assert expected_ms(grown) >= expected_ms(seen) - 1e-9
    assert expected_ms(replace(seen, report_age_ms=seen.report_age_ms + more)) <= expected_ms(seen) + 1e-9
    assert expected_ms(seen) >= seen.own_ms


@given(st.lists(nodes.map(able), min_size=2, max_size=5))
def test_a_silent_node_is_left_for_any_that_is_heard(fleet):
    silent = [replace(fleet[0], overdue_ms=0.1), *fleet[1:]]
    answer = choose(silent, 1e6)
    assert isinstance(answer, SendTo)
    assert answer.index != 0


def test_it_is_given_away_when_the_silence_is_longer_than_allowed():
    assert move_in_ms(silent_ms=0, expected=2, left_ms=100, other_ms=2) == 2 + GRACE_MS
    assert move_in_ms(silent_ms=4, expected=2, left_ms=100, other_ms=2) == GRACE_MS - 2
    assert move_in_ms(silent_ms=50, expected=2, left_ms=100, other_ms=2) == 0


def test_or_at_the_last_moment_that_helps():
    assert move_in_ms(silent_ms=0, expected=2, left_ms=8, other_ms=2) == pytest.approx(8 - 2 - MARGIN_MS)
    assert move_in_ms(silent_ms=5, expected=2, left_ms=4, other_ms=2) == 0
    assert move_in_ms(silent_ms=0.2, expected=2, left_ms=4, other_ms=2) is None, "it is not late yet"
    assert move_in_ms(silent_ms=50, expected=2, left_ms=2, other_ms=2) is None, "nobody can make it any more"


@given(times, times, times, times)
def test_nothing_is_given_away_too_early_or_too_late_to_help(silent, expected, left, other):
    moved = move_in_ms(silent_ms=silent, expected=expected, left_ms=left, other_ms=other)
    if moved is not None:
        assert 0 <= moved <= max(left, allowed_silence_ms(expected))
        assert moved + other <= left + 1e-6
        assert silent + moved >= min(expected, allowed_silence_ms(expected)) - 1.0


@given(times, times)
def test_the_first_look_is_never_later_than_what_it_looks_for(expected, left):
    look = first_look_ms(expected=expected, left_ms=left)
    assert look >= 0
    move = move_in_ms(silent_ms=0, expected=expected, left_ms=left, other_ms=expected)
    assert move is None or look <= move + 1.0
