"""A stream of events is read the same however it is cut into pieces, and only text is a token."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.drivers.clock import SystemClock
from nearhall.sim.players.client import GatewayClient
from nearhall.sim.players.events import EVENT_BYTES_MAX, ChatReader, EventReader, EventTooLargeError
from nearhall.sim.players.seen import Seen
from nearhall.sim.players.work import Request
from waiting import until_async

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
        (event(choices=[{"delta": {"tool_calls": [{"function": {"arguments": '"content":"x"'}}]}}]), False),
        (event(note='"content":"x"'), False),
        (b'data: {"choices": [ {"delta" : {"content" : "yes"} } ]}\n\n', True),
        (piece("yes"), True),
        (piece(" "), True),
        (b"data: [1]\n\ndata: 7\n\ndata: {\xff\n\n", False),
        (event(choices=[1, {"delta": 2}, {"delta": {"content": ["x"]}}, {"delta": {"content": "y"}}]), True),
    ],
)
def test_only_text_is_a_token(said: bytes, spoke: bool):
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


def test_the_time_to_the_first_token_is_that_of_the_text():
    """The role comes at once, the text 0.2 s later in two halves, the end 0.2 s after it."""
    clock = SystemClock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        text = piece("yes")
        parts = [piece("", role="assistant"), text[:20], text[20:], b"data: [DONE]\n\n"]
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for part, pause_s in zip(parts, (0.2, 0.0, 0.2, 0.0), strict=True):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
            sent_s = clock.monotonic()
            await until_async(lambda: clock.monotonic() - sent_s >= pause_s)  # noqa: B023 (awaited within the round)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def story() -> tuple[float | None, float]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = GatewayClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", clock)
        answer = await client.ask(Request(path="/", headers=[], body=b"", streamed=True), Seen(), intended_s=clock.monotonic())
        await client.close()
        server.close()
        assert answer is not None
        return answer.first_token_s, answer.got_s - answer.asked_s

    first_s, whole_s = asyncio.run(story())
    assert first_s is not None
    assert 0.2 <= first_s < whole_s - 0.19
