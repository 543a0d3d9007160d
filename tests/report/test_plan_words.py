"""Words of a plan's report: what a figure's note says, what is explained, and how one gets about the page."""

from __future__ import annotations

from nearhall.core.evidence import Kind
from nearhall.report.plan import signing
from nearhall.report.plan.page import render_plan
from nearhall.report.result_reader import ResultReader
from report.html_texts import Page
from report.plan_result_sample import plan_result

DRAWN = (
    "10,000 samples of this plan's model, seed 42, from 103 inputs (86 assumed, 15 vendor, 1 measured, 1 standard); assumed: "
    "hardware.orin.mem_gib and 85 more"
)


def test_a_reckoned_figure_says_from_how_many_numbers_and_what_moves_it() -> None:
    result = plan_result()
    result["evidence"] = {
        "": {"kind": "assumed", "source": DRAWN, "inputs": {"assumed": 86, "vendor": 15, "measured": 1, "standard": 1}},
        "/memory": {"kind": "vendor", "source": "17 inputs", "inputs": {"vendor": 15, "measured": 1, "standard": 1}},
        "/ledger/0": {"kind": "vendor", "source": "a data sheet"},
    }
    reader = ResultReader(result)
    counted = "reckoned from 103 numbers, 86 of them assumed"
    assert reader.believed("/money/capex")[1] == counted, "what moves the return does not move what is bought"
    moved = reader.believed("/money/in_steps/npv")[1]
    assert moved.startswith(f"{counted}; what moves the return of all sites most: one server of the hub for an hour")
    assert moved.count(";") == 3, "three movers"
    assert reader.believed("/ledger/0") == (Kind.VENDOR, "a data sheet"), "a figure with its own source keeps it"
    assert reader.believed("/next/0/days")[1] == "this tool's estimate of how long that takes"
    assert "hardware.orin.mem_gib" not in "".join(reader.believed(at)[1] for at in ("/money/npv", "/verdict", "/sites/0"))
    assert reader.believed("/memory/0")[1].endswith("none of them assumed")
    result["money"]["tornado"] = []
    assert ResultReader(result).believed("/money/npv")[1] == counted


def test_engineers_words_are_explained_where_they_occur_and_nowhere_else() -> None:
    result = plan_result()
    result["bill_of_materials"][0]["what"] = "breaker 16 A, curve B, 1 pole; UPS, vrla; cooling dx"
    told = [word for word, _ in signing.words_here(ResultReader(result))]
    assert {"curve B, C, D", "vrla", "dx", "PUE", "pays"} <= set(told)
    assert len(told) == len(set(told))
    assert [word for word, _ in signing.terms_here(ResultReader({}))] == []
    result = {"sites": [{"id": "a", "class": "device"}, {"id": "b", "class": "odd"}]}
    assert [word for word, _ in signing.terms_here(ResultReader(result))] == ["class device"]


def test_the_contents_stand_first_and_every_part_leads_back_to_the_top() -> None:
    html = render_plan(plan_result())
    assert html.index('<nav class="contents"') < html.index("<h1>")
    parts = html.count("<section id=") - 1
    assert html.count('<a class="top" href="#top">') == parts
    assert html.count('id="top"') == 1


def test_pays_is_explained_where_it_first_stands_and_no_page_speaks_of_a_horizon() -> None:
    result = plan_result()
    result["next"][0] |= {"share": 0.4, "usd": 60_000}
    text = " ".join(Page(render_plan(result)).text.split())
    assert text.index("A site pays where it returns more over the plan's years") < text.index("What you sign")
    assert "shop-city and shop-large are the plan's own names" in text
    assert "horizon" not in text
    assert text.count("Explains: its share of the return's spread.") == 1


def test_an_unproven_placement_names_what_was_compared_and_a_proven_one_repeats_nothing() -> None:
    label = "what was compared, a year, without lines' standing charges"
    assert label in Page(render_plan(plan_result())).text
    result = plan_result()
    result["placement"]["words"] = "proven: no other placement is cheaper. Compared are $211,400 a year"
    assert label not in Page(render_plan(result)).text
