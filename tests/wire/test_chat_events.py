"""A stream of events is read the same however it is cut into pieces, and only text is a token."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.wire.chat_events import EVENT_BYTES_MAX, ChatReader, EventReader, EventTooLargeError, FirstText

STREAM = b': hello\r\ndata: {"a":\ndata: 1}\n\nevent: x\rdata:two\r\rid: 4\r\n\r\ndata\n\ndata: [DONE]\n\ndata: cut off'
EVENTS = [b'{"a":\n1}', b"two", b"", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_events_are_the_same_however_they_are_cut(cuts: list[int]):
    reader = EventReader()
    ends = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(ends)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_each_kind_of_line_end_ends_a_line(end: bytes):
    stream = b"data: a" + end + b"data: b" + end * 2 + b"data: c" + end * 2
    assert EventReader().feed(stream) == [b"a\nb", b"c"]
    reader = EventReader()
    assert [event for at in range(len(stream)) for event in reader.feed(stream[at : at + 1])] == [b"a\nb", b"c"]


def test_an_event_without_an_end_is_given_up():
    reader = EventReader()
    assert reader.feed(b"data: " + b"x" * (EVENT_BYTES_MAX - 10) + b"\n\n") != []
    with pytest.raises(EventTooLargeError):
        reader.feed(b"data: " + b"x" * EVENT_BYTES_MAX)
    lines = EventReader()
    with pytest.raises(EventTooLargeError):
        lines.feed(b"data: x\n" * EVENT_BYTES_MAX)


def event(**said: object) -> bytes:
    return f"data: {json.dumps(said)}\n\n".encode()


def piece(content: str | None, **more: object) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": content, **more}}])


@pytest.mark.parametrize(
    ("said", "spoke"),
    [
        (piece("", role="assistant"), False),
        (piece(None, role="assistant"), False),
        (event(choices=[], usage={"completion_tokens": 3}), False),
        (event(choices=[{"delta": {"tool_calls": [{"function": {"arguments": "{"}}]}}]), True),
        (event(choices=[{"delta": {"reasoning_content": "hm"}}, {"delta": {}}]), True),
        (event(choices=[{"delta": {"tool_calls": [], "note": '"content":"x"'}}]), False),
        (event(choices=[{"text": ""}]), False),
        (event(choices=[{"text": "a completion's"}]), True),
        (event(note='"content":"x"'), False),
        (b'data: {"choices": [ {"delta" : {"content" : "yes"} } ]}\n\n', True),
        (piece("yes"), True),
        (piece(" "), True),
        (b"data: [1]\n\ndata: 7\n\ndata: {\xff\n\n", False),
        (event(choices=[1, {"delta": 2}, {"delta": {"content": ["x"]}}, {"delta": {"content": "y"}}]), True),
    ],
)
def test_only_what_is_said_is_a_token(said: bytes, spoke: bool):
    assert ChatReader().feed(said) is spoke


def test_the_first_token_is_told_once():
    reader = ChatReader()
    assert [reader.feed(part) for part in (piece(""), piece("a"), piece("b"))] == [False, True, False]


@pytest.mark.parametrize(
    ("end", "cut_short", "tokens"),
    [
        (event(choices=[], usage={"completion_tokens": 3}) + b"data: [DONE]\n\n", None, 3),
        (b"data: [DONE]\n\n", None, None),
        (event(choices=[], usage=None) + b"data: [DONE]\n\n", None, None),
        (event(error={"message": "the child died"}), "error", None),
        (event(error={"message": "the child died"}) + b"data: [DONE]\n\n", "error", None),
        (b"", "no end", None),
        (b"data: [DONE]\n", "no end", None),
    ],
)
def test_only_a_stream_that_says_so_is_whole(end: bytes, cut_short: str | None, tokens: int | None):
    reader = ChatReader()
    reader.feed(piece("a") + end)
    assert (reader.cut_short, reader.tokens) == (cut_short, tokens)


def test_the_first_text_is_noted_once_and_nothing_after_it_is_read():
    text = FirstText()
    assert not text.feed(piece("", role="assistant"))
    assert text.feed(piece("a") + piece("b"))
    assert text.come
    assert not text.feed(b"data: " + b"x" * (2 * EVENT_BYTES_MAX))


def test_an_event_too_large_to_be_read_counts_as_text():
    assert FirstText().feed(b"data: " + b"x" * (2 * EVENT_BYTES_MAX))
