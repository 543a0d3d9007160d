"""The life of a pilot: start in order, watch, stop in order, write what it returned."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpcore
import msgspec

from nearhall.cli.pilot.layout import Layout, SitePlaces
from nearhall.cli.pilot.prepare import Programs
from nearhall.cli.pilot.processes import Program, Running, stop_all
from nearhall.core.errors import PermanentError
from nearhall.ports.clock import Clock
from nearhall.wire.live import LiveState

POLL_SECONDS = 1.0
CHAT_READY_SECONDS_MAX = 120.0
"""A 135-million-parameter model loads in 5 s alone and in 12 s on a busy machine (reference: measured); two load at once."""
LAST_WINDOWS_S = 4.5
"""Two windows of telemetry, for the last answers to be in a record: a hub elsewhere cannot be asked what it has."""
DRAIN_SECONDS_MAX = 12.0
"""Two telemetry windows (2 s each), a round trip and a slow disk; then the report is written without the rest, and says so."""
ANSWER_BYTES_MAX = 4 * 1024 * 1024


@dataclass(slots=True)
class Ended:
    """What a run leaves for its report."""

    started_s: float
    ended_s: float
    players: dict[str, Any] = field(default_factory=dict[str, Any])
    """By site: what the players saw from outside."""
    drained: bool = True
    state: LiveState | None = None


class Pilot:
    """All processes of a pilot. `show` gets the live state about once a second, `tell` one line at a time."""

    def __init__(
        self, layout: Layout, programs: Programs, clock: Clock, *, tell: Callable[[str], None], show: Callable[[LiveState], None]
    ) -> None:
        self._layout = layout
        self._programs = programs
        self._clock = clock
        self._tell = tell
        self._show = show
        self._running: dict[str, Running] = {}
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ends the run early, in order; the report is still written."""
        self._stop.set()

    def pids(self) -> Mapping[str, int | None]:
        """The living process of each program, by name."""
        return {name: running.pid for name, running in self._running.items()}

    async def run(self, seconds: float | None) -> Ended:
        """Runs the pilot for `seconds`, or until `stop`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        try:
            await self._start_world()
            return await self._play(seconds)
        finally:
            await self._stop_world()

    async def _start_world(self) -> None:
        programs = self._programs
        self._tell("starting the hub and the link" if programs.hub else "starting the virtual cabinets")
        await self._start([*programs.hub, *programs.link, *programs.cabinets])
        self._tell("starting the sites")
        await self._start(programs.agents)
        await self._until_models_ready()

    async def _play(self, seconds: float | None) -> Ended:
        self._tell("work begins")
        # Before the first player: one may wait for its camera while another's requests count already.
        ended = Ended(started_s=self._clock.utc(), ended_s=0.0)
        await self._start(self._programs.players)
        watching = asyncio.create_task(self._watch(ended))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
        self._tell("work ends; waiting for the last answers and the last telemetry")
        players = [self._running[program.name] for program in self._programs.players]
        await stop_all(players)
        ended.ended_s = self._clock.utc()
        for site, running in zip(self._layout.sites, players, strict=True):
            with suppress(json.JSONDecodeError):
                ended.players[site] = json.loads(running.last_line or b"{}")
        ended.drained = await self._drain(ended)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        return ended

    async def _stop_world(self) -> None:
        by_name = self._running
        for programs in (
            self._programs.players,
            self._programs.agents,
            self._programs.cabinets,
            self._programs.link,
            self._programs.hub,
        ):
            await stop_all([by_name[program.name] for program in programs if program.name in by_name])
        for places in self._layout.sites.values():
            shutil.rmtree(places.run, ignore_errors=True)

    async def _start(self, programs: list[Program]) -> None:
        fresh: list[Running] = []
        for program in programs:
            running = Running(program, self._tell)
            self._running[program.name] = running
            running.start()
            fresh.append(running)
        waits = [asyncio.create_task(running.until_ready()) for running in fresh]
        stop = asyncio.create_task(self._stop.wait())
        try:
            gathered = asyncio.gather(*waits)
            await asyncio.wait({gathered, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not gathered.done():
                gathered.cancel()
                raise KeyboardInterrupt
            await gathered
        finally:
            stop.cancel()

    async def _until_models_ready(self) -> None:
        """Waits for every model of every gateway; large models load in the background of a gateway that already serves."""
        wanted: list[tuple[str, int, str]] = [
            (site.id, self._layout.sites[site.id].service_port, model) for site in self._layout.up.sites for model in site.models
        ]
        deadline = self._clock.monotonic() + CHAT_READY_SECONDS_MAX
        async with httpcore.AsyncConnectionPool() as pool:
            for site, port, model in wanted:
                told = False
                while not await _answers_200(pool, f"http://127.0.0.1:{port}/v2/models/{model}/ready"):
                    if self._clock.monotonic() > deadline:
                        message = f"model {model} of {site} was not ready within {CHAT_READY_SECONDS_MAX:.0f} s"
                        raise PermanentError(message)
                    if self._stop.is_set():
                        raise KeyboardInterrupt
                    if not told:
                        self._tell(f"waiting for {model} at {site} to load")
                        told = True
                    await asyncio.sleep(0.2)

    async def _watch(self, ended: Ended) -> None:
        async with httpcore.AsyncConnectionPool() as pool:
            while True:
                state = await self._live(pool)
                if state is not None:
                    ended.state = state
                    self._show(state)
                await asyncio.sleep(POLL_SECONDS)

    async def _live(self, pool: httpcore.AsyncConnectionPool) -> LiveState | None:
        """The hub's live state; None while it cannot be had (the hub is starting again, or is elsewhere)."""
        hub = self._layout.hub
        if hub is None:
            return None
        url = f"http://127.0.0.1:{hub.page_port}/api/v1/live"
        with suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, msgspec.DecodeError):
            response = await pool.request(
                "GET", url, headers={"authorization": f"Bearer {hub.token}"}, extensions={"timeout": _timeout(2.0)}
            )
            if response.status == 200 and len(response.content) <= ANSWER_BYTES_MAX:
                return msgspec.json.decode(response.content, type=LiveState)
        return None

    async def _drain(self, ended: Ended) -> bool:
        """Waits until every site's telemetry up to the end of the work is at the hub; False when that took too long."""
        deadline = self._clock.monotonic() + DRAIN_SECONDS_MAX
        if self._layout.hub is None:
            await asyncio.sleep(LAST_WINDOWS_S)
            while any([await self._keeps_back(places) for places in self._layout.sites.values()]):
                if self._clock.monotonic() > deadline:
                    return False
                await asyncio.sleep(0.2)
            return True
        async with httpcore.AsyncConnectionPool() as pool:
            while self._clock.monotonic() < deadline:
                state = await self._live(pool)
                if state is not None and _all_in(state, len(self._layout.sites), ended.ended_s):
                    ended.state = state
                    return True
                await asyncio.sleep(0.2)
        return False

    async def _keeps_back(self, places: SitePlaces) -> bool:
        """Whether a site's agent holds telemetry that the hub has not got; True too while it does not say."""
        async with httpcore.AsyncConnectionPool(uds=str(places.agent_socket)) as pool:
            with suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, msgspec.DecodeError):
                answer = await pool.request("GET", "http://agent/state", extensions={"timeout": _timeout(2.0)})
                return bool(msgspec.json.decode(answer.content)["spooled_bytes"])
        return True


def _all_in(state: LiveState, sites: int, ended_s: float) -> bool:
    """Whether every site has reported past the end of the work and keeps nothing back."""
    return len(state.sites) == sites and all(site.last_seen_s >= ended_s and site.spooled_bytes == 0 for site in state.sites)


async def _answers_200(pool: httpcore.AsyncConnectionPool, url: str) -> bool:
    with suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
        response = await pool.request("GET", url, extensions={"timeout": _timeout(2.0)})
        return response.status == 200
    return False


def _timeout(seconds: float) -> dict[str, float]:
    return {"connect": seconds, "read": seconds, "write": seconds, "pool": seconds}
