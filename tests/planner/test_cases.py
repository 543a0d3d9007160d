"""A plan as what pilots are judged by: its own money, and a rival only where a hub may and can answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.planner.learning.cases import BYTES_A_MONTH, cases
from nearhall.planner.learning.decide import Case, decide
from nearhall.planner.money.cashflow import npv_usd
from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.samples.draws import Draws, Samples
from nearhall.planner.serving.day import day_of
from planner.planned import EXAMPLES, SAMPLES, example, made, small

DRAWS = Draws(seed=3, samples=SAMPLES)


def as_planned(site: SitePlan) -> dict[str, Samples]:
    """What the plan itself holds of a site, by belief."""
    given = {"IT power": site.load.mean_w, "IT peak": site.load.busiest_w, "PUE": site.year.pue}
    away = [s.traffic.gb_per_month + s.answers_gb_per_month for s in site.served if s.at_hub]
    if away:
        given["bytes sent"] = np.sum(away, axis=0) * BYTES_A_MONTH
    for served in site.served:
        name = served.point.workload.id
        given[f"{name}: requests"] = served.point.rate_per_s * float(day_of(served.point.workload.arrivals).mean())
        given[f"{name}: joules"] = np.ones(SAMPLES)
        given[f"{name}: in time"] = np.full(SAMPLES, served.option.p_slo)
    return given


def case_and_site(planned: Planned, kind: str) -> tuple[Case, SitePlan]:
    site = next(site for site in planned.sites if site.site.id == kind)
    return next(case for case in cases(planned) if case.kind == kind), site


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_was_planned_returns_what_was_planned(name: str):
    planned = example(name)
    for case in cases(planned):
        _, site = case_and_site(planned, case.kind)
        expected = npv_usd(site.accounts.flows, rate=planned.plan.discount_rate)
        assert case.npv(as_planned(site)) == pytest.approx(expected)
        dearer = case.npv(as_planned(site) | {"IT power": 2.0 * site.load.mean_w})
        assert (dearer < expected).all(), "twice the power costs more"


def test_answers_that_come_too_late_earn_nothing():
    planned = example("pilot")
    case, site = case_and_site(planned, "shop")
    kept = as_planned(site)
    late = kept | {name: 0.3 * samples for name, samples in kept.items() if name.endswith("in time")}
    lost = case.npv(kept) - case.npv(late)
    worth = np.asarray(site.accounts.site.value_usd) + np.asarray(site.accounts.site.standing_value_usd)
    years = sum((1.0 + planned.plan.discount_rate) ** -(year - 0.5) for year in range(1, planned.plan.horizon_years + 1))
    assert lost == pytest.approx(0.7 * worth * years, rel=1e-6)


def test_each_line_is_billed_anew_for_the_requests_there_are():
    """By the gigabyte the hub's line follows the requests; a mobile fee within its quota follows nothing."""
    planned = made(small("any"))
    case, north = case_and_site(planned, "north")
    one = as_planned(north)
    more = one | {"parts: requests": 2.0 * one["parts: requests"]}
    parts = next(s for s in north.served if s.point.workload.id == "parts")
    assert parts.hub.allowed
    assert not parts.at_hub
    line = 0.05 * parts.traffic.gb_per_month * 12.0
    egress = 0.09 * parts.answers_gb_per_month * 12.0
    server = parts.requests_per_year * parts.hub_usd_per_request
    years = sum((1.0 + planned.plan.discount_rate) ** -(year - 0.5) for year in range(1, planned.plan.horizon_years + 1))
    assert case.npv(more) - case.npv(one) == pytest.approx((line + egress + server) * years, rel=0.02)
    fee = small("any", **{"usd_per_gb: 1,": "usd_per_gb: 0,"})
    case, south = case_and_site(made(fee), "south")
    one = as_planned(south)
    hub = next(s for s in south.served if s.point.workload.id == "parts")
    twice = case.npv(one | {"parts: requests": 2.0 * one["parts: requests"]}) - case.npv(one)
    more = 0.09 * hub.answers_gb_per_month * 12.0 + hub.requests_per_year * hub.hub_usd_per_request
    assert twice == pytest.approx(more * years, rel=0.02), "the fee stays as it is"


