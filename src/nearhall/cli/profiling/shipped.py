"""Real data that nearhall has by itself for models of a known form: digits, faces in clips, speech. Nothing is fetched for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nearhall.cli.profiling.feeds import SAMPLES_MAX, Feed, Feeds
from nearhall.cli.roots.models import DIGITS_SOURCE, FACES, VOICE
from nearhall.core.errors import InputError, PermanentError
from nearhall.core.evidence import Kind
from nearhall.core.tensor import TensorSpec
from nearhall.drivers.arrays import Array

FRAMES_MAX = 120
"""Of each clip: the car phone's whole length."""
SOUND_S_MAX = 5.0
"""Of each sound: the film's is long."""
RATE_HZ = 8_000

Run = Callable[[Feed], Feed]
"""Runs the reference once: what a model keeps between requests is taken from its own answers."""


def shipped(specs: Sequence[TensorSpec], source: str, cache: Path, run: Run) -> Feeds | None:
    """Data for a model of this form; None where we have none, or what brings it is not installed or fetched.

    `source` is where model.yaml says that the model comes from: of a form that another model shares, the data may be real and
    yet not what that model is for, and then agreement on it is `assumed`.
    """
    form = {spec.name: (spec.dtype, spec.shape) for spec in specs}
    found: Feeds | None = None
    ours = False
    try:
        if form == {"image": ("FP32", (-1, 64))}:
            found, ours = _digits(), source == DIGITS_SOURCE
        elif form == {"input": ("FP32", (1, 128, 128, 3))}:
            found, ours = _faces(cache), source.startswith(FACES.name)
        elif set(form) == {"input", "state", "sr"} and form["state"][1] == (2, -1, 128):
            found, ours = _speech(cache, run), source.startswith(VOICE.name)
    except (
        ImportError,
        InputError,
        PermanentError,
        KeyError,
    ):  # what reads it is not here, or the model is another one after all
        return None
    if found is None or ours:
        return found
    note = f"run on {found.source}, which may not be what it is for: give --data"
    return replace(found, kind=Kind.ASSUMED, notes=[*found.notes, note])


def _digits() -> Feeds:
    """What the inspection model was not trained on."""
    from nearhall.drivers.digits import held_out_digits

    held = held_out_digits()
    feeds = [{"image": held[index : index + 1]} for index in range(min(len(held), SAMPLES_MAX))]
    return Feeds(feeds=feeds, source="scikit-learn's digits, held out of training", kind=Kind.MEASURED)


def _faces(cache: Path) -> Feeds | None:
    """Frames of the clips, as the camera workload sends them."""
    from nearhall.drivers.media import load_clip
    from nearhall.sim.players.faces import letterboxed

    clips = [path for path in _clips(cache, "*.mp4") if path.stem.startswith("carphone") or path.stem == "bigbuckbunny"]
    if not clips:
        return None
    frames = [f.pixels for path in clips for f in load_clip(path, rate_per_s=25, frames_max=FRAMES_MAX, size=None).frames]
    feeds = [{"input": letterboxed(pixels).astype(np.float32)[None] / 127.5 - 1.0} for pixels in frames]
    return Feeds(feeds=feeds[:SAMPLES_MAX], source=f"frames of {', '.join(path.stem for path in clips)}", kind=Kind.MEASURED)


def _speech(cache: Path, run: Run) -> Feeds | None:
    """Frames of speech and of a film's sound in order, each with the state that the reference left after the one before."""
    from nearhall.drivers.media import load_sound

    clips = [*_clips(cache, "test-audio.raw"), *_clips(cache, "bigbuckbunny.mp4")]
    if not clips:
        return None
    feeds = [feed for clip in clips for feed in _heard(load_sound(clip, rate_hz=RATE_HZ, seconds_max=SOUND_S_MAX), run)]
    note = "each frame had the state that the reference left: what adds up over many frames is not seen"
    source = f"8 kHz sound of {', '.join(path.name for path in clips)}"
    return Feeds(feeds=feeds[:SAMPLES_MAX], source=source, kind=Kind.MEASURED, notes=[note])


def _heard(sound: Array, run: Run) -> Iterator[Feed]:
    from nearhall.sim.players.speech import STATE_SHAPE, frames

    state = np.zeros(STATE_SHAPE, dtype=np.float32)
    for frame in frames(sound, RATE_HZ):
        feed = {"input": frame[None], "state": state, "sr": np.array(RATE_HZ, dtype=np.int64)}
        state = run(feed)["stateN"]
        yield feed


def _clips(cache: Path, pattern: str) -> list[Path]:
    return sorted((cache / "files").glob(f"*/{pattern}"))
