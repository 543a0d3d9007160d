"""Plays the workloads of one site: each arrival is sent when it is due, whatever became of the one before.

Work that goes in order (speech, whose state each answer hands on) waits its turn instead; its times from the intended arrival
say for how long.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, TypeVarTuple

from nearhall.ports.clock import Clock
from nearhall.sim.players.client import GatewayClient
from nearhall.sim.players.seen import Seen, totals
from nearhall.sim.players.work import Answer, Found, Request, Work, WorkInOrder

LAST_ANSWERS_S = 10.0
"""After the end of the arrivals, for answers under way; what is open then is cancelled and counted as unanswered."""
CANCEL_S = 2.0
"""For closing the connections of what is cancelled. With the time above it must stay below the pilot's STOP_SECONDS_MAX."""

_log = logging.getLogger(__name__)
Given = TypeVarTuple("Given")
Result = TypeVar("Result")


@dataclass(slots=True)
class Stream:
    """One workload being played."""

    id: str
    work: Work
    arrivals: Iterator[float]
    """Seconds from the start, ascending."""
    client: GatewayClient
    """Its own, so that another workload's slow answers keep no connection from it."""
    seen: Seen = field(default_factory=Seen)
    executor: Executor | None = None
    """One thread for the application's own work with large pictures, so that it holds up nobody's stopwatch. None: it is done on
    the loop, for it takes no longer than handing it to a thread."""
    under_way: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])
    waiting: deque[tuple[int, float]] = field(default_factory=deque[tuple[int, float]])
    """Work in order: number and intended time of the arrivals whose turn has not come."""
    passed: int = 0
    """Work in order: arrivals that had their turn, or lost it."""
    in_turn: bool = False
    """Work in order: whether a task works through `waiting`."""


class Player:
    """All workloads of a site."""

    def __init__(
        self, *, clock: Clock, results_socket: str | None, in_flight_max: int, last_answers_s: float = LAST_ANSWERS_S
    ) -> None:
        self._clock = clock
        self._in_flight_max = in_flight_max
        self._last_answers_s = last_answers_s
        self._results_socket = results_socket
        self._datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._datagrams.setblocking(False)

    async def play(self, streams: Sequence[Stream], stop: asyncio.Event, seconds: float | None) -> dict[str, object]:
        """Plays until `stop` or for `seconds`; gives the closing report, whatever fails meanwhile."""
        began = self._clock.monotonic()
        halt = asyncio.create_task(stop.wait())
        sources = [asyncio.create_task(self._source(stream, began, seconds)) for stream in streams]
        all_played = asyncio.gather(*sources)
        await asyncio.wait({halt, all_played}, return_when=asyncio.FIRST_COMPLETED)
        halt.cancel()
        all_played.cancel()
        await asyncio.wait({halt, *sources})
        with suppress(asyncio.CancelledError):
            await all_played
        await self._last_answers(streams)
        for stream in streams:
            try:
                stream.work.close()
            except Exception as error:  # counted and logged: the report must come
                _note(stream, "close", error)
        self._datagrams.close()
        report = {stream.id: stream.seen.plain() for stream in streams}
        return {"seconds": self._clock.monotonic() - began, "totals": totals([s.seen for s in streams]), "workloads": report}

    async def _last_answers(self, streams: Sequence[Stream]) -> None:
        """Waits for what is under way, cancels what does not end, and counts what never had its turn."""
        under_way = [task for stream in streams for task in stream.under_way]
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=self._last_answers_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CANCEL_S)
        for stream in streams:
            stream.seen.unanswered += sum(not task.done() for task in stream.under_way)  # its connection does not even close
            stream.seen.dropped += len(stream.waiting)
            stream.waiting.clear()

    async def _source(self, stream: Stream, began: float, seconds: float | None) -> None:
        """Sends each arrival when it is due."""
        try:
            for number, offset in enumerate(stream.arrivals):
                if seconds is not None and offset > seconds:
                    return
                await asyncio.sleep(max(0.0, began + offset - self._clock.monotonic()))
                stream.seen.arrivals += 1
                self._arrive(stream, number, began + offset)
        except Exception as error:  # this workload ends; the others and the report go on
            _note(stream, "arrivals", error)

    def _arrive(self, stream: Stream, number: int, intended_s: float) -> None:
        if isinstance(stream.work, WorkInOrder):
            if len(stream.waiting) >= self._in_flight_max:
                stream.seen.dropped += 1
                return
            stream.waiting.append((number, intended_s))
            if not stream.in_turn:
                stream.in_turn = True
                _spawn(stream, self._in_turn(stream, stream.work))
        elif len(stream.under_way) >= self._in_flight_max:
            stream.seen.dropped += 1
        else:
            _spawn(stream, self._serve(stream, intended_s))

    async def _in_turn(self, stream: Stream, work: WorkInOrder) -> None:
        """Asks for what waits, one after the other, until nothing does."""
        while stream.waiting:
            number, intended_s = stream.waiting.popleft()
            if number > stream.passed:
                work.skip(number - stream.passed)
            stream.passed = number + 1
            await self._serve(stream, intended_s)
        stream.in_turn = False  # at once: the task counts as under way until the loop's next turn

    async def _serve(self, stream: Stream, intended_s: float) -> None:
        """One arrival, from the making of its request to what its answer says."""
        request = await _next(stream)
        if request is None:
            return
        answer = await stream.client.ask(request, stream.seen, intended_s=intended_s)
        if answer is not None and answer.status == 200 and answer.cut_short is None:
            for found in await _take(stream, request, answer):
                stream.seen.keep(found)
                self._tell(stream.id, found)

    def _tell(self, workload: str, found: Found) -> None:
        """Hands a number to the agent; while the agent is away it is lost, as a count of faces may be."""
        if self._results_socket is None:
            return
        message = {"workload": workload, "name": found.name, "count": found.count, "value": found.value}
        with suppress(OSError):
            self._datagrams.sendto(json.dumps(message).encode(), self._results_socket)


async def _next(stream: Stream) -> Request | None:
    """The application's next request, if it has one; an arrival without is counted here."""
    try:
        request = await _apart(stream, stream.work.next)
    except asyncio.CancelledError:
        stream.seen.dropped += 1
        raise
    except Exception as error:  # counted and logged; the next arrival is tried again
        stream.seen.unready += 1
        _note(stream, "next", error)
        return None
    if request is None:
        stream.seen.idle += 1
    return request


async def _take(stream: Stream, request: Request, answer: Answer) -> Sequence[Found]:
    """What the application finds in an answer; nothing where it cannot read it, which is counted."""
    try:
        return await _apart(stream, stream.work.take, request, answer)
    except asyncio.CancelledError:
        stream.seen.misread += 1
        raise
    except Exception as error:  # counted and logged: an answer that cannot be read is news, not an end
        stream.seen.misread += 1
        _note(stream, "take", error)
        return ()


async def _apart(stream: Stream, work: Callable[[*Given], Result], *given: *Given) -> Result:
    """Does the application's own work where it holds up nobody else."""
    if stream.executor is None:
        return work(*given)
    return await asyncio.get_running_loop().run_in_executor(stream.executor, work, *given)


def _spawn(stream: Stream, work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    stream.under_way.add(task)
    task.add_done_callback(stream.under_way.discard)


def _note(stream: Stream, where: str, error: Exception) -> None:
    """Counts an error of the application's own and logs the first of its kind."""
    if stream.seen.error(f"{where} {type(error).__name__}"):
        _log.error("%s: %s failed", stream.id, where, exc_info=error)
