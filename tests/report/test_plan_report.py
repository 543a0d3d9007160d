"""The plan's report: what holds for any document, not how one looks."""

from __future__ import annotations

import copy
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.report import formats
from nearhall.report.evidence_marks import in_text
from nearhall.report.plan import cabinet as plan_cabinet
from nearhall.report.plan import figures as plan_figures
from nearhall.report.plan import map as plan_map
from nearhall.report.plan import money as plan_money
from nearhall.report.plan import money_figures as plan_money_figures
from nearhall.report.plan import right_size, signing
from nearhall.report.plan import risks as plan_risks
from nearhall.report.plan import tables as plan_tables
from nearhall.report.plan.page import plan_words, render_plan
from nearhall.report.result_reader import ResultReader, path_words
from nearhall.report.sheet import Cell
from report.html_texts import Page, bent, holed
from report.plan_result_sample import plan_result

PLANTED = "<script>alert('planted')</script>\"'&"
EXPLAINED = ["P10", "P50", "P90", "P99", "99 of its 100", "8 of 10 cases", "1 of 100"]
"""Words that explain the figures, and are none."""


@pytest.fixture(scope="module")
def html() -> str:
    return render_plan(plan_result())


def bare_numbers(html: str) -> list[str]:
    """Texts of the first screen with a digit that is neither a marked figure, nor a name, nor a word of explanation."""
    result = plan_result()
    allowed = re.compile("|".join([*map(re.escape, EXPLAINED), *(re.escape(w["model"]) for w in result["workloads"])]))
    return [
        text
        for text, inside in Page(html).texts
        if "#first" in inside and not inside & {"fig", "missing", "next", "chosen"} and re.search(r"\d", allowed.sub("", text))
    ]


def test_every_number_of_the_first_screen_carries_a_mark(html: str) -> None:
    assert bare_numbers(html) == []
    assert Page(html).marks > 200


def test_a_number_without_a_mark_would_be_found(html: str) -> None:
    assert bare_numbers(html.replace("<h1>", "<h1>42.0 ms ", 1)) == ["42.0 ms "]


def test_nothing_is_fetched_from_anywhere(html: str) -> None:
    page = Page(html)
    assert page.fetched == []
    assert "default-src &#39;none&#39;" in html
    assert not re.search(r"@import|url\(\s*['\"]?http", html[: html.index('id="pictures"')])


def test_the_first_screen_answers_whoever_signs(html: str) -> None:
    first = " ".join(text for text, inside in Page(html).texts if "#first" in inside)
    for wanted in (
        "PLANNED",
        "$20.4 k",
        "91 %",
        "$290 k",
        "$690 k",
        "4.2 years",
        "94 %",
        "Ask the hub for a quote",
        "breaker B1: 25.7 A > 24 A",
    ):
        assert wanted in first
    assert "Placed nowhere: shelf at shop-large" in first


def test_an_engineer_is_asked_for_whatever_the_document_says() -> None:
    for review in ("", "Anything else", plan_result()["review"]):
        text = Page(render_plan({"review": review, "sites": plan_result()["sites"][:1]})).text
        assert text.casefold().count("for review by a licensed engineer") == 1


def test_every_part_has_its_picture(html: str) -> None:
    drawn = set(re.findall(r'class="plot" id="([a-z]+)', html))
    assert drawn == {"npv", "cash", "tornado", "curve", "memory", "map", "power", "coincidence", "restart", "feeder"}


def test_an_empty_document_names_what_is_missing() -> None:
    page = Page(render_plan({}))
    assert page.scripts == 3
    for part in ("return", "positions", "bill of materials", "ledger", "feeder", "memory"):
        assert f"holds no {part}" in page.text or f"holds no distribution of {part}" in page.text, part


@pytest.mark.parametrize("leaf", [None, "nonsense", True, float("nan"), float("inf"), -3, 0])
def test_no_leaf_of_whatever_kind_breaks_the_report(leaf: Any) -> None:
    assert "nearhall" in render_plan(bent(plan_result(), leaf))


@pytest.mark.parametrize("seed", range(5))
def test_holes_anywhere_break_nothing(seed: int) -> None:
    document = {key: holed(value, random.Random(f"{seed}{key}")) for key, value in plan_result().items()}
    assert "nearhall" in render_plan(document)
    assert plan_words(document)


