"""The control API that sites dial: HTTPS with mutual TLS; a site is who its certificate says (messages: wire/session.py)."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from nearhall.core.errors import TemporaryError
from nearhall.hub.service import Hub
from nearhall.wire.headers import PEER, PEER_URI
from nearhall.wire.session import BODY_BYTES_MAX, WAIT_S_MAX, Batch, Desired, Hello, HubError, Reported, site_of

GZIP_FROM_BYTES = 512
Message = TypeVar("Message")


Peer = tuple[str | None, Sequence[str]]
"""The subject's common name and the URIs of a certificate that has been verified."""


def peer_by_tls(request: Request) -> Peer:
    """As this program's own TLS saw it."""
    tls = request.scope.get("extensions", {}).get("tls", {})
    return tls.get("client_cert_name"), tls.get("client_cert_uris", ())


def peer_by_front(request: Request) -> Peer:
    """As the hub's gateway saw it, which alone can reach the Unix socket."""
    return request.headers.get(PEER.decode()), request.headers.getlist(PEER_URI.decode())


def control_api(hub: Hub, *, peer: Callable[[Request], Peer] | None) -> FastAPI:
    """The application. `peer` says who asks; None only where there is no TLS: tests on 127.0.0.1."""
    app = FastAPI(title="nearhall hub", docs_url=None, redoc_url=None, openapi_url=None)

    def check(request: Request, site: str) -> None:
        if peer is None:
            return
        name, uris = peer(request)
        owner = site_of(site)  # a site's certificate speaks for its nodes
        if name != owner or f"nearhall:site:{owner}" not in uris:
            raise _refused(403, f"the certificate is {name!r}'s, not {owner!r}'s", "identity")

    @app.post("/api/v1/sites/{site}/hello")
    async def hello(request: Request, site: str) -> Response:
        check(request, site)
        answer = await hub.hello(site, await _body(request, Hello))
        return _answer(answer, request, status=409 if isinstance(answer, HubError) else 200)

    @app.post("/api/v1/sites/{site}/telemetry")
    async def telemetry(request: Request, site: str) -> Response:
        check(request, site)
        return _answer(await hub.telemetry(site, await _body(request, Batch)), request)

    @app.get("/api/v1/sites/{site}/desired")
    async def desired(
        request: Request,
        site: str,
        after: Annotated[int, Query(ge=0)] = 0,
        wait_s: Annotated[float, Query(ge=0, le=WAIT_S_MAX)] = 0.0,
    ) -> Response:
        check(request, site)
        found = await hub.desired(site, after=after, wait_s=wait_s)
        if found is None:
            return Response(status_code=304)
        return _answer(Desired(version=found.version, document=json.loads(found.document)), request)

    @app.put("/api/v1/sites/{site}/reported")
    async def reported(request: Request, site: str) -> Response:
        check(request, site)
        written = await hub.reported(site, await _body(request, Reported))
        return _answer({"version": written.version}, request)

    _tell_errors(app)
    return app


def _tell_errors(app: FastAPI) -> None:
    """Every error of the control API is a `HubError`."""

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        detail: Any = error.detail
        body = detail if isinstance(detail, HubError) else HubError(error=str(detail))
        return Response(msgspec.json.encode(body), status_code=error.status_code, media_type="application/json")

    @app.exception_handler(RequestValidationError)
    async def refuse_query(request: Request, error: RequestValidationError) -> Response:
        body = HubError(error=f"the query is not understood: {error.errors()[0]['msg']}", reason="bad_request")
        return Response(msgspec.json.encode(body), status_code=400, media_type="application/json")

    @app.exception_handler(TemporaryError)
    async def unavailable(request: Request, error: TemporaryError) -> Response:
        body = HubError(error=str(error), reason="store")
        return Response(msgspec.json.encode(body), status_code=503, media_type="application/json", headers={"retry-after": "5"})


def _refused(status: int, text: str, reason: str) -> HTTPException:
    error = HTTPException(status)
    error.detail = HubError(error=text, reason=reason)  # type: ignore[assignment]
    return error


async def _body(request: Request, kind: type[Message]) -> Message:
    """The message in the body; 400 or 413 with the reason for what is none."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise _refused(413, f"the body is larger than {BODY_BYTES_MAX} bytes", "too_large")
        parts.append(part)
    body = b"".join(parts)
    encoding = request.headers.get("content-encoding", "")
    if encoding == "gzip":
        body = _inflated(body)
    elif encoding:
        raise _refused(400, f"content-encoding {encoding!r} is not known; gzip is", "bad_request")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refused(400, f"the body is no {kind.__name__}: {error}", "bad_request") from error


def _inflated(body: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, BODY_BYTES_MAX)
    except zlib.error as error:
        raise _refused(400, f"the body cannot be inflated: {error}", "bad_request") from error
    if inflater.unconsumed_tail:
        raise _refused(413, f"the body is larger than {BODY_BYTES_MAX} bytes once inflated", "too_large")
    return plain


def _answer(message: Any, request: Request, *, status: int = 200) -> Response:
    body = msgspec.json.encode(message)
    headers: dict[str, str] = {}
    if len(body) >= GZIP_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, compresslevel=6)
        headers["content-encoding"] = "gzip"
    return Response(body, status_code=status, media_type="application/json", headers=headers)
