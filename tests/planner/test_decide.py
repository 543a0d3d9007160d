"""Scale, hold or stop: what turns the verdict, and what must not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.documents.site_returns import SiteReturns
from nearhall.planner.learning.accept import Measure
from nearhall.planner.learning.beliefs import Belief, learn
from nearhall.planner.learning.decide import Case, Verdict, decide, linear_npv
from nearhall.planner.learning.gates import HardLimit, Rival, Thresholds
from nearhall.planner.learning.site_blocks import SiteBlocks, site_blocks
from nearhall.planner.learning.site_estimates import Season
from nearhall.planner.learning.told import percent
from nearhall.planner.results.decision import decision_document
from nearhall.planner.samples.draws import Draws
from nearhall.planner.serving.day import year_of_temperatures
from planner.metered_site import ASSUMED, WATTS, meters, site

DRAWS = Draws(seed=7, samples=2000)
POWER = Belief(
    name="it_power_w",
    words="mean IT power",
    unit="W",
    form="log",
    measure=Measure(of="it_power_w"),
    p50=420.0,
    p90=520.0,
    evidence=ASSUMED,
)
JOULES = replace(
    POWER,
    name="joules:cams",
    words="energy of a request of cams in its SLO",
    unit="J",
    measure=Measure(of="joules_per_request_in_slo", workload="cams"),
    p50=700.0,
    p90=900.0,
)
PUE = replace(POWER, name="pue", words="PUE over a year", unit="1", form="pue", measure=Measure(of="pue"), p50=1.6, p90=1.85)
SLO = replace(
    POWER,
    name="slo:cams",
    words="blocks in which cams keeps its SLO",
    unit="1",
    form="share",
    measure=Measure(of="slo_share", workload="cams"),
    p50=0.97,
    p90=None,
)
SEASON = Season(year_c=year_of_temperatures(mean_c=10.0, season_c=10.0, day_c=4.0), it_budget_w=800.0, year_load=0.5)
GAIN = linear_npv(3000.0, {"it_power_w": (420.0, -10.0), "joules:cams": (700.0, -1.0)})
CASE = Case(
    kind="shop",
    site_class="micro",
    beliefs=(POWER, JOULES, PUE, SLO),
    npv=GAIN,
    thresholds=Thresholds(min_p_pue_below={2.0: 0.8}),
    usd_per_request=lambda samples, workload: samples[f"joules:{workload}"] * 1e-7,
    rivals=(
        Rival(
            workload="cams",
            joules_per_request_in_slo=np.full(2000, 1200.0),
            usd_per_request_in_slo=lambda _: np.full(2000, 1.5e-4),
        ),
    ),
    limits=(HardLimit(belief="it_power_w", most=700.0, words="breaker B16"),),
    season=SEASON,
)


def pilot(name: str, scale: float = 1.0, **changes: object) -> SiteReturns:
    """A site that takes `scale` times the usual power, a little more by day than by night."""

    def watts(index: int) -> dict[str, float]:
        return {k: w * scale * (1.0 + 0.1 * np.sin(index / 96 * 2 * np.pi)) for k, w in WATTS.items()}

    return site(name, watts=watts, **changes)  # type: ignore[arg-type]


def mostly_late(index: int) -> tuple[int, int]:
    return (0 if index % 3 else 900, 900)


def no_thermometer(_: int) -> float | None:
    return None


THREE = [pilot("a", 0.95), pilot("b", 1.0), pilot("c", 1.06)]


def blocks(returns: list[SiteReturns]) -> list[SiteBlocks]:
    return [site_blocks(one) for one in returns]


def gate(verdict: Verdict, name: str):
    return next(one for one in verdict.gates if one.name == name)


def test_three_pilots_in_order_scale():
    verdict = decide(CASE, THREE, DRAWS)
    assert verdict.state == "SCALE", verdict.reasons
    assert verdict.stamp == "MEASURED"
    assert verdict.sentence.startswith("SCALE")
    assert verdict.p_npv_positive[1] > verdict.p_npv_positive[0]
    assert all(one.holds for one in verdict.gates)
    assert {seen.site: seen.accepted for seen in verdict.pilots}["a"] == ("it_power_w", "joules:cams", "pue", "slo:cams")
    notes = [note for item in verdict.quantities for note in item.notes]
    assert "interim: less than 12 months" in notes
    assert "a, b, c: category 3, IT metered at it" in notes
    assert "a, b, c: over all requests the 99th percentile keeps its limit with probability > 99 %" in notes
    assert any("of the year's hours lie outside" in note for note in notes)


def test_at_the_ups_whatever_else_it_feeds_counts_as_it():
    def watts(_: int) -> dict[str, float]:
        return {k: w for k, w in WATTS.items() if k != "it"}

    verdict = decide(CASE, [site("a", watts=watts)], DRAWS)
    pue = next(item for item in verdict.quantities if item.belief.name == "pue")
    assert "a: category 1, IT metered at ups_out: whatever else the UPS feeds counts as IT" in pue.notes


def test_without_a_climate_no_pue_is_learned():
    verdict = decide(replace(CASE, season=None), THREE, DRAWS)
    pue = next(item for item in verdict.quantities if item.belief.name == "pue")
    assert pue.data is None
    assert pue.new_site == pue.prior
    assert "the plan tells no climate" in pue.refused[0][1]


@pytest.mark.parametrize(
    ("case", "returns", "failing"),
    [
        (CASE, THREE[:2], "pilots"),
        (CASE, [pilot("a"), pilot("b"), pilot("c", slo=mostly_late)], "slo:cams"),
        (replace(CASE, rivals=[replace(CASE.rivals[0], joules_per_request_in_slo=np.full(2000, 500.0))]), THREE, "joules:cams"),
        (
            replace(CASE, rivals=[replace(CASE.rivals[0], usd_per_request_in_slo=lambda _: np.full(2000, 1e-6))]),
            THREE,
            "cost:cams",
        ),
        (replace(CASE, thresholds=Thresholds(min_p_pue_below={1.3: 0.9})), THREE, "pue:1.3"),
        (replace(CASE, npv=linear_npv(0.0, {"it_power_w": (420.0, -10.0)})), THREE, "npv"),
        (replace(CASE, limits=[HardLimit(belief="it_power_w", most=450.0, words="fuse")]), THREE, "limit:it_power_w"),
    ],
)
def test_one_condition_that_does_not_hold_holds(case: Case, returns: list[SiteReturns], failing: str):
    case = replace(case, thresholds=replace(case.thresholds, min_p_npv_positive=0.97)) if failing == "npv" else case
    verdict = decide(case, returns, DRAWS)
    assert not gate(verdict, failing).holds
    assert verdict.state == "HOLD", verdict.sentence
    assert gate(verdict, failing).words in verdict.reasons
    assert decide(CASE, THREE, DRAWS).state == "SCALE"


@pytest.mark.parametrize(
    "case",
    [
        replace(CASE, npv=linear_npv(-5000.0, {"it_power_w": (420.0, -10.0)})),
        replace(CASE, limits=[HardLimit(belief="it_power_w", most=300.0, words="fuse")]),
    ],
)
def test_an_unlikely_gain_or_a_broken_limit_stops(case: Case):
    verdict = decide(case, THREE, DRAWS)
    assert verdict.state == "STOP"
    assert verdict.stamp == "MEASURED"
    assert next(one for one in verdict.gates if one.stops).words in verdict.sentence


@pytest.mark.parametrize(("sites", "more"), [(1, "2 more pilot sites are needed"), (2, "1 more pilot site is needed")])
def test_to_stop_takes_as_many_pilots_as_to_scale(sites: int, more: str):
    poor = replace(CASE, npv=linear_npv(-5000.0, {"it_power_w": (420.0, -10.0)}))
    verdict = decide(poor, THREE[:sites], DRAWS)
    assert (verdict.state, verdict.would, verdict.stamp) == ("HOLD", "STOP", "MEASURED")
    assert f"{more} before the verdict can be STOP, which it would be since a new site pays" in verdict.sentence
    assert f"{more} before the verdict can be SCALE" in decide(CASE, THREE[:sites], DRAWS).sentence
    assert decide(poor, THREE, DRAWS).state == "STOP"


def test_what_nobody_said_the_worth_of_stops_nothing():
    poor = replace(CASE, npv=linear_npv(-5000.0, {"it_power_w": (420.0, -10.0)}))
    assert decide(poor, THREE, DRAWS).state == "STOP"
    silent = decide(replace(poor, unpriced=["cams", "kiosk"]), THREE, DRAWS)
    assert silent.state == "HOLD"
    assert any("has no worth in the plan (cams, kiosk)" in gate.words for gate in silent.gates)
    rich = decide(replace(CASE, unpriced=["cams"]), THREE, DRAWS)
    assert rich.state == decide(CASE, THREE, DRAWS).state == "SCALE", "a site that pays anyway needs no more worth"


@pytest.mark.parametrize("case", [CASE, replace(CASE, npv=linear_npv(-5000.0, {"it_power_w": (420.0, -10.0)}))])
def test_simulated_meters_neither_scale_nor_stop(case: Case):
    virtual = [replace(one, meters=meters(Kind.SIMULATED)) for one in THREE]
    verdict = decide(case, virtual, DRAWS)
    assert (verdict.state, verdict.stamp) == ("HOLD", "REHEARSED")
    assert verdict.state != decide(case, THREE, DRAWS).state
    assert "a, b, c: virtual meters, no instrument saw the energy" in verdict.reasons
    assert verdict.next
    assert all("until a pilot with commissioned meters has measured it" in one.why for one in verdict.next)
    assert verdict.would == decide(case, THREE, DRAWS).state
    assert verdict.sentence.startswith(
        f"HOLD: were these figures measured at 3 pilot sites, the verdict would be {verdict.would}"
    )
    assert gate(verdict, "pilots").words == "no pilot site counts yet: 3 needed, 3 rehearsed"
    assert {seen.rehearsed for seen in verdict.pilots} == {True}
    assert verdict.pilots[0].used
    assert not verdict.pilots[0].accepted
    real = decide(case, THREE, DRAWS)
    beside = decide(case, [*THREE, replace(virtual[0], id="d")], DRAWS)
    assert (beside.state, beside.stamp, beside.npv_usd) == (real.state, real.stamp, real.npv_usd), "a rehearsal teaches nothing"
    (why, names), *_ = next(seen for seen in beside.pilots if seen.rehearsed).refused
    assert why == "rehearsed: beside real pilots it teaches nothing"
    assert {one.why for one in beside.next} == {"known from 3 sites"}
    assert set(names) == {belief.name for belief in CASE.beliefs}


def test_a_short_rehearsal_says_that_it_is_no_pilot():
    one = replace(THREE[0], meters=meters(Kind.SIMULATED), blocks=THREE[0].blocks[:1], end_s=THREE[0].start_s + 900.0)
    verdict = decide(CASE, [one], DRAWS)
    lasted = "lasted 15 min: a pilot lasts a day at least, so that a whole cycle of load is in it"
    assert f"a {lasted}" in verdict.reasons
    assert verdict.pilots[0].short == lasted
    assert {item.belief.name for item in verdict.quantities if item.short} == set(verdict.pilots[0].used)
    whole = decide(CASE, [replace(THREE[0], meters=meters(Kind.SIMULATED))], DRAWS)
    assert not whole.pilots[0].short
    assert not any(item.short for item in whole.quantities)


def test_nothing_taken_decides_nothing():
    late = [replace(one, clock_error_ms=60_000.0) for one in THREE]
    verdict = decide(CASE, late, DRAWS)
    assert (verdict.state, verdict.stamp) == ("HOLD", "NOT MEASURED")
    assert verdict.p_npv_positive[0] == verdict.p_npv_positive[1]
    assert all(item.data is None and item.prior == item.new_site for item in verdict.quantities)
    ((why, names),) = verdict.pilots[0].refused
    assert why == "its clock is 60.0 s off: 2 s at most, synchronise it"
    assert set(names) == {belief.name for belief in CASE.beliefs}
    assert "no pilot file was accepted; on assumptions alone the verdict would be " in verdict.sentence
    assert verdict.npv_usd[0] == verdict.npv_usd[1]


def test_without_an_outdoor_thermometer_the_rest_is_measured_in_part():
    verdict = decide(CASE, [pilot(name, outdoor_c=no_thermometer) for name in "abc"], DRAWS)
    assert verdict.stamp == "PARTLY MEASURED"
    assert verdict.state == "HOLD", "a condition stands on a PUE that nobody measured"
    assert gate(verdict, "pilots").words == "no pilot site has measured PUE over a year: 3 needed"
    assert gate(verdict, "pue:2").holds, "on assumptions it would hold"
    assert "no pilot site has measured PUE over a year: 3 needed before the verdict can be SCALE" in verdict.sentence
    indifferent = decide(replace(CASE, thresholds=Thresholds()), [pilot(name, outdoor_c=no_thermometer) for name in "abc"], DRAWS)
    assert indifferent.state == "SCALE", "nothing hangs on the PUE"
    assert next(one.why for one in verdict.next if one.belief == "pue").startswith(
        "a: fewer than 3 blocks hold a PUE above 1 and an outdoor"
    )


def test_a_conflict_holds_and_is_named():
    odd = [pilot(name, scale) for name, scale in (("a", 3.0), ("b", 3.1), ("c", 2.9))]
    verdict = decide(replace(CASE, limits=()), odd, DRAWS)
    assert "it_power_w" in verdict.conflicts
    assert not gate(verdict, "conflict").holds
    assert verdict.state != "SCALE"
    assert gate(verdict, "conflict").needed_words == "none of |z| > 3"
    agreeing = decide(CASE, THREE, DRAWS)
    assert agreeing.conflicts == ()
    assert gate(agreeing, "conflict").holds
    assert not any(one.name == "conflict" for one in decide(CASE, [], DRAWS).gates), "nothing was compared"


def test_conditions_carry_their_units():
    words = {one.name: (one.words, one.needed_words) for one in decide(CASE, THREE, DRAWS).gates}
    assert words["limit:it_power_w"] == (
        "a new site stays within breaker B16 (700 W) with probability > 99 % (90 % needed)",
        "90 %",
    )
    assert words["pilots"][1] == "3 pilot sites"
    assert words["npv"][1] == "80 %"


@pytest.mark.parametrize(
    ("share", "told"), [(0.0, "0 %"), (0.001, "< 1 %"), (0.006, "1 %"), (0.5, "50 %"), (0.999, "> 99 %"), (1.0, "100 %")]
)
def test_percent_never_claims_certainty(share: float, told: str):
    assert percent(share) == told


def test_the_return_is_told_before_and_after():
    before, after = decide(CASE, THREE, DRAWS).npv_usd
    assert before.p10 < before.p50 < before.p90
    assert after.p90 - after.p10 < before.p90 - before.p10


def test_meters_that_contradict_each_other_leave_the_prior_and_widen_it():
    wrong = [replace(one, blocks=site(watts=lambda _: {**WATTS, "it": 300.0}).blocks) for one in THREE]
    item = learn(POWER, blocks(wrong), season=SEASON, uniform=DRAWS.uniform("x"))
    before = learn(POWER, [], season=SEASON, uniform=DRAWS.uniform("x"))
    assert item.widened
    assert item.data is None
    assert item.new_site.p10 < before.new_site.p10
    assert item.new_site.p90 > before.new_site.p90
    assert item.new_site.p50 == pytest.approx(before.new_site.p50, rel=1e-6)


def test_two_periods_of_one_site_are_one_site():
    later = replace(THREE[0], blocks=[replace(b, start_s=b.start_s + 7e6, end_s=b.end_s + 7e6) for b in THREE[0].blocks])
    verdict = decide(CASE, [THREE[0], later], DRAWS)
    assert verdict.quantities[0].sites == ("a",)
    assert verdict.quantities[0].blocks == 2 * len(THREE[0].blocks)
    assert gate(verdict, "pilots").words == "1 pilot site counts: 3 needed"


@given(order=st.permutations(range(3)), scales=st.tuples(*[st.floats(0.8, 1.3)] * 3))
@settings(max_examples=10, deadline=None)
def test_permuting_sites_changes_nothing_and_the_posterior_lies_between(order: list[int], scales: tuple[float, ...]):
    sites = [site(str(i), blocks=96, watts=lambda _, s=s: {k: w * s for k, w in WATTS.items()}) for i, s in enumerate(scales)]
    one = learn(POWER, blocks(sites), season=None, uniform=DRAWS.uniform("x"))
    other = learn(POWER, blocks([sites[i] for i in order]), season=None, uniform=DRAWS.uniform("x"))
    assert one.new_site == other.new_site
    assert one.data is not None
    assert one.posterior is not None
    low, high = sorted([POWER.p50, one.data])
    assert low * 0.999 <= one.posterior.p50 <= high * 1.001


def test_next_measurements_are_ranked_by_worth_a_day_and_nothing_that_turns_nothing_is_worth_any():
    close = replace(CASE, npv=linear_npv(0.0, {"it_power_w": (420.0, -10.0), "joules:cams": (700.0, -1.0)}))
    late = [replace(one, clock_error_ms=None) for one in THREE]
    verdict = decide(close, late, DRAWS)
    worth = [one.usd_per_day for one in verdict.next]
    assert worth == sorted(worth, reverse=True)
    assert verdict.next[0].belief == "it_power_w"
    assert {one.belief: one.evppi_usd for one in verdict.next}["pue"] == 0.0 or abs(worth[-1]) < 0.05 * worth[0]
    sure = replace(CASE.thresholds, min_p_slo=0.9)
    rich = decide(replace(CASE, npv=linear_npv(1e6, {"it_power_w": (420.0, -1.0)}), thresholds=sure), late, DRAWS)
    assert all(one.evppi_usd == 0.0 for one in rich.next), [(one.belief, one.evppi_usd) for one in rich.next]
    assert rich.next[0].blocking, "among equals what holds the decision up comes first"


def test_a_hub_that_keeps_no_slo_is_no_rival():
    endless = np.full(2000, np.inf)
    alone = Rival(workload="cams", joules_per_request_in_slo=endless, usd_per_request_in_slo=lambda _: endless)
    verdict = decide(replace(CASE, rivals=[alone]), THREE, DRAWS)
    assert gate(verdict, "hub:cams").words == "no comparison for cams: the hub may not or cannot answer it"
    assert not gate(verdict, "hub:cams").counts
    assert not {"joules:cams", "cost:cams"} & {one.name for one in verdict.gates}
    assert verdict.state == "SCALE", "it counts neither way"
    held = decide(replace(CASE, rivals=[alone], thresholds=Thresholds(min_p_pue_below={1.3: 0.9})), THREE, DRAWS)
    assert "pays against having none (no hub may or can answer)" in gate(verdict, "npv").words
    assert held.state == "HOLD", "nor does it make up for another"
    assert not any("no comparison" in reason for reason in held.reasons)
    compared = decide(CASE, THREE, DRAWS)
    assert "pays against the hub with" in gate(compared, "npv").words
    assert {"joules:cams", "cost:cams"} <= {one.name for one in compared.gates if one.counts}


@pytest.mark.parametrize(
    "case",
    [
        replace(CASE, beliefs=(POWER, POWER)),
        replace(CASE, limits=[HardLimit(belief="nothing", most=1.0, words="fuse")]),
    ],
)
def test_a_case_that_contradicts_itself_is_refused(case: Case):
    with pytest.raises(InputError):
        decide(case, THREE, DRAWS)


@pytest.mark.parametrize("change", [{"p90": 400.0}, {"p90": None}, {"form": "pue", "p50": 0.9}, {"form": "share", "p50": 1.2}])
def test_a_prior_that_is_none_is_refused(change: dict[str, object]):
    with pytest.raises(InputError):
        replace(POWER, **change)  # type: ignore[arg-type]


def test_the_document_is_plain_json_and_every_figure_has_evidence():
    document = decision_document("shops", [decide(CASE, THREE, DRAWS)], software="nearhall test")
    density = document["quantities"][0]["density"]
    for name in ("prior", "new_site"):
        assert np.trapezoid(density[name], density["x"]) == pytest.approx(0.985, abs=0.02)  # P0.5 to P99.5 of the wider one
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == "nearhall/decision/v1"
    assert document["stamp"] == "MEASURED"
    assert document["site_classes"][0]["verdict"] == document["site_classes"][0]["would"] == "SCALE"
    assert set(document["site_classes"][0]["npv_usd"]["prior"]) == {"p10", "p50", "p90"}
    assert "independently" in document["notes"][0]
    assert document["pilots"][0]["refused"] == []
    assert document["pilots"][0]["seconds"] == 7 * 86_400
    power = document["quantities"][0]
    assert power["data"]["n_sites"] == 3
    assert power["accepted"]
    assert document["evidence"]["/quantities/0/prior"]["kind"] == "assumed"
    assert document["evidence"]["/quantities/0/posterior"]["kind"] == "measured"
    assert document["counts"]["measured"] == 4
    found = document["evidence"]
    assert found["/site_classes/0"]["kind"] == "assumed", "money is the plan's"
    assert found["/site_classes/0"]["source"].endswith("with 4 of 4 quantities as the pilots had them")
    assert found["/site_classes/0/npv_usd/prior"]["source"].endswith("before any pilot")
    by_name = {gate["name"]: f"/site_classes/0/gates/{i}" for i, gate in enumerate(document["site_classes"][0]["gates"])}
    assert found[by_name["slo:cams"]]["kind"] == "measured"
    assert found[by_name["npv"]]["kind"] == "assumed", "prices are the plan's"
    assert found[by_name["joules:cams"]]["kind"] == "assumed", "nobody meters the hub and the network"


def test_the_documents_stamp_is_the_weakest():
    real, none = decide(CASE, THREE, DRAWS), decide(CASE, [], DRAWS)
    virtual = decide(CASE, [replace(THREE[0], meters=meters(Kind.SIMULATED))], DRAWS)
    stamps = [decision_document("", v, software="x")["stamp"] for v in ([real], [real, none], [real, virtual], [none], [])]
    assert stamps == ["MEASURED", "PARTLY MEASURED", "REHEARSED", "NOT MEASURED", "NOT MEASURED"]


def test_a_share_in_time_that_the_plan_thought_impossible_is_a_conflict():
    never = [pilot(name, slo=lambda _: (0, 900)) for name in "abc"]
    verdict = decide(CASE, never, DRAWS)
    kept = next(item for item in verdict.quantities if item.belief.name == "slo:cams")
    assert kept.z is not None
    assert kept.z < -3.0
    assert "slo:cams" in verdict.conflicts
    assert "below the plan, which is worse than planned" in " ".join(gate.words for gate in verdict.gates)
    as_planned = next(item for item in decide(CASE, THREE, DRAWS).quantities if item.belief.name == "slo:cams")
    assert as_planned.z is not None
    assert abs(as_planned.z) < 2.0


@pytest.mark.parametrize(("scale", "told"), [(0.4, "better than planned"), (3.0, "worse than planned")])
def test_a_conflict_says_what_it_means(scale: float, told: str):
    odd = [pilot(name, scale * f) for name, f in (("a", 1.0), ("b", 1.03), ("c", 0.97))]
    verdict = decide(replace(CASE, limits=()), odd, DRAWS)
    words = next(one.words for one in verdict.gates if one.name == "conflict" and "it_power_w" in one.beliefs)
    assert told in words
    assert verdict.better["it_power_w"] is (scale < 1.0)


def test_the_sentence_counts_all_conditions_that_fail():
    verdict = decide(replace(CASE, thresholds=Thresholds(min_p_pue_below={1.3: 0.9})), THREE[:1], DRAWS)
    failing = [one for one in verdict.gates if one.counts and not one.holds]
    counted = [one for one in verdict.gates if one.counts]
    assert f"({len(failing)} of {len(counted)} conditions fail)" in verdict.sentence
