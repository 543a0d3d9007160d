"""One client's connection: HTTP/1.1 parsed by httptools, requests handed to an ASGI application whole, answers in their order.

uvicorn did this before. Here a request may be turned away when its head has come, a body is joined once, and what comes too
slowly is cut off. An answer costs as much CPU as it did with uvicorn (ADR 0025 has the figures).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

import httptools

from nearhall.gateway.http.again import Header, KnownHeads

log = logging.getLogger("nearhall.gateway")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

HEAD_BYTES_MAX = 64 * 1024
"""Of a request's line and headers together: eight times what common servers take, for long tokens."""
PIPELINED_MAX = 8
"""Requests read ahead of their answers on one connection; then the rest waits in the kernel, and with the client."""
LINGER_S = 2.0
"""How long the rest of a refused request is read and thrown away, so that the client sees the refusal instead of a reset."""
JOINED_BYTES_MAX = 16 * 1024
"""Bodies up to this are written in one piece with their head; larger ones are not copied for it."""
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_WITHOUT_BODY = frozenset({204, 304})
_CONTENT_LENGTH = b"content-length"
_OWN = frozenset({"first_byte_s", "extensions"})
"""What of a scope is another in each request."""
GONE = "gone"
"""In a connection's notes: what an application wants to be called when the client has gone."""


@dataclass(frozen=True, slots=True)
class Turned:
    """The answer to a request that was turned away."""

    status: int
    headers: Sequence[Header]
    body: bytes
    delay_s: float = 0.0
    """It is told only then: who came back at once before shall not do so again."""
    raw: bytes = b""
    """The same as it goes over a connection that is kept, where somebody has put it together already."""

    @classmethod
    def put_together(cls, status: int, headers: Sequence[Header], body: bytes, *, delay_s: float) -> Turned:
        """With `raw`, for an answer that is given many times."""
        lines = [_status_line(status), *(b"%b: %b\r\n" % header for header in headers)]
        if all(name != _CONTENT_LENGTH for name, _ in headers):
            lines.append(b"content-length: %d\r\n" % len(body))
        return cls(status, headers, body, delay_s, b"".join([*lines, b"\r\n", body]))


def _status_line(status: int) -> bytes:
    return _STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status


class Serving(Protocol):
    """What a connection asks of the server that it belongs to."""

    body_bytes_max: int
    buffer: bytearray
    known: KnownHeads
    connections: set[Connection]
    turn_away: Callable[[Scope], Turned | None]
    tls_of: Callable[[Any], dict[str, Any] | None]
    stirred: Callable[[], None]

    def begin(self, turn: Turn) -> None:
        """Lets the application answer."""
        ...

    def hold(self, size: int) -> bool:
        """Notes that bodies hold more, or less; whether there is room for it."""
        ...

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        ...


