"""Whom to ask: every number of the examples has somebody who knows it, and every open check somebody who answers it."""

from __future__ import annotations

from typing import Any

import pytest

from nearhall.documents.defaults import all_defaults
from nearhall.planner.power.check import Check
from nearhall.planner.results.plan import result_document
from nearhall.planner.results.whom import ANSWERS, ENGINEER, GRID, HUB, KNOWS, SERVICE, UPS_MAKER, who_answers, who_knows
from nearhall.planner.sensitivity.measurements import fits
from planner.planned import EXAMPLES, example


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    return {name: result_document(example(name), software="test") for name in EXAMPLES}


def in_mapping(name: str) -> bool:
    return any(fits(name.removeprefix("default:"), pattern) for pattern, _ in KNOWS)


def test_every_number_of_the_examples_and_every_default_has_an_owner(documents: dict[str, dict[str, Any]]) -> None:
    names = {entry["name"] for found in documents.values() for entry in found["ledger"]} | set(all_defaults())
    assert len(names) > 150
    assert sorted(name for name in names if not in_mapping(name)) == []
    assert not in_mapping("default:nobody.knows")


def test_every_desk_question_says_whom_to_ask_and_a_pilot_s_asks_nobody(documents: dict[str, dict[str, Any]]) -> None:
    steps = [step for found in documents.values() for step in found["next"]]
    assert {step["by"] for step in steps} == {"desk", "pilot"}
    for step in steps:
        assert (len(step["ask"]) == 1) is (step["by"] == "desk"), step["what"]
    told = {step["what"]: step["ask"] for step in steps}
    assert told["ask the service desk"] == [SERVICE]
    assert told["ask the hub"] == [HUB]


def test_every_open_check_says_who_answers_it(documents: dict[str, dict[str, Any]]) -> None:
    rows = [check for found in documents.values() for site in found["sites"] for check in site.get("checks", [])]
    for check in rows:
        assert (check["ask"] is not None) is (check["state"] == "not_checked"), check["name"]
        assert check["state"] != "not_checked" or check["name"] in ANSWERS
    told = {check["name"]: check["ask"] for check in rows if check["state"] == "not_checked"}
    assert (told["short circuit"], told["selectivity"], told["UPS walk-in"]) == (GRID, ENGINEER, UPS_MAKER)


def test_without_a_ups_its_maker_is_not_asked() -> None:
    check = Check(name="inrush", state="not_checked", words="no breaker")
    assert who_answers(check, ups=False) == ENGINEER
    assert who_answers(check, ups=True) == UPS_MAKER
    assert who_knows("nobody.knows").startswith("the plan's author")
