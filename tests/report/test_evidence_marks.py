"""Marks: looked up by pointer, never lost, never told by colour alone."""

from __future__ import annotations

from nearhall.core.evidence import Kind
from nearhall.report.evidence_marks import MARKS, NOT_STATED, EvidenceIndex, Figure, in_text, joined, kind_named, said

INDEX = EvidenceIndex(
    {
        "/sites/0/energy": {"kind": "simulated", "source": "virtual cabinet"},
        "/sites/0/energy/it_kwh": {"kind": "measured", "source": "meter 7"},
        "/sites/*/link/rtt_ms": {"kind": "simulated", "source": "shaper"},
        "/odd": {"kind": "guesswork"},
    }
)


def test_the_nearest_entry_counts() -> None:
    assert INDEX.find("/sites/0/energy/it_kwh") == (Kind.MEASURED, "meter 7")
    assert INDEX.find("/sites/0/energy/cooling_kwh") == (Kind.SIMULATED, "virtual cabinet")


def test_a_star_stands_for_any_segment() -> None:
    assert INDEX.find("/sites/3/link/rtt_ms")[0] is Kind.SIMULATED


def test_what_is_not_stated_is_assumed() -> None:
    assert INDEX.find("/sites/1/energy/it_kwh") == (Kind.ASSUMED, NOT_STATED)
    assert INDEX.find("/odd/thing") == (Kind.ASSUMED, NOT_STATED)
    assert kind_named(None) is Kind.ASSUMED


def test_kinds_differ_in_letter_and_in_line() -> None:
    assert set(MARKS) == set(Kind)
    assert len({mark.letter for mark in MARKS.values()}) == len(Kind)
    assert len({mark.line_dash for mark in MARKS.values()}) == len(Kind)
    assert MARKS[Kind.MEASURED].line_dash == "solid"


def test_a_joined_figure_is_as_weak_as_its_weakest_part() -> None:
    parts = [Figure(text="1", kind=Kind.MEASURED, source="a"), Figure(text="2", kind=Kind.SIMULATED, source="b")]
    assert joined("1 to 2", parts) == Figure(text="1 to 2", kind=Kind.SIMULATED, source="a; b")


def test_sentences_keep_their_figures_evidence() -> None:
    words = said("{gain} sooner", gain=Figure(text="3.0 ms", kind=Kind.SIMULATED, source="x"))
    assert in_text(words) == "3.0 ms [S] sooner"
    assert in_text(said("{gain} sooner", gain=Figure(text="\u2013", missing="none"))) == "\u2013 sooner"
