"""Connections that note when bytes went and came: as the loop hands them on, before anything of the client's own work with them.

A stopwatch around the whole call would also time building the request, waiting for a connection and joining the answer; none
of that is the gateway's, and its own clock cannot see it. httpcore's own connections cannot be stamped so: they wait a turn of
the loop before each write and wake the reader a turn after each arrival, which on a busy machine is most of a short answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

import httpcore

from nearhall.ports.clock import Clock

WAITING_BYTES_MAX = 1024 * 1024
"""Received and not read yet; beyond it the other side is held."""


class StampedStream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection; serves one exchange at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._pieces: deque[tuple[bytes, float]] = deque()
        self._bytes = 0
        self._paused = False
        self._ended = False
        self._fault: Exception | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._asking = False
        self.asked_s = 0.0
        """When the first byte of the current request was handed to the transport."""
        self.got_s = 0.0
        """When what was read last had come in."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport's part: it is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """The transport's part: bytes are there."""
        self._pieces.append((data, self._clock.monotonic()))
        self._bytes += len(data)
        if self._bytes > WAITING_BYTES_MAX and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._readable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport's part: it is closed, by either side."""
        self._ended, self._fault = True, exc
        self._readable.set()
        self._writable.set()

    def eof_received(self) -> bool:
        """The transport's part: the other side says no more, and then neither do we."""
        self._ended = True
        self._readable.set()
        return False

    def pause_writing(self) -> None:
        """The transport's part: the kernel takes no more for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The transport's part: it does again."""
        self._writable.set()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 (httpcore's own signature)
        """Sends; the first write after a read begins an exchange. Raises httpcore's WriteError and WriteTimeout."""
        if self._transport is None or self._transport.is_closing():
            raise httpcore.WriteError(str(self._fault or "the connection is closed"))
        if not self._asking:
            self._asking = True
            self.asked_s = self._clock.monotonic()
        self._transport.write(buffer)
        if not self._writable.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._writable.wait()
            except TimeoutError as error:
                raise httpcore.WriteTimeout from error
            if self._fault is not None:
                raise httpcore.WriteError(str(self._fault))

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """The next bytes, nothing at the other side's goodbye. Raises httpcore's ReadError and ReadTimeout."""
        if not self._pieces and not self._ended:
            self._readable.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._readable.wait()
            except TimeoutError as error:
                raise httpcore.ReadTimeout from error
        if not self._pieces:
            if self._fault is not None:
                raise httpcore.ReadError(str(self._fault))
            return b""
        piece, self.got_s = self._pieces.popleft()
        self._asking = False
        if len(piece) > max_bytes:
            self._pieces.appendleft((piece[max_bytes:], self.got_s))
            piece = piece[:max_bytes]
        self._bytes -= len(piece)
        if self._paused and self._bytes <= WAITING_BYTES_MAX and self._transport is not None and not self._ended:
            self._paused = False
            self._transport.resume_reading()
        return piece

    async def aclose(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.close()
            await asyncio.sleep(0)
            self._transport.abort()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of an idle connection: whether it `is_readable`, for then the other side has closed it."""
        if info == "is_readable":
            return self._ended or bool(self._pieces) or self._transport is None or self._transport.is_closing()
        return None


class StampedBackend(httpcore.AsyncNetworkBackend):
    """Opens such connections."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the gateway, of no own address or options; raises httpcore's ConnectError and ConnectTimeout."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, stream = await loop.create_connection(lambda: StampedStream(self._clock), host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return stream


def stamps_of(response: httpcore.Response) -> StampedStream:
    """The connection that an answer came over."""
    untyped: Any = response
    return untyped.extensions["network_stream"]
