"""Pictures and sound from files and cameras: what is read, what it weighed, and what happens when a camera goes away."""

from __future__ import annotations

import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from camera_rig import WebCamera, as_stream, film, needs_server, rtsp, web_camera
from nearhall.core.errors import InputError
from nearhall.drivers.media import LiveStream, check_pictures, load_clip, load_sound, png_bytes
from waiting import until

PASSWORD = "pass-51ab7e"
pytestmark = pytest.mark.timeout(60)


def video_bytes(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(packet.size for packet in container.demux(video=0))


@pytest.mark.parametrize(("wanted", "kept", "rate"), [(10, 40, 10.0), (5, 20, 5.0), (3, 12, 3.0), (50, 40, 10.0)])
def test_a_film_is_thinned_and_every_byte_of_it_counted(tmp_path: Path, wanted: float, kept: int, rate: float):
    film(str(tmp_path / "f.mp4"), 40)
    clip = load_clip(tmp_path / "f.mp4", rate_per_s=wanted, frames_max=300)
    assert len(clip.frames) == kept
    assert clip.rate_per_s == pytest.approx(rate)
    assert sum(frame.encoded_bytes for frame in clip.frames) == video_bytes(tmp_path / "f.mp4")
    assert clip.frames[0].pixels.shape == (48, 64, 3)


def test_a_long_film_is_cut_and_scaled(tmp_path: Path):
    film(str(tmp_path / "f.mp4"), 40)
    clip = load_clip(tmp_path / "f.mp4", rate_per_s=10, frames_max=7, size=(32, 24))
    assert len(clip.frames) == 7
    assert {frame.pixels.shape for frame in clip.frames} == {(24, 32, 3)}


def test_a_folder_is_a_film_of_its_pictures(tmp_path: Path):
    for number, suffix in enumerate(("png", "jpg", "txt")):
        path = tmp_path / f"{number}.{suffix}"
        if suffix == "txt":
            path.write_text("no picture")
        else:
            Image.new("RGB", (20, 10), (number, 0, 0)).save(path)
    clip = load_clip(tmp_path, rate_per_s=2, frames_max=10)
    assert [frame.encoded_bytes for frame in clip.frames] == [(tmp_path / name).stat().st_size for name in ("0.png", "1.jpg")]
    check_pictures(str(tmp_path))


def test_what_is_no_film_is_one_line(tmp_path: Path):
    (tmp_path / "x.mp4").write_bytes(b"no film at all")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_bytes(b"no picture")
    with wave.open(str(tmp_path / "s.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    for name, told in {
        "x.mp4": "is no film that can be read",
        "empty": "has no pictures in it",
        "bad": "1.png: is no picture",
        "s.wav": "is no film that can be read",
        "none.mp4": "No such file",
    }.items():
        with pytest.raises(InputError, match=told):
            check_pictures(str(tmp_path / name))


def test_sound_is_mono_at_the_rate_that_is_asked(tmp_path: Path):
    tone = (np.sin(np.arange(8000) / 8000 * 2 * np.pi * 440) * 16000).astype("<i2")
    with wave.open(str(tmp_path / "s.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(tone.tobytes())
    (tmp_path / "s.raw").write_bytes(tone.tobytes())
    heard = load_sound(tmp_path / "s.wav", rate_hz=16_000, seconds_max=60)
    assert heard.size == pytest.approx(16_000, abs=100)
    assert np.abs(heard).max() == pytest.approx(16000 / 32768, abs=0.05)
    assert load_sound(tmp_path / "s.raw", rate_hz=8_000, seconds_max=0.5).size == 4_000
    with pytest.raises(InputError, match="is raw sound at 8000 Hz, not 16000"):
        load_sound(tmp_path / "s.raw", rate_hz=16_000, seconds_max=1)
    (tmp_path / "t.wav").write_text("no sound")
    with pytest.raises(InputError, match="has no sound that can be read"):
        load_sound(tmp_path / "t.wav", rate_hz=8_000, seconds_max=1)


def test_a_grey_picture_weighs_what_its_png_does():
    assert png_bytes(np.zeros((8, 8))) < png_bytes(np.random.default_rng(1).integers(0, 255, (8, 8)))


@pytest.fixture
def camera() -> Iterator[WebCamera]:
    with web_camera() as made:
        yield made


@pytest.fixture(scope="module")
def stream() -> bytes:
    """Eight seconds of a camera, as it comes over the network."""
    return as_stream(80)


def test_the_newest_picture_and_all_bytes_since_the_last_look(camera: WebCamera, stream: bytes):
    rest = camera.sends(stream)
    live = LiveStream(camera.url, size=(32, 24))
    found = []

    def look() -> int:
        frame = live.latest()
        if frame is not None:
            found.append(frame)
        return sum(frame.encoded_bytes for frame in found)

    until(lambda: look() > len(stream) / 4, what="the pictures")
    assert look() < len(stream), "the container's own bytes are not the camera's pictures"
    assert {frame.pixels.shape for frame in found} == {(24, 32, 3)}
    until(lambda: live.latest() is None, what="nothing newer")
    assert live.lost == 0
    rest.put(None)
    live.close()


def test_a_camera_that_goes_away_is_told_and_tried_until_it_is_back(camera: WebCamera, stream: bytes):
    said: list[str] = []
    camera.sends(stream, None)
    live = LiveStream(camera.url, tell=said.append)
    until(lambda: live.lost == 1, what="the loss")
    assert len(said) == 1
    assert said[0].startswith("the camera's stream was lost (")
    while live.latest() is not None:
        pass
    camera.sends(b"not a film", None)
    rest = camera.sends(stream)
    until(lambda: len(said) == 2, 20, what="the return")
    assert said[1] == "the camera's pictures come again"
    until(lambda: live.latest() is not None, what="a new picture")
    assert live.lost == 1, "tries in between are one loss"
    rest.put(None)
    live.close()
    assert not any(thread.name == "camera" for thread in threading.enumerate())


def test_an_address_without_pictures_is_one_line_without_its_password(camera: WebCamera):
    camera.sends(b"no film", None)
    address = camera.url.replace("http://", f"http://user:{PASSWORD}@")
    with pytest.raises(InputError) as refused:
        LiveStream(address)
    assert PASSWORD not in str(refused.value)
    assert "no stream can be read" in str(refused.value)
    assert "127.0.0.1" in str(refused.value)


@needs_server
def test_a_real_rtsp_camera_is_read_lost_and_found_again():
    said: list[str] = []
    with rtsp("") as port:
        live = LiveStream(f"rtsp://127.0.0.1:{port}/cam", tell=said.append)
        frame = live.latest()
        assert frame is not None
        assert frame.pixels.shape == (240, 320, 3)
        until(lambda: (frame := live.latest()) is not None and frame.encoded_bytes > 0, what="the next picture")
    until(lambda: live.lost == 1, 20, what="the loss")
    with rtsp("", str(port)):
        until(lambda: said[-1] == "the camera's pictures come again", 30, what="the return")
        live.close()


@needs_server
def test_a_camera_with_a_password():
    with rtsp(f"viewer:{PASSWORD}") as port:
        check_pictures(f"rtsp://viewer:{PASSWORD}@127.0.0.1:{port}/cam")
        for login in ("", "viewer:wrong-5512@"):
            with pytest.raises(InputError, match="no stream can be read") as refused:
                check_pictures(f"rtsp://{login}127.0.0.1:{port}/cam")
            assert "wrong-5512" not in str(refused.value)
