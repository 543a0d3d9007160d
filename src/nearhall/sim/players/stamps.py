"""Connections that note when bytes went and came, at the socket: before anything of the client's own work with them.

A stopwatch around the whole call would also time building the request, waiting for a connection and joining the answer; none
of that is the gateway's, and its own clock cannot see it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpcore

from nearhall.ports.clock import Clock


class StampedStream(httpcore.AsyncNetworkStream):
    """One connection; serves one exchange at a time."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock
        self._asking = False
        self.asked_s = 0.0
        """When the first byte of the current request was handed to the kernel."""
        self.got_s = 0.0
        """When the newest bytes of its answer were there."""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 (httpcore's own signature)
        """Sends; the first write after a read begins an exchange."""
        if not self._asking:
            self._asking = True
            self.asked_s = self._clock.monotonic()
        await self._inner.write(buffer, timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Receives; nothing at all is the other side's goodbye and no part of an answer."""
        data = await self._inner.read(max_bytes, timeout)
        if data:
            self.got_s = self._clock.monotonic()
            self._asking = False
        return data

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        """What the connection underneath says of itself."""
        return self._inner.get_extra_info(info)


class StampedBackend(httpcore.AsyncNetworkBackend):
    """Opens such connections."""

    def __init__(self, clock: Clock) -> None:
        self._inner: Any = httpcore.AnyIOBackend()  # httpcore shows no types of it
        self._clock = clock

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the gateway; raises httpcore's ConnectError and ConnectTimeout."""
        inner: httpcore.AsyncNetworkStream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return StampedStream(inner, self._clock)

    async def sleep(self, seconds: float) -> None:
        """Between retries, of which there are none."""
        await self._inner.sleep(seconds)


def stamps_of(response: httpcore.Response) -> StampedStream:
    """The connection that an answer came over."""
    untyped: Any = response
    return untyped.extensions["network_stream"]
