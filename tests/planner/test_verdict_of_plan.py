"""What a plan advises: compared with what, kind by kind, and in money that adds up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearhall.core.errors import InputError
from nearhall.planner.plan import Planned
from nearhall.planner.results.plan import result_document
from planner.planned import example, made, small

OUT = "data: {in_kb: 100, out_kb: 1, residency: RESIDENCY}"


def document(planned: Planned) -> dict[str, Any]:
    return result_document(planned, software="nearhall test")


def cams(worth: str = "") -> dict[str, Any]:
    """The small plan whose cameras' pictures may not leave the site, with what counting is worth."""
    return document(made(small("site", **{"slo: {p99_ms: 10}": f"slo: {{p99_ms: 10}}\n    {worth}"} if worth else {})))


def only_cams(worth: str = "") -> dict[str, Any]:
    """The same without the other workload."""
    plan = small("site", **{"slo: {p99_ms: 10}": f"slo: {{p99_ms: 10}}\n    {worth}"} if worth else {})
    return document(made(plan.model_copy(update={"workloads": plan.workloads[:1]})))


def by_kind(found: dict[str, Any]) -> dict[str, str]:
    return {kind["site"]: kind["verdict"] for kind in found["verdict"]["by_kind"]}


def test_what_no_hub_may_answer_is_compared_with_doing_without():
    kept = cams()
    row = kept["money"]["by_site"][0]
    assert "nobody answers cams" in kept["money"]["without"]
    assert row["yearly"]["hub"]["value"] == 0.0
    assert row["yearly"]["hub"]["requests"] < row["yearly"]["site"]["purchase"]
    free = document(made(small("any", **{"slo: {p99_ms: 10}": "slo: {p99_ms: 100}"})))
    assert "the hub answers cams and parts" in free["money"]["without"]
    assert free["money"]["by_site"][0]["yearly"]["hub"]["uplink"] > row["yearly"]["hub"]["uplink"]


def test_without_a_worth_the_plan_says_what_it_has_to_be_and_with_one_it_judges():
    silent = only_cams()
    assert set(by_kind(silent).values()) == {"unpriced"}
    assert silent["verdict"]["sentence"].startswith("Say first what it is worth to you")
    kind = silent["verdict"]["by_kind"][0]
    assert kind["must_be_worth"]["p50"] > 0
    high = only_cams(f"value_usd_per_year: {kind['must_be_worth']['p90'] * 3:.0f}")
    assert by_kind(high)[kind["site"]] == "pilot"
    low = only_cams("value_usd_per_year: 1")
    assert set(by_kind(low).values()) == {"leave"}
    assert low["verdict"]["state"] == "none"
    assert low["verdict"]["sentence"].startswith("Do not build")


def test_a_year_is_worth_what_its_break_even_says():
    known = only_cams()["verdict"]["by_kind"][0]
    even = only_cams(f"value_usd_per_year: {known['must_be_worth']['p50']:.2f}")
    row = next(row for row in even["money"]["by_site"] if row["site"] == known["site"])
    assert row["npv"]["p50"] == pytest.approx(0.0, abs=0.02 * row["capex"]["p50"])


@pytest.mark.parametrize("name", ["retail", "factory", "pilot"])
def test_rows_add_up_to_the_average_return(name: str):
    found = document(example(name))
    money = found["money"]
    for row in money["by_site"]:
        sides = {
            side: 2 * year["value"] - sum(year.values())  # value comes in, the rest goes out
            for side, year in row["yearly"].items()
        }
        assert row["years_factor"] * (sides["site"] - sides["hub"]) == pytest.approx(row["npv"]["mean"], rel=1e-6, abs=0.01)
    left = {side: 2 * whole["value"] - sum(whole.values()) for side, whole in money["fleet"].items()}
    assert left["site"] - left["hub"] == pytest.approx(money["npv"]["mean"], rel=1e-6, abs=0.01)
    assert money["cash_by_year"]["p50"][-1] == pytest.approx(money["npv"]["p50"], rel=1e-6, abs=0.01)
    assert sum(row["sites"] for row in money["rollout"] if row["which"]) == sum(row["count"] for row in money["by_site"])


