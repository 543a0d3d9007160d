"""A cap in watts is held by a meter: down at once, back slowly, never swinging, and blind only while no meter answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.power_cap import (
    CLEAR_S,
    HOLD_S_MAX,
    HOLD_S_MIN,
    REACH_S,
    Draw,
    Hold,
    hold_blind,
    hold_other,
    hold_under,
)


@dataclass
class Site:
    """A site whose draw depends on the step and the hour, and a meter that tells its mean over windows."""

    watts: Callable[[float, float], float]
    """At a step, at a time."""
    cap_w: float
    steps: Sequence[float] = (1.0,)
    window_s: float = 2.0
    idle_w: float = 0.0
    hold: Hold = field(default_factory=Hold)
    now_s: float = 0.0
    seen: list[tuple[float, float]] = field(default_factory=list)
    """The step of each window, and its draw."""

    def go(self, windows: int) -> Site:
        for _ in range(windows):
            step = self.hold.step_down
            drawn = self.watts(step, self.now_s)
            self.now_s += self.window_s
            self.seen.append((step, drawn))
            draw = Draw(watts=drawn, seconds=self.window_s, at_s=self.now_s, idle_w=self.idle_w)
            self.hold = hold_under(self.hold, draw, cap_w=self.cap_w, steps=self.steps, now_s=self.now_s)
        return self

    def above(self, since: int = 0) -> int:
        return sum(drawn > self.cap_w for _, drawn in self.seen[since:])

    def moves(self, since: int = 0) -> int:
        return sum(one[0] != other[0] for one, other in pairwise(self.seen[since:]))


def two_forms(usual: float, least: float, at: float = 1.0) -> Callable[[float, float], float]:
    return lambda step, _: least if step >= at else usual


def test_under_the_cap_nothing_moves():
    site = Site(two_forms(280, 200), cap_w=300).go(100)
    assert (site.hold.step_down, site.moves()) == (0.0, 0)


def test_above_the_cap_it_steps_down_at_once_and_the_draw_settles_under_it():
    site = Site(two_forms(350, 200), cap_w=300).go(2)
    assert site.hold.step_down == 1.0
    site.go(1800)
    assert site.seen[-1] == (1.0, 200)
    assert site.above() <= 16, "an hour of 1800 windows, a few of which asked whether it would fit again"
    assert site.hold.hold_s > HOLD_S_MIN


def test_where_the_load_falls_it_comes_back_once_the_draw_says_that_it_fits():
    def watts(step: float, now_s: float) -> float:
        busy = 300 if now_s < 100 else 60
        return 50 + busy * (0.5 if step >= 1 else 1.0)

    site = Site(watts, cap_w=300).go(49)
    assert site.hold.step_down == 1.0
    site.go(10)
    assert site.hold.step_down == 0.0
    assert site.above(since=50) == 0


def test_with_idle_power_known_it_comes_back_sooner():
    def watts(step: float, now_s: float) -> float:
        busy = 250 if now_s < 100 else 170
        return 100 + busy * (0.4 if step >= 1 else 1.0)

    unknown, known = Site(watts, cap_w=300).go(65), Site(watts, cap_w=300, idle_w=100.0).go(65)
    assert unknown.hold.step_down == 1.0
    assert known.hold.step_down == 0.0
    assert known.above(since=50) == 0
    more_than_is_drawn = Site(watts, cap_w=300, idle_w=500.0).go(40)
    assert (more_than_is_drawn.hold.idle_w, more_than_is_drawn.hold.rise) == (0.0, 350 / 200)


def test_of_several_forms_the_best_that_fits_is_found():
    costs = {0.0: 400, 0.2: 380, 0.4: 340, 0.6: 290, 0.8: 250, 1.0: 200}
    site = Site(lambda step, _: costs[step], cap_w=300, steps=(0.2, 0.4, 0.6, 0.8, 1.0)).go(300)
    assert site.hold.step_down == 0.6
    assert site.hold.over == 0.4
    assert site.above() <= 12


def test_what_grows_above_the_cap_where_it_held_goes_all_the_way():
    costs = {0.0: 400.0, 0.5: 290.0, 1.0: 200.0}
    site = Site(lambda step, now_s: costs[step] * (1.1 if now_s > 600 else 1.0), cap_w=300, steps=(0.5, 1.0)).go(300)
    assert site.hold.step_down == 0.5
    site.go(4)
    assert site.hold.step_down == 1.0


def test_a_window_that_saw_both_steps_counts_against_coming_back_only():
    at_work = Hold(step_down=1.0, moved_s=100.0)
    mixed = Draw(watts=350, seconds=2.0, at_s=101.5)
    after = hold_under(replace(at_work, step_down=0.5), mixed, cap_w=300, steps=(1.0,), now_s=101.5)
    assert after.step_down == 0.5, "it began before the step: what that does is yet to be seen"
    back = replace(at_work, step_down=0.5, rose=False)
    assert hold_under(back, mixed, cap_w=300, steps=(1.0,), now_s=101.5).step_down == 1.0
    below = hold_under(at_work, replace(mixed, watts=100), cap_w=300, steps=(1.0,), now_s=101.5)
    assert below.rise is None
    assert hold_under(below, mixed, cap_w=300, steps=(), now_s=102.0) == below, "the same window twice says nothing new"


def test_a_cap_out_of_reach_is_said_after_a_while_and_taken_back_after_another():
    load = {"w": 400.0}
    site = Site(lambda *_: load["w"], cap_w=300).go(4)
    assert (site.hold.step_down, site.hold.short) == (1.0, False)
    site.go(round(REACH_S))
    assert site.hold.short
    load["w"] = 290
    site.go(3)
    load["w"] = 310
    site.go(3)
    assert site.hold.short, "around the cap it is told of once"
    load["w"] = 290
    site.go(round(CLEAR_S / 2) + 1)
    assert not site.hold.short


def test_without_a_meter_all_is_saved_and_with_one_again_it_comes_back_by_what_it_shows():
    site = Site(two_forms(280, 200), cap_w=300, steps=(0.3, 0.6, 1.0), hold=hold_blind(Hold(), now_s=0.0))
    assert (site.hold.step_down, site.hold.blind) == (1.0, True)
    assert hold_blind(site.hold, now_s=5.0) is site.hold
    assert site.go(1).hold.blind is False
    site.go(50)
    assert site.hold.step_down == 0.0
    assert site.above() == 0


def test_nothing_drawn_at_all_is_no_proof_that_the_step_before_would_fit():
    site = Site(lambda step, _: 0.0 if step else 350.0, cap_w=300).go(30)
    assert (site.hold.step_down, site.hold.rise) == (1.0, None)
    site.go(10)
    assert site.seen[-1][0] == 1.0


def test_another_cap_keeps_the_step_and_what_still_holds():
    held = Site(two_forms(350, 200), cap_w=300).go(10).hold
    assert (held.over, held.over_w) == (0.0, 350)
    assert hold_other(held, before_w=300, cap_w=300) is held
    tighter = hold_other(held, before_w=300, cap_w=250)
    assert (tighter.step_down, tighter.over, tighter.good) == (1.0, 0.0, 1.0)
    wider = hold_other(held, before_w=300, cap_w=370)
    assert (wider.step_down, wider.over) == (1.0, None)
    assert hold_other(held, before_w=300, cap_w=360).over == 0.0
    out_of_reach = replace(held, short=True)
    assert hold_other(out_of_reach, before_w=300, cap_w=250).short
    assert not hold_other(out_of_reach, before_w=300, cap_w=310).short
    never_above = Hold(hold_s=40.0)
    assert hold_other(never_above, before_w=300, cap_w=310).hold_s == 40.0


ladders = st.lists(st.floats(0.05, 0.95), max_size=6, unique=True).map(lambda found: (*sorted(found), 1.0))


@st.composite
def plants(draw: st.DrawFn) -> Site:
    """Steps, and a draw that no step makes more; a cap anywhere around it."""
    steps = draw(ladders)
    savings = draw(st.lists(st.floats(0, 100), min_size=len(steps), max_size=len(steps)))
    usual = draw(st.floats(1, 1000))

    def watts(step: float, _: float) -> float:
        return usual + sum(savings) - sum(saved for at, saved in zip(steps, savings, strict=True) if step >= at)

    start = draw(st.sampled_from([Hold(), Hold(step_down=0.5), hold_blind(Hold(), now_s=-1.0)]))
    window_s = draw(st.sampled_from([2.0, 5.0]))
    idle_w = draw(st.floats(0, 1000))
    return Site(watts, cap_w=draw(st.floats(0, 1700)), steps=steps, window_s=window_s, idle_w=idle_w, hold=start)


@given(plants())
def test_a_steady_draw_settles_under_any_cap_that_can_be_reached(site: Site):
    hour = round(3600 / site.window_s)
    site.go(hour)
    assert all(0 <= step <= 1 for step, _ in site.seen)
    least, most = site.watts(1.0, 0.0), site.watts(0.0, 0.0)
    if most <= site.cap_w:
        assert site.above() == 0
        assert site.hold.step_down == 0.0
    elif least <= site.cap_w:
        assert site.above() <= 0.03 * hour
        assert site.above(since=hour // 2) <= 0.01 * hour
        assert not site.hold.short
    else:
        assert site.hold.step_down == 1.0
        assert site.hold.short
    assert site.moves() <= 40
    assert site.moves(since=hour // 2) <= 6


@given(plants(), st.lists(st.tuples(st.floats(0, 3), st.integers(1, 120)), min_size=1, max_size=30))
def test_whatever_the_load_does_it_is_never_above_for_long_where_a_step_could_help(site: Site, phases: list[tuple[float, int]]):
    watts, load = site.watts, [1.0]
    site.watts = lambda step, now_s: load[0] * watts(step, now_s)
    run = 0
    for share, windows in phases:
        load[0] = share
        for _ in range(windows):
            site.go(1)
            step, drawn = site.seen[-1]
            run = run + 1 if drawn > site.cap_w and step < 1 else 0
            assert run <= 4, "two windows at most of each step, of which all but the first and the last are found by one look"
            assert HOLD_S_MIN <= site.hold.hold_s <= HOLD_S_MAX
            assert site.hold.over is None or site.hold.over < site.hold.step_down
    assert site.moves() <= 2 + 2 * site.now_s / HOLD_S_MIN


@given(st.floats(0, 1), st.floats(-100, 100), st.booleans(), st.floats(0, 1000))
def test_a_meter_that_falls_silent_means_step_1_from_any_state(step: float, moved_s: float, rose: bool, now_s: float):
    hold = hold_blind(Hold(step_down=step, moved_s=moved_s, rose=rose), now_s=now_s)
    assert (hold.step_down, hold.blind, hold.short, hold.over) == (1.0, True, False, None)


def test_a_load_that_comes_and_goes_is_not_followed_for_ever():
    def watts(step: float, now_s: float) -> float:
        busy = 300.0 if now_s % 60 < 30 else 20.0
        return 50 + busy * (0.5 if step >= 1 else 1.0)

    site = Site(watts, cap_w=300).go(1800)
    assert site.moves() <= 24
    assert site.moves(since=900) <= 6
    assert site.above(since=900) <= 3
    assert site.hold.hold_s == HOLD_S_MAX
