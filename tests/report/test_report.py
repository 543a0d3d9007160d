"""The report: what holds for any document, not how one looks."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from nearhall.report.pilot.page import render_report
from nearhall.report.pilot.tables import joules, refusals
from nearhall.report.reader import PilotReader

TOLD = "feed says 10.0% more than ups_in, cooling and other together"
PLANTED = "<script>alert('planted')</script>\"'&"


class _Page(HTMLParser):
    """Texts with the classes, ids and tags they stand in, and everything that a browser would fetch."""

    _VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self._open: list[tuple[str, set[str]]] = []
        self.texts: list[tuple[str, set[str]]] = []
        self.fetched: list[str] = []
        self.scripts = 0
        self.marks = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.fetched += [given[name] for name in ("src", "srcset", "data") if name in given]
        self.fetched += [given["href"]] if tag == "link" and "href" in given else []
        self.scripts += tag == "script"
        self.marks += "mark" in given.get("class", "").split()
        if tag not in self._VOID:
            self._open.append((tag, {tag, *given.get("class", "").split(), f"#{given.get('id', '')}"}))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside: set[str] = set().union(*(names for _, names in self._open))
        if data.strip():
            self.texts.append((data, inside))


def first_screen_bare_numbers(html: str, names: list[str]) -> list[str]:
    """Texts of the first screen with a digit that is neither a marked figure, nor a name, nor a command, nor a round limit."""
    allowed = re.compile("|".join([*map(re.escape, names), "within 10 ms"]))
    return [
        text
        for text, inside in _Page(html).texts
        if "#first" in inside and not inside & {"fig", "pre", "missing"} and re.search(r"\d", allowed.sub("", text))
    ]


def _names(pilot: dict[str, Any]) -> list[str]:
    return [site["id"] for site in pilot["sites"]]


def test_every_number_of_the_first_screen_carries_a_mark(pilot: dict[str, Any], html: str) -> None:
    assert first_screen_bare_numbers(html, _names(pilot)) == []
    assert _Page(html).marks > 100


def test_a_number_without_a_mark_would_be_found(pilot: dict[str, Any], html: str) -> None:
    planted = html.replace("<h1>", "<h1>42.0 ms ", 1)
    assert len(first_screen_bare_numbers(planted, _names(pilot))) == 1


def test_nothing_is_fetched_from_anywhere(html: str) -> None:
    page = _Page(html)
    assert page.fetched == []
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "connect-src &#39;none&#39;" in html


def test_it_stands_alone_and_is_not_too_heavy(html: str) -> None:
    assert "Bokeh" in html
    assert len(html) < 3_000_000


def test_names_from_outside_are_text(pilot: dict[str, Any], html: str) -> None:
    plain = _Page(html).scripts
    site = pilot["sites"][0]
    work = site["workloads"][0]
    targets: dict[str, tuple[dict[str, Any], str]] = {
        "site": (site, "id"),
        "workload": (work, "id"),
        "model": (work, "model"),
        "event": (pilot["events"][0], "text"),
        "serial": (site["meters"][0], "serial"),
        "host": (site["host"], "cpu"),
        "software": (pilot["run"], "software"),
        "baseline": (work["upstream_bytes"], "baseline"),
        "source": (pilot["evidence"]["/sites/0/energy"], "source"),
    }
    for target, key in targets.values():
        target[key] = PLANTED
    work["requests"]["rejected"] = {PLANTED: 3}
    planted = render_report(pilot)
    assert planted.count("&lt;script&gt;alert") > len(targets)
    assert _Page(planted).scripts == plain
    assert "<script>alert" not in planted


EMPTY: dict[str, dict[str, Any]] = {
    "nothing at all": {},
    "no sites": {
        "schema": "nearhall/pilot/v1",
        "run": {"started": "2026-11-23T19:00:00Z", "ended": None},
        "sites": [],
        "totals": {},
    },
    "a site that said only its name": {"sites": [{"id": "shop-01"}]},
    "wrong shapes": {
        "sites": [{"id": "x", "workloads": {"a": 1}, "meters": None, "energy": [], "series": {"t_s": 3}}, 7],
        "evidence": [],
    },
}


@pytest.mark.parametrize("pilot", EMPTY.values(), ids=EMPTY.keys())
def test_a_document_with_gaps_renders_and_says_what_is_missing(pilot: dict[str, Any]) -> None:
    html = render_report(pilot)
    assert "No verdict yet" in html
    assert 'class="missing"' in html or 'class="big missing"' in html


def test_nulls_everywhere_render(pilot: dict[str, Any]) -> None:
    html = render_report(_nulled(pilot))
    assert "No verdict yet" in html
    assert "nan" not in html[: html.index("<script")].lower()


def _nulled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: below if name in {"id", "evidence"} else _nulled(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_nulled(below) for below in value]
    return None


def test_the_balance_is_told_where_nobody_overlooks_it(pilot: dict[str, Any]) -> None:
    assert "does not close" not in render_report(pilot)
    pilot["sites"][1]["energy"] |= {"closure_percent": 11.0, "closes": False, "findings": [TOLD]}
    html = render_report(pilot)
    assert html.index("does not close") < html.index("How soon answers come")


def test_no_figure_is_invented(pilot: dict[str, Any]) -> None:
    """Numbers shown as figures change when the document's do: nothing is baked into the template."""
    other = copy.deepcopy(pilot)
    for site in other["sites"]:
        for workload in site["workloads"]:
            workload["break_even_rtt_ms"] = 7.77 if workload["break_even_rtt_ms"] is not None else None
    assert "7.77 ms" not in render_report(pilot)
    assert render_report(other).count("7.77 ms") >= 7


