"""What sites with a Prometheus returned: range queries at the ends of blocks, by a mapping.

Asks one origin alone: a redirect is refused, and so is a login over plain HTTP to another machine. A secret goes into the
request's head and nowhere else.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import math
import ssl
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import httpcore

from nearhall.core.errors import InputError, TemporaryError
from nearhall.documents.mapped_returns import Wanted, block_ends, returns_of, wanted
from nearhall.documents.mapping import Login, MappingDocument
from nearhall.documents.site_returns import BLOCK_S, SiteReturns
from nearhall.drivers.clock import SystemClock
from nearhall.ports.clock import Clock

CONNECT_S, READ_S = 5.0, 60.0
ANSWER_S = 120.0
"""A whole answer; one that comes in drops would never end."""
QUERY_S = 50
"""The server gives up on a query sooner than we do on the server."""
POINTS_MAX = 10_000
"""A query; Prometheus itself refuses more than 11,000."""
ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""Ten thousand points take some 300 kB."""
BLOCKS_MAX = 40_000
"""More than a year of quarters of an hour."""
_FAULTS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, ssl.SSLError, OSError)


def prometheus_returns(
    url: str, mapping: MappingDocument, *, start_s: float, end_s: float, secret: str | None = None, clock: Clock | None = None
) -> tuple[SiteReturns, ...]:
    """The returns of every site of the mapping over whole blocks of the period (seconds since 1970, UTC).

    `secret` is what the mapping's login variable holds; with `clock` the server's is compared. Raises InputError for a period or
    address that is none, a query that the server refuses, or one that gives several series; TemporaryError when the server
    cannot be reached.
    """
    ends = block_ends(start_s, end_s)
    if not 2 <= len(ends) <= BLOCKS_MAX:
        raise InputError(f"the period holds {len(ends) - 1} whole blocks of 15 minutes", right=f"1 to {BLOCKS_MAX - 1}")
    _told_apart(mapping)
    with _Server(url, mapping.login, secret, clock or SystemClock()) as server:
        found: list[SiteReturns] = []
        for site in mapping.sites:
            values = {one.key: server.values(one, ends) for one in wanted(mapping, site)}
            if all(value is None for series in values.values() for value in series):
                right = "try a query in the server's own page, with the site's label filled in"
                raise InputError(f"no query of site {site.id!r} gives anything in that period", where=url, right=right)
            found.append(
                returns_of(
                    mapping, site, ends_s=ends, values=values, clock_error_ms=server.clock_error_ms, origin=f"{url} ({site.id})"
                )
            )
        return tuple(found)


def _told_apart(mapping: MappingDocument) -> None:
    """Raises InputError where two sites would be asked for by the same queries: one site cannot stand for two."""
    asked: dict[tuple[str, ...], str] = {}
    for site in mapping.sites:
        queries = tuple(one.series for one in wanted(mapping, site))
        if queries in asked:
            right = "put a label with $site into them"
            raise InputError(f"sites {asked[queries]} and {site.id} have the same queries", where="mapping", right=right)
        asked[queries] = site.id


