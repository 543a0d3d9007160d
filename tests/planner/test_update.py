"""From a few measured sites to the next one: known results, and what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.planner.learning.update import Prior, Seen, combine_normal, log_prior, update


def test_four_readings_of_one_pue():
    """Prior N(1.6, 0.2), readings 1.42 1.39 1.45 1.40 of sd 0.05: 1.4178 +- 0.0248."""
    mean, sd = combine_normal(mean=1.6, sd=0.2, readings=[1.42, 1.39, 1.45, 1.40], reading_sd=0.05)
    assert mean == pytest.approx(1.4178, abs=5e-5)
    assert sd == pytest.approx(0.0248, abs=5e-5)


def test_without_data_the_prior_stays():
    prior = log_prior(p50=100.0, p90=140.0)
    after = update(prior, [])
    assert after.z is None
    assert not after.conflict
    assert np.exp(after.typical_quantile(0.5)) == pytest.approx(100.0, rel=1e-3)
    assert np.exp(after.typical_quantile(0.9)) == pytest.approx(140.0, rel=1e-3)
    assert after.new_site_quantile(0.9) > after.typical_quantile(0.9)


def test_three_pilots_do_not_pose_as_three_hundred():
    prior = Prior(mean=0.0, sd=0.5, between_sd=0.2)
    random = np.random.default_rng(3)
    few = update(prior, [Seen(value=float(v), se=0.01) for v in random.normal(0.1, 0.15, 3)])
    many = update(prior, [Seen(value=float(v), se=0.01) for v in random.normal(0.1, 0.15, 300)])
    assert few.typical_sd > 4 * many.typical_sd
    new = many.new_site_quantile(0.9) - many.new_site_quantile(0.1)
    assert new == pytest.approx(2 * 1.2816 * 0.15, rel=0.1), "what sites differ by never vanishes"


def test_a_site_measured_for_longer_says_no_more_of_the_others():
    prior = Prior(mean=0.0, sd=0.5, between_sd=0.3)
    hour, year = (update(prior, [Seen(value=0.2, se=se)]) for se in (0.02, 0.0001))
    assert year.typical_sd == pytest.approx(hour.typical_sd, rel=0.02)


def test_a_conflict_is_flagged_and_agreement_is_not():
    prior = Prior(mean=0.0, sd=0.1, between_sd=0.1)
    assert update(prior, [Seen(value=0.9, se=0.02), Seen(value=0.95, se=0.02)]).conflict
    assert not update(prior, [Seen(value=0.1, se=0.02), Seen(value=0.05, se=0.02)]).conflict


values = st.lists(st.floats(-2, 2), min_size=1, max_size=6)


@given(mean=st.floats(-1, 1), sd=st.floats(0.05, 2), between=st.floats(0.01, 0.5), seen=values, se=st.floats(0.001, 0.5))
@settings(max_examples=60, deadline=None)
def test_the_posterior_lies_between_prior_and_data(mean: float, sd: float, between: float, seen: list[float], se: float):
    after = update(Prior(mean=mean, sd=sd, between_sd=between), [Seen(value=v, se=se) for v in seen])
    low, high = sorted([mean, float(np.mean(seen))])
    assert low - 1e-6 <= after.typical <= high + 1e-6
    assert after.typical_sd <= np.hypot(sd, high - low) + 1e-9
    again = update(Prior(mean=mean, sd=sd, between_sd=between), [Seen(value=v, se=se) for v in reversed(seen)])
    assert again.typical == pytest.approx(after.typical, abs=1e-9)


def test_samples_of_a_new_site_have_its_quantiles():
    after = update(Prior(mean=0.0, sd=0.3, between_sd=0.2), [Seen(value=0.1, se=0.05), Seen(value=0.3, se=0.05)])
    samples = after.new_site((np.arange(2000) + 0.5) / 2000)
    assert np.quantile(samples, 0.8) == pytest.approx(after.new_site_quantile(0.8), abs=0.005)


def test_nominal_80_percent_intervals_cover_75_to_85_percent_over_400_runs():
    """Simulate the truth, pilot three sites, predict a fourth."""
    random = np.random.default_rng(11)
    inside = 0
    for _ in range(400):
        prior = Prior(mean=0.0, sd=0.3, between_sd=0.2)
        mu, tau = random.normal(prior.mean, prior.sd), abs(random.normal(0.0, prior.between_sd))
        sites = random.normal(mu, tau, 4)
        seen = [Seen(value=float(random.normal(site, 0.05)), se=0.05) for site in sites[:3]]
        after = update(prior, seen)
        inside += after.new_site_quantile(0.1) <= sites[3] <= after.new_site_quantile(0.9)
    assert 0.75 <= inside / 400 <= 0.85


def test_an_error_that_all_sites_share_is_not_averaged_out():
    prior, sites = Prior(mean=0.0, sd=0.4, between_sd=0.1), [Seen(value=0.3, se=0.02) for _ in range(40)]
    alone, shared = update(prior, sites), update(prior, sites, common_sd=0.2)
    assert shared.typical_sd == pytest.approx(0.4 * 0.2 / np.hypot(0.4, 0.2), rel=0.05)
    assert shared.typical_sd > 5 * alone.typical_sd
    assert 0.0 < shared.typical < alone.typical
    assert update(prior, sites, common_sd=1e-9).typical == pytest.approx(alone.typical, abs=1e-6)
    assert update(prior, [], common_sd=0.2).typical_sd == pytest.approx(0.4)
