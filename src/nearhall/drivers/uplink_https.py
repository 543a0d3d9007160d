"""The site's way to the hub's control API: HTTPS with mutual TLS over httpcore, gzip both ways, bytes counted by the kernel."""

from __future__ import annotations

import gzip
import time
import zlib
from contextlib import AsyncExitStack

import httpcore

from nearhall.core.errors import TemporaryError
from nearhall.core.reasons import Reason
from nearhall.drivers.mutual_tls import FAULTS, REPEATABLE, checked_origin, opened, pool, said, socket_of
from nearhall.drivers.tcp_info import LinkMeter, shortest_round_trip_s
from nearhall.ports.uplink import UplinkReply
from nearhall.wire.headers import REASON
from nearhall.wire.session import BODY_BYTES_MAX

CONNECT_S = 2.0
"""A handshake over 200 ms of round trip takes 0.6 s; a cut link is noticed after this."""
IDLE_S = 60.0
"""Shorter than the hub's 75 s: the end that asks must be the first to let go of an idle connection."""
_AWAY = Reason.RESTARTING.value.encode()
GZIP_FROM_BYTES = 512
"""Below this gzip saves less than its own head."""


class HttpsUplink:
    """One origin, three connections: telemetry, the long poll, and one to spare."""

    def __init__(self, url: str, tls: tuple[str, str, str] | None) -> None:
        self._origin = checked_origin(url, encrypted=tls is not None)
        self._pool = pool(tls, connections=3, idle_s=IDLE_S)
        self._meter = LinkMeter()

    async def exchange(self, method: str, path: str, body: bytes, *, timeout_s: float) -> UplinkReply:
        """One request and its answer; raises TemporaryError when the hub cannot be reached in time."""
        headers = [(b"accept-encoding", b"gzip"), (b"content-type", b"application/json")]
        if len(body) >= GZIP_FROM_BYTES:
            body = gzip.compress(body, compresslevel=6)
            headers.append((b"content-encoding", b"gzip"))
        timeout = {"connect": CONNECT_S, "read": timeout_s, "write": timeout_s, "pool": timeout_s}
        began = time.monotonic()
        url, repeatable = f"{self._origin}{path}", method in REPEATABLE
        try:
            response, stream = await opened(
                self._pool, method, url, headers=headers, body=body, seconds=timeout, repeatable=repeatable
            )
            async with AsyncExitStack() as leaving:
                leaving.push_async_exit(stream)
                connection = socket_of(response)
                answer = await _bounded(response)
                took = time.monotonic() - began
                sent, received = self._meter.added(connection) if connection is not None else (0, 0)
                trip = shortest_round_trip_s(connection) if connection is not None else None
        except FAULTS as error:
            raise TemporaryError(said(error)) from error
        if response.status == 503 and any(n.lower() == REASON and v == _AWAY for n, v in response.headers):
            raise TemporaryError("the hub's control plane is starting")  # its gateway answers for it, as for a link that is cut
        return UplinkReply(
            status=response.status,
            body=_inflated(answer, response),
            sent_bytes=sent,
            received_bytes=received,
            took_s=took,
            link_rtt_s=trip,
        )

    async def close(self) -> None:
        """Closes all connections."""
        await self._pool.aclose()


async def _bounded(response: httpcore.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_stream():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise httpcore.RemoteProtocolError("the answer is too large")
        parts.append(part)
    return b"".join(parts)


def _inflated(answer: bytes, response: httpcore.Response) -> bytes:
    if not any(name.lower() == b"content-encoding" and value == b"gzip" for name, value in response.headers):
        return answer
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(answer, BODY_BYTES_MAX)
    except zlib.error as error:
        raise TemporaryError(f"the hub's answer cannot be inflated: {error}") from error
    if inflater.unconsumed_tail:
        raise TemporaryError("the hub's answer is too large")
    return plain