def test_names_from_a_file_cannot_write_the_page(html: str) -> None:
    result = plan_result()
    planted = copy.deepcopy(result)
    planted["plan"]["name"] = planted["verdict"]["sentence"] = PLANTED
    for part in (planted["workloads"][0], planted["sites"][0], planted["placement"]["points"][0], planted["fleet"]["feeders"][0]):
        part["id"] = PLANTED
    page = Page(render_plan(planted))
    assert page.scripts == Page(html).scripts
    assert PLANTED in page.text


def test_checks_that_fail_come_first_and_those_nobody_made_are_named() -> None:
    reader = ResultReader(plan_result())
    large = plan_cabinet.checks(reader, "/sites/1")
    assert [check["badge"] for check in large] == ["fails", "not checked", "not checked", "ok", "ok"]
    assert large[1]["value"] is None


def test_sizing_stands_beside_the_nameplates_and_names_the_hold() -> None:
    rows = {row.what: row for row in plan_cabinet.sizing(ResultReader(plan_result()), "/sites/1")}
    apparent, hold = rows["apparent power at the feed"], rows["hold, the shorter of both"]
    assert apparent.there is not None
    assert apparent.there.text == "nameplates: 2,548 VA"
    assert hold.bad is not None
    assert (hold.middle.text if hold.middle else "", hold.bad.text) == ("9.0 min", "6.9 min (P10)")
    assert "held long enough in 38 % of cases" in hold.words
    assert rows["current on each line"].middle is not None
    assert rows["current on each line"].words == "unbalance 34 %, neutral 4.4 A, harmonics included"


def test_the_ledger_begins_with_what_moves_the_verdict_most_and_tells_defaults() -> None:
    rows = plan_tables.ledger(ResultReader(plan_result()))
    assert [row["swing"].text for row in rows] == ["$650 k", "$330 k", "$90.0 k", "$18.0 k", "too little to tell"]
    assert [row["is_default"] for row in rows] == [True, True, False, True, True]
    assert rows[0]["value"].kind.value == "assumed"
    assert rows[-1]["value"].source.endswith("2026-07-14")


def test_a_long_ledger_is_folded() -> None:
    result = plan_result()
    result["ledger"] *= 5
    assert "19 more that move it less" in Page(render_plan(result)).text


def test_the_share_in_time_is_read_off_the_curve() -> None:
    result = plan_result()
    entry = result["workloads"][0]["latency"][0]
    entry |= {"limit_ms": 15.0, "cdf": {"ms": [10.0, 20.0], "share": [0.5, 0.9]}}
    reader = ResultReader(result)
    assert plan_tables.share_in_time(reader, "/workloads/0", "shop-city", "shop-city").text == "70.0 %"
    assert plan_tables.share_in_time(reader, "/workloads/0", "shop-city", "nowhere").missing
    entry["limit_ms"] = 30.0
    assert plan_tables.share_in_time(ResultReader(result), "/workloads/0", "shop-city", "shop-city").text == "> 90.0 %"
    entry["cdf"]["share"][1] = 0.9999
    assert plan_tables.share_in_time(ResultReader(result), "/workloads/0", "shop-city", "shop-city").text == "> 99.9 %"


def test_a_bar_that_zero_falls_into_is_cut_there() -> None:
    figure = plan_money_figures.npv_histogram(
        ResultReader({"money": {"npv_histogram": {"edges": [-1, 3, 5], "share": [0.6, 0.4]}}})
    )
    pays, loses = (r.data_source.data for r in figure.renderers if "left" in r.data_source.data)
    assert (pays["left"], pays["right"]) == ([0.0, 3], [3, 5])
    assert (loses["left"], loses["right"]) == ([-1], [0.0])


def test_a_feeder_carries_its_busiest_hour_and_the_headroom() -> None:
    reader = ResultReader(plan_result())
    assert plan_figures.feeder_limit_kva(reader, "/fleet/feeders/0") == 130
    assert plan_figures.feeder_limit_kva(reader, "/fleet/feeders/1") == 160
    said = ResultReader({"f": {"limit_kva": 99, "headroom_kva": 1}})
    assert plan_figures.feeder_limit_kva(said, "/f") == 99


def _points(*positions: tuple[str, float, float]) -> ResultReader:
    points = [
        {"id": name, "lat": lat, "lon": lon, "kind": "hub" if name == "hub" else "site", "count": 1}
        for name, lat, lon in positions
    ]
    return ResultReader({"placement": {"points": points}})


