"""The share of blocks that keep an SLO: blocks, not requests, and sites that differ."""

from __future__ import annotations

import numpy as np
import pytest

from nearhall.planner.learning.slo_blocks import Kept, kept_blocks, share_kept


def test_a_block_counts_as_kept_by_the_slos_own_share():
    assert kept_blocks([(990, 1000), (980, 1000), (0, 0), (1000, 1000)], share=0.99) == Kept(kept=2, blocks=3)


def test_blocks_of_few_requests_are_judged_together_with_their_neighbours():
    few = [(45, 45)] * 17 + [(44, 45)]
    assert kept_blocks(few, share=0.99) == Kept(kept=1, blocks=1)
    assert kept_blocks([*few, *few, (0, 0), (40, 45)], share=0.99) == Kept(kept=2, blocks=2), "what is left goes with the last"
    assert kept_blocks([*few, *few, *[(40, 45)] * 5], share=0.99) == Kept(kept=1, blocks=2)
    assert kept_blocks([(9, 10)], share=0.99) == Kept(kept=0, blocks=1), "nothing else to go with"
    assert kept_blocks([(0, 0)], share=0.99) == Kept(kept=0, blocks=0)


@pytest.mark.parametrize("requests", [3, 45, 90, 300, 799, 900])
def test_a_site_with_half_the_late_requests_it_may_have_keeps_its_blocks(requests: int):
    random = np.random.default_rng(requests)
    late = random.binomial(requests, 0.005, 96 * 28)
    found = kept_blocks([(requests - int(one), requests) for one in late], share=0.99)
    assert found.kept / found.blocks > 0.93
    twice = random.binomial(requests, 0.02, 96 * 28)
    bad = kept_blocks([(requests - int(one), requests) for one in twice], share=0.99)
    assert bad.kept / bad.blocks < 0.1


def test_a_day_counts_for_less_than_a_week():
    day, week = Kept(kept=96, blocks=96, weekdays=1), Kept(kept=96, blocks=96)
    narrow, wide = (share_kept([one] * 3, prior_share=0.5).new_site_quantile(0.1) for one in (week, day))
    assert wide < narrow
    assert Kept(kept=2, blocks=2, weekdays=1).counts_for == 2.0
    assert day.counts_for == pytest.approx(96 / 7)


def test_without_blocks_the_plans_own_probability_stands():
    assert share_kept([], prior_share=0.9).new_site == pytest.approx(0.9, abs=0.05)


def test_a_site_that_fails_counts_however_many_blocks_the_good_ones_have():
    good = [Kept(kept=960, blocks=960)] * 3
    alike = share_kept(good, prior_share=0.9)
    one_bad = share_kept([*good[:2], Kept(kept=100, blocks=960)], prior_share=0.9)
    assert alike.new_site > 0.97
    assert one_bad.new_site < 0.9
    assert one_bad.new_site_quantile(0.1) < 0.5 < alike.new_site_quantile(0.1)


def test_more_blocks_at_the_same_sites_narrow_no_further_than_sites_differ():
    few = share_kept([Kept(kept=90, blocks=100), Kept(kept=60, blocks=100)], prior_share=0.8)
    many = share_kept([Kept(kept=9000, blocks=10_000), Kept(kept=6000, blocks=10_000)], prior_share=0.8)
    width = [s.new_site_quantile(0.9) - s.new_site_quantile(0.1) for s in (few, many)]
    assert width[1] > 0.6 * width[0]


def test_samples_have_the_quantiles_of_a_new_site():
    after = share_kept([Kept(kept=90, blocks=96), Kept(kept=80, blocks=96)], prior_share=0.9)
    samples = after.new_site_samples((np.arange(2000) + 0.5) / 2000)
    for q in (0.1, 0.5, 0.9):
        assert np.quantile(samples, q) == pytest.approx(after.new_site_quantile(q), abs=0.003)
    assert samples.mean() == pytest.approx(after.new_site, abs=0.005)