FLAT = "uplink: {kind: flat_step, steps_mbps: [1000], usd_per_month: [600], mbps: 1000}"


def test_a_line_that_stays_speaks_for_neither_side():
    """A flat line is paid with the site as without it: a request by the hub costs its server and its egress, and no more."""
    flat = made(small("any", **{"uplink: {kind: per_gb, usd_per_gb: 0.05, mbps: 1000}": FLAT}))
    case, site = case_and_site(flat, "north")
    rival = next(rival for rival in case.rivals if rival.workload == "parts")
    served = next(s for s in site.served if s.point.workload.id == "parts")
    egress = np.asarray(site.accounts.hub.egress_usd) / served.requests_per_year
    assert (egress > 0).all(), "the hub is a cloud's"
    told = rival.usd_per_request_in_slo(as_planned(site)) * served.hub.p_slo
    assert told == pytest.approx(served.hub_usd_per_request + egress)
    by_gb, there = case_and_site(made(small("any")), "north")
    dearer = next(rival for rival in by_gb.rivals if rival.workload == "parts").usd_per_request_in_slo(as_planned(there))
    assert (dearer > told / served.hub.p_slo).all(), "a line by the gigabyte is spared"


def test_the_network_between_takes_energy_too_and_is_told_as_assumed():
    case, site = case_and_site(made(small("any")), "north")
    rival = next(rival for rival in case.rivals if rival.workload == "parts")
    served = next(s for s in site.served if s.point.workload.id == "parts")
    network = rival.joules_per_request_in_slo * served.hub.p_slo - served.hub_j_per_request
    assert float(np.median(network)) == pytest.approx(0.01 * 3.6e6 * 101e3 / 1e9, rel=0.02), "0.01 kWh/GB, 101 kB a request"
    words = next(gate.words for gate in decide(case, [], DRAWS).gates if gate.name == "joules:parts")
    assert "of that is assumed: against the hub alone it does with" in words


def test_peaks_are_held_against_it_budget_cooling_and_breaker():
    case, site = case_and_site(example("pilot"), "shop")
    planned = as_planned(site)
    limits = {limit.name or limit.belief: limit for limit in case.limits}
    assert set(limits) == {"IT peak", "cooling", "breaker"}
    assert limits["IT peak"].most == site.site.it_budget_kw * 1e3
    for name, samples in (("cooling", site.heat_w), ("breaker", site.feed.worst_a)):
        limit = limits[name]
        assert limit.of is not None
        assert limit.of(planned) == pytest.approx(samples)
        assert limit.of(planned | {"IT peak": 2.0 * planned["IT peak"]}) == pytest.approx(2.0 * samples)


@pytest.mark.parametrize(
    ("residency", "why"),
    [("site", "the hub may not answer it (residency"), ("any", "the hub cannot answer it (an answer would come after up to")],
)
def test_a_hub_that_may_not_or_cannot_is_no_rival_and_one_that_can_is(residency: str, why: str):
    case, _ = case_and_site(made(small(residency)), "north")
    rivals = {rival.workload: rival for rival in case.rivals}
    assert not rivals["cams"].answers
    assert rivals["cams"].none.startswith(why)
    assert rivals["parts"].answers
    verdict = decide(case, [], DRAWS)
    gates = {gate.name: gate for gate in verdict.gates}
    assert gates["hub:cams"].words.startswith(f"no comparison for cams: {why}")
    assert not gates["hub:cams"].counts
    assert {"joules:parts", "cost:parts"} <= gates.keys()
    assert "has no worth in the plan (cams)" in gates["npv"].words


