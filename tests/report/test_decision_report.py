"""The decision's report: what holds for any document, not how one looks."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from bokeh.models import LabelSet

from nearhall.core.evidence import Kind
from nearhall.report.decision import figures as decision_figures
from nearhall.report.decision import tables as decision_tables
from nearhall.report.decision.page import decision_words, render_decision
from nearhall.report.result_reader import ResultReader
from report.decision_sample import decision
from report.html_texts import Page, bent, holed

PLANTED = "<script>alert('planted')</script>\"'&"


@pytest.fixture(scope="module")
def html() -> str:
    return render_decision(decision())


def test_the_first_screen_says_what_to_do_and_why(html: str) -> None:
    first = " ".join(text for text, inside in Page(html).texts if "#first" in inside)
    for wanted in (
        "device: SCALE; micro: REHEARSED: STOP",
        "PARTLY MEASURED",
        "62 %",
        "91 %",
        "Meter PUE over a year at a site",
        "in the way",
    ):
        assert wanted in first
    assert "Far from what the plan expected:" in first
    assert "bytes a day on the line" in first
    assert first.index("Meter PUE") < first.index("Ask the hub for a quote")


def test_the_return_stands_in_dollars_before_and_after(html: str) -> None:
    first = " ".join(text for text, inside in Page(html).texts if "#first" in inside)
    for wanted in ("before the pilots", "after the pilots", "−$4,210", "$3,100", "$14.8 k", "$240", "$5,200", "over 5 years"):  # noqa: RUF001
        assert wanted in first
    assert "8 % less" in first


def test_what_changes_nothing_is_counted_and_not_listed(html: str) -> None:
    text = Page(html).text
    assert "Meter the bytes sent" not in text
    assert "Meter the requests" not in text
    assert "2 other measurements would not change the decision by themselves." in text
    assert not re.search(r"\$0[^.,\d]", text.replace("above $0.", ""))
    document = decision()
    document["next"][2]["evppi_usd"] = 900.0
    text = Page(render_decision(document)).text
    assert "Meter the bytes sent" in text
    assert "1 other measurement would not change the decision" in text
    document["next"] = document["next"][3:]
    assert "1 measurement would not change the decision" in Page(render_decision(document)).text


def test_conditions_that_fail_come_first_and_those_that_hold_are_folded(html: str) -> None:
    device, micro = decision_tables.classes(ResultReader(decision()))
    assert [len(device[part]) for part in ("failing", "holding", "uncompared")] == [0, 3, 1]
    assert [gate["badge"] for gate in micro["failing"]] == ["fails", "does not hold yet"]
    assert device["uncompared"][0]["badge"] == "no comparison"
    section = html[html.index("What must hold") : html.index("Believed before")]
    assert section.index("Every condition holds.") < section.index("<details>")
    assert "<details open" not in section
    assert section.index("counts neither way") < section.index("kiosk: the hub may not answer it") < section.index("3 conditions")


def test_pictures_tell_apart_what_fails_and_leave_out_what_is_not_compared() -> None:
    document = decision()
    reader = ResultReader(document)
    assert len(decision_figures.gates(reader, "/site_classes/0").select({"type": LabelSet})[0].source.data["text"]) == 2
    document["site_classes"][0]["gates"][1] |= {"holds": False, "topic": "pays"}
    document["site_classes"][0]["gates"].reverse()
    labels = decision_figures.gates(ResultReader(document), "/site_classes/0").select({"type": LabelSet})[0].source.data["text"]
    assert labels[0] == "pays"


def test_every_table_is_told_as_blocks_on_a_phone(html: str) -> None:
    assert set(re.findall(r"<table class=\"([^\"]*)\"", html)) == {"stack", "tight stack"}
    assert "<table>" not in html
    body = html[html.index("<tbody>") :]
    unlabelled = [cell for cell in re.findall(r"<td[^>]*>", body) if "data-label" not in cell and 'class="who"' not in cell]
    assert unlabelled == []


def test_a_pilot_tells_what_it_served_for_and_what_not() -> None:
    real, rehearsal = decision_tables.pilots(ResultReader(decision()))
    assert (real["badge"][0], real["lasted"], real["rehearsal"]) == ("accepted", "21.0 days", False)
    assert (rehearsal["badge"][0], rehearsal["lasted"], rehearsal["rehearsal"]) == ("not accepted", "23 s", True)
    text = Page(render_decision(decision())).text
    assert "only to show what a decision would look like: it_power_w" in text
    assert "anything: lasted 23 s: a pilot lasts a day at least" in text
    assert "pue; line_bytes: coverage 71 %, 90 % needed" in text
    document = decision()
    document["pilots"][0]["refused"] = [{"why": "no meter at feed", "for": ["pue"]}]
    assert decision_tables.pilots(ResultReader(document))[0]["badge"][0] == "accepted in part"
    assert "pue: no meter at feed" in Page(render_decision(document)).text
    document["pilots"][0]["used"] = []
    assert "anything: no meter at feed" in Page(render_decision(document)).text


@pytest.mark.parametrize(("seconds", "told"), [(90.0, "90 s"), (600.0, "10.0 min"), (36_000.0, "10.0 h"), (1e6, "11.6 days")])
def test_how_long_a_pilot_was(seconds: float, told: str) -> None:
    assert decision_tables.lasted(seconds) == told


def test_what_is_not_modelled_is_told(html: str) -> None:
    assert "Quantities are drawn independently of each other." in Page(html).text


def test_a_figure_from_too_short_a_rehearsal_is_not_called_measured() -> None:
    document = decision()
    document["quantities"][0]["too_short"] = True
    rows = decision_tables.quantities(ResultReader(document))
    assert [rows[0]["badge"][0], rows[1]["badge"][0]] == ["too short", "measured"]
    assert "1 of them was counted for less than a day" in Page(render_decision(document)).text


def test_figures_carry_their_units() -> None:
    rows = decision_tables.quantities(ResultReader(decision()))
    assert rows[0]["prior"]["between"].text == "21.2 W to 54.4 W"
    assert rows[1]["new_site"]["middle"].text == "1.42"
    assert rows[3]["data"].text == "99.0 %"
    document = decision()
    document["quantities"][0] |= {"unit": "1/s", "data": {"value": 9.99993, "n_sites": 1, "n_blocks": 1}}
    row = decision_tables.quantities(ResultReader(document))[0]
    assert (row["data"].text, row["sites"]) == ("10.0/s", "1 site, 1 block")


def test_kinds_of_a_class_keep_apart_and_what_building_them_takes_is_told() -> None:
    document = decision()
    for row in (*document["site_classes"], *document["quantities"], *document["next"], *document["pilots"]):
        row["kind_of_site"] = "visitors-hall" if "device" in (row.get("class"), row.get("site_class")) else "mall"
        row["class" if "class" in row else "site_class"] = "micro"
    document["site_classes"][0]["scaling"] = {
        "sites": 40,
        "capex_usd_each": {"p10": 9_000.0, "p50": 12_000.0, "p90": 16_000.0},
        "capex_usd": {"p10": 360_000.0, "p50": 480_000.0, "p90": 640_000.0},
    }
    hall, mall = decision_tables.classes(ResultReader(document))
    assert (hall["title"], mall["title"]) == ("visitors-hall (class micro)", "mall (class micro)")
    assert hall["after"].source == "from what is believed of this kind of site: 4 measured"
    assert mall["spend"] is None
    text = " ".join(Page(render_decision(document)).text.split())
    assert "Building all 40 sites takes $480 k" in text
    assert "$12.0 k" in text
    assert "building all 40 sites takes $480 k" in " ".join(decision_words(document).split())


@pytest.mark.parametrize(("side", "told"), [(True, "better than planned"), (False, "worse than planned"), (None, "the reason")])
def test_a_conflict_says_on_which_side_the_pilots_lie(side: bool | None, told: str) -> None:
    document = decision()
    document["quantities"][2]["favourable"] = side
    assert told in " ".join(text for text, inside in Page(render_decision(document)).texts if "#first" in inside)


def test_what_a_decision_takes_for_granted_is_listed_and_folded() -> None:
    document = decision()
    assert "takes for granted" not in Page(render_decision(document)).text
    document["assumptions"] = [
        {"name": "npv_stop", "value": 0.2, "words": "below is STOP", "kind": "assumed", "source": "a choice"}
    ]
    text = Page(render_decision(document)).text
    assert "below is STOP" in text
    assert "assumed: a choice" in text


def test_a_pilot_of_no_planned_kind_is_listed_with_the_reason() -> None:
    document = decision()
    document["pilots"].append(
        {"file": "x.json", "site": "x", "kind_of_site": None, "site_class": "regional", "seconds": 9e5, "rehearsal": False,
         "too_short": "", "accepted": False, "used": [], "refused": [{"why": "the plan builds no such site", "for": []}]}
    )  # fmt: skip
    assert "the plan builds no such site" in Page(render_decision(document)).text
    assert "x (x.json) not accepted: the plan builds no such site" in " ".join(decision_words(document).split())


def test_nothing_is_fetched_from_anywhere(html: str) -> None:
    assert Page(html).fetched == []
    assert "default-src &#39;none&#39;" in html


def test_every_part_has_its_picture(html: str) -> None:
    drawn = set(re.findall(r'class="plot" id="([a-z_0-9]+)', html))
    assert drawn == {"worth", "beliefs_0", "beliefs_1", "gates_0", "gates_1"}


def test_what_follows_from_a_class_is_as_weak_as_its_weakest_quantity() -> None:
    device, micro = decision_tables.classes(ResultReader(decision()))
    assert device["after"].kind is Kind.MEASURED
    assert device["after"].source == "from what is believed of this kind of site: 4 measured"
    assert micro["after"].kind is Kind.ASSUMED
    assert micro["sentence"].text == "A gain is unlikely."
    assert [reason.text for reason in micro["reasons"]] == ["mall-01: virtual meters."]


def test_evidence_that_the_document_states_stands() -> None:
    document = decision()
    document["evidence"]["/site_classes"] = {"kind": "simulated", "source": "a rehearsal"}
    assert decision_tables.classes(ResultReader(document))[0]["after"].kind is Kind.SIMULATED


def test_conditions_tell_apart_what_fails_for_good() -> None:
    _, micro = decision_tables.classes(ResultReader(decision()))
    assert [(gate["badge"], gate["needed"].text) for gate in micro["failing"]] == [("fails", "80 %"), ("does not hold yet", "3")]


def test_each_quantity_tells_what_became_of_it() -> None:
    rows = decision_tables.quantities(ResultReader(decision()))
    assert [row["badge"][0] for row in rows] == ["measured", "measured", "conflict", "measured", "rehearsed", "still assumed"]
    assert rows[2]["prior"]["middle"].text == "13.0 GB"
    assert rows[2]["z"].text == "z = −5.7"  # noqa: RUF001  a minus sign
    assert rows[2]["z"].kind is Kind.MEASURED
    assert rows[2]["notes"]
    assert rows[3]["posterior"]["middle"].missing
    assert rows[5]["refused"].startswith("mall-01: coverage")


def test_a_wide_spread_gets_a_logarithmic_axis_and_a_narrow_one_does_not() -> None:
    reader = ResultReader(decision())
    assert decision_figures.beliefs(reader, "device").xaxis.axis_label.endswith("(logarithmic)")
    narrow = ResultReader({"quantities": decision()["quantities"][:2]})
    assert not decision_figures.beliefs(narrow, "device").xaxis.axis_label.endswith("(logarithmic)")
    assert decision_figures.beliefs(reader, "nobody's") is None


def test_densities_are_drawn_where_the_document_has_them() -> None:
    document = decision()
    without = len(decision_figures.beliefs(ResultReader(document), "device").renderers)
    first = next(item for item in document["quantities"] if item["site_class"] == "device")
    first["density"] = {"x": [5.0, 10.0, 15.0], "prior": [0.1, 0.2, 0.1], "new_site": [0.0, 0.4, 0.0]}
    assert len(decision_figures.beliefs(ResultReader(document), "device").renderers) == without + 2


def test_the_same_verdict_everywhere_is_said_once() -> None:
    document = decision()
    document["site_classes"][1] |= {"verdict": "SCALE", "stamp": "MEASURED"}
    assert "SCALE for all kinds of sites: build more of them" in Page(render_decision(document)).text
    del document["site_classes"][1]
    assert "SCALE: build more of them" in Page(render_decision(document)).text


def test_an_empty_document_names_what_is_missing() -> None:
    text = Page(render_decision({})).text
    for part in ("verdict", "ranked measurements", "quantities", "pilot", "conditions"):
        assert f"decision.json holds no {part}" in text
    assert "judges no kind of site" in decision_words({})


@pytest.mark.parametrize("leaf", [None, "nonsense", True, float("nan"), float("inf"), -3, 0])
def test_no_leaf_of_whatever_kind_breaks_the_report(leaf: Any) -> None:
    assert "nearhall" in render_decision(bent(decision(), leaf))


@pytest.mark.parametrize("seed", range(5))
def test_holes_anywhere_break_nothing(seed: int) -> None:
    document = {key: holed(value, random.Random(f"{seed}{key}")) for key, value in decision().items()}
    assert "nearhall" in render_decision(document)
    assert decision_words(document)


def test_names_from_a_file_cannot_write_the_page(html: str) -> None:
    document = decision()
    document["plan"] = document["site_classes"][0]["class"] = document["quantities"][0]["words"] = PLANTED
    document["pilots"][0]["refused"] = [{"why": PLANTED, "for": [PLANTED]}]
    page = Page(render_decision(document))
    assert page.scripts == Page(html).scripts
    assert PLANTED in page.text


def test_the_terminals_summary_is_short_and_marked() -> None:
    words = decision_words(decision())
    lines = words.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 79
    assert "device: SCALE. Every condition holds of a new site. [M]" in words
    flat = " ".join(words.split())
    assert "return of a site: $3,100 [M] before, $5,200 [M] after the pilots (P10 $240 [M], P90 $12.4 k [M])" in flat
    assert "pays in 62 % [M] before, 91 % [M] after the pilots" in flat
    assert "Pilots changed 5 of 6 quantities (1 only rehearsed)" in flat
    assert "! far from what the plan expected: bytes a day on the line" in words
    assert "! mall-01 (november/pilot.json) not accepted: its meters are virtual; lasted 23 s" in flat
    assert "micro: REHEARSED: STOP." in words
    assert "conditions: 3 others hold, 1 without comparison (counting neither way)" in flat
    document = decision()
    document["site_classes"][1]["gates"] *= 3
    assert "conditions: 3 more fail" in " ".join(decision_words(document).split())
