"""`--hub-probe URL`: the user's real round trip to a server, so that the simulated link is like the one they have."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpcore

from nearhall.core.errors import InputError, TemporaryError

WHERE = "--hub-probe"
CONNECTS = 10
GETS = 11
"""The first GET sets the connection up and is not counted."""
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
    get_p50_ms: float | None
    """Median of GETs on a warm connection: one round trip and the server's own time; None where none was answered."""

    @property
    def jitter_ms(self) -> float:
        """How much longer than the median one in twenty takes."""
        return max(self.p95_ms - self.p50_ms, 0.0)


def measure_round_trip(url: str) -> RoundTrip:
    """Round trip to `url` (http or https), over at most half a minute.

    A TCP connect takes one round trip and nothing of the server's own. GETs on a warm connection are measured too: where they
    take far longer, either the server is slow or something near the user answers connects on behalf of one far away; `get_p50_ms`
    lets the user see it. Raises InputError for an address that cannot be right, TemporaryError for one that does not answer.
    """
    parts = _checked(url)
    try:
        return asyncio.run(_measure(url, parts))
    except TimeoutError as error:
        message = f"{url} did not answer within {SECONDS_EACH_MAX:g} s"
        raise TemporaryError(message) from error


def summary(connects_ms: Sequence[float], gets_ms: Sequence[float]) -> RoundTrip:
    """The quantiles of what was measured (nearest rank)."""
    ordered = sorted(connects_ms)
    warm = sorted(gets_ms)
    return RoundTrip(
        n=len(ordered),
        p50_ms=_rank(ordered, 0.5),
        p95_ms=_rank(ordered, 0.95),
        get_p50_ms=_rank(warm, 0.5) if warm else None,
    )


def _rank(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


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
        raise InputError(
            f"{host!r} has no address ({error.strerror})", where=WHERE, right=f"a host that exists; {url}"
        ) from error
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
        message = f"{url} cannot be reached ({error.strerror or error})"
        raise TemporaryError(message) from error
    taken = (time.perf_counter() - began) * 1000.0
    transport.abort()
    return taken


async def _gets_ms(url: str) -> list[float]:
    """Warm GETs; none where the server does not speak HTTP to us: connects were measured, which is what counts."""
    # Only the time is wanted, nothing that is read is believed: a private CA must not stand in the way.
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    taken: list[float] = []
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), SECONDS_EACH_MAX)
    try:
        async with httpcore.AsyncConnectionPool(ssl_context=trusting, max_connections=1) as pool:
            for _ in range(GETS):
                began = time.perf_counter()
                async with pool.stream("GET", url, extensions={"timeout": timeout}) as answer:
                    taken.append((time.perf_counter() - began) * 1000.0)
                    await _read_some(answer)
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError):
        return taken[1:]
    return taken[1:]


async def _read_some(answer: httpcore.Response) -> None:
    size = 0
    async for piece in answer.aiter_stream():
        size += len(piece)
        if size > BODY_BYTES_MAX:
            break
