"""Messages to the language model's process come whole, however the pipe cuts them."""

from __future__ import annotations

import os
from io import BytesIO

import pytest

from nearhall.drivers.genai_wire import FRAME_BYTES_MAX, Ask, Cancel, Inbox, Piece, Stepped, Turn, receive_in_gateway, send


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        try:
            os.close(end)
        except OSError:
            continue


def _framed(message):
    stream = BytesIO()
    send(stream, message)
    return stream.getvalue()


def test_questions_come_whole_however_they_are_cut(pipe):
    reading, writing = pipe
    asks = [
        Ask(id=1, messages=[Turn("user", "hi")], max_tokens=4, seed=7),
        Cancel(1),
        Ask(id=2, messages=[], max_tokens=1, prompt="x"),
    ]
    octets = b"".join(map(_framed, asks))
    inbox, found = Inbox(reading), []
    assert inbox.messages(wait=False) == []
    for at in range(len(octets)):
        os.write(writing, octets[at : at + 1])
        found += inbox.messages(wait=True)
    assert found == asks
    os.write(writing, octets)
    assert inbox.messages(wait=False) == asks


def test_the_end_is_told_and_so_is_what_is_no_frame(pipe):
    reading, writing = pipe
    os.write(writing, (FRAME_BYTES_MAX + 1).to_bytes(4, "little"))
    with pytest.raises(EOFError):
        Inbox(reading).messages(wait=True)
    os.close(writing)
    with pytest.raises(EOFError):
        Inbox(reading).messages(wait=True)


def test_a_step_goes_back_in_one_message():
    step = Stepped([Piece(1, "a"), Piece(2, "", "stop", 5, 9)], took_ms=20.5, running=2, prompt_tokens=None, kv_tokens=64)
    stream = BytesIO(_framed(step))
    assert receive_in_gateway(stream) == step
    assert receive_in_gateway(stream) is None
    assert receive_in_gateway(BytesIO((FRAME_BYTES_MAX + 1).to_bytes(4, "little"))) is None
    assert receive_in_gateway(BytesIO(_framed(step)[:-1])) is None
