"""Speech segments: a microphone's frames through the Silero voice model, whose state the application carries along."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nearhall.drivers.media import Samples
from nearhall.sim.players.work import Answer, Found, Request, TensorCall

FRAME = {16_000: 512, 8_000: 256}
CONTEXT = {16_000: 64, 8_000: 32}
"""Samples of a frame, and of the frame before that stand in front of it (silero-vad's own framing)."""
STATE_SHAPE = (2, 1, 128)
THRESHOLD = 0.5
BYTES_PER_SAMPLE = 2
"""PCM, 16 bit: what the microphone would have sent."""


class SpeechWork:
    """Finds speech in a sound that plays in a loop."""

    def __init__(self, *, model: str, workload: str, samples: Samples, rate_hz: int) -> None:
        self._call = TensorCall(model, workload)
        self._rate_hz = rate_hz
        self._frames = frames(samples, rate_hz)
        self._at = 0
        self._state = np.zeros(STATE_SHAPE, dtype=np.float32)
        self._speaking = False

    def next(self) -> Request | None:
        """The next frame, with the state as the last answer left it."""
        if self._at % len(self._frames) == 0:
            self._state = np.zeros(STATE_SHAPE, dtype=np.float32)
        frame = self._frames[self._at % len(self._frames)]
        self._at += 1
        inputs = {"input": ("FP32", frame[None]), "state": ("FP32", self._state), "sr": ("INT64", np.array(self._rate_hz))}
        return self._call.request(inputs, raw_bytes=FRAME[self._rate_hz] * BYTES_PER_SAMPLE)

    def take(self, request: Request, answer: Answer) -> Sequence[Found]:
        """Seconds of speech, and a segment where speech begins."""
        outputs = self._call.arrays(answer)
        self._state = outputs["stateN"]
        speech = float(outputs["output"].ravel()[0]) > THRESHOLD
        begins = speech and not self._speaking
        self._speaking = speech
        found = [Found("speech_seconds", 1, FRAME[self._rate_hz] / self._rate_hz if speech else 0.0)]
        return [*found, Found("segments", 1, 1.0)] if begins else found

    def close(self) -> None:
        """Nothing is open."""


def frames(samples: Samples, rate_hz: int) -> list[Samples]:
    """Every whole frame with its context in front; the first frame's context is silence."""
    size, context = FRAME[rate_hz], CONTEXT[rate_hz]
    padded = np.concatenate([np.zeros(context, dtype=np.float32), samples.astype(np.float32)])
    return [padded[start : start + context + size] for start in range(0, len(samples) - size + 1, size)]
