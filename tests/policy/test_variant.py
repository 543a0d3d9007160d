"""Which variant: the best that fits, whatever the order, and words for the others."""

from __future__ import annotations

from itertools import permutations
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.variant import Candidate, choose_variant

FP16 = Candidate(id="fp16", quality=1.0, needed_gib=19.0)
INT8 = Candidate(id="int8", quality=0.995, needed_gib=11.0)
INT4 = Candidate(id="int4", quality=0.96, needed_gib=7.0)
LEAN = Candidate(id="lean", quality=0.995, needed_gib=12.0, joules=3.0)


def test_the_best_that_fits_is_taken_whatever_the_order():
    for order in permutations([FP16, INT8, INT4]):
        assert choose_variant(order, usable_gib=24.0).chosen is FP16
        assert choose_variant(order, usable_gib=12.0).chosen is INT8
        assert choose_variant(order, usable_gib=5.0).chosen is None


def test_of_equal_quality_the_one_with_known_and_fewer_joules_is_taken():
    assert choose_variant([INT8, LEAN], usable_gib=24.0).chosen is LEAN


def test_why_not_the_others_is_said():
    choice = choose_variant([FP16, INT8, INT4, LEAN], usable_gib=12.5, quality_min=0.97)
    assert {candidate.id: why for candidate, why in choice.why_not} == {
        "fp16": "needs 19.0 GiB of 12.5 GiB",
        "int8": "as good, but its energy was not measured",
        "int4": "quality 0.960 < 0.970",
    }
    costs = choose_variant([FP16, INT4], usable_gib=24.0).why_not
    assert costs == ((INT4, "fits, and costs 4.0% of quality"),)


def test_of_equal_quality_energy_then_memory_then_the_name_decides():
    def told(first: Candidate, second: Candidate) -> tuple[str, str]:
        choice = choose_variant([second, first], usable_gib=24.0)
        assert choice.chosen is first
        return choice.why_not[0][0].id, choice.why_not[0][1]

    twin = Candidate(id="twin", quality=0.995, needed_gib=12.0, joules=3.0)
    wasteful = Candidate(id="wasteful", quality=0.995, needed_gib=11.0, joules=4.5)
    roomy = Candidate(id="roomy", quality=0.995, needed_gib=13.5, joules=3.0)
    assert told(LEAN, twin) == ("twin", "as good and as large as lean")
    assert told(LEAN, wasteful) == ("wasteful", "as good, and takes 1.5 J a request more")
    assert told(LEAN, roomy) == ("roomy", "as good, and takes 1.5 GiB more")


def test_nothing_to_choose_from_and_nothing_that_fits():
    assert choose_variant([], usable_gib=24.0).why_not == ()
    choice = choose_variant([FP16, INT4], usable_gib=8.0, quality_min=0.99)
    assert choice.chosen is None
    assert [why for _, why in choice.why_not] == ["needs 19.0 GiB of 8.0 GiB", "quality 0.960 < 0.990"]


sizes = st.lists(st.tuples(st.floats(0.1, 50), st.floats(0.1, 1)), min_size=1, max_size=6)


figures = st.tuples(st.sampled_from([0.9, 0.95, 1.0]), st.sampled_from([4.0, 8.0, 16.0]), st.sampled_from([None, 1.0, 2.0]))


@given(st.lists(figures, max_size=6), st.floats(1, 20), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_changes_nothing(
    said: list[tuple[float, float, float | None]], usable: float, random: Random
):
    candidates = [Candidate(id=str(i), quality=q, needed_gib=g, joules=j) for i, (q, g, j) in enumerate(said)]
    shuffled = random.sample(candidates, len(candidates))
    choice = choose_variant(candidates, usable_gib=usable, quality_min=0.92)
    assert choose_variant(shuffled, usable_gib=usable, quality_min=0.92) == choice
    assert {c.id for c, _ in choice.why_not} | ({choice.chosen.id} if choice.chosen else set()) == {c.id for c in candidates}
    assert choice.chosen is None or (choice.chosen.needed_gib <= usable and choice.chosen.quality >= 0.92)


@given(sizes, st.floats(0.1, 60))
def test_more_memory_never_gives_a_worse_variant(said: list[tuple[float, float]], usable: float):
    candidates = [Candidate(id=str(i), quality=q, needed_gib=g) for i, (g, q) in enumerate(said)]
    less, more = (choose_variant(candidates, usable_gib=usable * factor).chosen for factor in (1, 1.5))
    assert less is None or (more is not None and more.quality >= less.quality)
