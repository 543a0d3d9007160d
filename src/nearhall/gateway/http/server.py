"""The gateway's HTTP server: connections, what all of them may hold together, and their orderly end."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from nearhall.gateway.http.again import KnownHeads
from nearhall.gateway.http.connection import App, Connection, Turn, Turned

log = logging.getLogger("nearhall.gateway")

BACKLOG = 512
"""Connections the kernel holds while the loop is busy; the default of 128 lost some in bursts."""
KEEP_ALIVE_S = 75.0
"""Longer than the idle time of common clients' pools, so that they close first and never write into a closing connection."""
SILENT_S = 30.0
"""A client that says nothing for so long in the middle of a request, or does not read its answer, is cut off."""
HELD_BYTES_MAX = 512 * 1024 * 1024
"""Of bodies that are being received, all connections together: eight of the largest."""
SWEEP_S = 1.0
HELD_UP_S = 1.0
"""A look that is later than this says that this program was held up itself, or all of its machine."""
READ_BYTES = 256 * 1024
"""Read at a time, always into the same memory, which stays in the processor's cache: a new buffer for each read, as transports
make them otherwise, took 3 % of the CPU of an answer (two runs each, 1.24 and 1.34 instead of 1.28 and 1.37 of session.run's)."""

TurnAway = Callable[[Any], "Turned | None"]
"""Told a request's head (ASGI's scope): the answer if it is refused at once, None to let it come."""
Take = Callable[[Sequence[Turn]], Sequence[Turn]]
"""Given the requests that have come whole in one turn of the loop: begins to answer those that it can without a task, and returns
the others for the application. Each one that it keeps is to `leave` the server."""


def _nobody(_: Any) -> None:
    return None


def _nothing() -> None:
    """Nobody is told."""


class Server:
    """Serves one application on one socket."""

    def __init__(
        self,
        app: App,
        *,
        body_bytes_max: int,
        turn_away: TurnAway = _nobody,
        take: Take | None = None,
        tls_of: Callable[[Any], dict[str, Any] | None] = _nobody,
        stirred: Callable[[], None] = _nothing,
        held_bytes_max: int = HELD_BYTES_MAX,
    ) -> None:
        """A body over `body_bytes_max` is handed to the application as far as it has come, for it to refuse.

        `tls_of` gives ASGI's `tls` extension for a transport; `stirred` is told whenever something has come.
        """
        self._app = app
        self.body_bytes_max = body_bytes_max
        self.turn_away = turn_away
        self.tls_of = tls_of
        self.connections: set[Connection] = set()
        self._held_bytes_max = held_bytes_max
        self._held = 0
        self.buffer = bytearray(READ_BYTES)
        self.known = KnownHeads()
        self._take = take
        self._come: list[Turn] = []
        """Requests that have come whole in this turn of the loop."""
        self._taken = 0
        """Requests that are being answered without a task."""
        self._tasks: dict[asyncio.Task[None], Turn | None] = {}
        """With the request that each one answers, where it is answered from the beginning."""
        self._empty = asyncio.Event()
        self.stirred = stirred
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, bound: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        """Listens on a bound socket."""
        loop = asyncio.get_running_loop()
        make = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
        self._listener = await make(lambda: Connection(self), sock=bound, backlog=BACKLOG, ssl=tls)
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self, drain_s: float) -> None:
        """No new connections; what is in progress may end, within `drain_s`; then all are cut off."""
        if self._listener is not None:
            self._listener.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.finish()
        self._empty.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while self.connections or self._tasks:
                    self._empty.clear()
                    await self._empty.wait()
        for connection in tuple(self.connections):
            connection.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def answering(self) -> int:
        """How many requests have come whole and are not answered yet."""
        return len(self._tasks) + self._taken

    def begin(self, turn: Turn) -> None:
        """Lets the request be answered: once all are known that come in this turn of the loop, if it is whole."""
        if self._take is None or not turn.whole or turn.short:
            self._spawn(self._app(turn.scope, turn.receive, turn.send), turn)
            return
        self._come.append(turn)
        if len(self._come) == 1:
            asyncio.get_running_loop().call_soon(self._hand_over, self._take)

    def _hand_over(self, take: Take) -> None:
        come, self._come = self._come, []
        self._taken += len(come)
        for turn in take(come):
            self._taken -= 1
            self._spawn(self._app(turn.scope, turn.receive, turn.send), turn)

    def leave(self, answering: Awaitable[None] | None, turn: Turn | None = None) -> None:
        """A request without a task is answered, or goes on in a task that awaits `answering`."""
        self._taken -= 1
        if answering is not None:
            self._spawn(answering, turn)

    def _spawn(self, answering: Awaitable[None], turn: Turn | None) -> None:
        task = asyncio.ensure_future(answering)
        self._tasks[task] = turn
        task.add_done_callback(self._done)

    def hold(self, size: int) -> bool:
        """Notes that bodies hold more, or less; whether there is room for it."""
        self._held += size
        return self._held <= self._held_bytes_max

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self._empty.set()

    def _done(self, task: asyncio.Task[None]) -> None:
        turn = self._tasks.pop(task)
        self._empty.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the application failed", exc_info=error)
        if turn is not None:
            turn.cut()

    async def _sweep(self) -> None:
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(SWEEP_S)
            self.look_after_clients(before_s)

    def look_after_clients(self, before_s: float) -> None:
        """Cuts off who has said nothing for too long.

        `before_s`: when the look before this one was. If that is long ago, nobody is: what clients have said is not read yet.
        """
        now = time.monotonic()
        if now - before_s > SWEEP_S + HELD_UP_S:
            return
        for connection in tuple(self.connections):
            silent_s = now - connection.active_s
            if connection.idle and silent_s > KEEP_ALIVE_S:
                connection.finish()
            elif connection.waiting and silent_s > SILENT_S:
                connection.transport.abort()


@asynccontextmanager
async def listening(
    server: Server, bound: socket.socket, *, drain_s: float, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[None]:
    """Serves on a bound socket while the block runs; at its end no new connections, and what is in progress may end."""
    await server.start(bound, tls=tls)
    try:
        yield
    finally:
        await server.close(drain_s)
