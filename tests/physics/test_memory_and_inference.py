"""Memory and roofline: published figures, and what is wrong with one of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.physics.inference import decode_s_per_token, forward_s, prefill_flops, prefill_s
from nearhall.physics.memory import GB, GIB, concurrent_at_most, kv_bytes, kv_bytes_per_token, needed_bytes, weights_bytes

LLAMA_2_7B = kv_bytes_per_token(layers=32, kv_heads=32, head_dim=128)


def test_the_cache_of_llama_2_70b():
    """IETF draft-calabria, appendix: 4,096 tokens at fp16."""
    per_token = kv_bytes_per_token(layers=80, kv_heads=8, head_dim=128)
    assert kv_bytes(per_token=per_token, tokens=4096, concurrent=1) == 1_342_177_280


def test_the_cache_of_llama_2_7b():
    """torchedup, systemoverflow: half a mebibyte a token, 1.07 GB for 2,048 of them."""
    assert LLAMA_2_7B == 524_288
    assert kv_bytes(per_token=LLAMA_2_7B, tokens=2048, concurrent=1) / GB == pytest.approx(1.07, abs=0.005)


@pytest.mark.parametrize(("usable", "holds"), [(24 * GB, 9), (24 * GIB, 11)])
def test_conversations_beside_seven_billion_weights(usable: float, holds: int):
    """The source says 3 to 4; 14 + 1.049 n <= 24 gives 9, and a card of 24 GiB holds 11, less overhead."""
    weights = weights_bytes(params=7e9, bits=16)
    assert weights == 14 * GB
    session = kv_bytes(per_token=LLAMA_2_7B, tokens=2000, concurrent=1)
    assert session / GB == pytest.approx(1.049, abs=0.001)
    assert concurrent_at_most(usable=usable, weights=weights, runtime=0.0, per_conversation=session) == holds
    less = concurrent_at_most(usable=usable, weights=weights, runtime=GIB, per_conversation=session * 1.1)
    assert 4 < less < holds


def test_weights_that_do_not_fit_leave_room_for_nobody():
    assert concurrent_at_most(usable=10 * GB, weights=14 * GB, runtime=0.0, per_conversation=GB) == 0.0
    several = concurrent_at_most(usable=np.array([10.0, 24.0]) * GB, weights=14 * GB, runtime=0.0, per_conversation=GB)
    assert several.tolist() == [0.0, 10.0]


def test_the_cache_of_bloom():
    """systemoverflow: multi-head attention of 176B parameters takes about 4 MB a token, 16 GB for 4,000."""
    per_token = kv_bytes_per_token(layers=70, kv_heads=112, head_dim=128)
    assert per_token / 1e6 == pytest.approx(4.0, rel=0.01)
    assert kv_bytes(per_token=per_token, tokens=4000, concurrent=1) / GB == pytest.approx(16.0, rel=0.01)


def test_operations_of_a_prompt():
    """fergusfinn.com: 1,024 tokens of 69.35 billion parameters are 142.0 TFLOP."""
    assert prefill_flops(params=69.35e9, tokens=1024) / 1e12 == pytest.approx(142.0, abs=0.05)


def test_decoding_cannot_be_quicker_than_reading_the_weights():
    """14 GB over 600 GB/s (an A10): 23.3 ms a token, whatever it computes."""
    roof = {"peak_flops": 125e12, "bandwidth": 600 * GB, "compute_share": 1.0, "bandwidth_share": 1.0}
    alone = decode_s_per_token(params=7e9, weights_bytes=14 * GB, kv_bytes=0.0, batch=1, **roof)
    assert alone * 1e3 == pytest.approx(23.3, abs=0.05)
    many = decode_s_per_token(params=7e9, weights_bytes=14 * GB, kv_bytes=0.0, batch=1000, **roof)
    assert many == pytest.approx(14e12 / 125e12)


def test_a_long_prompt_is_bound_by_compute_and_a_short_one_by_reading():
    roof = {"params": 7e9, "weights_bytes": 14 * GB, "peak_flops": 100e12, "bandwidth": 600 * GB}
    shares = {"compute_share": 0.5, "bandwidth_share": 0.5}
    assert prefill_s(tokens=4000, **roof, **shares) == pytest.approx(2 * 7e9 * 4000 / 50e12)
    assert prefill_s(tokens=1, **roof, **shares) == pytest.approx(14 / 300)
    assert forward_s(flops=1e12, weights_bytes=1e6, peak_flops=1e12, bandwidth=1e12, **shares) == pytest.approx(2.0)


@given(st.floats(1, 1e11), st.floats(1, 1e11), st.sampled_from([2, 4, 8, 16]), st.floats(0, 0.5))
def test_more_of_anything_never_needs_less(weights: float, kv: float, bits: int, waste: float):
    def need(params: float, cache: float, width: int) -> float:
        parts = weights_bytes(params=params, bits=width, overhead=0.06)
        return needed_bytes(weights=parts, kv=cache, activations=1e8, runtime=1e9, fragmentation=waste)

    least = need(weights, kv, bits)
    assert need(weights * 2, kv, bits) >= least
    assert need(weights, kv * 2, bits) >= least
    assert need(weights, kv, bits * 2) >= least
