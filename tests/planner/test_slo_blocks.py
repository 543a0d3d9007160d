"""The share of blocks that keep an SLO: blocks, not requests, and sites that differ."""

from __future__ import annotations

import numpy as np
import pytest

from nearhall.planner.learning.slo_blocks import Kept, kept_blocks, share_kept


def test_a_block_counts_as_kept_by_the_slos_own_share():
    assert kept_blocks([(99, 100), (98, 100), (0, 0), (1000, 1000)], share=0.99) == Kept(kept=2, blocks=3)


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
