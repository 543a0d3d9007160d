"""What one site says: figures that can be worked out by hand, and an error that knows how alike blocks are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nearhall.documents.site_returns import SiteReturns, WorkloadReturn
from nearhall.planner.learning.accept import Measure, Of
from nearhall.planner.learning.block_bootstrap import latency_quantile, p_quantile_within
from nearhall.planner.learning.site_blocks import SiteBlocks, site_blocks
from nearhall.planner.learning.site_estimates import (
    REQUESTS_SD,
    WORK_SD,
    Estimate,
    Season,
    Split,
    energy_share,
    energy_split,
    kept_estimate,
    kept_note,
    kept_notes,
    pue_blocks,
    ratio_estimate,
    tail_note,
)
from nearhall.planner.learning.slo_blocks import Kept
from planner.metered_site import START_S, WATTS, site


def estimate(returns: SiteReturns, of: Of, workload: str | None = None) -> Estimate:
    found = ratio_estimate([site_blocks(returns)], Measure(of=of, workload=workload))
    assert isinstance(found, Estimate), found
    return found


@pytest.mark.parametrize(
    ("of", "workload", "value"),
    [
        ("it_power_w", None, 400.0),
        ("feed_power_w", None, 600.0),
        ("sent_bytes_per_day", None, 96e6),
        ("requests_per_s", "cams", 1.0),
        ("requests_per_s", None, 1.0),
        ("joules_per_request_in_slo", "cams", 600.0),
    ],
)
def test_ratios_of_sums(of: Of, workload: str | None, value: float):
    found = estimate(site(), of, workload)
    assert found.value == pytest.approx(value)
    assert found.seen.value == pytest.approx(np.log(value))
    assert found.blocks == 672


def test_requests_that_are_late_make_those_in_time_dearer():
    late = site(slo=lambda i: (450 if i % 2 else 900, 900))
    assert estimate(late, "joules_per_request_in_slo", "cams").value == pytest.approx(800.0)
    never = ratio_estimate([site_blocks(site(slo=lambda _: (0, 900)))], Measure(of="joules_per_request_in_slo"))
    assert never == "joules_per_request_in_slo is nothing, or nothing was in time"


def test_the_meters_class_does_not_average_out():
    year = estimate(site(blocks=96 * 60), "it_power_w")
    assert year.seen.se == pytest.approx(0.01 / np.sqrt(3.0), rel=0.05)
    assert estimate(site(blocks=96 * 60), "sent_bytes_per_day").seen.se == 0.005


def test_days_that_differ_widen_the_error_and_blocks_of_one_day_do_not_narrow_it():
    random = np.random.default_rng(1)
    each = np.exp(random.normal(0, 0.2, 28))
    differing = site(blocks=96 * 28, watts=lambda i: {k: w * each[i // 96] for k, w in WATTS.items()})
    error = estimate(differing, "it_power_w").seen.se
    assert error == pytest.approx(np.std(each, ddof=1) / np.mean(each) / np.sqrt(28), rel=0.1)
    few = site(blocks=96 * 2, watts=lambda i: {k: w * each[i // 96] for k, w in WATTS.items()})
    assert estimate(few, "it_power_w").seen.se > error
    one = site(blocks=1)
    assert estimate(one, "it_power_w").seen.se >= 0.5


def test_what_is_not_there_is_said():
    nothing = replace(site(), blocks=[])
    assert ratio_estimate([site_blocks(nothing)], Measure(of="it_power_w")) == "no block holds what it_power_w needs"
    bare = replace(site(), meters=())
    for of in ("it_power_w", "joules_per_request_in_slo"):
        assert isinstance(ratio_estimate([site_blocks(bare)], Measure(of=of)), str)
    unknown = Measure(of="requests_per_s", workload="chat")
    assert ratio_estimate([site_blocks(site())], unknown) == "no block holds what requests_per_s needs"
    blank = replace(site(), blocks=[replace(b, sent_bytes=None) for b in site().blocks])
    assert isinstance(ratio_estimate([site_blocks(blank)], Measure(of="sent_bytes_per_day")), str)


def test_energy_is_shared_by_what_each_workload_took():
    cams = WorkloadReturn(id="cams", total=100, local=100, late=0, joules_full=3.0)
    speech = WorkloadReturn(id="speech", total=900, local=900, late=0, joules_full=1.0)
    both = replace(site(), workloads=(cams, speech))
    assert energy_share(both, "cams") == 0.25
    assert energy_share(both, "speech") == 0.75
    assert energy_share(both, None) == 1.0
    assert energy_share(both, "chat") is None
    assert energy_share(replace(both, workloads=(cams, replace(speech, joules_full=None))), "cams") is None
    assert energy_share(replace(both, workloads=(cams,)), "cams") == 1.0
    unsplit = replace(both, workloads=(replace(cams, joules_full=None), replace(speech, joules_full=None)))
    measure = Measure(of="joules_per_request_in_slo", workload="cams")
    assert energy_split(both, measure) == Split(share=0.25)
    by_requests = energy_split(unsplit, measure)
    assert by_requests is not None
    assert by_requests.share == pytest.approx(0.1)
    assert by_requests.sd == pytest.approx(REQUESTS_SD * 0.9)
    assert "by the numbers of their requests, and so less sure" in by_requests.words
    by_work = energy_split(unsplit, replace(measure, work=(("cams", 6.0), ("speech", 2.0), ("chat", 9.0))))
    assert by_work is not None
    assert by_work.share == pytest.approx(0.25)
    assert by_work.sd == pytest.approx(WORK_SD * 0.75)
    assert "by the work that the plan expects of each" in by_work.words
    busy = replace(unsplit, workloads=tuple(replace(w, busy_s=s) for w, s in zip(unsplit.workloads, (30.0, 10.0), strict=True)))
    assert energy_split(busy, measure) == Split(share=0.75)
    assert energy_split(unsplit, replace(measure, workload="chat")) is None
    levels = [replace(block, p99_ms={"chat": 5.0}) for block in both.blocks]
    unknown = replace(unsplit, blocks=levels, workloads=(*unsplit.workloads, WorkloadReturn(id="chat", total=0, local=0, late=0)))
    assert energy_split(unknown, measure) is None, "nobody knows how often chat ran"
    assert isinstance(ratio_estimate([site_blocks(unknown)], measure), str)


SEASON = Season(year_c=np.full(24, 10.0), it_budget_w=800.0, year_load=0.5)


def test_pue_of_blocks_on_mains_with_a_thermometer():
    battery = {**WATTS, "ups_in": 0.0, "feed": 150.0}
    some = site(blocks=96, watts=lambda i: battery if i < 4 else WATTS, outdoor_c=lambda i: None if i >= 90 else 5.0)
    found = pue_blocks([site_blocks(some)], SEASON)
    assert found.pue == pytest.approx(np.full(86, 1.5))
    assert found.it_load == pytest.approx(np.full(86, 0.5))
    assert found.class_sd == pytest.approx(3.0 * np.hypot(0.01, 0.01) / np.sqrt(3.0))
    assert len(pue_blocks([site_blocks(replace(some, meters=()))], SEASON).pue) == 0


def test_blocks_kept_of_a_workload():
    mixed = site_blocks(site(blocks=96, slo=lambda i: (880 if i < 10 else 900, 900)))
    assert kept_estimate([mixed], "cams", share=0.99) == Kept(kept=86, blocks=96, weekdays=1)
    assert kept_estimate([mixed], "chat", share=0.99) == Kept(kept=0, blocks=0, weekdays=1)
    assert kept_estimate([mixed, mixed], "cams", share=0.5) == Kept(kept=192, blocks=192, weekdays=1)


def with_levels(**levels: object) -> SiteBlocks:
    """Eight blocks of which nobody counted the answers in time."""
    whole = site(blocks=8)
    made = [replace(block, slo={}, **{name: told(i) for name, told in levels.items()}) for i, block in enumerate(whole.blocks)]  # type: ignore[operator]
    return site_blocks(replace(whole, blocks=made, workloads=[replace(whole.workloads[0], limit_ms=50.0)]))


def test_blocks_are_kept_by_latency_where_nobody_counted():
    late = with_levels(p99_ms=lambda i: {"cams": 60.0 if i < 2 else 50.0})
    assert kept_estimate([late], "cams", share=0.99) == Kept(kept=6, blocks=8, weekdays=1)
    assert kept_estimate([late], "cams", share=0.999) == Kept(kept=0, blocks=0, weekdays=1), (
        "a 99th percentile does not tell of 99.9 %"
    )
    shares = with_levels(in_time=lambda i: {"cams": 0.98} if i < 3 else {"cams": 1.0} if i < 6 else {})
    assert kept_estimate([shares], "cams", share=0.99) == Kept(kept=3, blocks=6, weekdays=1)
    assert kept_estimate([shares, late], "cams", share=0.99) == Kept(kept=9, blocks=14, weekdays=1)
    unlimited = replace(late.returns, workloads=[replace(late.returns.workloads[0], limit_ms=None)])
    assert kept_estimate([site_blocks(unlimited)], "cams", share=0.99) == Kept(kept=0, blocks=0, weekdays=1)
    assert kept_notes([late], "cams", share=0.99) == ()


def test_requests_that_nobody_counted_in_time_are_requests_but_of_unknown_energy():
    told = with_levels(p99_ms=lambda _: {"cams": 40.0}, total=lambda i: {"cams": 450 if i else 0})
    assert list(told.total["cams"]) == [0.0] + [450.0] * 7
    rate = ratio_estimate([told], Measure(of="requests_per_s", workload="cams"))
    assert isinstance(rate, Estimate)
    assert rate.value == pytest.approx(450 * 7 / (900 * 8))
    energy = ratio_estimate([told], Measure(of="joules_per_request_in_slo", workload="cams"))
    assert energy == "no block holds what joules_per_request_in_slo needs"
    part = replace(told.returns, blocks=[replace(told.returns.blocks[2], slo={"cams": (440, 450)}), *told.returns.blocks[3:]])
    assert np.isnan(site_blocks(part).good["cams"][1:]).all()
    assert site_blocks(part).good["cams"][0] == 440.0


def test_a_histogram_tells_where_the_percentile_lies():
    def noted(counts: tuple[int, ...], blocks: int = 8) -> str | None:
        told = with_levels(latency=lambda _: {"cams": counts})
        item = replace(told.returns.workloads[0], upto_ms=(10.0, 20.0, 50.0, float("inf")))
        return tail_note(
            [site_blocks(replace(told.returns, workloads=[item], blocks=told.returns.blocks[:blocks]))], "cams", share=0.99
        )

    told = noted((900, 80, 20, 0))
    assert told is not None
    assert told.startswith(
        "over all requests the 99th percentile is 35 ms, limit 50 ms; 8 of 10 redrawn pilots put it at 35 to 35 ms"
    )
    slow = noted((900, 0, 0, 100))
    assert slow is not None
    assert "is at least 50 ms" in slow
    assert noted((900, 80, 20, 0), blocks=7) is None
    bare = with_levels()
    assert tail_note([bare], "cams", share=0.99) is None
    item = replace(bare.returns.workloads[0], upto_ms=(10.0, float("inf")))
    assert tail_note([site_blocks(replace(bare.returns, workloads=[item]))], "cams", share=0.99) is None


def test_the_start_is_a_midnight_so_that_days_are_days():
    assert START_S % 86_400 == 0


def test_how_sure_a_pilot_is_that_the_slos_quantile_keeps_its_limit():
    good = [(995, 1000)] * 40
    assert p_quantile_within(good, share=0.99, seed=1) == 1.0
    assert p_quantile_within([(980, 1000)] * 40, share=0.99, seed=1) == 0.0
    # As many late requests as allowed, but in one spell: half of the redrawn pilots have it once or more often.
    spell = [(1000, 1000)] * 39 + [(600, 1000)]
    unsure = p_quantile_within(spell, share=0.99, seed=1)
    assert unsure is not None
    assert 0.2 < unsure < 0.9
    assert p_quantile_within(spell, share=0.99, seed=1) == unsure
    assert p_quantile_within([(1, 1)] * 7 + [(0, 0)] * 9, share=0.99, seed=1) is None
    assert p_quantile_within(good * 876, share=0.99, seed=1) == 1.0
    assert kept_note([site_blocks(site(blocks=4))], "cams", share=0.99) is None


def test_the_tail_by_redrawn_blocks_is_wider_where_blocks_differ():
    ends = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    alike = np.tile([50, 900, 40, 9, 1], (40, 1))
    found = latency_quantile(alike, ends, q=0.99, seed=3)
    assert found is not None
    assert found.value_ms == pytest.approx(4.0)
    assert found.p10_ms == found.p90_ms == found.value_ms
    spelled = alike.copy()
    spelled[:5] = [0, 500, 100, 300, 100]
    wide = latency_quantile(spelled, ends, q=0.99, seed=3)
    assert wide is not None
    assert wide.p90_ms > wide.p10_ms > found.value_ms
    assert latency_quantile(alike[:7], ends, q=0.99, seed=3) is None
