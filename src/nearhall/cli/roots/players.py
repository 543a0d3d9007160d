"""The players of one site: `python -m nearhall.cli.roots.players SETTINGS.json`. The last line they print is their report."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from nearhall.cli.roots.program import read_settings, run_program, say, say_ready, stop_event
from nearhall.core.addresses import filled
from nearhall.core.errors import InputError, TemporaryError
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.media import Clip, LiveStream, load_clip, load_sound
from nearhall.sim.players.arrivals import bursts, poisson, steady
from nearhall.sim.players.camera import CameraWork, ImageInput
from nearhall.sim.players.chat import ChatWork
from nearhall.sim.players.client import GatewayClient
from nearhall.sim.players.faces import FaceWork
from nearhall.sim.players.inspection import InspectionWork
from nearhall.sim.players.player import Player, Stream
from nearhall.sim.players.settings import Settings, Workload
from nearhall.sim.players.speech import SpeechWork
from nearhall.sim.players.work import Work

log = logging.getLogger("nearhall.players")

FRAMES_MAX = 300
"""Of a clip in memory: half a minute at ten a second; it plays in a loop."""
SOUND_SECONDS_MAX = 60.0
ARRIVALS: dict[str, Callable[[float, int], Iterator[float]]] = {"inspection": bursts, "chat": poisson}
"""Parts come by the tray, people as they please; everything else is clocked."""


async def main(path: str) -> None:
    """Plays until told to stop, then prints the report."""
    settings = read_settings(path, Settings)
    stop = stop_event(with_stdin=settings.exit_with_stdin)
    clock = SystemClock()
    clients = [GatewayClient(settings.gateway, clock) for _ in settings.workloads]
    try:
        streams = [await _stream(workload, client) for workload, client in zip(settings.workloads, clients, strict=True)]
        await asyncio.gather(*(client.warm() for client in clients))
        player = Player(clock=clock, results_socket=settings.results_socket, in_flight_max=settings.in_flight_max)
        say_ready(site=settings.site)
        report = await player.play(streams, stop, settings.seconds)
        sys.stdout.write(json.dumps({"site": settings.site, **report}) + "\n")
        sys.stdout.flush()
    finally:
        for client in clients:
            await client.close()


async def _stream(workload: Workload, client: GatewayClient) -> Stream:
    arrive = ARRIVALS.get(workload.kind, steady)
    rate_per_s = workload.rate_per_s
    if workload.kind in {"video", "camera"}:
        image = await _image(workload, client) if workload.kind == "camera" else None
        source = await asyncio.to_thread(_pictures, workload, None if image is None else image.size)
        rate_per_s = _own_rate(workload, source)
        given = {"model": workload.model, "workload": workload.id}
        work = FaceWork(**given, source=source) if image is None else CameraWork(**given, source=source, image=image)
    else:
        work = await asyncio.to_thread(_work, workload)
    apart = ThreadPoolExecutor(1, thread_name_prefix=workload.id) if workload.kind == "camera" else None
    return Stream(id=workload.id, work=work, arrivals=arrive(rate_per_s, workload.seed), client=client, executor=apart)


def _own_rate(workload: Workload, source: Clip | LiveStream) -> float:
    """Pictures a second: a film that has fewer than were asked for plays at its own pace, not faster."""
    if isinstance(source, LiveStream) or source.rate_per_s >= workload.rate_per_s:
        return workload.rate_per_s
    has, asked = f"{source.rate_per_s:.3g} pictures a second", f"{workload.rate_per_s:.3g}"
    _tell(workload, f"the film has {has}, fewer than the {asked} that were asked for; it plays at its own pace")
    return source.rate_per_s


def _tell(workload: Workload, text: str) -> None:
    """Tells what happens to a stream, in the log and on the screen."""
    log.warning("%s: %s", workload.id, text)
    say(f"{workload.id}: {text}")


def _work(workload: Workload) -> Work:
    match workload.kind:
        case "speech":
            path = Path(_source(workload))
            rate_hz = 8_000 if path.suffix == ".raw" else 16_000
            samples = load_sound(path, rate_hz=rate_hz, seconds_max=SOUND_SECONDS_MAX)
            return SpeechWork(model=workload.model, workload=workload.id, samples=samples, rate_hz=rate_hz)
        case "inspection":
            sklearn_datasets: Any = import_module("sklearn.datasets")  # no types come with it
            images, labels = sklearn_datasets.load_digits(return_X_y=True)
            return InspectionWork(model=workload.model, workload=workload.id, images=images, labels=labels, seed=workload.seed)
        case "chat":
            return ChatWork(model=workload.model, workload=workload.id, seed=workload.seed)
        case _:
            raise InputError(
                f"workload {workload.id} is of kind {workload.kind!r}", right="video, speech, inspection, chat or camera"
            )


async def _image(workload: Workload, client: GatewayClient) -> ImageInput:
    """How the user's own model takes a picture."""
    status, body = await client.get(f"/v2/models/{workload.model}")
    if status != 200:
        raise TemporaryError(f"the gateway knows no model {workload.model!r} (status {status})")
    return ImageInput(msgspec.json.decode(body))


def _pictures(workload: Workload, size: tuple[int, int] | None) -> Clip | LiveStream:
    source = _source(workload)
    if "://" in source:
        return LiveStream(source, size=size, tell=lambda text: _tell(workload, text))
    return load_clip(Path(source), rate_per_s=workload.rate_per_s, frames_max=FRAMES_MAX, size=size)


def _source(workload: Workload) -> str:
    if workload.source is None:
        raise InputError(f"workload {workload.id} has no source", right="name a file, a folder or an rtsp:// address")
    return filled(workload.source, os.environ, where=f"source of workload {workload.id}")


if __name__ == "__main__":
    run_program(main)
