"""The players of one site: `python -m nearhall.cli.roots.players SETTINGS.json`. The last line they print is their report."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from nearhall.cli.roots.program import read_settings, run_program, say_ready, stop_event
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
    work = await _camera(workload, client) if workload.kind == "camera" else await asyncio.to_thread(_work, workload)
    return Stream(id=workload.id, work=work, arrivals=arrive(workload.rate_per_s, workload.seed), client=client)


def _work(workload: Workload) -> Work:
    match workload.kind:
        case "video":
            return FaceWork(model=workload.model, workload=workload.id, source=_pictures(workload, None))
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


async def _camera(workload: Workload, client: GatewayClient) -> Work:
    status, body = await client.get(f"/v2/models/{workload.model}")
    if status != 200:
        raise TemporaryError(f"the gateway knows no model {workload.model!r} (status {status})")
    image = ImageInput(msgspec.json.decode(body))
    source = await asyncio.to_thread(_pictures, workload, image.size)
    return CameraWork(model=workload.model, workload=workload.id, source=source, image=image)


def _pictures(workload: Workload, size: tuple[int, int] | None) -> Clip | LiveStream:
    source = _source(workload)
    if "://" in source:
        return LiveStream(source, size=size)
    return load_clip(Path(source), rate_per_s=workload.rate_per_s, frames_max=FRAMES_MAX, size=size)


def _source(workload: Workload) -> str:
    if workload.source is None:
        raise InputError(f"workload {workload.id} has no source", right="name a file, a folder or an rtsp:// address")
    return filled(workload.source, os.environ, where=f"source of workload {workload.id}")


if __name__ == "__main__":
    run_program(main)
