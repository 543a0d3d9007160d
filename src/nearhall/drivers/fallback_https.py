"""The hub's gateway behind `ports.runtime.Fallback`: warm connections over mutual TLS, probes on connections of their own.

A keeper asks for the hub's health all the time, so that a connection is warm when it is needed, and so that a cut link is
known before a client waits for it: while the hub is known to be away, requests fail at once, and those that wait for the head of
an answer are let go.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress

import httpcore

from nearhall.core.errors import TemporaryError
from nearhall.drivers.mutual_tls import FAULTS, REPEATABLE, checked_origin, opened, pool, said, socket_of
from nearhall.drivers.tcp_info import LinkMeter
from nearhall.ports.runtime import ForwardRequest, ForwardResponse, LinkUse

CONNECT_S = 2.0
IDLE_S = 60.0
"""Longer than the keeper's pause, so that one connection is always warm."""
CONNECTIONS = 32
"""Requests at the hub at once; the site's queue holds the rest."""
PROBE_CONNECTIONS = 2
HEALTH_S = 2.0
"""Between health checks while all is well: a cut link is known within this and a time-out."""
HEALTH_AWAY_S = 0.3
HEALTH_TIMEOUT_S = 2.0
HOP_BY_HOP = frozenset(
    {b"connection", b"host", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"content-length"}
)
INFER = re.compile(r"/v2/models/[^?]+/infer")
"""May be asked twice (ADR, falling back), unless it names a sequence, as what goes to a stateful model does."""
PARAMETERS_BYTES_MAX = 4096
"""Where a sequence is looked for: parameters come first, tensors after."""


class HttpsFallback:
    """One hub gateway. `start` begins to keep a connection warm."""

    def __init__(self, url: str, tls: tuple[str, str, str] | None) -> None:
        self._origin = checked_origin(url, encrypted=tls is not None)
        self._work = pool(tls, connections=CONNECTIONS, idle_s=IDLE_S)
        self._probes = pool(tls, connections=PROBE_CONNECTIONS, idle_s=IDLE_S)
        self._meter = LinkMeter()
        self._reachable = True
        self._away = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._kept_warm = LinkUse()

    def start(self) -> None:
        """Begins to keep the connections warm."""
        self._keeper = asyncio.create_task(self._keep_warm(), name="hub-health")

    @property
    def kept_warm_bytes(self) -> int:
        """What health checks have put on the link so far, both ways."""
        return self._kept_warm.sent + self._kept_warm.received

    @property
    def reachable(self) -> bool:
        """Whether the last exchange or health check reached the hub; True before the first."""
        return self._reachable

    async def forward(self, request: ForwardRequest, *, probe: bool = False) -> ForwardResponse:
        """Sends a request to the hub; raises TemporaryError when it cannot be reached or breaks off before its head."""
        if not self._reachable:
            raise TemporaryError("the hub is not reachable")
        headers = [(name, value) for name, value in request.headers if name.lower() not in HOP_BY_HOP]
        timeout = {"connect": min(CONNECT_S, request.timeout_s), "read": request.timeout_s, "write": request.timeout_s}
        timeout["pool"] = request.timeout_s
        entering = asyncio.ensure_future(
            opened(
                self._probes if probe else self._work,
                request.method,
                f"{self._origin}{request.path}",
                headers=headers,
                body=request.body,
                seconds=timeout,
                repeatable=_repeatable(request),
            )
        )
        away = asyncio.ensure_future(self._away.wait())
        try:
            await asyncio.wait({entering, away}, return_when=asyncio.FIRST_COMPLETED)
            if not entering.done():
                raise TemporaryError("the link to the hub was lost")
            response, stream = entering.result()
        except FAULTS as error:
            raise self._lost(error) from error
        finally:
            away.cancel()
            if not entering.done():
                entering.cancel()
                with suppress(asyncio.CancelledError, *FAULTS):
                    await entering
        self._found()
        answer = ForwardResponse(status=response.status, headers=_kept(response.headers), body=_nothing())
        answer.body = self._body(response, stream, answer)
        return answer

    async def close(self) -> None:
        """Ends the keeper and closes all connections."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await self._work.aclose()
        await self._probes.aclose()

    async def _body(
        self, response: httpcore.Response, stream: AbstractAsyncContextManager[httpcore.Response], answer: ForwardResponse
    ) -> AsyncGenerator[bytes]:
        connection = socket_of(response)
        try:
            async for part in response.aiter_stream():
                yield part
        except FAULTS as error:
            raise self._lost(error) from error
        finally:
            sent, received = self._meter.added(connection) if connection is not None else (0, 0)
            answer.link = LinkUse(sent=sent, received=received)
            with suppress(*FAULTS):
                await stream.__aexit__(None, None, None)

    async def _keep_warm(self) -> None:
        timeout = {"connect": CONNECT_S, "read": HEALTH_TIMEOUT_S, "write": HEALTH_TIMEOUT_S, "pool": HEALTH_TIMEOUT_S}
        while True:
            for connections in (self._work, self._probes):
                try:
                    url = f"{self._origin}/v2/health/live"
                    response, stream = await opened(
                        connections, "GET", url, headers=[], body=b"", seconds=timeout, repeatable=True
                    )
                    async with AsyncExitStack() as leaving:
                        leaving.push_async_exit(stream)
                        await response.aread()
                        connection = socket_of(response)
                        sent, received = self._meter.added(connection) if connection is not None else (0, 0)
                    self._kept_warm.sent += sent
                    self._kept_warm.received += received
                    self._found()
                except FAULTS as error:
                    self._lost(error)
            await asyncio.sleep(HEALTH_S if self._reachable else HEALTH_AWAY_S)

    def _found(self) -> None:
        self._reachable = True
        self._away.clear()

    def _lost(self, error: Exception) -> TemporaryError:
        """Marks the hub as away, unless the client's own short time-out ended the wait."""
        if (
            not isinstance(error, httpcore.ReadTimeout | httpcore.PoolTimeout | httpcore.WriteTimeout)
            or asyncio.current_task() is self._keeper
        ):
            self._reachable = False
            self._away.set()
        return TemporaryError(said(error))


def _repeatable(request: ForwardRequest) -> bool:
    if request.method in REPEATABLE:
        return True
    stateful = b'"sequence_id"' in request.body[:PARAMETERS_BYTES_MAX]
    return request.method == "POST" and INFER.fullmatch(request.path) is not None and not stateful


def _kept(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in headers if name.lower() not in HOP_BY_HOP - {b"content-length"}]


async def _nothing() -> AsyncGenerator[bytes]:
    return
    yield b""
