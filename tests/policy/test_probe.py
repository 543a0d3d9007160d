"""Probes are a fair, bounded sample, and carry data only where the data may go."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.residency import Residency
from nearhall.policy.probe import WAIT_MS_MAX, choose, fresh, payload_may_leave

unit = st.floats(0, 1, exclude_max=True)


@given(unit, unit, st.booleans())
def test_data_that_may_not_leave_is_replaced_by_random_bytes(draw: float, wait: float, leave: bool):
    probe, _ = choose(fresh(2.0, 0.0), draw=draw, wait_draw=wait, share=1.0, may_leave=leave, now_s=0.0)
    assert probe is not None
    assert probe.random_payload is not leave
    assert 0 <= probe.wait_ms < WAIT_MS_MAX


def test_residency_decides_what_a_probe_carries():
    assert payload_may_leave(Residency.parse("any"), "DE")
    assert payload_may_leave(Residency.parse("jurisdiction:DE"), "DE")
    assert not payload_may_leave(Residency.parse("jurisdiction:DE"), "FR")
    assert not payload_may_leave(Residency.parse("site"), "DE")


def test_at_most_so_many_per_second():
    draw = random.Random(3)
    budget = fresh(2.0, 0.0)
    sent = 0
    for step in range(10_000):
        probe, budget = choose(budget, draw=draw.random(), wait_draw=0.0, share=0.5, may_leave=True, now_s=step / 100)
        sent += probe is not None
    assert 150 <= sent <= 202


def test_a_share_of_zero_probes_nothing_and_a_share_is_kept():
    budget = fresh(1e9, 0.0)
    assert choose(budget, draw=0.0, wait_draw=0.0, share=0.0, may_leave=True, now_s=1.0)[0] is None
    draw = random.Random(5)
    sent = sum(
        choose(budget, draw=draw.random(), wait_draw=0.0, share=0.2, may_leave=True, now_s=1.0)[0] is not None
        for _ in range(5000)
    )
    assert 900 < sent < 1100
