"""What a pilot is said to prove, case by case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nearhall.report.evidence_marks import in_text
from nearhall.report.pilot.next_steps import next_steps
from nearhall.report.pilot.summary import words
from nearhall.report.pilot.verdict import Verdict, decide

Pilot = dict[str, Any]

TOLD = "feed says 10.0% more than ups_in, cooling and other together; suspected: the meter at position feed or cooling"


def _gains(pilot: Pilot, value: float | None, half: float, *, chat: bool | None = None) -> None:
    for site in pilot["sites"]:
        for workload in site["workloads"]:
            is_chat = workload["id"] == "chat"
            if chat is None or chat == is_chat:
                low, high = (None, None) if value is None else (value - half, value + half)
                workload["latency_ms"]["gain_p50"] = {"value": value, "low": low, "high": high}


def _as_it_is(_: Pilot) -> None:
    pass


def _rtt_nought(pilot: Pilot) -> None:
    _gains(pilot, 0.1, 0.2)
    for site in pilot["sites"]:
        site["link"]["rtt_ms"] = 0.1


def _rtt_nought_hops(pilot: Pilot) -> None:
    _gains(pilot, 3.4, 1.0)
    for site in pilot["sites"]:
        site["link"]["rtt_ms"] = 0.0


def _hub_sooner(pilot: Pilot) -> None:
    _gains(pilot, -6.0, 1.0)


def _sure_but_tiny(pilot: Pilot) -> None:
    _gains(pilot, 0.4, 0.1)


def _unsure(pilot: Pilot) -> None:
    _gains(pilot, 5.0, 9.0)


def _close(pilot: Pilot) -> None:
    _gains(pilot, 0.5, 3.0)


def _chat_unsure(pilot: Pilot) -> None:
    _gains(pilot, 34.9, 50.0, chat=True)


def _no_pairs(pilot: Pilot) -> None:
    _gains(pilot, None, 0)


def _only_chat(pilot: Pilot) -> None:
    for site in pilot["sites"]:
        site["workloads"] = [w for w in site["workloads"] if w["id"] == "chat"]


def _chat_slower(pilot: Pilot) -> None:
    _gains(pilot, -200.0, 20.0, chat=True)


CASES: dict[str, tuple[Callable[[Pilot], None], Verdict, str]] = {
    "gain clear": (_as_it_is, Verdict.LOCAL, "Answering on site pays"),
    "round trip nought": (_rtt_nought, Verdict.EVEN, "the hub answers about as fast"),
    "round trip nought, the hub's own hops seen": (_rtt_nought_hops, Verdict.EVEN, "At this round trip, 0 ms"),
    "local slower": (_hub_sooner, Verdict.HUB, "the hub answers sooner"),
    "sure but too small to matter": (_sure_but_tiny, Verdict.EVEN, "the hub answers about as fast"),
    "interval spans nought, widely": (_unsure, Verdict.UNKNOWN, "No verdict yet"),
    "interval spans nought, closely": (_close, Verdict.EVEN, "the hub answers about as fast"),
    "no probes": (_no_pairs, Verdict.UNKNOWN, "No verdict yet"),
    "only chat": (_only_chat, Verdict.LOCAL, "Answering on site pays"),
    "chat unsure, the rest sooner": (_chat_unsure, Verdict.LOCAL, "pays in speed for video, speech and inspection: 40.8 ms"),
    "chat slower, the rest sooner": (_chat_slower, Verdict.MIXED, "pays in speed for video, speech and inspection"),
}


@pytest.mark.parametrize(("bend", "verdict", "words"), CASES.values(), ids=CASES.keys())
def test_verdict(pilot: Pilot, bend: Callable[[Pilot], None], verdict: Verdict, words: str) -> None:
    bend(pilot)
    decision = decide(pilot)
    assert decision.verdict is verdict
    assert words in in_text(decision.sentence)


def test_where_speed_does_not_pay_the_other_reasons_are_named(pilot: Pilot) -> None:
    _rtt_nought(pilot)
    said = " ".join(map(in_text, decide(pilot).reasons))
    assert "A small site pays only above a round trip of 0.40 ms" in said
    assert "residency" in said
    assert "autonomy" in said


def test_gain_at_no_round_trip_at_all_is_not_called_a_bound_of_nought(pilot: Pilot) -> None:
    for site in pilot["sites"]:
        for workload in site["workloads"]:
            workload["break_even_rtt_ms"] = 0.0
    _rtt_nought(pilot)
    assert any("differ by 0.10 ms" in in_text(reason) for reason in decide(pilot).reasons)
    assert any("only at a longer round trip than this, or for residency" in in_text(reason) for reason in decide(pilot).reasons)


def test_a_bound_of_nought_is_the_least_that_is_claimed(pilot: Pilot) -> None:
    workloads = [
        workload for site in pilot["sites"] for workload in site["workloads"] if workload["break_even_rtt_ms"] is not None
    ]
    workloads[0]["break_even_rtt_ms"] = 0.0
    said = " ".join(map(in_text, decide(pilot).reasons))
    assert "It pays above a round trip of 1.00 ms [S]" in said
    assert "to 2.30 ms [S]" in said
    for workload in workloads:
        workload["break_even_rtt_ms"] = 0.0
    said = " ".join(map(in_text, decide(pilot).reasons))
    assert "It pays above a round trip of 1.00 ms [S] at the latest: the hub took longer even without the way to it." in said
    assert "\u2264 1.00 [S]" in words(pilot)


def test_books_that_close_are_believed_over_their_difference(pilot: Pilot) -> None:
    pilot["sites"][0]["energy"] |= {"closure_percent": 9.0, "closes": True}
    assert decide(pilot).warnings == ()
    pilot["sites"][0]["energy"] |= {"closes": False}
    assert (
        in_text(decide(pilot).warnings[0])
        == "shop-01: the meters do not agree, by its registers [S]: feed and the sum below it differ by 9.0 %"
    )
    del pilot["sites"][0]["energy"]["closes"]
    assert len(decide(pilot).warnings) == 1


def test_a_value_without_interval_is_no_verdict(pilot: Pilot) -> None:
    for site in pilot["sites"]:
        for workload in site["workloads"]:
            workload["latency_ms"]["gain_p50"] = {"value": 40.0, "low": None, "high": None, "n": 4}
    assert decide(pilot).verdict is Verdict.UNKNOWN


def test_the_unsure_are_named(pilot: Pilot) -> None:
    _chat_unsure(pilot)
    assert any("For chat · shop-01 and chat · plant-02 the pairs differ too much" in in_text(r) for r in decide(pilot).reasons)
    assert next_steps(pilot)[0].what.startswith("Run longer")


def test_names_may_hold_braces(pilot: Pilot) -> None:
    pilot["sites"][0]["id"] = "{0} {x} {"
    pilot["sites"][0]["energy"]["closes"] = False
    for site in pilot["sites"]:
        for workload in site["workloads"]:
            workload["id"] += "{y!r:>9}"
    decision = decide(pilot)
    assert "{0} {x} {: the meters" in in_text(decision.warnings[0])
    assert any("{y!r:>9}" in in_text(reason) for reason in decision.reasons)


def test_energy_is_told_beside_speed(pilot: Pilot) -> None:
    told = " ".join(map(in_text, decide(pilot).reasons))
    assert "take 2.58 Wh [S] on site, its idle time too, and 0.041 Wh [A] at a hub" in told


def test_chat_is_compared_by_its_first_token(pilot: Pilot) -> None:
    assert any("first token" in in_text(reason) for reason in decide(pilot).reasons)
    for site in pilot["sites"]:
        site["workloads"] = [w for w in site["workloads"] if w["id"] != "chat"]
    assert not any("first token" in in_text(reason) for reason in decide(pilot).reasons)


def test_simulated_evidence_is_a_rehearsal(pilot: Pilot) -> None:
    decision = decide(pilot)
    assert decision.rehearsed
    assert decision.unsupported == ("the link is simulated", "power is simulated")


def test_measured_evidence_may_support_a_purchase(pilot: Pilot) -> None:
    for entry in pilot["evidence"].values():
        entry["kind"] = "measured"
    decision = decide(pilot)
    assert not decision.rehearsed
    assert decision.unsupported == ()


@pytest.mark.parametrize("pointer", ["/sites/0/link", "/sites/1/energy", "/sites/0/workloads/0/latency_ms/gain_p50"])
def test_one_weak_figure_is_enough(pilot: Pilot, pointer: str) -> None:
    for name, entry in pilot["evidence"].items():
        pilot["evidence"][name] = entry | {"kind": "simulated" if name == pointer else "measured"}
    decision = decide(pilot)
    assert decision.rehearsed
    assert decision.unsupported


def test_figures_without_evidence_count_as_assumed(pilot: Pilot) -> None:
    pilot["evidence"] = {}
    assert decide(pilot).unsupported == ("the link is assumed", "power is assumed")


def test_a_balance_that_does_not_close_is_the_first_thing_to_measure(pilot: Pilot) -> None:
    assert decide(pilot).warnings == ()
    pilot["sites"][0]["energy"] |= {"closure_percent": 9.6, "closes": False, "findings": [TOLD]}
    decision = decide(pilot)
    assert len(decision.warnings) == 1
    assert "shop-01" in in_text(decision.warnings[0])
    assert "the energy balance does not close" in decision.unsupported
    assert "disagrees" in next_steps(pilot)[0].what


def test_the_hubs_own_finding_names_the_meter(pilot: Pilot) -> None:
    told = "the meter at ups_in does not agree with ups_out by +10 %"
    pilot["sites"][1]["energy"] |= {"closes": None}
    pilot["events"].append({"at_s": 1.0, "site": "plant-02", "kind": "balance", "text": told, "level": "warning"})
    assert [in_text(w) for w in decide(pilot).warnings] == [f"plant-02: the meters do not agree, by its registers [S]: {told}"]


def test_next_steps_are_three_and_lead_with_the_link_and_the_meter(pilot: Pilot) -> None:
    steps = next_steps(pilot)
    assert [step.command.split()[2] for step in steps] == ["--hub-probe", "read", "--camera"]


def test_no_pairs_means_run_longer_first(pilot: Pilot) -> None:
    _no_pairs(pilot)
    assert next_steps(pilot)[0].what.startswith("Run longer")


def test_the_least_is_said_only_where_local_pays(pilot: Pilot) -> None:
    for site in pilot["sites"]:
        for workload in site["workloads"]:
            workload["break_even_rtt_ms"] = 0.0
    assert "\u2264 1.00 [S]" in words(pilot)
    _rtt_nought(pilot)
    assert "about even" in words(pilot)
    assert "\u2264" not in words(pilot)
