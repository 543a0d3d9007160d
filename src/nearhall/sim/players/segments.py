"""From the probabilities that a voice model gives, frame by frame, to stretches of speech: with hysteresis, purely.

Rules and defaults are those that Silero publishes with its model (silero-vad 6.2, `get_speech_timestamps`): speech begins with
a frame at or above 0.5; it ends where frames lie below 0.35 for 100 ms; what is not longer than 250 ms is a noise; each stretch
gets 30 ms at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BEGINS_AT = 0.5
ENDS_BELOW = BEGINS_AT - 0.15
SPEECH_SECONDS_MIN = 0.25
SILENCE_SECONDS_MIN = 0.1
PAD_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech, in seconds of the sound."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Hearing:
    """What has been heard so far."""

    at_s: float = 0.0
    """Where the next frame begins."""
    since_s: float | None = None
    """Where the speech that goes on began."""
    silent_s: float | None = None
    """Where the silence in it began that may end it."""


def hear(state: Hearing, probability: float, frame_s: float) -> tuple[Hearing, Segment | None]:
    """The state after one more frame of `frame_s` seconds, and the segment that it ends, if it does."""
    at, after = state.at_s, state.at_s + frame_s
    if probability >= BEGINS_AT:
        since = at if state.since_s is None else state.since_s
        return Hearing(after, since, None), None
    if state.since_s is None or probability >= ENDS_BELOW:
        return replace(state, at_s=after), None
    silent = at if state.silent_s is None else state.silent_s
    if at - silent < SILENCE_SECONDS_MIN:
        return Hearing(after, state.since_s, silent), None
    return Hearing(after), _segment(state.since_s, silent, at)


def stop(state: Hearing) -> Segment | None:
    """The segment that the end of the sound ends, if there is one."""
    if state.since_s is None:
        return None
    return _segment(state.since_s, state.at_s if state.silent_s is None else state.silent_s, state.at_s)


def _segment(start_s: float, end_s: float, heard_s: float) -> Segment | None:
    if end_s - start_s <= SPEECH_SECONDS_MIN:
        return None
    return Segment(max(0.0, start_s - PAD_SECONDS), min(heard_s, end_s + PAD_SECONDS))
