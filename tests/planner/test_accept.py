"""What may replace an assumption: each case that is refused says why, and the site in order beside it is taken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nearhall.core.evidence import Kind
from nearhall.documents.site_returns import SiteReturns
from nearhall.planner.learning.accept import NEEDS, Acceptance, Measure, accept_all, balance, is_rehearsal
from nearhall.planner.learning.accept import accept as accept_blocks
from nearhall.planner.learning.site_blocks import site_blocks
from planner.metered_site import WATTS, meters, site

POWER, PUE, SLO = Measure(of="it_power_w"), Measure(of="pue"), Measure(of="slo_share", workload="cams")
IN_ORDER = site()


def accept(returns: SiteReturns, measure: Measure) -> Acceptance:
    return accept_blocks(site_blocks(returns), measure)


@pytest.mark.parametrize("of", NEEDS)
def test_a_week_of_a_site_in_order_is_taken_for_everything(of: str):
    found = accept(IN_ORDER, Measure(of=of))  # type: ignore[arg-type]
    assert found.accepted, found.reasons
    assert found.kind is Kind.MEASURED
    assert not found.inconsistent


@pytest.mark.parametrize(
    ("changes", "measure", "reason"),
    [
        ({"coverage": 0.89}, SLO, "figures cover 89 % of the period: 90 % at least"),
        (
            {"coverage": 0.0, "silent": ("n2", "n3")},
            SLO,
            "figures cover 0 % of the period (nothing came from n2, n3): 90 % at least",
        ),
        ({"register_coverage": 0.5}, POWER, "meter readings cover 50 % of the period"),
        ({"clock_error_ms": 2500.0}, SLO, "its clock is 2.5 s off: 2 s at most"),
        ({"clock_error_ms": -2500.0}, SLO, "its clock is 2.5 s off"),
        ({"clock_error_ms": None}, SLO, "nobody compared its clock"),
        ({"end_s": IN_ORDER.start_s + 90.0}, SLO, "lasted 90 s: a pilot lasts a day at least"),
        ({"end_s": IN_ORDER.start_s + 3600.0}, SLO, "lasted 60 min"),
        ({"end_s": IN_ORDER.start_s + 36_000.0}, SLO, "lasted 10.0 h"),
        ({"meters": meters(positions=("feed", "cooling"))}, POWER, "no meter at it or pdu or ups_out: install one"),
        ({"meters": meters(positions=("it", "ups_out"))}, PUE, "no meter at feed"),
        ({"meters": meters(Kind.ASSUMED)}, POWER, "it is assumed, not measured: commission the meter"),
        ({"kinds": {"outdoor": Kind.VENDOR}}, PUE, "it is vendor, not measured"),
        ({"meters": (*meters(positions=("feed",)), *meters(Kind.SIMULATED, ("it",)))}, PUE, "one is real and one virtual"),
        ({"meters": meters(positions=("feed", "it"))}, PUE, "nothing vouches for its energy meters (at feed, it)"),
    ],
)
def test_what_is_refused_says_why_and_what_would_mend_it(changes: dict[str, object], measure: Measure, reason: str):
    found = accept(replace(IN_ORDER, **changes), measure)  # type: ignore[arg-type]
    assert not found.accepted
    assert any(told.startswith(reason) or reason in told for told in found.reasons), found.reasons
    assert not found.inconsistent


def test_a_workload_that_it_did_not_run_is_named():
    found = accept(IN_ORDER, Measure(of="slo_share", workload="camera"))
    assert found.reasons == ("it ran no workload 'camera' (it ran: cams): name workloads in plan and pilot alike",)


@pytest.mark.parametrize(
    ("counted", "planned", "taken"), [(50.0, 50.0, True), (None, 50.0, True), (100.0, None, True), (100.0, 50.0, False)]
)
def test_in_time_means_the_same_in_plan_and_pilot(counted: float | None, planned: float | None, taken: bool):
    returns = replace(IN_ORDER, workloads=[replace(IN_ORDER.workloads[0], limit_ms=counted)])
    found = accept(returns, replace(SLO, limit_ms=planned))
    assert found.accepted is taken
    if not taken:
        assert found.reasons == (
            "its answers in time of cams kept 100 ms, the plan's keep 50 ms: count them against the plan's limit",
        )


@pytest.mark.parametrize(
    ("told", "planned", "taken"),
    [(True, True, True), (False, False, True), (None, True, True), (True, False, False), (False, True, False)],
)
def test_a_limit_to_the_first_token_is_no_limit_of_the_answer(told: bool | None, planned: bool, taken: bool):
    returns = replace(IN_ORDER, workloads=[replace(IN_ORDER.workloads[0], limit_ms=50.0, first_token=told)])
    found = accept(returns, replace(SLO, limit_ms=50.0, first_token=planned))
    assert found.accepted is taken
    if not taken:
        assert "first token" in found.reasons[0]
        assert "of the whole answer" in found.reasons[0]
        assert found.reasons[0].endswith("count them as the plan does")
    assert accept(returns, SLO).accepted, "a plan that tells no limit compares none"


def test_what_needs_no_meter_is_taken_without_one():
    bare = replace(IN_ORDER, meters=(), energy_kwh={}, register_coverage=0.0)
    assert accept(bare, SLO).accepted
    assert accept(bare, Measure(of="sent_bytes_per_day")).accepted
    assert not accept(bare, POWER).accepted


@pytest.mark.parametrize(
    ("position", "factor", "suspect"), [("feed", 1.1, "feed or cooling"), ("ups_in", 0.8, "ups_in"), ("it", 0.9, "it")]
)
def test_meters_beyond_their_class_are_refused_and_the_prior_is_to_be_widened(position: str, factor: float, suspect: str):
    wrong = {**WATTS, position: WATTS[position] * factor}
    found = accept(site(watts=lambda _: wrong), POWER)
    assert not found.accepted
    assert found.inconsistent
    assert "the energy balance does not close" in found.reasons[0]
    assert f"position {suspect}" in found.reasons[0]


@pytest.mark.parametrize("position", WATTS)
def test_meters_within_their_class_are_taken(position: str):
    near = {**WATTS, position: WATTS[position] * 1.008}
    assert accept(site(watts=lambda _: near), POWER).accepted


def discharging(blocks: int):
    battery = {**WATTS, "ups_in": 0.0, "feed": 150.0}
    return site(watts=lambda index: battery if 100 <= index < 100 + blocks else WATTS)


def test_on_its_battery_a_ups_gives_out_more_than_it_takes_and_that_is_no_contradiction():
    found = accept(discharging(20), POWER)
    assert found.accepted, found.reasons
    assert balance(site_blocks(discharging(20))).closes is True
    on_mains = {**WATTS, "ups_out": 500.0, "it": 500.0}
    assert not accept(site(watts=lambda _: on_mains), POWER).accepted, "on mains it is one"


def test_a_period_mostly_on_the_battery_is_refused():
    found = accept(discharging(70), POWER)
    assert found.reasons == ("70 of 672 blocks ran on the battery: meter a period on mains",)


def test_without_a_ups_the_it_meter_closes_the_balance():
    plain = {"feed": 550.0, "it": 400.0, "cooling": 150.0}
    assert accept(site(watts=lambda _: plain), PUE).accepted
    assert accept(site(watts=lambda _: {**plain, "it": 300.0}), PUE).inconsistent


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.25, 2.0])
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"feed": 600.0, "ups_in": 450.0, "cooling": 150.0, "it": 400.0}, "it"),
        ({"feed": 600.0, "cooling": 150.0, "it": 400.0, "ups_in": 450.0, "pdu": 402.0}, "it"),
        ({"feed": 600.0, "ups_in": 450.0, "cooling": 150.0, "ups_out": 404.0, "pdu": 400.0}, "pdu"),
        ({"feed": 600.0, "ups_in": 450.0, "cooling": 150.0, "ups_out": 400.0}, "ups_out"),
        ({"feed": 600.0, "cooling": 150.0, "ups_out": 400.0}, "ups_out"),
        ({"ups_in": 450.0, "it": 400.0}, "it"),
    ],
)
def test_the_it_meter_that_is_read_is_compared_whatever_else_closes(right: dict[str, float], wrong: str, factor: float):
    assert accept(site(watts=lambda _: right), POWER).accepted
    found = accept(site(watts=lambda _: {**right, wrong: right[wrong] * factor}), POWER)
    assert not found.accepted
    assert found.inconsistent
    assert "check" in found.reasons[0]


def test_a_feed_that_is_compared_with_the_ups_output_alone_is_compared():
    right = {"feed": 600.0, "cooling": 150.0, "ups_out": 400.0}
    assert accept(site(watts=lambda _: right), PUE).accepted
    for factor in (0.75, 1.25):
        assert not accept(site(watts=lambda _, f=factor: {**right, "feed": 600.0 * f}), PUE).accepted
    alone = accept(site(watts=lambda _: {"feed": 600.0, "it": 400.0, "ups_in": 450.0}), PUE)
    assert not alone.accepted, "without a meter of the cooling nothing speaks for the feed"
    assert not alone.inconsistent


def at_the_ups(name: str) -> SiteReturns:
    return site(name, watts=lambda _: {k: w for k, w in WATTS.items() if k != "it"})


@pytest.mark.parametrize("measure", [PUE, POWER])
def test_positions_of_two_categories_are_not_mixed(measure: Measure):
    def taken(*sites: SiteReturns) -> list[str]:
        return [one.site for one in accept_all([site_blocks(one) for one in sites], measure) if one.accepted]

    mixed = (site("a"), at_the_ups("b"), at_the_ups("c"))
    assert taken(*mixed) == ["b", "c"], "the position of most"
    assert taken(site("a"), at_the_ups("b")) == ["a"], "of as many the one next to the equipment"
    assert taken(site("a"), site("b")) == ["a", "b"]
    assert taken(at_the_ups("a"), at_the_ups("b")) == ["a", "b"]
    assert taken(site("a"), replace(at_the_ups("a"), start_s=2e9)) == ["a"], "nor two periods of one site"
    why = accept_all([site_blocks(one) for one in mixed], measure)[0].reasons
    assert why == (
        "its IT energy is metered at it (category 3), the others' at ups_out (category 1): two figures that are not mixed; "
        "meter it at ups_out too",
    )
    assert len([one for one in accept_all([site_blocks(one) for one in mixed], SLO) if one.accepted]) == 3


def test_a_rehearsal_may_be_short_and_stays_simulated():
    short = replace(IN_ORDER, end_s=IN_ORDER.start_s + 60.0)
    virtual = replace(short, meters=meters(Kind.SIMULATED), kinds=dict.fromkeys(("energy", "outdoor"), Kind.SIMULATED))
    assert is_rehearsal(virtual)
    assert not is_rehearsal(short)
    assert accept(virtual, PUE).accepted
    assert accept(virtual, PUE).kind is Kind.SIMULATED
    assert not accept(short, PUE).accepted


def test_a_meter_that_missed_some_blocks_is_compared_over_the_others():
    holes = replace(
        IN_ORDER,
        blocks=[
            replace(b, register_kwh={k: v for k, v in b.register_kwh.items() if k != "it" or i > 50})
            for i, b in enumerate(IN_ORDER.blocks)
        ],
    )
    assert accept(holes, POWER).accepted
