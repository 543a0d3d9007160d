"""The link's control address: a few HTTP/1.1 requests, one a connection.

GET  /stats                         {site: {lane: {up_bytes, down_bytes, connections}}}
GET  /state                         {rtt_ms, jitter_ms, mbps, cut: [site, ...]}
POST /cut?site=S  /restore?site=S   without `site`: every site
POST /set?rtt_ms=..&jitter_ms=..&mbps=..
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from nearhall.core.errors import InputError, TemporaryError
from nearhall.sim.link import Link, address

HEAD_BYTES_MAX = 8192
READ_SECONDS_MAX = 5.0
"""A request is one line and a few headers from this machine."""

_Answer = tuple[HTTPStatus, Mapping[str, object]]


class LinkControl:
    """Serves a link's control address."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._server: asyncio.Server | None = None
        self.address = ""
        """Where it listens, once started."""

    async def start(self, listen: str) -> None:
        """Listens; raises TemporaryError for an address that is taken."""
        host, port = address(listen, where="control")
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES_MAX)
        except OSError as error:
            message = f"cannot listen on {listen} ({error.strerror or error})"
            raise TemporaryError(message) from error
        bound = self._server.sockets[0].getsockname()
        self.address = f"{bound[0]}:{bound[1]}"

    async def close(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), READ_SECONDS_MAX)
            except asyncio.LimitOverrunError:
                head = b""
            status, body = self.answer(head)
            data = json.dumps(body).encode()
            writer.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(data)}\r\nconnection: close\r\n\r\n".encode()
                + data
            )
            await writer.drain()
        writer.close()

    def answer(self, head: bytes) -> _Answer:
        """Status and JSON body for a request's head; does what it asks."""
        line, *headers = head.decode("latin-1").split("\r\n")
        method, _, rest = line.partition(" ")
        target, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            return HTTPStatus.BAD_REQUEST, {"error": "not an HTTP/1.1 request"}
        # A web page of another origin must not cut the link of the pilot it is shown beside.
        if any(header.lower().startswith("origin:") for header in headers):
            return HTTPStatus.FORBIDDEN, {"error": "requests from web pages are not served"}
        parts = urlsplit(target)
        try:
            return self._route(method, parts.path, dict(parse_qsl(parts.query)))
        except InputError as error:
            return HTTPStatus.BAD_REQUEST, {"error": str(error)}

    def _route(self, method: str, path: str, query: Mapping[str, str]) -> _Answer:
        link = self._link
        if (method, path) == ("GET", "/stats"):
            return HTTPStatus.OK, link.stats()
        if (method, path) == ("POST", "/cut"):
            link.cut(query.get("site"))
        elif (method, path) == ("POST", "/restore"):
            link.restore(query.get("site"))
        elif (method, path) == ("POST", "/set"):
            link.set(**{name: _number(name, text) for name, text in query.items()})
        elif (method, path) != ("GET", "/state"):
            right = "GET /stats, GET /state, POST /cut, POST /restore or POST /set"
            return HTTPStatus.NOT_FOUND, {"error": f"{method} {path} is not served; {right}"}
        return HTTPStatus.OK, link.state()


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{name} is {text!r}", right="a number") from None
