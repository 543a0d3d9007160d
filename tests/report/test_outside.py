"""The applications' own counts and times beside the sites'."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from nearhall.report.pilot.outside import from_outside
from nearhall.report.pilot.page import render_report
from nearhall.report.reader import PilotReader


@pytest.fixture
def seen(pilot: dict[str, Any]) -> dict[str, Any]:
    """The document with players who saw exactly what the sites counted."""
    whole = copy.deepcopy(pilot)
    whole["players"] = {
        site["id"]: {
            "workloads": {
                w["id"]: {
                    "sent": w["requests"]["total"],
                    "answered": w["requests"]["local"] + w["requests"]["hub"],
                    "p50_ms": 2.5,
                    "first_token_p50_ms": 90.0,
                }
                for w in site["workloads"]
            }
        }
        for site in whole["sites"]
    }
    whole["evidence"]["/players"] = {"kind": "measured", "source": "the players"}
    return whole


def test_both_counts_stand_side_by_side_and_agree(seen: dict[str, Any]) -> None:
    rows = from_outside(PilotReader(seen))
    assert len(rows) == sum(len(site["workloads"]) for site in seen["sites"])
    assert all(row.agrees for row in rows)
    assert "Seen from outside" in render_report(seen)


def test_a_lost_answer_is_shown_as_a_difference(seen: dict[str, Any]) -> None:
    first = seen["sites"][0]
    seen["players"][first["id"]]["workloads"][first["workloads"][0]["id"]]["answered"] += 1
    rows = from_outside(PilotReader(seen))
    assert [row.agrees for row in rows].count(False) == 1
    assert not rows[0].agrees
    assert "differ</span>" in render_report(seen)


def test_what_was_not_answered_is_told_in_words(seen: dict[str, Any]) -> None:
    first = seen["sites"][0]
    seen["players"][first["id"]]["workloads"][first["workloads"][0]["id"]] |= {"idle": 12, "broken": 3, "dropped": 0}
    told = from_outside(PilotReader(seen))[0].otherwise
    assert [(said, figure.text) for said, figure in told] == [("connection lost", "3"), ("no new picture", "12")]
    assert "no new picture" in render_report(seen)


def test_two_medians_are_never_put_together(seen: dict[str, Any]) -> None:
    workload = seen["sites"][0]["workloads"][0]
    workload["requests"] |= {"local": 10, "hub": 5}
    assert from_outside(PilotReader(seen))[0].figures[-1].missing.startswith("answers came from here and from the hub")
    workload["requests"]["hub"] = 0
    assert not from_outside(PilotReader(seen))[0].figures[-1].missing


def test_requests_of_nobody_known_leave_the_part_out(pilot: dict[str, Any]) -> None:
    assert from_outside(PilotReader(pilot)) == []
    assert "Seen from outside" not in render_report(pilot)
