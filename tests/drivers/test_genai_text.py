"""Tokens become text as they come: nothing twice, no half characters, and stop strings are never said, not even in part."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearhall.drivers.genai_text import Speech


def decode(ids):
    """Each token is one byte."""
    return bytes(ids).decode(errors="replace")


def said(text, *, stops=(), at_once=1):
    """What is said of a text whose bytes come so many at a time; and whether a stop string ended it."""
    speech, pieces, octets = Speech(stops), [], text.encode()
    parts = [octets[at : at + at_once] for at in range(0, len(octets), at_once)] or [b""]
    for index, part in enumerate(parts):
        speech.ids.extend(part)
        before, after = (decode(ids) for ids in speech.windows())
        piece, stopped = speech.hear(before, after, last=index == len(parts) - 1)
        pieces.append(piece)
        if stopped:
            return pieces, True
    return pieces, False


@given(st.text(max_size=60), st.integers(1, 5))
def test_all_of_it_is_said_once(text, at_once):
    pieces, stopped = said(text, at_once=at_once)
    assert ("".join(pieces), stopped) == (text, False)


@given(st.text("abc", max_size=40), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3), st.integers(1, 4))
def test_it_ends_before_the_first_stop_string(text, stops, at_once):
    pieces, stopped = said(text, stops=stops, at_once=at_once)
    whole = "".join(pieces)
    ends = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    assert stopped == bool(ends)
    assert text.startswith(whole)
    assert not any(stop in whole for stop in stops)
    assert ends or whole == text


def test_a_half_character_waits_for_its_other_half():
    pieces, _ = said("a\U0001f600b")
    assert pieces == ["a", "", "", "", "\U0001f600", "b"]


def test_what_may_begin_a_stop_string_is_held_until_that_is_known():
    pieces, _ = said("one EN two", stops=["END"])
    assert pieces == ["o", "n", "e", " ", "", "", "EN ", "t", "w", "o"]
    pieces, stopped = said("one END two", stops=["END"])
    assert (pieces, stopped) == (["o", "n", "e", " ", "", "", ""], True)


def test_a_long_answer_decodes_only_its_last_tokens():
    speech = Speech()
    longest = 0
    for _ in range(500):
        speech.ids.extend(b"x")
        windows = speech.windows()
        longest = max(longest, len(windows[1]))
        speech.hear(*(decode(ids) for ids in windows), last=False)
    assert longest <= 2
