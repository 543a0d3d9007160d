"""Does a model fit, and in which precision: P95 of what is needed against what is usable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.documents.catalogue_models import Precision, load_models
from nearhall.physics.memory import GIB
from nearhall.planner.serving.fit import Memory, MemoryFit, fit_memory

RANDOM = np.random.default_rng(1)
RUNTIME = RANDOM.uniform(0.5, 1.5, 500)
LLAMA = load_models().model("llama-3.1-8b")


def memory(gib: float, accelerators: int = 1) -> Memory:
    return Memory(
        usable_bytes=np.full(500, gib * GIB),
        accelerators=accelerators,
        runtime_gib=RUNTIME,
        fragmentation=np.full(500, 0.1),
        activations_gib=np.full(500, 0.2),
    )


def fit(gib: float, bits: int | None = None, ctx: int = 4096, concurrent: int = 4, accelerators: int = 1) -> MemoryFit:
    return fit_memory(LLAMA, memory(gib, accelerators), bits=bits, ctx=ctx, concurrent=concurrent)


def test_the_best_precision_that_fits_is_taken_and_what_a_smaller_one_costs_is_said():
    found = fit(24.0)
    assert (found.bits, found.fits, found.copies) == (16, True, 1)
    assert found.parts_gib["weights"] == pytest.approx(16.06e9 / GIB, rel=1e-3)
    assert found.parts_gib["kv"] == pytest.approx(2.0)
    assert "GB, P95) of 24.0 GiB" in found.words
    assert [other.bits for other in found.others] == [8, 4]
    assert "less and 2.0% of quality (published)" in found.others[1].words
    assert "less and 0.5% of quality (assumed)" in found.others[0].words
    assert fit(14.0).bits == 8
    assert fit(9.0).bits == 4


def test_a_wished_precision_that_does_not_fit_says_which_would():
    found = fit(14.0, bits=16)
    assert not found.fits
    assert "at 8 bits it would fit" in found.words
    assert fit(14.0, bits=8).fits


def test_nothing_fits_into_too_little():
    found = fit(3.0)
    assert not found.fits
    assert "no smaller variant that is good enough fits" in found.words
    assert all(not other.fits for other in found.others)


def test_a_server_of_several_accelerators_holds_a_copy_on_each_that_has_room():
    assert fit(96.0, accelerators=4).copies == 4
    assert fit(20.0, bits=16, accelerators=4).copies == 1


def test_a_copy_over_all_accelerators_pays_for_a_runtime_on_each():
    alone, spread = fit(80.0, bits=16, accelerators=4), fit(40.0, bits=16, accelerators=4)
    assert (alone.copies, spread.copies) == (4, 1)
    assert spread.parts_gib["runtime"] == pytest.approx(4 * alone.parts_gib["runtime"])
    assert spread.p95_gib > alone.p95_gib + 1.5


def test_a_precision_that_the_catalogue_does_not_list_is_reckoned_too():
    listed = {16: 1.0, 8: 0.995, 4: 0.98}
    found = {width: fit(80.0, bits=width) for width in (2, 3, 4, 5, 6, 8, 12, 16)}
    needed = [found[width].p95_gib for width in sorted(found)]
    quality = [found[width].quality for width in sorted(found)]
    assert needed == sorted(needed)
    assert quality == sorted(quality)
    assert {width: found[width].quality for width in listed} == listed
    assert found[3].quality == pytest.approx(0.96), "each bit below the least listed doubles the loss"


def test_a_precision_below_those_of_a_model_without_loss_still_costs():
    resnet = load_models().model("minilm").model_copy(update={"variants": load_models().model("minilm").variants[:2]})
    assert fit_memory(resnet, memory(24.0), bits=8, ctx=1, concurrent=1).quality < 1.0


def test_what_fits_but_is_not_good_enough_is_not_taken():
    plain = fit_memory(LLAMA, memory(9.0), bits=None, ctx=4096, concurrent=4)
    asked = fit_memory(LLAMA, memory(9.0), bits=None, ctx=4096, concurrent=4, quality_min=0.99)
    assert (plain.bits, plain.fits) == (4, True)
    assert (asked.bits, asked.fits) == (8, False)
    assert "good enough" in asked.words


def test_a_wider_form_is_told_as_better_or_as_no_better():
    other = {o.bits: o.words for o in fit(24.0, bits=4).others}
    assert "and is 2.0% better (assumed)" in other[16]
    assert "and is 1.5% better (assumed)" in other[8]
    bert = fit_memory(load_models().model("minilm"), memory(24.0), bits=None, ctx=1, concurrent=1)
    assert bert.bits == 16
    assert {o.bits: o.words for o in bert.others}[32].endswith("no better")


def test_case_14_conversations_beside_7b_on_a_24_gb_card():
    """14 GB of weights and 2,000 tokens of 524,288 B: 9 in 24 GB and 11 in 24 GiB before the runtime takes its share."""
    llama2 = load_models().model("llama-2-7b").model_copy(update={"params": 7e9})

    def holds(gib: float, runtime_gib: float, wasted: float) -> int | None:
        bare = Memory(
            usable_bytes=np.full(50, gib * GIB),
            accelerators=1,
            runtime_gib=np.full(50, runtime_gib),
            fragmentation=np.full(50, wasted),
            activations_gib=np.zeros(50),
        )
        return fit_memory(llama2, bare, bits=16, ctx=2000, concurrent=1).concurrent_max

    assert holds(24e9 / GIB, 0.0, 0.0) == 9
    assert holds(24.0, 0.0, 0.0) == 11
    assert holds(24e9 / GIB, 1.0, 0.1) == 7
    assert holds(24.0, 1.0, 0.1) == 9


def test_conversations_that_would_fit():
    found = fit(24.0)
    assert found.concurrent_max is not None
    assert not fit(24.0, bits=16, concurrent=found.concurrent_max + 2).fits
    resnet = fit_memory(load_models().model("resnet50"), memory(24.0), bits=None, ctx=1, concurrent=1)
    assert resnet.concurrent_max is None


@given(ctx=st.integers(1, 60_000), concurrent=st.integers(1, 64), bits=st.sampled_from([16, 8, 4]))
@settings(max_examples=40, deadline=None)
def test_more_context_conversations_or_bits_never_need_less(ctx: int, concurrent: int, bits: int):
    least = fit(80.0, bits=bits, ctx=ctx, concurrent=concurrent).p95_gib
    assert fit(80.0, bits=bits, ctx=ctx * 2, concurrent=concurrent).p95_gib >= least
    assert fit(80.0, bits=bits, ctx=ctx, concurrent=concurrent * 2).p95_gib >= least
    assert fit(80.0, bits=16, ctx=ctx, concurrent=concurrent).p95_gib >= least


@given(gib=st.floats(6, 200), ctx=st.integers(64, 60_000), accelerators=st.integers(1, 8), bits=st.sampled_from([16, 8, 4]))
@settings(max_examples=40, deadline=None)
def test_as_many_conversations_as_are_told_do_fit(gib: float, ctx: int, accelerators: int, bits: int):
    one = fit(gib, bits=bits, ctx=ctx, concurrent=1, accelerators=accelerators)
    assert one.concurrent_max is not None
    if one.fits and one.concurrent_max:
        full = fit(gib, bits=bits, ctx=ctx, concurrent=one.concurrent_max, accelerators=accelerators)
        assert full.fits
        assert full.copies == one.copies
    less = fit(gib, bits=bits, ctx=ctx * 2, concurrent=1, accelerators=accelerators)
    if less.copies == one.copies:
        assert less.concurrent_max is not None
        assert less.concurrent_max <= one.concurrent_max


@given(order=st.permutations(LLAMA.variants), gib=st.floats(2, 40))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_variants_changes_nothing(order: list[Precision], gib: float):
    shuffled = LLAMA.model_copy(update={"variants": order})
    found = fit_memory(shuffled, memory(gib), bits=None, ctx=4096, concurrent=4)
    assert found == fit(gib)
