"""One listening address of the link and the connections through it: TCP in, shaped, TCP out."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import cast

from nearhall.sim.shaping import Order, Shape, Wire

CONNECTIONS_MAX = 400
"""Of all lanes together: two sockets each must stay below the 1,024 that select() can watch (see `sim.link.new_loop`)."""
TURN_S = 0.0001
"""Due within a tenth of a millisecond counts as due: less than one turn of the event loop."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Count:
    """What crossed one lane, in whole, since the program started."""

    up_bytes: int = 0
    down_bytes: int = 0
    connections: int = 0


@dataclass(slots=True, eq=False)
class SiteLink:
    """The link of one site: both directions, shared by its lanes, and whether it is cut."""

    shape: Shape
    up: Wire = field(default_factory=Wire)
    down: Wire = field(default_factory=Wire)
    cut: bool = False
    connections: set[Connection] = field(default_factory=lambda: set[Connection]())  # noqa: PLW0108 (defined below)

    def restore(self) -> None:
        """Ends a cut: what was held flows on at once, in order."""
        self.cut = False
        for connection in tuple(self.connections):
            connection.flow()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """From an address on the site's side to one on the hub's."""

    site: SiteLink
    host: str
    port: int
    count: Count
    random: Random
    open: set[Connection]
    """Every connection of every lane."""


class Stream:
    """One direction of one connection: bytes that wait for their time."""

    def __init__(self, connection: Connection, order: Order, *, up: bool) -> None:
        self._connection = connection
        self._order = order
        self._up = up
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._source_paused = False
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.sink_full = False
        self.ends = False
        """The source has said all it has to say."""
        self.ended = False
        """The sink has been told so."""

    def push(self, data: bytes) -> None:
        """Takes bytes from the source."""
        lane = self._connection.lane
        shape = lane.site.shape
        due_s = self._order.due(len(data), self._loop.time(), shape, lane.random.random() if shape.jitter_s else 0.0)
        self._waiting.append((due_s, data))
        self._held_bytes += len(data)
        self.flow()
        if self._held_bytes > shape.held_bytes_max and not self._source_paused and self.source is not None:
            self._source_paused = True
            self.source.pause_reading()

    def end(self) -> None:
        """Takes the end of the source's bytes; it travels behind them and as long as they do."""
        if not self.ends:
            self.ends = True
            self._waiting.append((self._order.due(0, self._loop.time(), self._connection.lane.site.shape, 0.0), b""))
            self.flow()

    def flow(self) -> None:
        """Hands on everything that is due, and comes back for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sink = self.sink
        if sink is None or self._connection.lane.site.cut:
            return
        while self._waiting and not self.sink_full:
            due_s, data = self._waiting[0]
            if due_s > self._loop.time() + TURN_S:
                self._timer = self._loop.call_at(due_s, self.flow)
                break
            self._waiting.popleft()
            self._hand_on(sink, data)
        self._let_source_speak()

    def drop(self) -> None:
        """Forgets what is held: there is nobody left to hear it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
        self._held_bytes = 0
        self.ends = self.ended = True

    def _hand_on(self, sink: asyncio.Transport, data: bytes) -> None:
        if not data:
            self.ended = True
            self._connection.said_all(sink)
            return
        self._held_bytes -= len(data)
        count = self._connection.lane.count
        if self._up:
            count.up_bytes += len(data)
        else:
            count.down_bytes += len(data)
        sink.write(data)

    def _let_source_speak(self) -> None:
        if self._source_paused and self._held_bytes <= self._connection.lane.site.shape.held_bytes_max // 2:
            self._source_paused = False
            if self.source is not None and not self.source.is_closing():
                self.source.resume_reading()


