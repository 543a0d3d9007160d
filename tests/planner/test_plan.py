"""A whole plan: the examples that ship, what decides each placement, and what must hold of any plan."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from nearhall.core.errors import InputError
from nearhall.documents.catalogue_models import load_models
from nearhall.documents.defaults import all_defaults
from nearhall.documents.hardware import load_catalogue
from nearhall.planner.plan import Planned, make_plan
from nearhall.planner.results.plan import result_document
from planner.planned import EXAMPLES, SAMPLES, SMALL, example, made, read, small


def where(planned: Planned) -> dict[str, tuple[str | None, str]]:
    return {placed.point.id: (placed.at, placed.verdict) for placed in planned.placed}


def document(planned: Planned) -> dict[str, Any]:
    return json.loads(json.dumps(result_document(planned, software="nearhall test"), allow_nan=False))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_plans_at_once(name: str):
    planned = example(name)
    found = document(planned)
    assert found["schema"] == "nearhall/plan-result/v1"
    assert found["verdict"]["state"] in {"pilot", "hub"}
    assert sum(found["counts"].values()) == len(found["ledger"])
    assert found["evidence"][""]["kind"] == "assumed", "as weak as the weakest input"
    for site in found["sites"]:
        if site["built"]:
            assert {check["state"] for check in site["checks"]} <= {"ok", "fails", "not_checked"}
            assert {"breaker", "inrush", "leakage", "voltage drop", "short circuit", "selectivity"} <= {
                check["name"] for check in site["checks"]
            }
            assert site["pue"]["annual"]["p50"] > 1.0
            assert site["nameplate_va"] >= site["it_w"]["mean"]


def test_the_retail_chain_keeps_pictures_in_the_shop_and_its_kiosk_at_the_hub():
    placed = where(example("retail"))
    assert placed["visitors@shop-city"] == ("shop-city", "edge")
    assert placed["crowds@shop-large"] == ("shop-large", "edge")
    assert placed["kiosk@shop-city"] == ("frankfurt", "hub")
    assert placed["shelf@shop-large"][1] == "either"
    whys = {p.point.id: p.why for p in example("retail").placed}
    assert "no hub may answer it: its data may not leave the site" in whys["visitors@shop-city"]
    assert "the first word of an answer would come after up to" in whys["kiosk@shop-city"]


def test_the_factory_line_is_too_quick_for_the_nearest_region():
    planned = example("factory")
    assert where(planned)["inspection@plant-a"] == ("plant-a", "edge")
    assert "an answer would come after up to" in next(p.why for p in planned.placed if p.point.id == "inspection@plant-a")
    assert float(np.mean(planned.npv_usd > 0)) > 0.8, "its line is paid by the gigabyte"


def test_the_telephone_company_needs_no_cabinets():
    planned = example("telco")
    assert {at for at, _ in where(planned).values()} == {"madrid"}
    found = document(planned)
    assert found["verdict"]["state"] == "hub"
    assert found["money"]["npv"] is None
    assert found["fleet"] is None
    assert found["next"] == []


def test_residency_decides_before_any_price():
    free, bound = made(small("any")), made(small("site"))
    assert where(bound)["cams@north"] == ("north", "edge")
    assert "may not leave the site" in next(p.why for p in bound.placed if p.point.id == "cams@north")
    assert {o.at for p in free.placed for o in p.options if o.allowed} >= {"north", "south"}


def test_neighbours_are_asked_too_and_capacity_binds():
    planned = made(small("any"))
    point = next(p for p in planned.placed if p.point.id == "parts@north")
    assert [o.at for o in point.options] == ["north", "hub"], "the other site is farther than any hub"
    full = made(small("site", **{"it_budget_kw: 0.2\n    supply: {phases: 1": "it_budget_kw: 0.001\n    supply: {phases: 1"}))
    assert where(full)["cams@north"] == (None, "infeasible")
    assert "IT" in next(p.why for p in full.placed if p.point.id == "cams@north")
    found = document(full)
    assert found["verdict"]["state"] == "infeasible"
    assert "cams@north" in found["verdict"]["sentence"]


def test_an_slo_that_nothing_keeps_says_by_how_much():
    planned = made(small("site", **{"slo: {p99_ms: 10}": "slo: {p99_ms: 0.5}"}))
    placed = next(p for p in planned.placed if p.point.id == "cams@north")
    assert placed.at is None
    assert "an answer would come after up to" in placed.why
    assert "0.5 ms are allowed" in placed.why


def test_the_order_of_sites_and_workloads_changes_nothing():
    plan = small("site")
    turned = plan.model_copy(update={"sites": plan.sites[::-1], "workloads": plan.workloads[::-1]})
    one, other = made(plan), made(turned)
    assert where(one) == where(other)
    assert np.allclose(one.npv_usd, other.npv_usd)
    assert {s.site.id: s.feed.design_a for s in one.sites} == pytest.approx({s.site.id: s.feed.design_a for s in other.sites})


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    plan = small("site")
    assert np.array_equal(made(plan).npv_usd, made(plan).npv_usd)
    assert not np.array_equal(made(plan).npv_usd, made(plan.model_copy(update={"seed": 7})).npv_usd)


def test_what_is_measured_takes_the_place_of_what_was_drawn():
    plan = small("site")
    doubled = made(plan, {"sites.north.it_scale": np.full(SAMPLES, 2.0)})
    plain = made(plan, {"sites.north.it_scale": np.full(SAMPLES, 1.0)})
    kwh = [next(s for s in p.sites if s.site.id == "north").year.it_kwh for p in (plain, doubled)]
    assert np.allclose(kwh[1], 2.0 * kwh[0])
    south = [next(s for s in p.sites if s.site.id == "south").year.it_kwh for p in (plain, doubled)]
    assert np.array_equal(south[0], south[1])


def test_more_load_never_needs_less_breaker():
    quiet = made(small("site"))
    busy = made(small("site", **{"{p50: 300, p90: 400}": "{p50: 900, p90: 1200}"}))
    for one, other in zip(quiet.sites, busy.sites, strict=True):
        assert other.feed.design_a >= one.feed.design_a


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("ref: orin-maxq", "ref: orin-maxp", r"hardware\.orin\.ref: .*did you mean 'orin-maxq'"),
        (
            "ref: resnet50, bits: 8}\n    arrivals: {rate_per_s: {p50: 300",
            "ref: resnet5, bits: 8}\n    arrivals: {rate_per_s: {p50: 300",
            r"workloads\.cams\.model\.ref: .*resnet50",
        ),
    ],
)
def test_hardware_and_models_that_no_catalogue_has_are_told_with_the_nearest(old: str, new: str, told: str):
    with pytest.raises(InputError, match=told):
        made(small("site", **{old: new}))


def test_a_model_of_ones_own_and_ones_own_measurements_come_before_the_catalogue():
    catalogues = "ref: resnet50, bits: 8}\n    arrivals: {rate_per_s: {p50: 300"
    own = {catalogues: catalogues.replace("ref: resnet50, bits: 8", "own: {params: 5.0e+6, gflop: 3}")}
    assert where(made(small("site", **own)))["cams@north"] == ("north", "edge")
    measured = "slo: {p99_ms: 10}\n    measured: [{hardware: orin, service_ms: 30, per_s: 40, busy_w: 20}]"
    slow = made(small("site", **{"slo: {p99_ms: 10}": measured}))
    assert where(slow)["cams@north"][1] == "infeasible", "30 ms alone are more than the 10 ms that are asked"


def test_a_language_model_has_servers_of_its_own():
    text = """
  - id: chat
    model: {kind: llm, ref: qwen2.5-0.5b, ctx: 2048, concurrent: 2}
    arrivals: {rate_per_s: {p50: 0.1, p90: 0.2}}
    slo: {ttft_p99_ms: 4000}
    data: {in_kb: 2, out_kb: 2, residency: site}
