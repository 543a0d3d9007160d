"""One HTTP request and its answer, as the data plane sees them: when the first byte came, whether the client still waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, MutableMapping, Sequence
from math import inf
from typing import Any, Protocol

from nearhall.core.errors import Refusal
from nearhall.ports.clock import Clock
from nearhall.wire.headers import AskHeaders, parse_ask
from nearhall.wire.refusal import refusal_response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

_LOOK_S = 0.0005
_LOOKS_MAX = 2000
"""A client that takes longer than a second to read its answer is slow on its own account."""
EXTENSION = "nearhall"
"""The key in ASGI's `extensions` under which the server's protocol class leaves `first_byte_s`, `transport`, `connection`
(notes that live as long as the connection), `server` (`Busy`) and, where bodies hold all the memory that they may, `no_room`."""


class Closing(Protocol):
    """What is needed of a transport."""

    def is_closing(self) -> bool:
        """True once the connection is closed or lost."""
        ...

    def abort(self) -> None:
        """Resets the connection."""
        ...

    def get_write_buffer_size(self) -> int:
        """Bytes that were written and have not left yet."""
        ...


class Busy(Protocol):
    """What the server knows of all its connections."""

    @property
    def connections(self) -> Collection[object]:
        """All that are open."""
        ...

    @property
    def answering(self) -> int:
        """How many requests have come whole and are not answered."""
        ...

    def leave(self, answering: Coroutine[Any, Any, None] | None, turn: Any = None) -> None:
        """A request without a task is answered, or goes on in a task that awaits `answering`."""
        ...


class ClientGoneError(Exception):
    """The client closed its connection; nobody waits for an answer."""


class Expired(Refusal):
    """Admitted, and then out of time: answered with 504."""


class Exchange:
    """A request being answered."""

    __slots__ = (
        "_clock",
        "_connection",
        "_receive",
        "_send",
        "_server",
        "_transport",
        "ask",
        "ended",
        "first_byte_s",
        "method",
        "no_room",
        "path",
        "scope",
        "started",
        "workload",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, clock: Clock) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._clock = clock
        extensions: dict[str, dict[str, Any]] = scope.get("extensions") or {}
        own = extensions.get(EXTENSION) or {}
        self.first_byte_s: float = own.get("first_byte_s") or clock.monotonic()
        """When the request's first byte reached this process, by the monotonic clock."""
        self._transport: Closing | None = own.get("transport")
        self._connection: dict[str, float] = own.get("connection", {})
        self._server: Busy | None = own.get("server")
        self.no_room: bool = own.get("no_room", False)
        """Whether the rest of its body was not read, because bodies hold all the memory that they may."""
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.ask = AskHeaders()
        """The headers; empty until `read_headers`."""
        self.workload = ""
        """The workload that this request is counted under; empty while unknown, and then it is not counted."""
        self.started = False
        """Whether the head of the answer has been sent."""
        self.ended = False
        """Whether all of it has been sent."""

    def read_headers(self) -> None:
        """Fills `ask`; raises Refusal(BAD_REQUEST)."""
        self.ask = parse_ask(self.scope["headers"])

    @property
    def headers(self) -> Sequence[Header]:
        """The request's headers, names in lower case."""
        return self.scope["headers"]

    def elapsed_ms(self) -> float:
        """Milliseconds since the first byte."""
        return (self._clock.monotonic() - self.first_byte_s) * 1e3

    def gone(self) -> bool:
        """Whether the client has closed its connection; safe to ask from any thread."""
        return self._transport is not None and self._transport.is_closing()

    def abort(self) -> None:
        """Resets the connection: an answer that has begun and cannot end must not look whole."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    @property
    def connections(self) -> int:
        """How many connections are open, this one with them; 0 where the server does not say."""
        return 0 if self._server is None else len(self._server.connections)

    @property
    def alone(self) -> bool:
        """Whether no other request is being answered; False where the server does not say."""
        return self._server is not None and self._server.answering == 1

    def since_refusal_s(self) -> float:
        """How long before this request's first byte the last refusal for want of room was told on this connection."""
        return self.first_byte_s - self._connection.get("refused_s", -inf)

    def refused_in(self, delay_s: float) -> None:
        """Notes that a refusal for want of room is told in so many seconds."""
        self._connection["refused_s"] = self._clock.monotonic() + delay_s

    async def receive(self) -> Message:
        """The next part of the request, or `http.disconnect`."""
        return await self._receive()

    async def head(self, status: int, headers: Sequence[Header]) -> None:
        """Sends status and headers."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def part(self, body: bytes, *, more: bool = True) -> None:
        """Sends a piece of the body; raises ClientGoneError when nobody listens."""
        if self.gone():
            raise ClientGoneError
        self.ended = not more
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def reply(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Sends a whole answer."""
        await self.head(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.part(body, more=False)

    def depart(self, answering: Coroutine[Any, Any, None] | None = None, turn: Any = None) -> None:
        """Ends a request that was answered without a task, or lets it go on in one that awaits `answering`.

        `turn`: whose connection is cut off if that ends without an answer.
        """
        if self._server is not None:
            self._server.leave(answering, turn)

    @property
    def sent(self) -> bool:
        """Whether all that was written has left for the kernel."""
        return self._transport is None or not self._transport.get_write_buffer_size()

    async def until_sent(self) -> None:
        """Returns once the answer has left for the kernel: mostly it has at once, but large ones leave in pieces."""
        transport = self._transport
        if transport is None or self.sent:
            return
        await asyncio.sleep(0)
        for _ in range(_LOOKS_MAX):
            if transport.is_closing() or not transport.get_write_buffer_size():
                return
            await asyncio.sleep(_LOOK_S)

    async def json(self, status: int, body: bytes) -> None:
        """Sends a whole JSON answer."""
        await self.reply(status, [(b"content-type", b"application/json")], body)

    async def refuse(self, refusal: Refusal, served_by: bytes) -> None:
        """Sends a refusal in the shape that the request's protocol expects."""
        status, headers, body = refusal_response(refusal, self.path, expired=isinstance(refusal, Expired))
        await self.head(status, [*headers, (b"x-nearhall-served-by", served_by)])
        await self.part(body, more=False)