def test_the_map_is_true_to_scale_at_its_middle() -> None:
    frame = plan_map.frame_of(plan_map.places(_points(("a", 59.0, 0.0), ("b", 61.0, 10.0))))
    assert frame.shrink == pytest.approx(0.5)
    assert (frame.right - frame.left) / (frame.top - frame.bottom) == pytest.approx(plan_map.ASPECT)
    assert plan_map.scale_km(frame) in {100, 200}


def test_neighbours_across_the_date_line_stay_together() -> None:
    points = plan_map.places(_points(("a", 0.0, 179.0), ("b", 0.0, -179.0)))
    assert abs(points[0].lon - points[1].lon) == pytest.approx(2.0)


def test_names_never_meet_and_hubs_come_first() -> None:
    crowd = [(f"site-{i}", 50 + i * 0.001, 8 + i * 0.001) for i in range(40)]
    points = plan_map.places(_points(*crowd, ("hub", 52.0, 10.0)))
    named = plan_map.labelled(points, plan_map.frame_of(points))
    assert named[0][0].hub
    assert len(named) < 10


def test_points_without_a_place_on_earth_are_left_out() -> None:
    assert plan_map.placement_map(_points(("a", 95.0, 0.0))) is None
    assert plan_map.placement_map(_points(("a", 10.0, 0.0))) is not None


def test_hundreds_of_sites_are_folded_and_counted() -> None:
    result = plan_result()
    result["sites"] *= 30
    for workload in result["workloads"]:
        workload["placed"] = [placed | {"why": f"reason {n}"} for n in range(20) for placed in workload["placed"]]
    text = Page(render_plan(result)).text
    assert "76 more" in text, "100 are answered at a site or nowhere, 20 elsewhere"
    assert "holds the other 20 kinds of sites" in text
    assert "holds the other 96 workloads and sites" in text


def test_a_plan_that_builds_nothing_says_so() -> None:
    result = plan_result()
    result["money"] = {"npv": None, "p_npv_positive": None, "by_site": [], "tornado": [], "rollout": []}
    result["verdict"] |= {"npv": None, "p_npv_positive": None, "state": "hub"}
    text = Page(render_plan(result)).text
    assert "every workload stays with the hub, so nothing is bought" in text
    assert "All at once" not in text
    assert "No site is built, so there is no return to tell" in Page(render_plan(result)).text
    assert "Pays:     no site is built" in plan_words(result)


def test_parts_of_the_money_that_are_missing_are_named() -> None:
    result = plan_result()
    for part in ("cash_by_year", "tornado", "npv_histogram", "rollout", "by_site", "fleet", "in_steps"):
        del result["money"][part]
    text = Page(render_plan(result)).text
    for part in ("cash by year", "tornado", "distribution of the return", "rollout", "fleet's money"):
        assert f"holds no {part}" in text, part


def _thousands(cell: Cell) -> int:
    assert cell.figure is not None
    return int(cell.figure.text.translate(str.maketrans({"−": "-", "$": "", ",": "", "k": "", " ": "", "+": ""})))  # noqa: RUF001


def test_the_rows_of_the_fleets_money_add_up() -> None:
    rows = {row.cells[0].text: row for row in plan_money.fleet(ResultReader(plan_result())).rows}
    told = [cell.figure.text for cell in rows["average return"].cells[1:] if cell.figure is not None]
    assert told == ["−$2,121 k", "−$2,434 k", "+$313 k"]  # noqa: RUF001  a minus sign
    for column in (1, 2, 3):
        *parts, whole = (_thousands(row.cells[column]) for row in rows.values())
        assert sum(parts) == whole, "as printed"
    assert rows["average return"].total
    assert "demand charge" not in rows, "what nobody pays is not told"
    assert plan_money.fleet(ResultReader({})).rows == ()


