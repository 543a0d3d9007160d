"""Which loaded variant answers a request: the best in time, never below the floor, and no flapping."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.variant import HOLD_S_MAX, HOLD_S_MIN, Form, Held, Pick, better, pick_variant, steps_of

FP32 = Form(id="fp32", quality=1.0, joules=2.0, mib=100, expected_ms=8, own_ms=8)
INT8 = Form(id="int8", quality=0.97, joules=1.0, mib=40, expected_ms=3, own_ms=3)
TWIN = Form(id="twin", quality=1.0, joules=1.5, mib=100, expected_ms=9, own_ms=9)
RAW = Form(id="raw", quality=0.0, joules=0.1, expected_ms=1, own_ms=1)


def pick(
    *forms: Form,
    allowed: float = 20.0,
    floor: float = 0.9,
    step_down: float = 0.0,
    held: Held | None = None,
    now: float = 0.0,
    default: str = "fp32",
) -> Pick:
    return pick_variant(
        forms,
        default=default,
        allowed_ms=allowed,
        quality_min=floor,
        step_down=step_down,
        held=Held() if held is None else held,
        now_s=now,
    )


def told(found: Pick) -> tuple[str | None, str | None, str, str | None]:
    return (
        found.chosen and found.chosen.id,
        found.stepped_from and found.stepped_from.id,
        found.why,
        found.wanted and found.wanted.id,
    )


def queued(form: Form, ms: float) -> Form:
    return Form(id=form.id, quality=form.quality, joules=form.joules, mib=form.mib, expected_ms=ms, own_ms=form.own_ms)


def away(form: Form, *, loadable: bool = True) -> Form:
    return Form(
        id=form.id,
        quality=form.quality,
        joules=form.joules,
        mib=form.mib,
        expected_ms=form.own_ms,
        own_ms=form.own_ms,
        ready=False,
        loadable=loadable,
    )


def test_the_best_in_time_answers_and_of_equals_the_thriftier():
    assert told(pick(FP32, INT8)) == ("fp32", None, "", None)
    assert told(pick(FP32, INT8, TWIN)) == ("twin", None, "", None)
    assert told(pick(FP32, INT8, allowed=inf)) == ("fp32", None, "", None)


def test_a_queue_steps_a_workload_down_and_keeps_it_there():
    found = pick(queued(FP32, 30), INT8)
    assert told(found) == ("int8", "fp32", "overload", None)
    assert found.held == Held(down=True, until_s=HOLD_S_MIN, hold_s=HOLD_S_MIN)
    assert told(pick(FP32, INT8, held=found.held, now=1.0)) == ("int8", "fp32", "overload", None)
    assert told(pick(queued(FP32, 17), INT8, held=found.held, now=9.0)) == ("int8", "fp32", "overload", None)
    back = pick(FP32, INT8, held=found.held, now=2.0)
    assert told(back) == ("fp32", None, "", None)
    again = pick(queued(FP32, 30), INT8, held=back.held, now=3.0)
    assert again.held.hold_s == 2 * HOLD_S_MIN
    late = pick(queued(FP32, 30), INT8, held=back.held, now=60.0)
    assert late.held.hold_s == HOLD_S_MIN


def test_a_deadline_that_the_better_one_never_meets_is_no_overload():
    found = pick(FP32, INT8, allowed=5.0)
    assert told(found) == ("int8", "fp32", "deadline", None)
    assert not found.held.down


def test_never_below_the_floor():
    assert told(pick(queued(FP32, 30), INT8, floor=0.98)) == ("fp32", None, "", None)
    assert told(pick(queued(FP32, 30), RAW)) == ("fp32", None, "", None)
    assert told(pick(FP32, INT8, floor=0.98, step_down=1.0)) == ("fp32", None, "", None)
    assert told(pick(away(FP32), INT8, floor=0.98)) == (None, None, "", "fp32")
    assert told(pick(away(FP32, loadable=False), INT8, floor=0.98)) == (None, None, "", None)
    assert told(pick(INT8, away(FP32), floor=0.98, default="int8")) == (None, None, "", "fp32")


def test_a_power_cap_takes_the_fewest_joules_that_the_floor_permits():
    assert told(pick(FP32, INT8, step_down=1.0)) == ("int8", "fp32", "cap", None)
    assert told(pick(FP32, INT8, step_down=0.2, floor=0.9)) == ("fp32", None, "", None)
    assert told(pick(FP32, INT8, step_down=0.2, floor=0.5)) == ("int8", "fp32", "cap", None)
    assert told(pick(FP32, away(INT8), step_down=1.0)) == ("fp32", None, "", "int8")
    assert told(pick(FP32, queued(INT8, 30), step_down=1.0)) == ("fp32", None, "", None)


def test_under_a_cap_what_nobody_measured_saves_nothing():
    blind = Form(id="blind", quality=0.97, expected_ms=1, own_ms=1)
    assert told(pick(FP32, blind, step_down=1.0)) == ("fp32", None, "", None)


def test_while_the_usual_one_is_not_loaded_another_that_is_good_enough_answers():
    assert told(pick(away(FP32), INT8)) == ("int8", "fp32", "absent", "fp32")
    assert told(pick(away(FP32), TWIN)) == ("twin", None, "", None)
    assert told(pick(away(TWIN), INT8, default="twin")) == ("int8", "twin", "absent", "twin")


def test_a_better_one_that_nobody_loaded_is_not_asked_for():
    assert told(pick(away(FP32), INT8, default="int8")) == ("int8", None, "", None)


def test_a_cheaper_one_is_worth_loading_where_the_usual_one_is_late():
    assert told(pick(queued(FP32, 30), away(INT8))) == ("fp32", None, "", "int8")
    assert told(pick(queued(FP32, 30), away(INT8, loadable=False))) == ("fp32", None, "", None)
    assert told(pick(FP32, away(INT8))) == ("fp32", None, "", None)


def test_where_none_is_in_time_the_clearly_sooner_one_answers():
    assert told(pick(queued(FP32, 90), queued(INT8, 40))) == ("int8", "fp32", "overload", None)
    assert told(pick(queued(FP32, 90), queued(INT8, 80))) == ("fp32", None, "", None)


def test_another_one_as_good_takes_what_is_too_much_for_one_and_that_is_no_step_down():
    found = pick(queued(TWIN, 30), FP32, INT8)
    assert told(found) == ("fp32", None, "", None)
    assert not found.held.down


def test_nothing_to_hold_when_the_cheaper_one_is_gone():
    held = Held(down=True, until_s=100.0)
    assert told(pick(FP32, away(INT8), held=held)) == ("fp32", None, "", None)


forms = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.9, 0.95, 0.97, 1.0]),
        st.sampled_from([None, 0.5, 1.0, 2.0]),
        st.floats(0.1, 50),
        st.floats(0, 100),
        st.booleans(),
        st.booleans(),
    ),
    max_size=5,
)
Said = list[tuple[float, float | None, float, float, bool, bool]]


def of(said: Said) -> list[Form]:
    return [
        Form(id=str(i), quality=q, joules=j, mib=10, own_ms=own, expected_ms=own + more, ready=ready, loadable=loadable)
        for i, (q, j, own, more, ready, loadable) in enumerate(said)
    ]


@given(forms, st.floats(1, 100), st.sampled_from([0.0, 0.9, 0.96, 1.0]), st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
def test_what_answers_is_loaded_and_good_enough(said: Said, allowed: float, floor: float, step_down: float, down: bool):
    candidates = of(said)
    held = Held(down=down, until_s=5.0)
    found = pick(*candidates, allowed=allowed, floor=floor, step_down=step_down, held=held, default="0", now=1.0)
    shuffled = Random(7).sample(candidates, len(candidates))
    assert pick(*shuffled, allowed=allowed, floor=floor, step_down=step_down, held=held, default="0", now=1.0) == found
    good = [f for f in candidates if f.ready and f.quality >= floor]
    assert (found.chosen is None) == (not good)
    if found.chosen is not None:
        assert found.chosen in good
        if found.stepped_from is not None:
            assert found.chosen.quality < found.stepped_from.quality
            assert found.why
        assert bool(found.why) == (found.stepped_from is not None)
        if step_down == 0 and not down and found.chosen.expected_ms > allowed:
            assert all(f.expected_ms > allowed for f in good), "one was in time"
    if found.wanted is not None:
        assert not found.wanted.ready
        assert found.wanted.loadable
        assert found.wanted.quality >= floor


@given(forms, st.floats(1, 100), st.sampled_from([0.0, 0.9, 1.0]), st.floats(0, 10))
def test_while_the_usual_one_is_in_time_the_others_do_not_matter(said: Said, allowed: float, floor: float, until: float):
    """The gateway counts on it, and does not ask about the others then."""
    candidates = of(said)
    usual = next((f for f in sorted(candidates, key=better) if f.quality >= floor and (f.ready or f.id == "0")), None)
    if usual is not None and usual.ready and usual.expected_ms <= allowed:
        held = Held(until_s=until)
        assert pick(*candidates, allowed=allowed, floor=floor, default="0", held=held, now=5.0) == Pick(chosen=usual, held=held)


@given(forms, st.floats(1, 100), st.floats(0, 1), st.floats(0, 1))
def test_a_harder_cap_never_takes_more_joules(said: Said, allowed: float, one: float, two: float):
    candidates = of(said)
    less, more = (pick(*candidates, allowed=allowed, step_down=max(s, 0.01), default="0").chosen for s in sorted((one, two)))
    if less is not None and more is not None and less.joules is not None and more.joules is not None:
        assert more.joules <= less.joules or less.expected_ms > allowed or more is less or more.quality >= less.quality


@given(st.lists(st.floats(0, 200), min_size=20, max_size=40), st.floats(10, 60))
def test_it_does_not_flap(queues: list[float], allowed: float):
    """Whatever the queue of the better one does, at a hundred requests a second."""
    held, changes, now = Held(), 0, 0.0
    down = False
    for queue in queues * 10:
        now += 0.01
        held = pick(queued(FP32, 8 + queue), INT8, allowed=allowed, held=held, now=now).held
        changes += held.down != down
        down = held.down
    assert changes <= 2 * (now / HOLD_S_MIN + 1)
    assert changes <= 14, "each relapse stays twice as long"


def test_under_a_load_that_lasts_a_client_sees_a_change_twice_a_minute():
    held, changes, down, now = Held(), 0, False, 0.0
    for _ in range(60_000):
        now += 0.02
        queue = 0.0 if held.down else 30.0
        held = pick(queued(FP32, 8 + queue), INT8, held=held, now=now).held
        changes += held.down != down
        down = held.down
    assert changes <= 2 * (now / HOLD_S_MAX) + 12


def steps(*forms: Form, floor: float = 0.9, default: str = "fp32") -> list[float]:
    return [round(step, 6) for step in sorted(steps_of(forms, default=default, quality_min=floor))]


def test_where_another_form_begins_to_be_permitted():
    half = Form(id="half", quality=0.99, joules=1.2)
    dear = Form(id="dear", quality=0.98, joules=1.3)
    assert steps(FP32, INT8) == [0.3]
    assert steps(FP32, INT8, half, dear) == [0.1, 0.3], "the dear one never answers: a better one takes less"
    assert steps(FP32, INT8, floor=0.97) == [1.0]
    assert steps(FP32, away(INT8)) == [0.3]
    assert steps(FP32, TWIN) == [], "it answers without a cap already"
    assert steps(FP32, away(TWIN), floor=1.0) == [0.01]
    assert steps(FP32, INT8, floor=0.98) == []
    assert steps(FP32, away(INT8, loadable=False)) == []
    assert steps(FP32, Form(id="int8", quality=0.97)) == []
    assert steps(FP32) == steps() == steps(INT8, default="gone", floor=0.99) == []


@given(forms, st.sampled_from([0.0, 0.9, 0.96, 1.0]))
def test_between_the_steps_that_are_told_a_cap_changes_nothing(said: Said, floor: float):
    candidates = [Form(id=f.id, quality=f.quality, joules=f.joules, mib=f.mib) for f in of(said)]
    known = sorted(steps_of(candidates, default="0", quality_min=floor))
    assert all(0 < step <= 1 for step in known)

    def chosen(step: float) -> str | None:
        found = pick(*candidates, allowed=inf, floor=floor, step_down=step, default="0").chosen
        return found and found.id

    edges = [0.0, *known, 1.0]
    for low, high in pairwise(edges):
        if high - low > 1e-5:
            assert chosen(low) == chosen(high - 1e-6)
    for low, high in zip([0.0, *known], known, strict=False):
        assert chosen(high) != chosen(low)