class Turn:
    """One request and its answer: what an ASGI application calls `receive` and `send` on."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_head",
        "_moved",
        "_said_whole",
        "ended",
        "expects",
        "head_only",
        "keep_alive",
        "old",
        "parts",
        "scope",
        "short",
        "size",
        "started",
        "taken",
        "turned_away",
        "whole",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.scope: Scope = {}
        self.parts: list[bytes] = []
        self.size = 0
        """Bytes of the body so far."""
        self.whole = False
        """Whether all of the request has come."""
        self.taken = False
        """Whether the application has been given the body."""
        self.started = False
        """Whether the application has been called."""
        self.turned_away = False
        self.short = False
        """Its body is too large, or has no room: no more of it is kept, and what was kept is never taken for all."""
        self.keep_alive = True
        self.head_only = False
        self.old = False
        """HTTP/1.0: it knows no chunks."""
        self.expects = False
        """The client waits for `100 Continue` before it sends the body."""
        self.ended = False
        """Whether all of the answer has been written."""
        self._head: tuple[int, Sequence[Header]] | None = None
        self._chunked = False
        self._said_whole = False
        """Whether the application knows that all has come."""
        self._moved: asyncio.Event | None = None
        """Made where somebody waits: most requests are answered without a second look."""

    def moved(self) -> None:
        """Wakes whoever waits in `receive`: the request is whole, the answer has ended, or the client has gone."""
        if self._moved is not None:
            self._moved.set()

    async def receive(self) -> Message:
        """The body, whole, or as far as it was read when it grew too large; then how it goes on."""
        if not self.taken:
            body = self.take()
            self._said_whole = self.whole and not self.short
            return {"type": "http.request", "body": body, "more_body": not self._said_whole}
        while not (self.ended or self.short or self._connection.lost):
            if self.whole and not self._said_whole:
                self._said_whole = True
                return {"type": "http.request", "body": b"", "more_body": False}
            self._moved = asyncio.Event()
            await self._moved.wait()
        return {"type": "http.disconnect"}

    def take(self) -> bytes:
        """What has come of the body; it is not held here any more."""
        self.taken = True
        body, self.parts = b"".join(self.parts) if len(self.parts) != 1 else self.parts[0], []
        self._connection.release(self)
        return body

    def respond(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Writes a whole answer."""
        self._head = (status, headers)
        self.write(body, more=False)

    async def send(self, message: Message) -> None:
        """Writes the head with the first piece of the body; waits while the client reads too slowly."""
        if message["type"] == "http.response.start":
            self._head = (message["status"], message["headers"])
            return
        more: bool = message.get("more_body", False)
        self.write(message.get("body", b""), more=more)
        if more:
            await self._connection.until_writable()

    def write(self, body: bytes, *, more: bool) -> None:
        """Writes a piece of the answer, and ends it."""
        connection = self._connection
        if self.ended or connection.transport.is_closing():
            return
        head = b""
        if self._head is not None:
            status, headers = self._head
            self._head = None
            head = self._begun(status, headers, len(body), more=more)
        if self.head_only:
            body = b""
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        if len(body) <= JOINED_BYTES_MAX:
            connection.transport.write(head + body)
        else:
            connection.transport.write(head)
            connection.transport.write(body)
        if not more:
            self.ended = True
            self.moved()
            connection.answered(self)

    def _begun(self, status: int, headers: Sequence[Header], size: int, *, more: bool) -> bytes:
        """Status line and headers, and how the body's end is told."""
        lines = [_status_line(status)]
        sized = status in _WITHOUT_BODY
        for name, value in headers:
            sized = sized or name == _CONTENT_LENGTH
            lines.append(b"%b: %b\r\n" % (name, value))
        if not sized:
            if not more:
                lines.append(b"content-length: %d\r\n" % size)
            elif self.old:
                self.keep_alive = False
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if self._connection.closing or not (self.whole or self.turned_away):
            self.keep_alive = False  # nothing more will be read, or what is left of this request is of no use
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self.old:
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def cut(self) -> None:
        """Ends the connection of a request that gets no answer: its client would wait for one as long as it can."""
        if not (self.ended or self._connection.transport.is_closing()):
            self._connection.transport.abort()

    def turn_away(self, turned: Turned) -> None:
        """Answers without the application; the body is read and dropped, so that the connection can go on."""
        connection = self._connection
        if turned.raw and self.keep_alive and not (self.old or self.head_only or connection.closing):
            if not connection.transport.is_closing():
                connection.transport.write(turned.raw)
                self.ended = True
                connection.answered(self)
            return
        self.respond(turned.status, turned.headers, turned.body)


