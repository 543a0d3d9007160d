"""What players say of a stream while they play it: to the person at the screen, in their log, and in their report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from camera_rig import as_stream, film, web_camera
from nearhall.cli.pilot.processes import TELL
from sim.test_players_process import PlayersProcess, players
from waiting import until

pytestmark = pytest.mark.timeout(60)


def told(playing: PlayersProcess) -> list[str]:
    """Lines for the screen."""
    lines = playing.out.read_bytes().splitlines()
    return [line.removeprefix(TELL).decode() for line in lines if line.startswith(TELL)]


def test_a_camera_s_loss_and_return_are_told_and_its_moments_counted(tmp_path: Path, free_port: Any):
    pictures = as_stream(20)
    with web_camera() as camera:
        camera.sends(pictures, None)
        with players(tmp_path, f"http://127.0.0.1:{free_port()}", kind="video", source=camera.url) as playing:
            playing.until_ready()
            until(lambda: len(told(playing)) == 1, what="the loss")
            rest = camera.sends(as_stream(100))  # FFmpeg looks at seconds of a stream before it gives the first picture
            until(lambda: len(told(playing)) == 2, 20, what="the return")
            rest.put(None)
            playing.close_stdin()
            report = playing.report()
    lost, back = told(playing)[:2]
    assert lost.startswith("line: the camera's stream was lost (")
    assert back == "line: the camera's pictures come again"
    assert lost in playing.log.read_text().replace("WARNING nearhall.players ", "")
    assert report["workloads"]["line"]["idle"] > 0


@pytest.mark.parametrize(("rate_per_s", "lines"), [(50.0, 1), (5.0, 0)])
def test_a_film_slower_than_it_was_asked_for_is_told(tmp_path: Path, free_port: Any, rate_per_s: float, lines: int):
    film(str(tmp_path / "f.mp4"), 20)
    origin = f"http://127.0.0.1:{free_port()}"
    with players(tmp_path, origin, kind="video", source=str(tmp_path / "f.mp4"), rate_per_s=rate_per_s) as playing:
        playing.until_ready()
        playing.close_stdin()
        playing.report()
    assert len(told(playing)) == lines
    assert all("the film has 10 pictures a second, fewer than the 50 that were asked for" in line for line in told(playing))