class _Server:
    """One Prometheus."""

    def __init__(self, url: str, login: Login | None, secret: str | None, clock: Clock) -> None:
        self._clock = clock
        self._base = _checked(url, login)
        self._headers = [(b"accept", b"application/json"), (b"content-type", b"application/x-www-form-urlencoded")]
        if login is not None:
            self._headers.append((b"authorization", _authorization(login, secret)))
        self._pool = httpcore.ConnectionPool(ssl_context=ssl.create_default_context(), max_connections=1, retries=0)
        self.clock_error_ms: float | None = None
        """Of its clock against this machine's, to half a second: as fine as the head of an answer tells."""

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def values(self, series: Wanted, ends: Sequence[float]) -> list[float | None]:
        """One value for each end."""
        found: dict[int, float] = {}
        for first in range(0, len(ends), POINTS_MAX):
            part = ends[first : first + POINTS_MAX]
            found |= self._range(series, part[0], part[-1])
        return [found.get(round(end)) for end in ends]

    def _range(self, series: Wanted, start_s: float, end_s: float) -> dict[int, float]:
        asked = {"query": series.series, "start": f"{start_s:.0f}", "end": f"{end_s:.0f}", "step": f"{BLOCK_S:.0f}"}
        answer = self._asked(urlencode({**asked, "timeout": f"{QUERY_S}s"}).encode(), series)
        data = answer.get("data")
        rows = cast("dict[str, Any]", data).get("result") if isinstance(data, dict) else None
        if not isinstance(rows, list):
            raise InputError(
                "is no answer of a Prometheus", where=self._base, right="give the address of its API, without /api/v1"
            )
        result = cast("list[Any]", rows)
        if len(result) > 1:
            right = "narrow its labels, or put sum() around it"
            raise InputError(f"the query of {series.key} gives {len(result)} series: {series.series}", right=right)
        try:
            points = [_point(point) for point in result[0]["values"]] if result else []
        except (TypeError, KeyError, IndexError, ValueError, OverflowError):
            right = '[[time, "value"], ...], as /api/v1/query_range gives it'
            raise InputError(f"the query of {series.key} gives no series of points", where=self._base, right=right) from None
        return {at: value for at, value in points if math.isfinite(value)}

    def _asked(self, body: bytes, series: Wanted) -> dict[str, Any]:
        seconds = {"connect": CONNECT_S, "read": READ_S, "write": READ_S, "pool": READ_S}
        before, until_s = self._clock.utc(), self._clock.monotonic() + ANSWER_S
        try:
            with self._pool.stream(
                "POST",
                f"{self._base}/api/v1/query_range",
                headers=[*self._headers, (b"content-length", str(len(body)).encode())],
                content=body,
                extensions={"timeout": seconds},
            ) as response:
                content = _bounded(response, self._base, self._clock, until_s)
        except _FAULTS as error:
            raise TemporaryError(f"{self._base} does not answer: {type(error).__name__} {error}".strip()) from error
        self._compare(response, 0.5 * (before + self._clock.utc()))
        self._refused(response, content, series)
        try:
            answer: Any = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        return cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}

    def _refused(self, response: httpcore.Response, content: bytes, series: Wanted) -> None:
        """Raises for every status but 200."""
        if response.status == 200:
            return
        if 300 <= response.status < 400:
            raise InputError("answers with a redirect, which is not followed", where=self._base, right="give the address itself")
        if response.status in {401, 403}:
            right = "name the variable that holds token or USER:PASSWORD in the mapping's login"
            raise InputError(f"wants a login ({response.status})", where=self._base, right=right)
        if response.status in {400, 422}:
            raise InputError(
                f"the query of {series.key} is refused: {_told(content)}", where=series.series, right="mend it in the mapping"
            )
        raise TemporaryError(f"{self._base} answers {response.status}")

    def _compare(self, response: httpcore.Response, at_s: float) -> None:
        """Its clock by the Date of the answer, which is cut to whole seconds; the answer nearest to agreement counts."""
        dated = next((value for name, value in response.headers if name.lower() == b"date"), None)
        if dated is None:
            return
        try:
            theirs = parsedate_to_datetime(dated.decode("ascii", "replace"))
        except ValueError:
            return
        error_ms = (theirs.replace(tzinfo=theirs.tzinfo or UTC).timestamp() + 0.5 - at_s) * 1000.0
        if self.clock_error_ms is None or abs(error_ms) < abs(self.clock_error_ms):
            self.clock_error_ms = round(error_ms, 1)


def _checked(url: str, login: Login | None) -> str:
    """The base address; raises InputError for one with a login in it, or a login over plain HTTP to another machine."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise InputError("is no address of a Prometheus", where=url, right="http(s)://HOST:PORT, with a path where it has one")
    if parts.username is not None or parts.password is not None:
        right = "leave it out, and name a variable in the mapping's login"
        raise InputError("the address holds a login", where=f"{parts.scheme}://{parts.hostname}", right=right)
    if login is not None and parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise InputError("a login over plain HTTP can be read by everybody on the way", where=url, right="https://")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _authorization(login: Login, secret: str | None) -> bytes:
    if not secret:
        raise InputError(f"the variable {login.variable} is empty or not set", where="login", right="export it, without quotes")
    if any(ord(letter) < 32 for letter in secret):
        raise InputError(f"the variable {login.variable} holds a line's end", where="login", right="export one line")
    if login.bearer_env is not None:
        return b"Bearer " + secret.encode()
    return b"Basic " + base64.b64encode(secret.encode())


def _bounded(response: httpcore.Response, base: str, clock: Clock, until_s: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in response.iter_stream():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise InputError(f"answers with more than {ANSWER_BYTES_MAX} bytes", where=base, right="map a query to one series")
        if clock.monotonic() > until_s:
            raise TemporaryError(f"{base} takes more than {ANSWER_S:.0f} s to answer a query: ask for a shorter period")
        parts.append(part)
    return b"".join(parts)


def _point(point: Sequence[Any]) -> tuple[int, float]:
    return round(float(point[0])), float(point[1])


def _told(content: bytes) -> str:
    """The server's own words, one line of them."""
    try:
        answer: Any = json.loads(content)
        text = str(cast("dict[str, Any]", answer).get("error", "")) if isinstance(answer, dict) else ""
    except ValueError:
        text = ""
    return " ".join(text.split())[:300] or "it does not say why"