def test_one_total_stands_under_what_to_buy_with_what_the_parts_lack() -> None:
    reader = ResultReader(plan_result())
    rows = {row.cells[0].text: row for row in plan_money.bill(reader).rows}
    assert rows["NVIDIA Jetson AGX Orin"].cells[0].sub == "shop-city; with breaker 6 A, curve B, 1 pole"
    assert "breaker 6 A, curve B, 1 pole" not in rows
    allowance, whole = (rows[name].cells[5].figure for name in ("allowance for what is not known", "the whole fleet"))
    assert allowance is not None
    assert whole is not None
    assert (allowance.text, whole.text) == ("−$190 k", "$690 k")  # noqa: RUF001  a minus sign
    assert rows["the whole fleet"].cells[5].sub_figure is not None, "its range stands with the total"
    pilot = rows.pop("of it the pilot, to sign now").cells[5].figure
    assert pilot is not None
    assert pilot.text == "$20.4 k"
    assert [rows[name].cells[2].text for name in ("NVIDIA Jetson AGX Orin", "Dell XR12 with an A2")] == ["2", "2"]
    *parts, together = (_thousands(row.cells[5]) for row in rows.values())
    assert sum(parts) == together, "as printed"
    assert rows["Dell XR12 with an A2"].cells[6].text.endswith("a quote is needed")
    assert "quote is needed" not in rows["NVIDIA Jetson AGX Orin"].cells[6].text


def test_advice_stands_for_each_kind_with_what_it_must_be_worth() -> None:
    rows = plan_money.by_kind(ResultReader(plan_result())).rows
    assert [row.cells[1].badge for row in rows] == ["pilot, then build", "pilot decides"]
    assert rows[0].cells[5].figure is not None
    assert rows[0].cells[5].figure.text == "$1,800 a year"


def test_a_question_that_settles_more_than_a_pilot_comes_first() -> None:
    result = plan_result()
    for kind in result["verdict"]["by_kind"]:
        kind["settled_by"] = "desk"
    assert [row.cells[1].badge for row in plan_money.by_kind(ResultReader(result)).rows] == [
        "ask, then pilot",
        "wait for answers",
    ]


def test_what_a_year_must_be_worth_stands_beside_what_the_plan_says() -> None:
    result = plan_result()
    result["verdict"]["by_kind"][0] |= {"must_be_worth": {"p50": 1785.5}, "worth": {"p50": 2099.2}}
    cell = plan_money.by_kind(ResultReader(result)).rows[0].cells[5]
    assert cell.figure is not None
    assert cell.sub_figure is not None
    assert (cell.figure.text, cell.sub_figure.text) == ("$1,790 a year", "the plan says $2,100")


def test_a_chance_that_rounding_would_hide_is_told_with_its_side() -> None:
    result = plan_result()
    result["money"]["in_steps"] = None
    result["money"]["p_npv_positive"] = 0.797
    result["workloads"][1]["placed"][1]["p_slo"] = 0.9502
    text = " ".join(Page(render_plan(result)).text.split())
    assert "79.7 % A just below the 80 % asked" in text
    assert "in 79.7 % of cases, just below what is asked" in plan_words(result)
    assert "95.02 % A reaches the 95 % asked" in text


def test_one_case_leads_and_the_other_stands_in_one_place_behind_it() -> None:
    result = plan_result()
    first = plan_tables.money_first(ResultReader(result))
    assert [figure.text for _, figure in first["spread"]] == ["$100 k", "$290 k", "$640 k", "4.2 years", "9 of 100 cases"]
    html = render_plan(result)
    page = Page(html)
    assert "The return, built in steps, all sites" in page.text
    at_once = [inside for text, inside in page.texts if text.startswith(("$312 k (", "3.3 years"))]
    assert len(at_once) == 2
    assert not any("#first" in inside for inside in at_once)
    assert html.count('href="#at-once"') == 2, "from the first screen and from the contents"
    result["money"]["in_steps"] = None
    reader = ResultReader(result)
    assert plan_tables.money_first(reader)["spread"][1][1].text == "$312 k"
    assert plan_tables.all_at_once(reader) == []


def test_all_costs_stand_with_what_the_return_is_made_of() -> None:
    told = dict(plan_money.costs(ResultReader(plan_result())))
    assert told["all costs with these sites, the purchase among them"].text == "$2.12 M"
    assert told["all costs without them, for line and hub alone"].text == "$2.43 M"
    result = plan_result()
    result["money"]["fleet"]["site"]["value"], result["money"]["fleet"]["hub"]["value"] = 900_000, 100_000
    assert dict(plan_money.costs(ResultReader(result)))["what the sites' answers are worth then, by the plan"].text == "$800 k"
    assert plan_money.costs(ResultReader({})) == []