def test_a_hub_s_room_is_held_against_all_sites_alike():
    few, many = (small("any", **{"hubs:\n": "hubs:\n", "  - id: south\n": f"  - id: south\n    count: {n}\n"}) for n in (2, 5000))
    used = [float(made(plan).problem.use[:, -1, 0].max()) for plan in (few, many)]
    assert used[1] == pytest.approx(2500 * used[0], rel=0.6)
    assert used[1] > 100 * used[0]


def test_a_worth_is_said_once():
    with pytest.raises(InputError, match="value_usd_per_1000 or value_usd_per_year"):
        small("site", **{"slo: {p99_ms: 10}": "slo: {p99_ms: 10}\n    value_usd_per_year: 5\n    value_usd_per_1000: 1"})
    assert small("site", **{"slo: {p99_ms: 10}": "slo: {p99_ms: 10}\n    value_usd_per_1000: 1"})


def test_parts_carry_the_plan_s_own_prices_and_their_evidence():
    rows = document(example("retail"))["bill_of_materials"]
    orin = next(row for row in rows if row["item"] == "orin" and row["site"] == "shop-city")
    assert orin["unit_usd"]["p50"] == 2000
    assert orin["needs_quote"]
    large = next(row for row in rows if row["item"] == "enclosure" and row["site"] == "shop-large")
    assert large["source"].startswith("default:enclosure.usd_per_kw")
    assert large["unit_usd"]["p50"] == pytest.approx(0.5 * 4000)
    assert {row["within"] for row in rows if row["unit_usd"] is None} == {"enclosure"}
    plant_b = [row["item"] for row in document(example("factory"))["bill_of_materials"] if row["site"] == "plant-b"]
    assert "meter-ups_in" not in plant_b
    assert "meter-feed" in plant_b


def test_what_stands_against_inrush_is_ordered_as_its_check_says():
    """Two bricks at `south`, on C16 without a UPS: one after the other."""
    there = "phases: 3, volts: 400, code: IEC, breaker_a: 16, switched_outlets: true"
    for more, items in (("", ["switched-outlets"]), (", limiter_a: 40", ["inrush-limiter", "switched-outlets"])):
        found = document(made(small("site", **{"phases: 3, volts: 400, code: IEC": there + more})))
        rows = [row for row in found["bill_of_materials"] if row["site"] == "south"]
        assert [row["item"] for row in rows if row["item"] in {"inrush-limiter", "switched-outlets"}] == items
        south = next(site for site in found["sites"] if site["id"] == "south")
        assert rows[[row["item"] for row in rows].index("switched-outlets")]["what"].endswith(south["inrush"]["words"])


def test_a_start_that_the_plan_tells_needs_no_default():
    told = small("site", **{"phases: 3, volts: 400, code: IEC": "phases: 3, volts: 400, code: IEC, compressor_start: 2"})
    entry = next(e for e in document(made(told))["ledger"] if e["name"] == "default:cooling.start_multiple")
    assert entry["used_by"] == ["sites.north.supply.compressor_start"]


def test_what_the_model_takes_as_certain_is_in_the_ledger_too():
    names = {entry["name"] for entry in document(example("retail"))["ledger"]}
    assert {
        "default:ups.inverter_efficiency",
        "default:ups.depth_vrla",
        "default:ups.depth_li_ion",
        "default:ups.recharge_h",
        "default:uplink.step_fill",
        "default:rollout.pilot_tells",
        "default:fleet.volatility",
        "default:outage.minutes",
        "default:boot.seconds",
        "default:supplies.brick",
        "default:crest.brick",
        "default:cooling.start_multiple",
    } <= names
    assert "default:cooling.cop" in names
    assert "default:rollout.pilot_tells" not in {entry["name"] for entry in document(example("telco"))["ledger"]}


def test_each_part_of_the_result_names_what_it_rests_on():
    evidence = document(example("retail"))["evidence"]
    assert "/sites/0" in evidence
    assert evidence["/sites/0"]["source"] != evidence[""]["source"] != evidence["/memory"]["source"]
    assert "tariff" not in evidence["/sites/0"]["source"]
    assert np.all([entry["kind"] in {"assumed", "vendor", "measured"} for entry in evidence.values()])
