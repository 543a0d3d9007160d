"""Speech segments: a microphone's frames through the Silero voice model, whose state the application carries along."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nearhall.drivers.media import Samples
from nearhall.sim.players.segments import Hearing, Segment, hear, stop
from nearhall.sim.players.work import Answer, Found, Request, TensorCall

FRAME = {16_000: 512, 8_000: 256}
CONTEXT = {16_000: 64, 8_000: 32}
"""Samples of a frame, and of the frame before that stand in front of it (silero-vad's own framing)."""
STATE_SHAPE = (2, 1, 128)
BYTES_PER_SAMPLE = 2
"""PCM, 16 bit: what the microphone would have sent."""


class SpeechWork:
    """Finds speech in a sound that plays in a loop. In order: each frame goes with the state that the one before left.

    Where a frame was skipped or its answer never came, that state is gone: the next frame starts afresh, and speech that went
    on is taken to end there.
    """

    def __init__(self, *, model: str, workload: str, samples: Samples, rate_hz: int) -> None:
        self._call = TensorCall(model, workload)
        self._rate_hz = rate_hz
        self._frame_s = FRAME[rate_hz] / rate_hz
        self._frames = frames(samples, rate_hz)
        self._tail = len(samples) - (len(self._frames) - 1) * FRAME[rate_hz]
        self._at = 0
        """The next frame, counted on through all rounds of the loop."""
        self._follows = False
        """Whether the next frame follows on the last answer."""
        self._state = np.zeros(STATE_SHAPE, dtype=np.float32)
        self._hearing = Hearing()
        self._ended: list[Segment] = []
        """Segments to be told with the next answer."""

    def next(self) -> Request | None:
        """The next frame, with the state as the last answer left it."""
        at = self._at % len(self._frames)
        if not self._follows or at == 0:
            self._start_afresh(at)
        self._at += 1
        self._follows = False
        frame = self._frames[at]
        inputs = {"input": ("FP32", frame[None]), "state": ("FP32", self._state), "sr": ("INT64", np.array(self._rate_hz))}
        samples = self._tail if at == len(self._frames) - 1 else FRAME[self._rate_hz]
        return self._call.request(inputs, raw_bytes=samples * BYTES_PER_SAMPLE)

    def skip(self, arrivals: int) -> None:
        """So many frames passed by."""
        self._at += arrivals
        self._follows = False

    def take(self, request: Request, answer: Answer) -> Sequence[Found]:
        """Segments that have ended, and their seconds of speech."""
        outputs = self._call.arrays(answer)
        probability = float(outputs["output"].ravel()[0])
        self._state = outputs["stateN"]
        self._hearing, ended = hear(self._hearing, probability, self._frame_s)
        self._follows = True
        segments, self._ended = [*self._ended, *([] if ended is None else [ended])], []
        return [found for segment in segments for found in _told(segment)]

    def close(self) -> None:
        """Nothing is open."""

    def _start_afresh(self, at: int) -> None:
        ended = stop(self._hearing)
        if ended is not None:
            self._ended.append(ended)
        self._state = np.zeros(STATE_SHAPE, dtype=np.float32)
        self._hearing = Hearing(at_s=at * self._frame_s)


def _told(segment: Segment) -> list[Found]:
    span = (segment.start_s, segment.end_s)
    return [Found("segments", 1, 1.0, span), Found("speech_seconds", 1, segment.end_s - segment.start_s)]


def frames(samples: Samples, rate_hz: int) -> list[Samples]:
    """Every frame with its context in front; silence stands before the first frame and behind the end of the last."""
    size, context = FRAME[rate_hz], CONTEXT[rate_hz]
    count = -(-len(samples) // size)
    padded = np.zeros(context + count * size, dtype=np.float32)
    padded[context : context + len(samples)] = samples
    return [padded[start : start + context + size] for start in range(0, count * size, size)]
