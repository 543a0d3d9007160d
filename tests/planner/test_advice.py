"""The headline, the verdicts by kind and the phases name the same kinds, and one amount to sign now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nearhall.planner.results.plan import result_document
from planner.planned import EXAMPLES, example, made, small


def asking(name: str, least: float) -> dict[str, Any]:
    """An example's result where a site has to pay in so many of the cases."""
    planned = example(name)
    decision = planned.plan.decision.model_copy(update={"min_p_npv_positive": least})
    return result_document(replace(planned, plan=planned.plan.model_copy(update={"decision": decision})), software="test")


def between(name: str) -> float:
    """What has to be asked so that one kind of site reaches it and the next does not."""
    best, second, *_ = sorted((k["p_npv_positive"] for k in asking(name, 0.8)["verdict"]["by_kind"]), reverse=True)
    assert best > second
    return (best + second) / 2


def kinds(found: dict[str, Any], *, waits: bool) -> set[str]:
    return {kind for row in found["money"]["rollout"] if row["which"] and row["waits"] is waits for kind in row["by_kind"]}


def pilots(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in found["money"]["rollout"] if row["phase"].startswith("pilot") and row["which"]]


def test_a_kind_that_waits_for_an_answer_is_no_part_of_the_pilot():
    found = asking("retail", between("retail"))
    verdicts = {kind["site"]: kind["verdict"] for kind in found["verdict"]["by_kind"]}
    assert sorted(verdicts.values()) == ["open", "pilot"]
    (sure,) = (site for site, verdict in verdicts.items() if verdict == "pilot")
    (doubtful,) = (site for site, verdict in verdicts.items() if verdict == "open")
    now, later = pilots(found)
    assert (now["by_kind"], now["waits"]) == ({sure: 3}, False)
    assert (later["by_kind"], later["waits"]) == ({doubtful: 3}, True)
    assert later["phase"] == "pilot, if the answers are good"
    sentence = found["verdict"]["sentence"]
    assert sentence.startswith(f"Ask first, then pilot 3 of 120 sites (3 \u00d7 {sure}): {sure} pays in ")
    assert "so it waits for the answers" in sentence.split(f"; {doubtful} pays in ")[1]
    words = next(kind["words"] for kind in found["verdict"]["by_kind"] if kind["site"] == doubtful)
    assert "no part of the pilot that comes first" in words


def test_where_all_kinds_reach_what_is_asked_all_are_in_one_pilot():
    found = asking("retail", 0.5)
    (pilot,) = pilots(found)
    assert pilot["by_kind"] == {"shop-city": 2, "shop-large": 1}
    assert "waits" not in found["verdict"]["sentence"]


def test_where_none_does_nothing_is_signed_yet():
    found = asking("retail", 0.99)
    assert found["verdict"]["sentence"].startswith("Ask first, and sign nothing yet: ")
    assert not [row for row in pilots(found) if not row["waits"]]


def test_what_is_likely_to_lose_is_in_no_phase():
    worthless = {"slo: {p99_ms: 10}": "slo: {p99_ms: 10}\n    value_usd_per_year: 1"}
    plan = small("site", **worthless)
    found = result_document(made(plan.model_copy(update={"workloads": plan.workloads[:1]})), software="test")
    assert found["verdict"]["state"] == "none"
    assert found["money"]["rollout"] == []
    assert found["money"]["in_steps"] is None
    assert found["bill_of_materials"] == [], "nobody orders it either"


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("least", [0.5, 0.8, 0.99])
def test_the_phases_hold_what_the_verdicts_say(name: str, least: float):
    found = asking(name, least)
    asks = bool(found["verdict"]["settles"]) and found["verdict"]["settles"][0]["by"] == "desk"
    waiting = {k["site"] for k in found["verdict"]["by_kind"] if k["verdict"] == "unpriced" or (k["verdict"] == "open" and asks)}
    now = {k["site"] for k in found["verdict"]["by_kind"] if k["verdict"] in {"pilot", "open"}} - waiting
    for pilot in pilots(found):
        assert set(pilot["by_kind"]) <= (waiting if pilot["waits"] else now)
    assert bool(now) is any(not pilot["waits"] for pilot in pilots(found))
    assert bool(waiting) is any(pilot["waits"] for pilot in pilots(found))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_return_in_steps_is_that_of_its_phases(name: str):
    money = result_document(example(name), software="test")["money"]
    steps = money.get("in_steps")
    if steps is None:
        assert len([row for row in money["rollout"] if row["which"]]) < 2
        return
    staged = next(row for row in money["rollout"] if "p_stop" in row)
    assert {name: steps["npv"][name] for name in ("p10", "p50", "p90")} == staged["npv"]
    assert steps["p_npv_positive"] == staged["p_npv_positive"]
    assert steps["cash_by_year"]["p50"][-1] == pytest.approx(steps["npv"]["p50"])
    assert steps["cash_by_year"]["p50"][0] == pytest.approx(-money["rollout"][0]["capex"]["p50"])
    assert len(steps["years"]) == len(steps["cash_by_year"]["p50"])
    assert sum(steps["npv_histogram"]["share"]) == pytest.approx(1.0)
    assert steps["payback_years"]["never"] == pytest.approx(1 - steps["p_npv_positive"], abs=0.02)
