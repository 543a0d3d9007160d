"""The decision's report: what holds for any document, not how one looks."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from nearhall.core.evidence import Kind
from nearhall.report import decision_figures, decision_tables
from nearhall.report.decision import decision_words, render_decision
from nearhall.report.plan_reader import ResultReader
from report.decision_sample import decision
from report.html_texts import Page, bent, holed

PLANTED = "<script>alert('planted')</script>\"'&"


@pytest.fixture(scope="module")
def html() -> str:
    return render_decision(decision())


def test_the_first_screen_says_what_to_do_and_why(html: str) -> None:
    first = " ".join(text for text, inside in Page(html).texts if "#first" in inside)
    for wanted in (
        "device: SCALE; micro: STOP",
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


def test_nothing_is_fetched_from_anywhere(html: str) -> None:
    assert Page(html).fetched == []
    assert "default-src &#39;none&#39;" in html


def test_every_part_has_its_picture(html: str) -> None:
    drawn = set(re.findall(r'class="plot" id="([a-z_0-9]+)', html))
    assert drawn == {"worth", "beliefs_0", "beliefs_1", "gates_0", "gates_1"}


def test_what_follows_from_a_class_is_as_weak_as_its_weakest_quantity() -> None:
    device, micro = decision_tables.classes(ResultReader(decision()))
    assert device["after"].kind is Kind.MEASURED
    assert device["after"].source == "from what is believed of this class: 4 measured"
    assert micro["after"].kind is Kind.ASSUMED
    assert micro["sentence"].text == "A gain is unlikely."


def test_evidence_that_the_document_states_stands() -> None:
    document = decision()
    document["evidence"]["/site_classes"] = {"kind": "simulated", "source": "a rehearsal"}
    assert decision_tables.classes(ResultReader(document))[0]["after"].kind is Kind.SIMULATED


def test_conditions_tell_apart_what_fails_for_good() -> None:
    _, micro = decision_tables.classes(ResultReader(decision()))
    assert [(gate["badge"], gate["needed"].text) for gate in micro["gates"]] == [
        ("fails for good", "80 %"),
        ("does not hold yet", "3"),
    ]


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
    document["site_classes"][1]["verdict"] = "SCALE"
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
    document["pilots"][0]["reasons"] = [PLANTED]
    page = Page(render_decision(document))
    assert page.scripts == Page(html).scripts
    assert PLANTED in page.text


def test_the_terminals_summary_is_short_and_marked() -> None:
    words = decision_words(decision())
    lines = words.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 79
    assert "device: SCALE. Every condition holds of a new site. [M]" in words
    assert "62 % [M] before, 91 % [M] after" in words
    assert "Replaced: 5 of 6" in words
    assert "! far from what the plan expected: bytes a day on the line" in words
    assert "! mall-01 (november/pilot.json): coverage 71 %" in words
