"""Speech: frames in order with the state that the one before left, and stretches of speech with hysteresis."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.sim.players.segments import SPEECH_SECONDS_MIN, Hearing, Segment, hear, stop
from nearhall.sim.players.speech import STATE_SHAPE, SpeechWork, frames
from nearhall.sim.players.work import Answer, Request, WorkInOrder

FRAME_S = 0.032


def segments(probabilities: Sequence[float], frame_s: float = FRAME_S) -> list[Segment]:
    state, found = Hearing(), []
    for probability in probabilities:
        state, ended = hear(state, probability, frame_s)
        found.append(ended)
    return [segment for segment in [*found, stop(state)] if segment is not None]


def near(start_frame: int, end_frame: int) -> object:
    return (pytest.approx(start_frame * FRAME_S - 0.03), pytest.approx(end_frame * FRAME_S + 0.03))


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        pytest.param([0.1] * 50, [], id="silence"),
        pytest.param([0.1] * 5 + [0.9] * 10 + [0.1] * 10, [near(5, 15)], id="one stretch, padded"),
        pytest.param([0.1] * 5 + [0.9] * 7 + [0.1] * 10, [], id="224 ms are a noise"),
        pytest.param([0.1] * 5 + [0.9] * 8 + [0.1] * 10, [near(5, 13)], id="256 ms are speech"),
        pytest.param([0.1] * 5 + [0.9] * 10 + [0.1] * 3 + [0.9] * 10 + [0.1] * 10, [near(5, 28)], id="a pause of 96 ms"),
        pytest.param(
            [0.1] * 5 + [0.9] * 10 + [0.1] * 5 + [0.9] * 10 + [0.1] * 10, [near(5, 15), near(20, 30)], id="a pause of 160 ms"
        ),
        pytest.param([0.1] * 5 + [0.9] * 10 + [0.4] * 20 + [0.1] * 10, [near(5, 35)], id="doubt does not end speech"),
        pytest.param([0.4] * 50, [], id="doubt does not begin it"),
        pytest.param([0.1] * 5 + [0.9] * 10 + [0.1, 0.4] * 5, [near(5, 15)], id="nor does doubt take a silence back"),
    ],
)
def test_speech_begins_and_ends_with_hysteresis(probabilities: list[float], expected: list[object]):
    assert [(segment.start_s, segment.end_s) for segment in segments(probabilities)] == expected


def test_the_end_of_the_sound_ends_speech_and_padding_stays_inside_it():
    assert segments([0.9] * 20) == [Segment(0.0, pytest.approx(20 * FRAME_S))]


@given(st.lists(st.floats(0, 1), max_size=300))
def test_segments_ascend_apart_and_within_the_sound(probabilities: list[float]):
    found = segments(probabilities)
    edges = [edge for segment in found for edge in (segment.start_s, segment.end_s)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= len(probabilities) * FRAME_S + 1e-9 for edge in edges)
    assert all(segment.end_s - segment.start_s > SPEECH_SECONDS_MIN for segment in found)
    if max(probabilities, default=0.0) < 0.5:
        assert not found


def test_sound_is_framed_with_its_context_to_its_last_sample():
    sound = np.arange(1600, dtype=np.float32)
    framed = frames(sound, 16_000)
    assert [frame.size for frame in framed] == [576] * 4
    assert not framed[0][:64].any()
    assert (framed[1][:64] == sound[448:512]).all()
    assert (framed[3][64:128] == sound[1536:]).all()
    assert not framed[3][128:].any()


@given(st.integers(1, 5000), st.sampled_from([16_000, 8_000]))
def test_a_round_of_the_loop_stands_for_every_byte_of_the_sound(samples: int, rate_hz: int):
    work = SpeechWork(model="voice", workload="speech", samples=np.zeros(samples, dtype=np.float32), rate_hz=rate_hz)
    for _ in range(2):
        asked = [work.next() for _ in frames(np.zeros(samples, dtype=np.float32), rate_hz)]
        raw = [int(dict(request.headers)["x-nearhall-raw-bytes"]) for request in asked if request is not None]
        assert sum(raw) == 2 * samples


def speaker(seconds: float = 1.0) -> SpeechWork:
    return SpeechWork(model="voice", workload="speech", samples=np.zeros(int(16_000 * seconds), dtype=np.float32), rate_hz=16_000)


def answered(probability: float, state: float) -> Answer:
    arrays = {"output": np.array([[probability]]), "stateN": np.full(STATE_SHAPE, state)}
    sizes = {name: array.astype("<f4").nbytes for name, array in arrays.items()}
    outputs = [
        {"name": n, "datatype": "FP32", "shape": list(a.shape), "parameters": {"binary_data_size": sizes[n]}}
        for n, a in arrays.items()
    ]
    head = msgspec.json.encode({"outputs": outputs})
    body = head + b"".join(array.astype("<f4").tobytes() for array in arrays.values())
    return Answer(status=200, headers={"inference-header-content-length": str(len(head))}, body=body)


def asked(work: SpeechWork) -> Request:
    request = work.next()
    assert request is not None
    return request


def state_sent(request: Request) -> float:
    head = int(dict(request.headers)["inference-header-content-length"])
    return float(np.frombuffer(request.body[head + 576 * 4 :][: 256 * 4], dtype="<f4")[0])


def test_the_state_goes_from_each_answer_to_the_next_frame():
    work = speaker()
    assert isinstance(work, WorkInOrder)
    first = asked(work)
    assert state_sent(first) == 0.0
    work.take(first, answered(0.9, 0.5))
    second = asked(work)
    assert state_sent(second) == 0.5
    work.take(second, answered(0.9, 0.25))
    assert state_sent(asked(work)) == 0.25


@pytest.mark.parametrize("gap", ["skipped", "no answer", "unreadable"])
def test_behind_a_gap_the_state_starts_afresh(gap: str):
    work = speaker()
    work.take(asked(work), answered(0.9, 0.5))
    if gap == "skipped":
        work.skip(2)
    else:
        request = asked(work)
        if gap == "unreadable":
            with pytest.raises(msgspec.DecodeError):
                work.take(request, Answer(status=200, headers={}, body=b"no tensors"))
    after = asked(work)
    assert state_sent(after) == 0.0
    work.take(after, answered(0.9, 0.75))
    assert state_sent(asked(work)) == 0.75, "and goes on from there"


def test_speech_is_told_when_it_ends_with_where_it_lay():
    work = speaker(seconds=2.0)
    told = [list(work.take(asked(work), answered(p, 0.0))) for p in [0.1] * 5 + [0.9] * 20 + [0.1] * 10]
    (found,) = [items for items in told if items]
    span = (pytest.approx(5 * FRAME_S - 0.03), pytest.approx(25 * FRAME_S + 0.03))
    assert [(f.name, f.value, f.span_s) for f in found] == [
        ("segments", 1.0, span),
        ("speech_seconds", pytest.approx(20 * FRAME_S + 0.06), None),
    ]
    assert told.index(found) == 5 + 20 + 4, "100 ms of silence later"


def test_speech_that_a_gap_or_the_end_of_the_round_cuts_off_is_told_after_it():
    work = speaker()
    for _ in range(10):
        work.take(asked(work), answered(0.9, 0.0))
    work.skip(1)
    (segment, _) = work.take(asked(work), answered(0.1, 0.0))
    assert segment.span_s == (0.0, pytest.approx(10 * FRAME_S))
    for _ in range(12, 32):
        assert list(work.take(asked(work), answered(0.9, 0.0))) == []
    (segment, _) = work.take(asked(work), answered(0.1, 0.0))
    assert segment.span_s == (pytest.approx(12 * FRAME_S - 0.03), pytest.approx(32 * FRAME_S))