def test_the_line_of_what_a_hub_may_answer_is_shared_by_that_alone():
    """What is not answered without the site sends nothing, so that it bears no part of the line."""
    case, site = case_and_site(made(small("site")), "north")
    rival = next(rival for rival in case.rivals if rival.workload == "parts")
    served = next(s for s in site.served if s.point.workload.id == "parts")
    bill = np.asarray(site.accounts.hub.uplink_usd) + np.asarray(site.accounts.hub.egress_usd)
    told = rival.usd_per_request_in_slo(as_planned(site)) * served.hub.p_slo
    assert told == pytest.approx(served.hub_usd_per_request + bill / served.requests_per_year)


def test_more_requests_return_more_where_answers_are_worth_money_by_number():
    plain = small("site")
    worth = [w.model_copy(update={"value_usd_per_1000": w.arrivals.rate_per_s}) for w in plain.workloads]
    for plan, rises in ((plain, False), (plain.model_copy(update={"workloads": worth}), True)):
        case, _ = case_and_site(made(plan), "north")
        given = {belief.name: np.full(SAMPLES, belief.p50) for belief in case.beliefs}
        gained = case.npv(given | {"cams: requests": 2.0 * given["cams: requests"]}) - case.npv(given)
        assert bool((gained > 0).all()) is rises, "no hub bills for cams, so that more of it saves nothing"


def test_bytes_that_stay_on_the_line_are_a_belief_where_some_do():
    by_gigabyte = [case for case in cases(example("retail")) if any(b.name == "bytes sent" for b in case.beliefs)]
    assert by_gigabyte
    assert not any(b.name == "bytes sent" for case in cases(example("pilot")) for b in case.beliefs)
    for case in by_gigabyte:
        given = {belief.name: np.full(SAMPLES, belief.p50) for belief in case.beliefs}
        more = case.npv(given | {"bytes sent": 2.0 * given["bytes sent"]})
        assert (more <= case.npv(given)).all()


def test_answers_in_time_are_held_against_the_plans_limit():
    limits = {b.name: b.measure.limit_ms for case in cases(example("pilot")) for b in case.beliefs if b.measure.limit_ms}
    assert limits["speech: in time"] == limits["speech: joules"] == 20.0
    assert "speech: requests" not in limits


def test_each_kind_of_a_class_is_judged_by_its_own_money():
    planned = made(small("site"))
    north, south = cases(planned)
    assert (north.kind, south.kind) == ("north", "south")
    assert north.site_class == south.site_class
    assert north.season is not None
    assert south.season is not None
    assert north.season.year_c.mean() != south.season.year_c.mean()
    for case in (north, south):
        _, site = case_and_site(planned, case.kind)
        assert case.npv(as_planned(site)) == pytest.approx(site.npv_usd)


@given(order=st.permutations(range(2)), workloads=st.permutations(range(2)))
@settings(max_examples=4, deadline=None)
def test_the_order_in_the_plan_changes_no_verdict(order: list[int], workloads: list[int]):
    plan = small("any")
    shuffled = plan.model_copy(
        update={"sites": [plan.sites[i] for i in order], "workloads": [plan.workloads[i] for i in workloads]}
    )
    told = [
        {
            case.kind: (v.sentence, v.npv_usd, [gate.words for gate in v.gates])
            for case in cases(made(one))
            for v in [decide(case, [], DRAWS)]
        }
        for one in (plan, shuffled)
    ]
    assert told[0].keys() == told[1].keys() == {"north", "south"}
    for kind, (sentence, npv, words) in told[0].items():
        again = told[1][kind]
        assert sentence == again[0]
        assert sorted(words) == sorted(again[2])
        assert (npv[0].p10, npv[0].p50, npv[0].p90) == pytest.approx((again[1][0].p10, again[1][0].p50, again[1][0].p90))


def test_of_a_language_model_the_first_token_is_in_time():
    retail = example("retail")
    first = {b.measure.workload: b.measure for case in cases(retail) for b in case.beliefs if b.measure.first_token}
    said = {w.id: w.slo.ttft_p99_ms for w in retail.plan.workloads if w.slo.ttft_p99_ms is not None}
    local = {s.point.workload.id for site in retail.sites for s in site.served if not s.at_hub}
    assert {name: m.limit_ms for name, m in first.items()} == {name: ms for name, ms in said.items() if name in local}
