"""A refusal is told at once, but not again and again to who does not wait, and not to more than the loop can bear."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.storm import (
    AT_ONCE_S,
    BURST,
    IMPATIENT_S,
    LEAST_PER_S,
    OVER_BUDGET_S,
    PER_ANSWER,
    PER_S,
    Budget,
    delay_s,
)


def test_within_the_budget_a_refusal_is_told_at_once_whoever_asks():
    first, budget = delay_s(Budget(), now_s=1.0, since_refusal_s=inf)
    again, budget = delay_s(budget, now_s=1.001, since_refusal_s=0.001)
    assert (first, again) == (0.0, 0.0)


def test_over_the_budget_who_does_not_wait_is_made_to():
    budget = Budget(tokens=0.0, at_s=1.0)
    impatient, budget = delay_s(budget, now_s=1.0, since_refusal_s=AT_ONCE_S / 2)
    patient, budget = delay_s(budget, now_s=1.0, since_refusal_s=AT_ONCE_S)
    later, _ = delay_s(budget, now_s=1.0 + 2 / PER_S, since_refusal_s=0.0)
    assert (impatient, patient, later) == (IMPATIENT_S, OVER_BUDGET_S, 0.0)


def test_where_few_are_answered_few_are_refused_at_once():
    def at_once(answers_per_s):
        budget, count = Budget(), 0
        for step in range(10_000):
            now_s = step / 10_000
            wait_s, budget = delay_s(budget, now_s=now_s, since_refusal_s=0.0, answers=int(now_s * answers_per_s))
            count += wait_s == 0.0
        return count

    assert at_once(5000) == pytest.approx(BURST + PER_S, abs=2)
    assert at_once(100) == pytest.approx(BURST + LEAST_PER_S + 100 * PER_ANSWER, abs=6)
    assert at_once(0) == pytest.approx(BURST + LEAST_PER_S, abs=2)


@given(st.lists(st.tuples(st.floats(0, 0.01), st.floats(0, 1)), max_size=2000))
def test_no_more_are_told_at_once_than_the_budget_holds(refusals):
    budget, now_s, at_once = Budget(), 0.0, 0
    for step_s, since_s in refusals:
        now_s += step_s
        wait_s, budget = delay_s(budget, now_s=now_s, since_refusal_s=since_s)
        at_once += wait_s == 0.0
        assert wait_s in {0.0, IMPATIENT_S, OVER_BUDGET_S}
    assert at_once <= BURST + PER_S * now_s + 1