hardware:"""
    planned = made(small("site", **{"\nhardware:": text}))
    assert where(planned)["chat@north"] == ("north", "edge")
    north = next(s for s in planned.sites if s.site.id == "north")
    assert [len(rack.pool.lanes) for rack in north.load.racks] in ([1, 1], [2, 1], [1, 2])
    found = document(planned)
    chat = next(w for w in found["workloads"] if w["id"] == "chat")
    assert chat["slo"]["of"] == "ttft"
    assert all(len(part["cdf"]["ms"]) == len(part["cdf"]["share"]) for part in chat["latency"])


def test_progress_is_told_in_words():
    told: list[str] = []
    make_plan(small("site"), catalogue=load_catalogue(), models=load_models(), defaults=all_defaults(), tell=told.append)
    assert told[0].startswith("options of")
    assert told[-1] == "sizing south"


def test_a_battery_that_may_be_cycled_shaves_the_feeder_and_its_wear_is_told():
    ups = "battery_kwh: 0.1, chem: li-ion"
    plan = small("site", **{ups: "battery_kwh: 2, chem: li-ion, cyclable: true, wear_usd_per_kwh: 0.5"})
    plan = plan.model_copy(update={"feeders": [plan.feeders[0].model_copy(update={"existing_kva": [1.0] * 12 + [9.0] * 12})]})
    feeder = result_document(made(plan), software="test")["fleet"]["feeders"][0]
    assert feeder["shaved_kva"] is not None
    assert feeder["wear_usd"] > 0.0
    assert "of wear a day" in feeder["words"]
    still = result_document(made(small("site")), software="test")["fleet"]["feeders"][0]
    assert (still["shaved_kva"], still["wear_usd"]) == (None, 0.0)


def test_a_battery_given_by_amp_hours_shaves_too_and_keeps_what_the_hold_needs():
    """42 Ah at 48 V are 2 kWh. A required hold that takes them all leaves nothing to shave."""
    ups, load = "hold_min: 5, battery_kwh: 0.1, chem: li-ion", [1.0] * 12 + [9.0] * 12

    def feeder(said: str) -> dict[str, Any]:
        plan = small("site", **{ups: said})
        plan = plan.model_copy(update={"feeders": [plan.feeders[0].model_copy(update={"existing_kva": load})]})
        return result_document(made(plan), software="test")["fleet"]["feeders"][0]

    by_kwh, by_ah = (
        feeder(f"hold_min: 5, {energy}, chem: li-ion, cyclable: true, wear_usd_per_kwh: 0.01")
        for energy in ("battery_kwh: 2.016", "ah: 42, volts: 48")
    )
    assert by_ah["shaved_kva"] == pytest.approx(by_kwh["shaved_kva"])
    kept = feeder("hold_min: 1440, ah: 42, volts: 48, chem: li-ion, cyclable: true, wear_usd_per_kwh: 0.01")
    assert kept["shaved_kva"] is None


def test_a_restart_recharges_what_the_outage_took_and_not_what_the_hold_asked_for():
    """Thirty minutes without mains, whatever hold is required."""
    ups = "hold_min: 5, battery_kwh: 0.1"

    def energy_kwh(said: str) -> float:
        restart = result_document(made(small("site", **{ups: said})), software="test")["fleet"]["restart"]
        return float(np.sum(restart["kw"])) / 60.0

    short, long, large = (
        energy_kwh(s) for s in ("hold_min: 1, battery_kwh: 0.1", "hold_min: 60, battery_kwh: 0.1", "hold_min: 5, battery_kwh: 1")
    )
    assert short == pytest.approx(long)
    assert large > short


def test_the_charger_warms_the_cabinet_and_the_feed_pays_no_heat_twice():
    north = next(site for site in made(small("site")).sites if site.site.id == "north")
    assert north.hold is not None
    losses = north.peak_parts_w["UPS loss"] + north.peak_parts_w["distribution"]
    np.testing.assert_allclose(north.heat_w, north.plant.heat_w(north.load.burst_w, losses) + north.hold.recharge_heat_w)
    parts = [watts for name, watts in north.peak_parts_w.items() if name != "feed"]
    np.testing.assert_allclose(north.peak_parts_w["feed"], np.sum(parts, axis=0))


def test_pue_of_the_day_and_of_its_categories_are_in_the_result():
    pue = result_document(made(small("site")), software="test")["sites"][0]["pue"]
    assert len(pue["by_hour"]) == 24
    assert pue["by_category"]["1"] <= pue["by_category"]["2"] <= pue["by_category"]["3"]
    assert pue["by_category"]["3"] == pytest.approx(pue["of_sums"])


def test_a_hub_without_hardware_takes_for_each_workload_what_spends_least_energy_within_its_limit():
    free = made(small("any", **{", hardware: big, egress": ", egress"}))
    for placed in free.placed:
        hub = next(option for option in placed.options if option.is_hub)
        assert hub.service is not None
        joules = {
            name: float(np.median(service[0].busy_w / service[0].per_s))
            for (workload, name), service in free.equipment.services.items()
            if workload == placed.point.workload.id
        }
        assert hub.service.server == min(joules, key=lambda name: joules[name])


def test_a_millisecond_that_is_worth_something_speaks_for_the_site_in_placement_and_return():
    plain = made(small("any"))
    dear = made(small("any", **{"slo: {p99_ms: 400}": "slo: {p99_ms: 400}\n    value_per_ms_usd_year: 500"}))
    row = [p.point.id for p in dear.placed].index("parts@north")
    here, there = (dear.problem.places.index(name) for name in ("north", "hub"))
    p99 = {  # placement compares them before it is known what shares a server
        o.at: float(np.mean(o.alone.p99_ms(o.alone.lanes[0]) if o.alone is not None else o.p99_ms))
        for o in dear.placed[row].options
        if o.p99_ms is not None
    }
    lead = [p.problem.usd[row, there] - p.problem.usd[row, here] for p in (plain, dear)]
    assert lead[1] - lead[0] == pytest.approx(500 * (p99["hub"] - p99["north"]))
    assert p99["hub"] > p99["north"] + 2
    site = next(s for s in dear.sites if s.site.id == "north")
    assert np.median(site.accounts.site.standing_value_usd) > 1000
    assert not np.any(site.accounts.hub.standing_value_usd)


def test_of_hubs_that_cost_the_same_the_nearer_answers():
    far = "  - {id: hub, lat: 50.1, lon: 8.7, jurisdiction: DE, cap_kw: 500, hardware: big, egress: aws}\n"
    assert far in SMALL
    two = far.replace("id: hub, lat: 50.1, lon: 8.7", "id: away, lat: 43.3, lon: 5.4") + far
    for hubs in (two, "".join(reversed(two.splitlines(keepends=True)))):
        text = SMALL.replace("RESIDENCY", "any").replace(far, hubs).replace("p99_ms: 10}", "p99_ms: 900}")
        planned = made(read(text.replace("usd_per_gb: 0.05", "usd_per_gb: 0").replace("cost_usd: 2000", "cost_usd: 200000")))
        at_hub = [placed.at for placed in planned.placed if placed.at in {"hub", "away"}]
        assert at_hub, "something is answered by a hub"
        assert set(at_hub) == {"hub"}


def test_hardware_that_is_not_bought_moves_nothing_and_every_entry_says_by_how_much_it_does():
    planned = example("retail")
    bought = {rack.server.id for site in planned.sites for rack in site.load.racks}
    assert "a2-server" not in bought
    ledger = {entry["name"]: entry for entry in document(planned)["ledger"]}
    idle = [entry for name, entry in ledger.items() if name.startswith("hardware.a2-server.")]
    assert idle
    assert all((entry["swing_usd"], entry["p_swing"], entry["share"]) == (0.0, 0.0, 0.0) for entry in idle)
    assert all(0.0 <= entry["p_swing"] <= 1.0 for entry in ledger.values())
    worth = ledger["workloads.crowds.value"]
    assert worth["swing_usd"] > 100_000
    assert worth["p_swing"] > 0.1
    assert ledger["default:hardware.life_years"]["p50"] == 5.0


@pytest.mark.parametrize("name", ["retail", "factory", "telco"])
def test_placements_cost_goes_with_the_money_tables(name: str):
    planned = example(name)
    found = document(planned)["placement"]
    words = found["words"]
    assert f"${found['objective_usd_per_year']:,.0f}" in words
    assert f"${found['as_sized_usd_per_year']:,.0f}" in words
    tables = document(planned)["money"]["by_site"]
    if len(tables) == len(planned.sites):
        sides = [row["count"] * (sum(row["yearly"]["site"].values()) - row["yearly"]["site"]["value"]) for row in tables]
        assert found["as_sized_usd_per_year"] == pytest.approx(sum(sides))
    lines = sum(s.site.count * float(np.mean(s.accounts.site.uplink_usd)) for s in planned.sites)
    assert found["as_sized_usd_per_year"] - lines < 2.0 * found["objective_usd_per_year"]


@pytest.mark.parametrize("residency", ["site", "any"])
def test_a_breaker_that_is_there_binds_what_is_placed_behind_it(residency: str):
    fits = where(made(small(residency)))
    assert fits["cams@north"][0] == "north"
    supply = "supply: {phases: 3, volts: 400, code: IEC}"
    small_ones = {"breaker_a: 16": "breaker_a: 0.2", supply: supply.replace("IEC", "IEC, breaker_a: 0.4")}
    planned = made(small(residency, **small_ones))
    north, cams = (next(p for p in planned.placed if p.point.id == f"cams@{name}") for name in ("north", "south"))
    assert north.at != "north"
    assert re.match(r"breaker: \d\.\d+ A > 0\.2 A", north.against["north"]), "what it takes alone is too much"
    assert cams.at != "south"
    found = cams.against["south"]
    assert re.match(r"breaker 0\.4 A: \d\.\d+ A > 0\.4 A on line \d \(P99\); 6 A would carry it", found), "as the whole was sized"
    if cams.at is None:
        sentence = document(planned)["verdict"]["sentence"]
        assert "cams@south can be answered nowhere (" in sentence
        assert "would carry it" in sentence


def test_a_budget_that_the_whole_exceeds_binds_too():
    planned = made(small("site", **{"it_budget_kw: 0.2\n    supply: {phases: 1": "it_budget_kw: 0.045\n    supply: {phases: 1"}))
    cams = next(p for p in planned.placed if p.point.id == "cams@north")
    assert cams.at is None
    assert re.search(r"IT 0\.\d+ kW( \(P99\))? > 0\.045 kW", cams.against["north"])


def test_what_is_said_of_a_rating_stands_in_the_ledger():
    told = 'it_budget_kw: {value: 0.2, kind: vendor, source: "quote 7", date: 2026-01}\n    supply: {phases: 1'
    planned = made(small("site", **{"it_budget_kw: 0.2\n    supply: {phases: 1": told}))
    entry = next(entry for entry in document(planned)["ledger"] if entry["name"] == "sites.north.it_budget_kw")
    assert (entry["p50"], entry["kind"], entry["source"]) == (0.2, "vendor", "quote 7")


def test_data_that_arises_where_its_own_rule_does_not_hold_is_warned_of():
    abroad = document(made(small('"jurisdiction:FR"')))["verdict"]["warnings"]
    assert any("cams arises at north in DE, outside of what its residency allows (jurisdiction:FR)" in one for one in abroad)
    assert not any("arises at" in one for one in document(made(small('"jurisdiction:DE"')))["verdict"]["warnings"])


def test_the_mean_wait_without_bursts_stands_beside_the_wait_in_bursts():
    parts = {(w["id"], part["at"]): part for w in document(example("retail"))["workloads"] for part in w["latency"]}
    own, hub = parts["visitors", "shop-city"], parts["visitors", "frankfurt"]
    assert 0.0 < own["steady_wait_ms"] < 0.1 * own["queue_ms"]
    assert hub["steady_wait_ms"] == hub["queue_ms"] == 0.0
    assert all(0.0 <= part["steady_wait_ms"] < part["limit_ms"] for part in parts.values())
