"""What a further pilot is worth: less with each that there is, and more where it may let a condition hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nearhall.planner.learning.decide import decide, linear_npv
from nearhall.planner.learning.gates import Thresholds
from nearhall.planner.learning.next_measurements import worth_usd
from nearhall.planner.learning.slo_blocks import Kept, share_kept
from nearhall.planner.learning.typical import typical_and_next
from nearhall.planner.learning.update import Prior, Seen, update
from nearhall.planner.samples.draws import Draws
from planner.metered_site import WATTS, site
from planner.test_decide import CASE, DRAWS, SLO, pilot

MANY = Draws(seed=1, samples=40_000)
UNIFORMS = (MANY.uniform("a"), MANY.uniform("b"), MANY.uniform("c"))


def test_typical_and_next_are_drawn_as_the_posterior_has_them():
    after = update(Prior(mean=0.0, sd=0.5, between_sd=0.2), [Seen(value=0.3, se=0.05), Seen(value=0.5, se=0.05)])
    typical, new_site = typical_and_next(after, UNIFORMS)
    assert typical.mean() == pytest.approx(after.typical, abs=0.01)
    assert typical.std() == pytest.approx(after.typical_sd, rel=0.05)
    for q in (0.1, 0.5, 0.9):
        assert float(np.quantile(new_site, q)) == pytest.approx(after.new_site_quantile(q), abs=0.01)
    assert new_site.std() > typical.std()


def test_a_share_is_drawn_likewise():
    after = share_kept([Kept(kept=90, blocks=96), Kept(kept=80, blocks=96)], prior_share=0.9)
    typical, new_site = typical_and_next(after, UNIFORMS)
    assert typical.mean() == pytest.approx(after.new_site, abs=0.005)
    assert new_site.mean() == pytest.approx(after.new_site, abs=0.005)
    assert float(np.quantile(new_site, 0.5)) == pytest.approx(after.new_site_quantile(0.5), abs=0.01)


def test_more_pilots_make_a_further_one_worth_less():
    """A return that hangs on the power alone and is near nothing: the typical site is what is not known."""
    near = replace(CASE, npv=linear_npv(300.0, {"it_power_w": (420.0, -10.0)}), limits=(), rivals=())
    random = np.random.default_rng(0)
    factors = np.exp(random.normal(np.log(450 / 400), 0.15, 24))
    worth = []
    for count in (2, 6, 24):
        sites = [
            site(f"s{i:02d}", blocks=96 * 5, watts=lambda _, f=float(f): {k: w * f for k, w in WATTS.items()})
            for i, f in enumerate(factors[:count])
        ]
        verdict = decide(replace(near, thresholds=replace(near.thresholds, min_p_npv_positive=0.0)), sites, DRAWS)
        worth.append(next(one.evppi_usd for one in verdict.next if one.belief == "it_power_w"))
    assert worth[0] > worth[1] > worth[2] >= 0.0


def test_a_condition_that_waits_for_a_figure_makes_it_worth_measuring():
    """The return is sure; only the SLO stands in the way, and a typical site may well keep it."""
    doubtful = replace(
        CASE, beliefs=(*CASE.beliefs[:3], replace(SLO, p50=0.9)), npv=linear_npv(1e4, {"it_power_w": (420.0, -1.0)})
    )
    verdict = decide(doubtful, [], DRAWS)
    assert not next(gate for gate in verdict.gates if gate.name == "slo:cams").holds
    worth = {one.belief: one.evppi_usd for one in verdict.next}
    assert 1e3 < worth["slo:cams"] < 1e4
    assert verdict.next[0].belief == "slo:cams"
    sure = decide(replace(doubtful, thresholds=replace(doubtful.thresholds, min_p_slo=0.5)), [], DRAWS)
    assert next(one.evppi_usd for one in sure.next if one.belief == "slo:cams") == 0.0


def test_what_neither_return_nor_condition_hangs_on_is_worth_nothing():
    aside = replace(CASE, npv=linear_npv(0.0, {"it_power_w": (420.0, -10.0)}), thresholds=Thresholds())
    worth = {one.belief: one.evppi_usd for one in decide(aside, [], DRAWS).next}
    assert worth["pue"] == 0.0
    assert worth["it_power_w"] > 0.0


def test_the_worth_of_a_figure_by_hand():
    """Known is 0 or 1; the condition holds where it is 1, and there the return is 10."""
    rank = (np.arange(1000) + 0.5) / 1000
    score, returns = (rank > 0.5).astype(float), np.full(1000, 10.0)
    assert worth_usd(returns, rank, [(score, 0.9)]) == pytest.approx(5.0)
    assert worth_usd(returns, rank, [(score, 0.4)]) == 0.0, "it holds already, and no value of it turns the return"
    assert worth_usd(-returns, rank, [(score, 0.9)]) == 0.0


def test_pilots_weigh_as_they_are_sure_in_what_they_say_together():
    """One site metered well and one badly: what they say lies near the good one, and the posterior between that and the plan."""
    good = pilot("a", 0.75)
    rough = site("b", blocks=96, watts=lambda i: {k: w * (1.2 if i % 96 < 48 else 1.9) for k, w in WATTS.items()})
    verdict = decide(CASE, [good, rough], DRAWS)
    power = verdict.quantities[0]
    assert power.data is not None
    assert power.posterior is not None
    assert power.data < float(np.sqrt(300.0 * 620.0))
    low, high = sorted((power.belief.p50, power.data))
    assert low <= power.posterior.p50 <= high
