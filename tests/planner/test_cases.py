"""A plan as what pilots are judged by: its own money, and a rival only where a hub may and can answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nearhall.planner.learning.cases import cases
from nearhall.planner.learning.decide import decide
from nearhall.planner.money.cashflow import npv_usd
from nearhall.planner.plan import SitePlan
from nearhall.planner.samples.draws import Draws, Samples
from planner.planned import SAMPLES, example, made, small

DRAWS = Draws(seed=3, samples=SAMPLES)


def as_planned(site: SitePlan) -> dict[str, Samples]:
    """What the plan itself holds of a site, by belief."""
    given = {"IT power": site.load.mean_w, "PUE": site.year.pue}
    case = next(case for case in cases(example("pilot")) if case.site_class == site.site.site_class)
    return given | {b.name: np.full(SAMPLES, b.p50) for b in case.beliefs if b.name not in given}


def test_what_was_planned_returns_what_was_planned():
    planned = example("pilot")
    (case,) = cases(planned)
    (site,) = planned.sites
    expected = npv_usd(site.accounts.flows, rate=planned.plan.discount_rate)
    assert case.npv(as_planned(site)) == pytest.approx(expected)
    dearer = case.npv(as_planned(site) | {"IT power": 2.0 * site.load.mean_w})
    assert (dearer < expected).all(), "twice the power costs more"


@pytest.mark.parametrize(
    ("residency", "why"),
    [("site", "the hub may not answer it (residency"), ("any", "the hub cannot answer it (an answer would come after up to")],
)
def test_a_hub_that_may_not_or_cannot_is_no_rival_and_one_that_can_is(residency: str, why: str):
    (case,) = cases(made(small(residency)))
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
    planned = made(small("site"))
    (case,) = cases(planned)
    rival = next(rival for rival in case.rivals if rival.workload == "parts")
    site = next(site for site in planned.sites if any(s.point.workload.id == "parts" for s in site.served))
    served = next(s for s in site.served if s.point.workload.id == "parts")
    line = np.asarray(site.accounts.hub.uplink_usd) / served.requests_per_year
    assert rival.usd_per_request_in_slo * served.hub.p_slo == pytest.approx(served.hub_usd_per_request + line)


def test_more_requests_return_more_where_answers_are_worth_money_by_number():
    plain = small("site")
    worth = [w.model_copy(update={"value_usd_per_1000": w.arrivals.rate_per_s}) for w in plain.workloads]
    for plan, rises in ((plain, False), (plain.model_copy(update={"workloads": worth}), True)):
        (case,) = cases(made(plan))
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


def test_the_most_numerous_kind_of_a_class_stands_for_it():
    planned = made(small("site"))
    north, south = planned.sites
    many = replace(south, site=south.site.model_copy(update={"count": 5}))
    warmth = [
        case.season.year_c.mean()
        for sites in ((north, south), (north, many), (many, north))
        for case in cases(replace(planned, sites=sites))
        if case.season
    ]
    assert warmth[0] != warmth[1] == warmth[2]
