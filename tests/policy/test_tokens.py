"""Chats are admitted by tokens and cache: the most critical first, nobody passed over, never more than the cache holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.admit import Estimate
from nearhall.policy.tokens import (
    FIRST_STEP_MS,
    Asked,
    Capacity,
    Pace,
    Running,
    Step,
    Waiting,
    first_token_ms,
    may_start,
    next_to_start,
)

CAPACITY = Capacity(sequences=2, spare=1, kv_tokens=3 * 128, context=128, step_tokens=32, block=16)
PACE = Pace(prompt_ms=Estimate(1.0), steps=(Estimate(10.0), Estimate(12.0), Estimate(14.0)), answer_tokens=Estimate(50.0))


def waits(ticket=1, *, rank=0, due_s=100.0, prompt=16, most=32):
    return Waiting(rank=rank, due_s=due_s, ticket=ticket, asked=Asked(prompt, most))


def talks(*, rank=0, prompt=16, most=32, generated=1):
    return Running(rank=rank, asked=Asked(prompt, most), generated=generated)


def expected(new, waiting=(), running=(), pace=PACE, capacity=CAPACITY):
    return first_token_ms(new, sorted(waiting, key=lambda one: one.key), running, capacity, pace)


PLACES = {
    "alone": ([], 0, Asked(16, 32), True),
    "larger than the cache, alone: the runtime says why not": ([], 0, Asked(1000, 1000), True),
    "beside one": ([talks()], 0, Asked(16, 32), True),
    "no sequence left": ([talks(), talks()], 0, Asked(16, 32), False),
    "a spare one, since bulk talks": ([talks(rank=5), talks()], 0, Asked(16, 32), True),
    "no spare one for bulk itself": ([talks(rank=5), talks()], 5, Asked(16, 32), False),
    "the spare one taken": ([talks(rank=5), talks(), talks()], 0, Asked(16, 32), False),
    "the cache full": ([talks(most=200)], 0, Asked(16, 100), False),
    "the cache's spare part": ([talks(rank=5, most=200)], 0, Asked(16, 100), True),
}


@pytest.mark.parametrize(("running", "rank", "asked", "has"), PLACES.values(), ids=PLACES)
def test_who_has_a_place(running, rank, asked, has):
    assert may_start(asked, rank, running, CAPACITY) is has


def test_the_first_in_order_begins_and_no_other():
    bulk, later, soon = waits(1, rank=5, due_s=1), waits(2, due_s=9), waits(3, due_s=5)
    assert next_to_start([bulk, later, soon], [], CAPACITY) is soon
    large, small = waits(1, most=200, due_s=1), waits(2, due_s=2)
    assert next_to_start([large, small], [talks(most=100)], CAPACITY) is None
    assert next_to_start([small], [talks(most=100)], CAPACITY) is small
    assert next_to_start([], [], CAPACITY) is None


def test_what_a_first_token_waits_for():
    own = expected(waits(prompt=16))
    assert own == pytest.approx(10 + 16)
    assert expected(waits(prompt=64)) == pytest.approx(2 * 10 + 64)
    beside = expected(waits(prompt=16), running=[talks()])
    assert beside == pytest.approx(10 + 10 + 16), "the step in progress, then its own"
    unread = expected(waits(prompt=16), running=[talks(prompt=30, generated=0)])
    assert unread > beside, "a prompt before it is read first"
    full = [talks(most=32, generated=20), talks(most=32, generated=2)]
    assert expected(waits(), running=full) == pytest.approx(12 * 12 + 10 + 16), "until the shorter answer ends"
    behind = expected(waits(2), waiting=[waits(1)], running=full)
    assert behind > expected(waits(2), running=full)
    assert expected(waits(1), waiting=[waits(2)], running=full) == expected(waits(1), running=full)
    assert expected(waits(), pace=replace(PACE, overhead_ms=Estimate(7.0))) == pytest.approx(own + 7)


def test_an_answer_longer_than_expected_ends_at_the_next_step():
    assert expected(waits(), running=[talks(most=900, generated=300)] * 2) == pytest.approx(12 + 10 + 16)


def test_the_pace_is_learned_from_steps():
    pace = Pace.assumed()
    assert pace.step_ms(1) == FIRST_STEP_MS
    assert pace.step_ms(8) > pace.step_ms(2) > pace.step_ms(1)
    for _ in range(200):
        pace = pace.seen(Step(took_ms=40.0, running=8)).seen(Step(took_ms=40 + 64 * 0.5, running=8, prompt_tokens=64))
    assert pace.step_ms(8) == pytest.approx(40)
    assert pace.prompt_ms.service_ms == pytest.approx(0.5, rel=0.05)
    assert pace.step_ms(1) == FIRST_STEP_MS, "one alone was not seen"
    assert pace.step_ms(9) > 40
    assert Pace(prompt_ms=Estimate(1.0)).step_ms(3) == FIRST_STEP_MS
    only_eight = Pace(prompt_ms=Estimate(1.0)).seen(Step(took_ms=41.0, running=8))
    assert only_eight.step_ms(1) == pytest.approx(20, abs=0.1), "from the nearest that was seen"
    assert pace.seen(Step(took_ms=9e9, running=8, prompt_tokens=None)) == pace
    assert pace.seen(Step(took_ms=9e9, running=0)) == pace


def test_answers_teach_their_length_and_what_a_prompt_is_in_tokens():
    pace = Pace.assumed()
    for _ in range(300):
        pace = pace.seen_answer(prompt_bytes=40, prompt_tokens=22, answer_tokens=30)
        pace = pace.seen_answer(prompt_bytes=400, prompt_tokens=112, answer_tokens=30)
    assert pace.frame_tokens.service_ms == pytest.approx(12, abs=1.5)
    assert pace.tokens_of(400) == pytest.approx(112, abs=3)
    assert pace.tokens_of(40) == pytest.approx(22, abs=3)
    assert pace.answer_tokens.service_ms == pytest.approx(30, abs=1)
    dense = pace.seen_answer(prompt_bytes=400, prompt_tokens=400, answer_tokens=30)
    assert dense.bytes_a_token < pace.bytes_a_token
    assert Pace.assumed().seen_answer(prompt_bytes=900, prompt_tokens=0, answer_tokens=1).bytes_a_token <= 8
    assert replace(Pace.assumed(), frame_tokens=Estimate(0.0)).tokens_of(0) == 1


def test_what_is_beyond_the_steps_is_learned_too():
    pace = PACE
    for _ in range(400):
        pace = pace.seen_first(expected_ms=expected(waits(), pace=pace), took_ms=26.0 + 9.0)
    assert pace.overhead_ms.service_ms == pytest.approx(9, rel=0.05)
    assert expected(waits(), pace=pace) == pytest.approx(35, rel=0.05)


def test_an_estimate_that_nothing_tests_falls():
    assert expected(waits(), pace=PACE.aged(60.0)) < expected(waits(), pace=PACE) / 4
    assert Pace(prompt_ms=Estimate(1.0), steps=(None, Estimate(9.0))).aged(0.0).steps[0] is None


chats = st.builds(Asked, st.integers(1, 64), st.integers(1, 64))
arrivals = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 100), chats), max_size=30)
capacities = st.builds(
    lambda sequences, spare, block, extra: Capacity(
        sequences=sequences,
        spare=spare,
        kv_tokens=(sequences + spare) * 128 + extra,
        context=128,
        step_tokens=32,
        block=block,
    ),
    st.integers(1, 4),
    st.integers(0, 2),
    st.sampled_from([1, 16, 32]),
    st.integers(0, 64),
)


@given(capacities, arrivals, st.data())
def test_never_more_than_the_cache_and_strictly_in_order(capacity, came, data):
    waiting = [Waiting(rank=rank, due_s=due, ticket=n, asked=asked) for n, (rank, due, asked) in enumerate(came)]
    running, begun = [], 0
    while waiting or running:
        one = next_to_start(waiting, running, capacity)
        if one is None or data.draw(st.booleans()):
            if running:
                running.pop(data.draw(st.integers(0, len(running) - 1)))
            continue
        assert all(one.key <= other.key for other in waiting)
        waiting.remove(one)
        running.append(Running(rank=one.rank, asked=one.asked))
        begun += 1
        assert sum(capacity.reserved(each.asked) for each in running) <= capacity.kv_tokens
        assert len(running) <= capacity.sequences + capacity.spare
    assert begun == len(came), "everybody gets a turn once the others end"


@given(capacities, st.lists(chats, min_size=1, max_size=8), chats)
def test_bulk_never_keeps_a_critical_chat_waiting(capacity, bulk, asked):
    """However much bulk talks and waits: where there is a spare place, it is free unless another critical chat has it."""
    running = []
    for one in bulk:
        if may_start(one, 5, running, capacity):
            running.append(Running(rank=5, asked=one, generated=1))
    assert not capacity.spare or may_start(asked, 0, running, capacity)
    critical = waits(99, rank=0, prompt=asked.prompt_tokens, most=asked.max_tokens)
    crowd = [waits(n, rank=5, due_s=0.0, most=128) for n in range(20)]
    assert expected(critical, crowd, running, capacity=capacity) == expected(critical, (), running, capacity=capacity)


@given(capacities, arrivals, chats)
def test_more_before_it_never_makes_it_sooner(capacity, came, asked):
    waiting = [Waiting(rank=0, due_s=due, ticket=n, asked=one) for n, (_, due, one) in enumerate(came)]
    last = waits(99, due_s=1000.0, prompt=asked.prompt_tokens, most=asked.max_tokens)
    least = expected(last, (), capacity=capacity)
    assert expected(last, waiting, capacity=capacity) >= least - 1e-9
    longer = waits(99, due_s=1000.0, prompt=asked.prompt_tokens + 40, most=asked.max_tokens)
    assert expected(longer, (), capacity=capacity) > least