class Connection(asyncio.BufferedProtocol):
    """Reads requests, one after the other, and lets them be answered in that order."""

    def __init__(self, server: Serving) -> None:
        self._server = server
        self._parser: Any = httptools.HttpRequestParser(self)
        self._coming: Turn | None = None
        """The request that is being read."""
        self._turns: deque[Turn] = deque()
        """Requests that are not answered yet; the first is being answered."""
        self._heard: Turn | None = None
        """Whose head came whole in the last read."""
        self._url = b""
        self._head_bytes = 0
        self._paused = False
        self._writable: asyncio.Event | None = None
        self._tls: dict[str, Any] | None = None
        self._notes: dict[str, Any] = {}
        self.transport: Any = None
        self.lost = False
        self.closing = False
        """No further request is answered on this connection."""
        self.active_s = time.monotonic()
        """When the client last said something, or an answer ended."""

    # ---- the connection -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = transport
        self._tls = self._server.tls_of(transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was closed."""
        self.lost = True
        self._server.gone(self)
        if self._writable is not None:
            self._writable.set()
        if (tell := self._notes.get(GONE)) is not None:
            tell()
        for turn in (*self._turns, *(() if self._coming is None else (self._coming,))):
            self.release(turn)
            turn.moved()
        self._parser = None

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        self._writable = asyncio.Event()
        self.active_s = time.monotonic()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.active_s = time.monotonic()
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    async def until_writable(self) -> None:
        """Returns once the client has read what was written, or has gone."""
        if self._writable is not None:
            await self._writable.wait()

    @property
    def idle(self) -> bool:
        """Whether nothing is being read or answered."""
        return self._coming is None and not self._turns

    @property
    def waiting(self) -> bool:
        """Whether the client is waited for: for the rest of its request, or to read its answer."""
        return self._coming is not None or self._writable is not None

    def finish(self) -> None:
        """Closes an idle connection now, another one after its answer."""
        self.closing = True
        if not self._turns and not self.transport.is_closing():
            self.transport.close()

    # ---- reading ---------------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where the next bytes go: into one buffer for all, since what is read is parsed before anything else is read."""
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parses what has come."""
        self.active_s = time.monotonic()
        if not self._said_again(nbytes):
            self._parse(nbytes)
        self._server.stirred()  # whatever this has asked the loop to do is done before the watch looks again

    def _parse(self, nbytes: int) -> None:
        between = self._coming is None
        try:
            self._parser.feed_data(memoryview(self._server.buffer)[:nbytes])
        except httptools.HttpParserUpgrade:
            self.closing = True  # the upgrade is not made: the request is answered as it is, and the connection ends
        except httptools.HttpParserError as error:
            if not isinstance(error.__context__, httptools.HttpParserError | None):
                log.exception("a request could not be taken in")  # a fault of ours
            self._not_http(400)
        else:
            heard, self._heard = self._heard, None
            if between and heard is not None and self._coming is None:
                self._remember(heard, nbytes)

    def _remember(self, turn: Turn, nbytes: int) -> None:
        """Keeps what was understood of a request that was all that has come."""
        if turn.keep_alive and not (turn.old or turn.head_only or self.closing):
            shared = {key: value for key, value in turn.scope.items() if key not in _OWN}
            self._server.known.keep(self._server.buffer, nbytes, shared)

    def _said_again(self, nbytes: int) -> bool:
        """Takes in a whole request whose head is known; the parser, which is between two of them, sees nothing of it."""
        buffer = self._server.buffer
        if self._coming is not None or (known := self._server.known.find(buffer, nbytes)) is None:
            return False
        turn = self._coming = Turn(self)
        turn.scope = {**known.scope, **self._own(time.monotonic())}
        self._headed(turn, known.body_bytes)
        if known.body_bytes and not turn.turned_away:
            self.on_body(bytes(memoryview(buffer)[known.head_bytes : nbytes]))
        self.on_message_complete()
        return True

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._coming = Turn(self)
        self._url = b""
        self._head_bytes = 0
        self._coming.scope = {"type": "http", "first_byte_s": time.monotonic(), "headers": []}

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url
        self._more_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        name = name.lower()
        turn = self._turn()
        turn.scope["headers"].append((name, value))
        if name == b"expect" and value.lower() == b"100-continue":
            turn.expects = True
        self._more_head(len(name) + len(value))

    def _more_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._not_http(431)

    def on_headers_complete(self) -> None:
        """The head is whole: it may be enough to turn the request away, or to know that its body is too large."""
        parser, turn = self._parser, self._turn()
        self._heard = turn
        turn.keep_alive = parser.should_keep_alive()
        turn.old = parser.get_http_version() == "1.0"
        self._describe(turn, parser.get_method())
        self._headed(turn, int(next((value for name, value in turn.scope["headers"] if name == _CONTENT_LENGTH), b"0")))

    def _headed(self, turn: Turn, length: int) -> None:
        """The same for a head that is understood; `length` of the body, as far as it says."""
        server = self._server
        first = not self._turns
        self._turns.append(turn)
        if first and (turned := server.turn_away(turn.scope)) is not None:
            turn.turned_away = True
            turn.expects = False
            if turned.delay_s:
                asyncio.get_running_loop().call_later(turned.delay_s, turn.turn_away, turned)
            else:
                turn.turn_away(turned)
            return
        if length > server.body_bytes_max:
            self._keep_short(turn)
        elif first:
            self._invite(turn)

    def _invite(self, turn: Turn) -> None:
        """Lets the client send its body, if it waits for a word."""
        if turn.expects and not turn.whole and not turn.size:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _describe(self, turn: Turn, method: bytes) -> None:
        """Fills ASGI's scope."""
        url = self._url
        if not url.startswith(b"/"):
            parsed = httptools.parse_url(url)
            url = (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")
        raw_path, _, query = url.partition(b"?")
        path = raw_path.decode("latin-1")
        turn.head_only = method == b"HEAD"
        turn.scope.update(
            method=method.decode("latin-1"),
            path=unquote(path) if "%" in path else path,
            raw_path=raw_path,
            query_string=query,
            **self._own(turn.scope["first_byte_s"]),
        )

    def _own(self, first_byte_s: float) -> Scope:
        """The part of a scope that is another in each request."""
        ours = {
            "first_byte_s": first_byte_s,
            "transport": self.transport,
            "connection": self._notes,
            "server": self._server,
        }
        extensions = {"nearhall": ours} if self._tls is None else {"nearhall": ours, "tls": self._tls}
        return {"first_byte_s": first_byte_s, "extensions": extensions}

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        turn = self._turn()
        if turn.turned_away or turn.started or turn.short:
            return
        turn.parts.append(body)
        turn.size += len(body)
        if not self._server.hold(len(body)):
            turn.scope["extensions"]["nearhall"]["no_room"] = True
            self._keep_short(turn)
        elif turn.size > self._server.body_bytes_max:
            self._keep_short(turn)

    def _keep_short(self, turn: Turn) -> None:
        """Reads on, and keeps nothing more: the application refuses it, once those before it are answered."""
        turn.short = True
        if self._turns[0] is turn:
            self._begin(turn)

    def on_message_complete(self) -> None:
        """All of the request has come."""
        turn, self._coming = self._turn(), None
        turn.whole = True
        if turn.ended:
            self._next(turn)
        elif turn.started:
            turn.moved()
        elif not turn.turned_away and self._turns and self._turns[0] is turn:
            self._begin(turn)
        if len(self._turns) >= PIPELINED_MAX and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _turn(self) -> Turn:
        """The request that is being read."""
        if self._coming is None:
            raise httptools.HttpParserError("a piece of a request came outside of one")
        return self._coming

    def _not_http(self, status: int) -> None:
        """What came is no request: said in order if nothing else is being said, and the end."""
        if not self.transport.is_closing():
            if not self._turns or self._turns[0] is self._coming:
                self.transport.write(_STATUS[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    # ---- answering -------------------------------------------------------------------------------------------------

    def _begin(self, turn: Turn) -> None:
        """Gives the request to the application."""
        turn.started = True
        self._server.begin(turn)

    def release(self, turn: Turn) -> None:
        """The body is not held for this request any more."""
        self._server.hold(-turn.size)
        turn.size = 0

    def answered(self, turn: Turn) -> None:
        """The answer has been written whole; the next request's turn, or the end of the connection."""
        self.active_s = time.monotonic()
        self.release(turn)
        if turn.whole:
            self._next(turn)
        elif not turn.turned_away:
            self.closing = True
            asyncio.get_running_loop().call_later(LINGER_S, self.transport.abort)

    def _next(self, turn: Turn) -> None:
        """`turn` is whole and answered: the one after it begins."""
        self._turns.popleft()
        if not turn.keep_alive or self.closing:
            self.closing = True
            self.transport.close()
            return
        if self._paused and len(self._turns) < PIPELINED_MAX:
            self._paused = False
            self.transport.resume_reading()
        if self._turns:
            after = self._turns[0]
            if (after.whole or after.short) and not after.started:
                self._begin(after)
            else:
                self._invite(after)