def test_money_that_comes_back_says_how_often_it_never_does() -> None:
    told = plan_tables.paid_back(ResultReader(plan_result()), "/money/in_steps")
    assert [(words, figure.text) for words, figure in told] == [
        ("the money is back after, middle case", "4.2 years"),
        ("not back within the plan's years", "9 of 100 cases"),
    ]
    result = plan_result()
    result["money"]["payback_years"]["p50"] = None
    assert plan_tables.paid_back(ResultReader(result), "/money")[0][1].text == "not in 5 years"


def test_each_kind_alone_stands_with_what_it_takes_and_returns() -> None:
    rows = plan_money.only_one_kind(ResultReader(plan_result())).rows
    told = [[cell.figure.text for cell in row.cells if cell.figure is not None][:3] for row in rows]
    assert told == [["93 %", "$248 k", "$312 k"], ["48 %", "$568 k", "−$8,000"]]  # noqa: RUF001  a minus sign
    alone = plan_result()
    alone["money"]["by_site"] = alone["money"]["by_site"][:1]
    assert plan_money.only_one_kind(ResultReader(alone)).rows == ()


def test_what_is_planned_too_large_is_told_where_it_is_bought() -> None:
    result = plan_result()
    assert not any("servers and" in told.text for told in right_size.oversized(ResultReader(result)))
    result["sites"] = result["sites"][:1]
    site = result["sites"][0]
    site |= {"it_budget_w": 1000.0}
    site["pue"]["annual"]["p50"] = 3.1
    result["bill_of_materials"].append(
        {"site": "shop-city", "item": "enclosure", "source": "default:enclosure.usd_per_kw: a cabinet"}
    )
    (told,) = right_size.oversized(ResultReader(result))
    assert "shop-city is built larger than it needs" in told.text
    assert "of 1,000 W" in told.text
    assert (
        "that is why its PUE, the energy of the whole site over that of its servers, is 3.10; its cabinet is priced by"
        in told.text
    )


def test_what_one_gets_is_told_in_the_plan_s_own_words_and_whose_the_hub_is() -> None:
    result = plan_result()
    result["workloads"][0]["words"] = "counts visitors by camera"
    text = " ".join(Page(render_plan(result)).text.split())
    assert "visitors counts visitors by camera: at shop-city ( 80 sites" in text
    assert "Nothing of it is bought here: a hub is a data center, yours or a rented one, that answers" in text
    assert "visitors counts visitors by camera" in plan_words(result)


def test_rows_that_differ_by_the_site_s_name_only_are_one() -> None:
    result = plan_result()
    for site, placed in zip(("shop-city", "shop-large"), result["workloads"][0]["placed"], strict=True):
        placed |= {"p_slo": 0.999, "at": "frankfurt", "why": f"{site} cannot answer it"}
    rows = signing.merged(plan_tables.placements(ResultReader(result)))
    assert rows[0].sites == "shop-city and shop-large"
    assert (rows[0].count, rows[0].why.text) == ("120 sites", "the site cannot answer it")
    assert len(rows) == 5


def test_the_tornado_is_coloured_by_what_is_better() -> None:
    figure = plan_money_figures.tornado(ResultReader(plan_result()))
    worse, better = (r.data_source.data for r in figure.renderers if "which" in r.data_source.data)
    assert all(left <= right for left, right in zip(worse["end"], better["end"], strict=True))
    assert better["which"][1] == "low (P10)", "a visit that costs less is better"


def test_a_quote_is_asked_for_once() -> None:
    result = plan_result()
    result["bill_of_materials"][2]["source"] = "default:enclosure.usd_per_kw: ask for a quote"
    told = [row.cells[-1].text for row in plan_money.bill(ResultReader(result)).rows]
    assert "this tool's default: ask for a quote" in told


def test_what_could_go_wrong_is_read_from_the_figures() -> None:
    told = [in_text(risk) for risk in plan_risks.risks(ResultReader(plan_result()))]
    assert any("the fleet, built in steps, returns $100 k [A]" in risk for risk in told)
    assert any("that takes $265 k [A] off the average return of all sites, $305 k [A]" in risk for risk in told)
    assert any(risk == "4 checks are not made yet: Who checks what, below, says whom to ask." for risk in told)
    assert any(risk.startswith("Kiosk at shop-large misses its time limit in 6 %") for risk in told)
    assert any("shop-large stops before the 10 minutes" in risk for risk in told)
    assert any("shop-large fails inrush" in risk for risk in told)
    assert not any("shop-city fails" in risk for risk in told)
    alone = plan_result()
    alone["money"]["in_steps"] = None
    assert "the fleet loses $22.0 k [A] or more" in in_text(plan_risks.risks(ResultReader(alone))[0])