class Connection(asyncio.Protocol):
    """A connection from the site's side (this protocol's own transport) with its counterpart to the hub."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._loop = asyncio.get_running_loop()
        self._near: asyncio.Transport | None = None
        self._far: asyncio.Transport | None = None
        self._calling: asyncio.Task[None] | None = None
        self._call_timer: asyncio.TimerHandle | None = None
        self._call_held = False
        """Half a round trip has passed, but the link is cut: the call goes out when it is restored."""
        site = lane.site
        now_s = self._loop.time()
        # Loopback answers the caller's SYN at once; over a link it could not speak before one round trip had passed.
        self._up = Stream(self, Order(site.up, opens_at_s=now_s + site.shape.rtt_s), up=True)
        self._down = Stream(self, Order(site.down, opens_at_s=now_s), up=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the caller for half a round trip, then calls the hub."""
        near = cast("asyncio.Transport", transport)
        lane = self.lane
        if len(lane.open) >= CONNECTIONS_MAX:
            _log.warning("a connection was turned away: %d are open", len(lane.open))
            _reset(near)
            return
        self._near = near
        lane.open.add(self)
        lane.site.connections.add(self)
        lane.count.connections += 1
        self._up.source = self._down.sink = near
        rtt_s = lane.site.shape.rtt_s
        if rtt_s:
            self._call_timer = self._loop.call_later(rtt_s / 2.0, self._call)
        else:
            self._call()

    def data_received(self, data: bytes) -> None:
        """From the site."""
        self._up.push(data)

    def eof_received(self) -> bool:
        """The site has said all it had; the hub may still answer. Who ends before the link let the call out has given up."""
        self._up.end()
        if self._call_held:
            self.close()
        return True

    def pause_writing(self) -> None:
        """The site reads more slowly than the hub writes."""
        self._down.sink_full = True

    def resume_writing(self) -> None:
        """The site reads again."""
        self._down.sink_full = False
        self._down.flow()

    def connection_lost(self, exc: Exception | None) -> None:
        """The site is gone; what it said before still travels, what was meant for it does not."""
        if self._near is None:
            return
        self._down.drop()
        if self._far is None:
            self.close()
        else:
            self._up.end()

    def far_made(self, far: asyncio.Transport) -> None:
        """The hub has answered the call."""
        self._far = far
        self._up.sink = self._down.source = far
        self._up.flow()

    def far_data(self, data: bytes) -> None:
        """From the hub."""
        self._down.push(data)

    def far_end(self) -> None:
        """The hub has said all it had."""
        self._down.end()

    def far_lost(self) -> None:
        """The hub is gone; what it said before still travels."""
        self._up.drop()
        if self._down.ended:
            self.close()
        else:
            self._down.end()

    def far_full(self, *, full: bool) -> None:
        """Whether the hub reads more slowly than the site writes."""
        self._up.sink_full = full
        self._up.flow()

    def flow(self) -> None:
        """After a cut: goes on with whatever was held."""
        if self._call_held:
            self._call()
        self._up.flow()
        self._down.flow()

    def said_all(self, sink: asyncio.Transport) -> None:
        """One direction has delivered its end."""
        if self._up.ended and self._down.ended:
            self.close()
        elif not sink.is_closing():
            sink.write_eof()

    def close(self) -> None:
        """Closes both sides; what they still have to write is written."""
        for transport in (self._near, self._far):
            if transport is not None and not transport.is_closing():
                transport.close()
        if self._call_timer is not None:
            self._call_timer.cancel()
        if self._calling is not None and not self._calling.done():
            self._calling.cancel()
        self._up.drop()
        self._down.drop()
        self.lane.open.discard(self)
        self.lane.site.connections.discard(self)

    def abort(self) -> None:
        """Closes both sides at once; what they still have to write is lost."""
        for transport in (self._near, self._far):
            if transport is not None:
                transport.abort()
        self.close()

    def _call(self) -> None:
        self._call_timer = None
        self._call_held = self.lane.site.cut
        if self._call_held and self._up.ends:
            self.close()
        elif not self._call_held:
            self._calling = self._loop.create_task(self._reach())

    async def _reach(self) -> None:
        try:
            await self._loop.create_connection(lambda: _Far(self), self.lane.host, self.lane.port)
        except OSError as error:
            _log.info("%s:%d does not answer (%s)", self.lane.host, self.lane.port, error.strerror or error)
            if self._near is not None:
                _reset(self._near)
            self.close()


def _reset(transport: asyncio.Transport) -> None:
    """Ends a connection as a closed port would: with a reset, which a plain abort sends only when something was unread."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Far(asyncio.Protocol):
    """The counterpart to the hub; everything is said to the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.far_made(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._connection.far_data(data)

    def eof_received(self) -> bool:
        self._connection.far_end()
        return True

    def pause_writing(self) -> None:
        self._connection.far_full(full=True)

    def resume_writing(self) -> None:
        self._connection.far_full(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.far_lost()