def test_a_model_that_was_asked_for_in_vain_is_no_workload(pilot: dict[str, Any]) -> None:
    stranger = copy.deepcopy(pilot["sites"][0]["workloads"][0])
    stranger |= {"id": "model:gpt-4", "model": "gpt-4"}
    stranger["requests"] |= {"total": 1, "local": 0, "hub": 0, "rejected": {"model_unknown": 1}}
    pilot["sites"][0]["workloads"].append(stranger)
    reader = PilotReader(pilot)
    assert "model:gpt-4" not in [workload.id for workload in reader.workloads]
    assert [row["label"] for row in refusals(reader) if row["reason"] == "model_unknown"] == ["model:gpt-4"]
    stranger["requests"]["local"] = 1
    assert "model:gpt-4" in [workload.id for workload in PilotReader(pilot).workloads], "answered, it counts"


def test_the_tariff_is_named_where_costs_stand(pilot: dict[str, Any]) -> None:
    assert "Costs at " in render_report(pilot)


def test_marginal_stands_beside_full_with_the_kind_of_each(pilot: dict[str, Any]) -> None:
    known = copy.deepcopy(pilot)
    known["sites"][0]["workloads"][0]["energy_j_per_request"] = {"marginal": 0.31, "full": 11.3}
    pointer = "/sites/0/workloads/0/energy_j_per_request"
    known["evidence"][pointer] = {"kind": "simulated", "source": "the feed's registers"}
    known["evidence"][f"{pointer}/marginal"] = {"kind": "assumed", "source": "by CPU time"}
    marginal, fit, full, _ = joules(PilotReader(known))[0].figures
    assert "too few windows" in fit.missing
    assert (marginal.text, marginal.letter, full.text, full.letter) == ("0.31 J", "A", "11.3 J", "S")
    known["evidence"][f"{pointer}/fit"] = {"kind": "simulated", "source": "a fit"}
    fit_said = {"value": 0.3, "low": 0.2, "high": 0.4, "windows": 40}
    known["sites"][0]["workloads"][0]["energy_j_per_request"] = {"marginal": None, "full": None, "fit": fit_said}
    marginal, fit, full, _ = joules(PilotReader(known))[0].figures
    assert (fit.text, fit.letter) == ("0.20 to 0.40 J", "S")
    assert "no counter in them" in marginal.missing
    assert "no meter at the feed" in full.missing
    assert "What an answer took" in render_report(known)
