"""The words at the end of `nearhall up`."""

from __future__ import annotations

from typing import Any

import pytest

from nearhall.report.pilot.summary import LINES_MAX, WIDTH, words

TOLD = "feed says 10.0% more than ups_in, cooling and other together; suspected: the meter at position feed or cooling"


def test_it_fits_a_screen_and_begins_with_the_verdict(pilot: dict[str, Any]) -> None:
    text = words(pilot)
    lines = text.splitlines()
    assert len(lines) <= LINES_MAX
    assert lines[0].startswith("REHEARSED  Answering on site pays in speed")
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in text


def test_latencies_carry_their_letters(pilot: dict[str, Any]) -> None:
    row = next(line for line in words(pilot).splitlines() if line.startswith("video shop-01"))
    assert row.count("[M]") == 1
    assert row.count("[S]") == 3


def test_the_two_commands_are_there(pilot: dict[str, Any]) -> None:
    text = words(pilot)
    assert "nearhall up --hub-probe https://your-hub.example" in text
    assert "nearhall meters read modbus://METER:502/1 --profile sdm630" in text


def test_a_broken_balance_is_told(pilot: dict[str, Any]) -> None:
    assert "Energy balance" not in words(pilot)
    pilot["sites"][0]["energy"] |= {"closure_percent": 9.6, "closes": False, "findings": [TOLD]}
    assert "! Energy balance: shop-01: the meters do not agree, by" in words(pilot)


@pytest.mark.parametrize("pilot", [{}, {"sites": []}, {"sites": [{"id": "a", "workloads": [{"id": "w"}]}]}])
def test_gaps_do_not_stop_it(pilot: dict[str, Any]) -> None:
    assert "No verdict yet" in words(pilot)


def test_many_workloads_do_not_push_the_verdict_away(pilot: dict[str, Any]) -> None:
    pilot["sites"] = [pilot["sites"][0] | {"id": f"site-{n}"} for n in range(8)]
    lines = words(pilot).splitlines()
    assert len(lines) <= LINES_MAX
    assert any("more in the report" in line for line in lines)