def test_what_nobody_checked_is_told_as_loudly_as_what_fails() -> None:
    result = plan_result()
    page = " ".join(re.sub(r"<span[^>]*>|</span>", "", render_plan(result)).split())
    assert '<b class="no">1 fail</b>, <b class="open">4 are not checked yet</b>' in page
    assert '<b class="no">of its checks 1 fails, 2 not checked</b>' in page
    for site in result["sites"]:
        site["checks"] = [check for check in site["checks"] if check["state"] != "fails"]
    page = " ".join(re.sub(r"<span[^>]*>|</span>", "", render_plan(result)).split())
    assert '#to-check"><b class="open">4 are not checked yet</b>' in page, "nothing green about what nobody looked at"
    for site in result["sites"]:
        site["checks"] = [check for check in site["checks"] if check["state"] == "ok"]
    page = " ".join(re.sub(r"<span[^>]*>|</span>", "", render_plan(result)).split())
    assert "hold, none fails</a>" in page
    assert "of its checks" not in page


def test_measurements_worth_next_to_nothing_are_left_out() -> None:
    result = plan_result()
    assert len(plan_tables.next_steps(ResultReader(result))) == 3
    result["next"][2] |= {"usd": 3.0, "share": 0.001}
    assert len(plan_tables.next_steps(ResultReader(result))) == 2
    assert plan_tables.next_steps(ResultReader(result))[1]["usd"] is not None
    assert len(plan_tables.next_steps(ResultReader(result | {"next": [step | {"share": 0.0} for step in result["next"]]}))) == 2
    result["next"][1] |= {"usd": 3000.0, "share": 0.25}
    hardly = plan_tables.next_steps(ResultReader(result))[1]
    assert hardly["usd"] is None
    assert "explains 25.0 % of what is not known of the return. It seldom turns the decision" in hardly["words"]


def test_a_feeder_that_hardly_feels_the_sites_is_told_not_drawn() -> None:
    result = plan_result()
    assert not plan_figures.is_little(ResultReader(result), "/fleet/feeders/1")
    result["fleet"]["feeders"][1]["fleet_kva"] = [0.4] * 24
    assert plan_figures.is_little(ResultReader(result), "/fleet/feeders/1")
    assert "too little to draw" in Page(render_plan(result)).text


def test_paths_are_told_as_words() -> None:
    assert path_words("hardware.orin.busy_w") == "orin: busy"
    assert path_words("sites.plant-a.uplink.usd_per_gb") == "plant-a: uplink price per gb"
    assert path_words("default:hub.pue") == "hub pue"
    assert path_words("workloads.crowds.value") == "crowds: what its answers are worth"


def test_money_that_does_not_come_back_says_for_how_long_it_was_looked() -> None:
    result = plan_result()
    result["money"]["payback_years"] = {"p10": None, "p50": None, "p90": None}
    assert "not in 5 years" in Page(render_plan(result)).text
    del result["plan"]["horizon_years"]
    assert "not within the plan" in Page(render_plan(result)).text


def test_labels_on_a_logarithmic_axis_keep_apart() -> None:
    kept = plan_figures.apart_on_log_axis([1, 2, 5, 10, 20, 50, 100, 120])
    assert kept[0] == 1
    assert kept[-1] == 120
    assert 100 not in kept
    assert plan_figures.apart_on_log_axis([7]) == [7]


def test_times_that_lie_far_apart_get_a_logarithmic_axis() -> None:
    result = plan_result()
    near, far = (
        plan_figures.latency_curves(ResultReader(result), ["/workloads/0/latency/0"], limit_ms=limit) for limit in (50.0, 5000.0)
    )
    assert not near.xaxis.axis_label.endswith("(logarithmic)")
    assert far.xaxis.axis_label.endswith("(logarithmic)")


def test_one_case_far_out_does_not_hide_the_others() -> None:
    edges = [-1e5, 0.0, 1e5, 2e5, 9e7]
    histogram = {"edges": edges, "share": [0.2, 0.5, 0.298, 0.002]}
    figure = plan_money_figures.npv_histogram(ResultReader({"money": {"npv_histogram": histogram}}))
    assert figure.x_range.end < 3e5
    assert plan_money_figures.mean_return(ResultReader({"money": {"npv": {"p50": 5}}})) == 5


