"""`--hub-probe URL`: the user's real round trip to a server, so that the simulated link is like the one they have."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from urllib.parse import SplitResult, urlsplit

import httpcore

from nearhall.core.errors import InputError

WHERE = "--hub-probe"
CONNECTS = 10
GETS = 21
"""The first GET sets the connection up and is not counted."""
GETS_MIN = 5
"""Below this their median is no better than that of the connects."""
SECONDS_EACH_MAX = 5.0
SECONDS_MAX = 30.0
BODY_BYTES_MAX = 64 * 1024
"""Of an answer no more than this is read; a page that is longer gets its connection closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """What was measured."""

    n: int
    """Round trips measured."""
    p50_ms: float
    p95_ms: float
    warm: bool
    """Whether these are GETs on a warm connection (a round trip and the server's own time), or TCP connects for want of them."""
    connect_p50_ms: float
    """Median of TCP connects: less than a round trip where something near the user answers for a server far away."""

    @property
    def jitter_ms(self) -> float:
        """How much longer than the median one in twenty takes."""
        return max(self.p95_ms - self.p50_ms, 0.0)


def measure_round_trip(url: str) -> RoundTrip:
    """Round trip to `url` (http or https), over at most half a minute.

    Small GETs on one warm connection, as a request that falls back takes it: the first, which sets it up, is left out. What the
    answer says (an error, a redirect) does not matter, and no certificate is believed or refused: only the time is wanted. Where
    too few are answered, TCP connects are taken, which a box on the way may answer. Raises InputError for an address that cannot
    be right or does not answer.
    """
    parts = _checked(url)
    try:
        return asyncio.run(_measure(url, parts))
    except TimeoutError as error:
        raise _unreached(url, f"no answer within {SECONDS_EACH_MAX:g} s") from error


def summary(connects_ms: Sequence[float], gets_ms: Sequence[float]) -> RoundTrip:
    """The quantiles of what was measured (nearest rank)."""
    warm = len(gets_ms) >= GETS_MIN
    ordered = sorted(gets_ms if warm else connects_ms)
    return RoundTrip(
        n=len(ordered),
        p50_ms=_rank(ordered, 0.5),
        p95_ms=_rank(ordered, 0.95),
        warm=warm,
        connect_p50_ms=_rank(sorted(connects_ms), 0.5),
    )


def _rank(ordered: Sequence[float], share: float) -> float:
    return ordered[max(ceil(share * len(ordered)) - 1, 0)]


def _unreached(url: str, why: str) -> InputError:
    return InputError(
        f"{url} cannot be reached ({why})", where=WHERE, right="a server that answers from here, or say it: --wan rtt=40"
    )


def _checked(url: str) -> SplitResult:
    right = "an address such as https://hub.example:8443"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InputError(f"{url!r} is no address ({error})", where=WHERE, right=right) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InputError(f"{url!r} is not an http:// or https:// address", where=WHERE, right=right)
    return parts


async def _measure(url: str, parts: SplitResult) -> RoundTrip:
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    async with asyncio.timeout(SECONDS_MAX):
        family, address = await _resolve(url, host, port)
        connects = [await _connect_ms(url, family, address) for _ in range(CONNECTS)]
        gets = await _gets_ms(url)
    return summary(connects, gets)


async def _resolve(url: str, host: str, port: int) -> tuple[int, tuple[str, int]]:
    """Looks the name up once, so that no connect contains it."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=1)
    except OSError as error:
        raise InputError(f"{host!r} has no address ({error.strerror})", where=WHERE, right="a host that exists") from error
    family, _, _, _, address = found[0]
    return family, (str(address[0]), port)


async def _connect_ms(url: str, family: int, address: tuple[str, int]) -> float:
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    try:
        async with asyncio.timeout(SECONDS_EACH_MAX):
            transport, _ = await loop.create_connection(asyncio.Protocol, *address, family=family)
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        raise _unreached(url, os.strerror(error.errno) if error.errno else str(error)) from error
    taken = (time.perf_counter() - began) * 1000.0
    transport.abort()
    return taken


async def _gets_ms(url: str) -> list[float]:
    """Warm GETs, as many as were answered; none where the server does not speak HTTP to us."""
    # Only the time is wanted, nothing that is read is believed: a private CA must not stand in the way.
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    taken: list[float] = []
    dialled: list[str] = []

    async def note(event: str, _: object) -> None:
        if event == "connection.connect_tcp.started":
            dialled.append(event)

    timeout = dict.fromkeys(("connect", "read", "write", "pool"), SECONDS_EACH_MAX)
    with suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError):
        async with httpcore.AsyncConnectionPool(ssl_context=trusting, max_connections=1) as pool:
            for _ in range(GETS):
                dialled.clear()
                began = time.perf_counter()
                async with pool.stream("GET", url, extensions={"timeout": timeout, "trace": note}) as answer:
                    took_ms = (time.perf_counter() - began) * 1000.0
                    await _read_some(answer)
                if not dialled:  # a server that ends each connection is never met on a warm one
                    taken.append(took_ms)
    return taken


async def _read_some(answer: httpcore.Response) -> None:
    size = 0
    async for piece in answer.aiter_stream():
        size += len(piece)
        if size > BODY_BYTES_MAX:
            break
