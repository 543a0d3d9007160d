"""A goal, and what a run says of it."""

from __future__ import annotations

import pytest

from nearhall.cli.roots.bench.goals import GOALS, Says, judge


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("binary_p50", 1.4, Says.HOLDS),
        ("binary_p50", 1.41, Says.MISSES),
        ("json_peers", 1.4, Says.HOLDS),
        ("json_peers", 1.39, Says.MISSES),
        ("binary_p50", None, Says.NOT_JUDGED),
    ],
)
def test_a_figure_holds_or_misses(name: str, value: float | None, says: Says):
    assert judge(name, value).says is says


def test_a_noisy_figure_is_shown_and_not_judged():
    verdict = judge("storm", 12.3, headline=False)
    assert verdict.says is Says.NOT_JUDGED
    assert verdict.shown == "12.3 %"
    assert verdict.note


def test_every_goal_says_its_bound_in_its_unit():
    assert {goal.unit for goal in GOALS.values()} == {"x", "%", "ms", "s", "MiB"}
    assert GOALS["tiny_added"].shown == "<= 0.25 ms"
    assert GOALS["storm"].shown == ">= 70.0 %"
    plain = judge("start", 0.5).plain()
    assert (plain["bound"], plain["says"], plain["value"]) == ("<= 1.5 s", "holds", 0.5)
    assert judge("start", None).shown == "-"
