"""Which language model's process runs on what others leave of the cores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.cores import GIVING_WAY_MS_MAX, STRETCH_MAX, Use, may_give_way, takes_the_rest

CAMERA = Use(model="faces", rank=1)
TALK = Use(model="talk", rank=5)
UNSAID = 5


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        ([CAMERA, TALK], True),
        ([CAMERA, Use(model="talk", rank=1)], False),
        ([CAMERA, TALK, Use(model="talk", rank=0)], False),  # one of its uses is as critical as any
        ([Use(model="faces", rank=6), TALK], False),
        ([TALK], False),
        ([CAMERA], True),  # of a model that no workload names
        ([Use(model="faces", rank=UNSAID)], False),
        ([], False),
    ],
)
def test_it_does_where_something_more_critical_is_served_by_another_model(uses: list[Use], *, expected: bool):
    assert takes_the_rest("talk", uses, rank_unsaid=UNSAID) is expected


@given(st.lists(st.builds(Use, model=st.sampled_from("abc"), rank=st.integers(0, 9)), max_size=8), st.integers(0, 9))
def test_some_model_never_does(uses: list[Use], unsaid: int):
    assert not all(takes_the_rest(model, uses, rank_unsaid=unsaid) for model in "abc")


@pytest.mark.parametrize(
    ("stretch", "run_ms", "expected"),
    [
        (1.0, 1.0, True),
        (STRETCH_MAX, GIVING_WAY_MS_MAX, True),
        (STRETCH_MAX * 1.01, 1.0, False),  # something else has the cores
        (1.0, GIVING_WAY_MS_MAX * 1.01, False),  # it would take seconds if something else had
    ],
)
def test_a_thread_gives_way_where_it_gets_done_all_the_same(stretch: float, run_ms: float, *, expected: bool):
    assert may_give_way(stretch=stretch, run_ms=run_ms) is expected