def test_the_terminals_summary_is_short_and_marked() -> None:
    words = plan_words(plan_result())
    lines = words.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 79
    assert "in 91 % of cases if built in steps; P10 $100 k" in words
    assert "[A]" not in words, "what is assumed is said once"
    assert "nowhere" in words
    assert "licensed engineer" in words


def test_a_long_plans_summary_still_ends_with_the_legend() -> None:
    result = plan_result()
    result["workloads"] = [workload | {"id": f"w{n}"} for n in range(9) for workload in result["workloads"]]
    lines = plan_words(result).splitlines()
    assert len(lines) <= 40
    assert lines[-1].startswith("Without a letter: assumed.  M measured")
    assert any("more in the report" in line for line in lines)


def test_an_empty_plan_has_a_summary_too() -> None:
    assert "No workload is placed." in plan_words({})


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (formats.money, 999.6, "$1,000"),
        (formats.money, -22_000, "−$22.0 k"),  # noqa: RUF001  a minus sign
        (formats.money, 9_999.7, "$10.0 k"),
        (formats.money, 312_000, "$312 k"),
        (formats.money, 1_500_000_000, "$1.50 bn"),
        (formats.money, 0.0105, "$0.011"),
        (formats.money, 0, "$0"),
        (formats.chance, 0.874, "87 %"),
        (formats.chance, 0.9996, "> 99.9 %"),
        (formats.chance, 1.0, "> 99.9 %"),
        (formats.chance, 0.0, "< 0.1 %"),
        (formats.chance, 0.004, "0.4 %"),
        (lambda p: formats.chance_beside(p, 0.8), 0.797, "79.7 %"),
        (lambda p: formats.chance_beside(p, 0.8), 0.64, "64 %"),
        (lambda p: formats.chance_beside(p, None), 0.797, "80 %"),
        (lambda p: formats.chance_beside(p, 0.8), 0.9996, "> 99.9 %"),
        (formats.gib, 12.44, "12.4 GiB"),
        (formats.gib, 1.96, "2.0 GiB"),
        (formats.minutes, 9.04, "9.0 min"),
        (formats.minutes, 226.6, "227 min"),
        (formats.volt_amperes, 12_340, "12.34 kVA"),
        (formats.kilowatts, 0.6, "600 W"),
        (formats.full_stop, "It pays", "It pays."),
        (formats.full_stop, "Does it?", "Does it?"),
    ],
)
def test_figures_are_written_one_way(form: Any, value: float | str, text: str) -> None:
    assert form(value) == text


@given(st.lists(st.floats(-1e9, 1e9), max_size=12))
def test_rounded_amounts_add_up_to_the_rounded_sum(amounts: list[float]) -> None:
    step, _ = formats.money_step(amounts)
    told = formats.adding_up(amounts, step)
    assert sum(told) == pytest.approx(sum(amounts) / step, abs=0.51)
    assert all(abs(one * step - amount) <= step for one, amount in zip(told, amounts, strict=True))


def test_every_row_of_every_table_has_a_cell_below_each_head() -> None:
    html = render_plan(plan_result())
    tables = re.findall(r"<thead>((?:(?!</thead>).)*)</thead>\s*<tbody>(.*?)</tbody>", html, re.DOTALL)
    assert len(tables) > 8
    for heads, body in tables:
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL):
            assert len(re.findall(r"<td[ >]", row)) == len(re.findall(r"<th[ >]", heads)), (heads, row)


def test_the_cash_says_what_is_bought_at_its_beginning() -> None:
    assert "of shop-large too" not in Page(render_plan(plan_result())).text
    result = plan_result()
    pilot, *_ = result["money"]["rollout"]
    later = pilot | {"phase": "pilot, if the answers are good", "by_kind": {"shop-large": 3}, "waits": True}
    result["money"]["rollout"].insert(1, later)
    assert "in the cases in which the answers are good that of shop-large too" in Page(render_plan(result)).text


def test_what_stops_with_the_only_server_is_told_in_the_number_it_has() -> None:
    result = plan_result()
    site = result["sites"][0]
    site["built"] = True
    name = site["id"]
    for here, words in ((["visitors"], "visitors stops there"), (["visitors", "shelf"], "visitors and shelf stop there")):
        site["workloads"] = here
        told = [in_text(risk) for risk in plan_risks.risks(ResultReader(result))]
        assert any(text.startswith(f"{name} has one server: when it fails, {words}") for text in told)
