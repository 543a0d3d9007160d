"""A node's HTTP behind `ports.node`: kept connections, an answer handed over in one call.

Every request of a site passes here, so this is as little as it can be: one asyncio.Protocol for a connection, httptools' parser
for the answer, and no coroutine for an answer that comes whole (ADR 0022 compares it with httpcore).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import cast

import httptools

from nearhall.core.errors import InputError
from nearhall.ports.clock import Clock
from nearhall.ports.node import Header, NodeAnswer, NodeAsk, NodeLostError, Told

CONNECT_S = 1.0
"""Nodes stand in one cabinet; a deadline that is shorter gives up earlier."""
CONNECTIONS_MAX = 1024
"""As many as a node takes itself."""
IDLE_S = 60.0
"""Shorter than the 75 s after which a node closes a connection that is not used."""
HEAD_BYTES_MAX = 64 * 1024
ANSWER_BYTES_MAX = 256 * 1024 * 1024
AHEAD_BYTES_MAX = 256 * 1024
"""Of a stream, read and not yet taken: beyond it the node is made to wait."""
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"proxy-connection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a node listens: a host and a port, or a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""
    encrypted: bool = False

    @property
    def authority(self) -> bytes:
        """For the Host header."""
        if self.path:
            return b"node"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode("latin-1", "replace")


def parse_address(text: str, *, where: str) -> Address:
    """`http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`; raises InputError naming `where`."""
    right = "http://HOST:PORT, https://HOST:PORT or unix:PATH"
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Address(path=text.removeprefix("unix:"))
    scheme, mark, rest = text.partition("://")
    host, _, port = rest.rstrip("/").rpartition(":")
    host = host.strip("[]")
    good = (
        scheme in {"http", "https"} and mark and host and not set(host) & set("/?#@ \r\n") and port.isdigit() and len(port) <= 5
    )
    if not good or not 1 <= int(port) <= 65535:
        raise InputError(f"{text!r} is no address of a node", where=where, right=right)
    return Address(host=host, port=int(port), encrypted=scheme == "https")


class NodeHttp:
    """One node."""

    def __init__(
        self, address: Address, clock: Clock, *, tls: ssl.SSLContext | None = None, connections_max: int = CONNECTIONS_MAX
    ) -> None:
        self.heard_s = 0.0
        self.clock = clock
        self.idle: list[_Connection] = []
        self._address = address
        self._tls = tls
        self._connections_max = connections_max
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._common = b" HTTP/1.1\r\nhost: %s\r\n" % address.authority

    def send(self, ask: NodeAsk, told: Told) -> _Sending:
        """Sends a request on a kept connection, or on a new one."""
        sending = _Sending(ask, told, self._wire(ask))
        self._start(sending)
        return sending

    def tidy(self) -> None:
        """Closes connections that were not used for `IDLE_S`; the longest unused are the first of the list."""
        before = self.clock.monotonic() - IDLE_S
        while self.idle and self.idle[0].idle_s < before:
            self.idle.pop(0).drop()

    def close(self) -> None:
        """Closes all connections."""
        for task in list(self._opening):
            task.cancel()
        for connection in list(self._open):
            connection.drop()

    def _wire(self, ask: NodeAsk) -> bytes:
        head = [ask.method.encode(), b" ", ask.target, self._common]
        for name, value in ask.headers:
            head += (name, b": ", value, b"\r\n")
        if ask.body or ask.method == "POST":
            head.append(b"content-length: %d\r\n" % len(ask.body))
        head.append(b"\r\n")
        return b"".join(head)

    def _start(self, sending: _Sending, *, fresh: bool = False) -> None:
        while self.idle and not fresh:
            connection = self.idle.pop()
            if connection.usable():
                return connection.begin(sending)
        if len(self._open) + len(self._opening) >= self._connections_max:
            # The caller has not got its `Sending` yet, so it is told in the next turn.
            error = NodeLostError(f"{self._connections_max} connections to the node are busy", sent=False, busy=True)
            asyncio.get_running_loop().call_soon(sending.finish, error)
            return None
        task = asyncio.get_running_loop().create_task(self._connect(sending))
        self._opening.add(task)
        sending.opening = task
        task.add_done_callback(self._opening.discard)
        return None

    async def _connect(self, sending: _Sending) -> None:
        loop = asyncio.get_running_loop()
        address = self._address
        made = lambda: _Connection(self)  # noqa: E731 (a factory)
        try:
            async with asyncio.timeout(CONNECT_S):
                if address.path:
                    _, connection = await loop.create_unix_connection(made, address.path)
                else:
                    name = address.host if self._tls is not None else None
                    _, connection = await loop.create_connection(
                        made, address.host, address.port, ssl=self._tls, server_hostname=name
                    )
        except asyncio.CancelledError:
            sending.finish(NodeLostError("the way to it was closed", sent=False))
            raise
        except Exception as error:  # whatever it is, who waits is told: an OSError mostly, a ValueError of a name that is none
            said = (error.strerror if isinstance(error, OSError) else None) or str(error) or "no answer to the connection"
            return sending.finish(NodeLostError(f"it cannot be reached ({said})", sent=False))
        sending.opening = None
        if not connection.usable():
            return sending.finish(NodeLostError("it dropped the connection", sent=False))
        self._open.add(connection)  # only now: a loop that gives a connection up while it is made tells nobody of its end
        if sending.ended:
            return self.give_back(connection)
        return connection.begin(sending)

    def give_back(self, connection: _Connection) -> None:
        """Keeps a connection whose answer has ended for the next request."""
        connection.idle_s = self.clock.monotonic()
        self.idle.append(connection)

    def lost(self, connection: _Connection, *, heard: bool) -> None:
        """Ends what was under way on a lost connection, or begins it anew where that is right."""
        self._open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        sending = connection.sending
        if sending is None or sending.ended:
            return None
        if connection.used and not heard and sending.ask.repeatable and not sending.repeated:
            sending.repeated = True  # the node closed it just as it was taken up again
            sending.connection = None
            return self._start(sending, fresh=True)
        return sending.finish(NodeLostError("it dropped the connection", sent=True))


class _Sending:
    """One request under way."""

    __slots__ = ("ask", "connection", "ended", "opening", "repeated", "told", "wire")

    def __init__(self, ask: NodeAsk, told: Told, wire: bytes) -> None:
        self.ask = ask
        self.told = told
        self.wire = wire
        self.connection: _Connection | None = None
        self.opening: asyncio.Task[None] | None = None
        self.ended = False
        self.repeated = False

    def finish(self, outcome: NodeAnswer | NodeLostError) -> None:
        """Tells how it ended, once."""
        if not self.ended:
            self.ended = True
            self.told(outcome)

    def cancel(self) -> None:
        """Gives it up and closes its connection."""
        if self.ended:
            return
        self.ended = True
        if self.opening is not None:
            self.opening.cancel()
        if self.connection is not None:
            self.connection.drop()


class _Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self, node: NodeHttp) -> None:
        self._node = node
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpResponseParser(self)
        self.sending: _Sending | None = None
        self.used = False
        """Whether it has carried a request before the one under way."""
        self.idle_s = 0.0
        self._heard = False
        self._headers: list[Header] = []
        self._head_bytes = 0
        self._head_done = False
        self._parts: list[bytes] = []
        self._bytes = 0
        self._whole = False
        """Whether the answer is handed over in one piece."""
        self._stream: _Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remembers the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def usable(self) -> bool:
        """Whether a request may be written."""
        return not self._transport.is_closing()

    def _free(self) -> bool:
        """Whether the next request may follow: behind a body that its node refused and does not read, it might wait for ever."""
        return self._parser.should_keep_alive() and self.usable() and not self._transport.get_write_buffer_size()

    def begin(self, sending: _Sending) -> None:
        """Writes a request."""
        sending.connection = self
        self.sending = sending
        self._heard = False
        self._headers = []
        self._head_bytes = 0
        self._head_done = False
        self._parts = []
        self._bytes = 0
        self._whole = False
        self._stream = None
        body = sending.ask.body
        self._transport.writelines((sending.wire, body) if body else (sending.wire,))

    def drop(self) -> None:
        """Closes at once."""
        if not self._transport.is_closing():
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feeds the parser."""
        self._node.heard_s = self._node.clock.monotonic()
        if self.sending is None:  # nothing was asked
            return self.drop()
        self._heard = True
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            return self._fail(f"its answer is no HTTP ({error})")
        if not self._head_done and self._head_bytes > HEAD_BYTES_MAX:
            return self._fail("the head of its answer does not end")
        return None

    def eof_received(self) -> None:
        """Nothing more comes; the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends what was under way."""
        stream = self._stream
        if stream is not None:
            stream.end(NodeLostError("it broke off its answer", sent=True))
        self._node.lost(self, heard=self._heard)

    def pause(self) -> None:
        """Lets the node wait."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the parser."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Of the parser: decides whether the answer is handed over whole."""
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer; the real one follows
            self._headers = []
            return
        self._head_done = True
        length = next((value for name, value in self._headers if name == b"content-length"), None)
        if length is not None and int(length) <= ANSWER_BYTES_MAX:
            self._whole = True
            return
        self._stream = _Stream(self)
        self._tell(NodeAnswer(status, self._kept(), self._stream))

    def on_body(self, body: bytes) -> None:
        """Of the parser."""
        if self._stream is not None:
            self._stream.add(body)
            return
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Of the parser: the connection is free for the next request."""
        if not self._head_done:
            return
        free = self._free()
        stream, self._stream = self._stream, None
        answer = None
        if stream is None:
            body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            answer = NodeAnswer(self._parser.get_status_code(), self._kept(), body)
        sending, self.sending = self.sending, None
        self._parts = []
        self.used = True
        if free:
            self._node.give_back(self)
        else:
            self.drop()
        if stream is not None:
            stream.end(None)
        elif sending is not None and answer is not None:
            sending.finish(answer)

    def _kept(self) -> list[Header]:
        return [header for header in self._headers if header[0] not in HOP_BY_HOP]

    def _tell(self, answer: NodeAnswer) -> None:
        if self.sending is not None:
            self.sending.finish(answer)

    def _fail(self, why: str) -> None:
        sending = self.sending
        if self._stream is not None:
            self._stream.end(NodeLostError(why, sent=True))
        elif sending is not None:
            sending.finish(NodeLostError(why, sent=True))
        self.drop()


class _Stream:
    """A body that comes piece by piece."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._pieces: deque[bytes] = deque()
        self._bytes = 0
        self._paused = False
        self._ended = False
        self._error: NodeLostError | None = None
        self._wake: asyncio.Future[None] | None = None

    def add(self, piece: bytes) -> None:
        """One more piece from the node."""
        self._pieces.append(piece)
        self._bytes += len(piece)
        if self._bytes > AHEAD_BYTES_MAX and not self._paused:
            self._paused = True
            self._connection.pause()
        self._ring()

    def end(self, error: NodeLostError | None) -> None:
        """Nothing more comes."""
        if not self._ended:
            self._ended, self._error = True, error
            if self._paused:
                self._connection.resume()
            self._ring()

    def _ring(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def next(self) -> bytes | None:
        """The next pieces, joined; None at the end; raises NodeLostError."""
        while not self._pieces:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return None
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        piece = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._bytes = 0
        if self._paused and not self._ended:
            self._paused = False
            self._connection.resume()
        return piece

    def close(self) -> None:
        """Gives the rest up."""
        if not self._ended:
            self._ended = True
            self._connection.drop()
