"""Does a model fit, and in which precision: P95 of what is needed against what is usable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.documents.catalogue_models import load_models
from nearhall.physics.memory import GIB
from nearhall.planner.fit import Memory, MemoryFit, fit_memory

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
    assert "of 24.0 GiB" in found.words
    assert [other.bits for other in found.others] == [8, 4]
    assert "less and 4.0% of quality" in found.others[1].words
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
    assert "no smaller variant fits" in found.words
    assert all(not other.fits for other in found.others)


def test_a_server_of_several_accelerators_holds_a_copy_on_each_that_has_room():
    assert fit(96.0, accelerators=4).copies == 4
    assert fit(20.0, bits=16, accelerators=4).copies == 1


def test_a_precision_that_the_catalogue_does_not_list_is_reckoned_too():
    assert 4 < fit(24.0, bits=6).p95_gib < fit(24.0, bits=8).p95_gib


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
