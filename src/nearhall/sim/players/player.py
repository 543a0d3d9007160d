"""Plays the workloads of one site: each arrival is sent when it is due, whatever became of the one before."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from nearhall.ports.clock import Clock
from nearhall.sim.players.client import GatewayClient, Seen, totals
from nearhall.sim.players.work import Found, Request, Work

LAST_ANSWERS_S = 10.0
"""After the end of the arrivals, for answers under way."""


@dataclass(slots=True)
class Stream:
    """One workload being played."""

    id: str
    work: Work
    arrivals: Iterator[float]
    seen: Seen = field(default_factory=Seen)
    under_way: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])


class Player:
    """All workloads of a site."""

    def __init__(self, *, client: GatewayClient, clock: Clock, results_socket: str | None, in_flight_max: int) -> None:
        self._client = client
        self._clock = clock
        self._in_flight_max = in_flight_max
        self._results_socket = results_socket
        self._datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._datagrams.setblocking(False)

    async def play(self, streams: list[Stream], stop: asyncio.Event, seconds: float | None) -> dict[str, object]:
        """Plays until `stop` or for `seconds`; gives the closing report."""
        began = self._clock.monotonic()
        tasks = [asyncio.create_task(self._stream(stream, began, seconds)) for stream in streams]
        halt = asyncio.create_task(stop.wait())
        done: asyncio.Future[list[None]] = asyncio.gather(*tasks)
        await asyncio.wait({halt, done}, return_when=asyncio.FIRST_COMPLETED)
        halt.cancel()
        done.cancel()
        with suppress(asyncio.CancelledError):
            await done
        under_way = [task for stream in streams for task in stream.under_way]
        if under_way:
            await asyncio.wait(under_way, timeout=LAST_ANSWERS_S)
        for stream in streams:
            stream.work.close()
        self._datagrams.close()
        report = {stream.id: stream.seen.plain() for stream in streams}
        return {"seconds": self._clock.monotonic() - began, "totals": totals([s.seen for s in streams]), "workloads": report}

    async def _stream(self, stream: Stream, began: float, seconds: float | None) -> None:
        for offset in stream.arrivals:
            if seconds is not None and offset > seconds:
                return
            await asyncio.sleep(max(0.0, began + offset - self._clock.monotonic()))
            if len(stream.under_way) >= self._in_flight_max:
                stream.seen.dropped += 1
                continue
            request = stream.work.next()
            if request is None:
                stream.seen.idle += 1
                continue
            task = asyncio.create_task(self._ask(stream, request, began + offset))
            stream.under_way.add(task)
            task.add_done_callback(stream.under_way.discard)

    async def _ask(self, stream: Stream, request: Request, intended_s: float) -> None:
        answer = await self._client.ask(request, stream.seen, intended_s=intended_s)
        if answer is not None and answer.status == 200:
            for found in stream.work.take(request, answer):
                self._tell(stream.id, found)

    def _tell(self, workload: str, found: Found) -> None:
        """Hands a number to the agent; while the agent is away it is lost, as a count of faces may be."""
        if self._results_socket is None:
            return
        message = {"workload": workload, "name": found.name, "count": found.count, "value": found.value}
        with suppress(OSError):
            self._datagrams.sendto(json.dumps(message).encode(), self._results_socket)
