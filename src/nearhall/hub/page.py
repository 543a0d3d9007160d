"""The page for people, and what it reads: plain HTTP on 127.0.0.1, behind a random token, Host and Origin checked.

The token comes once in the address, is kept in a cookie that no other site's page can send along (SameSite=Strict), and leaves
the address bar. A page elsewhere that knows the port can thus neither read nor write anything, with DNS rebinding neither.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from nearhall.hub.service import Hub
from nearhall.ports.store import Conflict
from nearhall.wire.live import LiveState
from nearhall.wire.shadow import DESIRED_BYTES_MAX, parse_desired

EVENTS_PATH = "/api/v1/live/events"
SUBSCRIBERS_MAX = 32
"""Open pages at once; each costs a connection and an encoding a second."""
HEARTBEAT_S = 2.0
APART_S = 0.7
"""Between two events: several sites' windows share one."""
NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
Render = Callable[[str, LiveState], str]
"""(address of the events, live state) to the page; `report` gives it."""


def page_app(hub: Hub, *, token: str, hosts: frozenset[str], render: Render) -> FastAPI:  # noqa: C901 (one function a route)
    """The application. `hosts` are the values of the Host header that are ours, with their ports."""
    app = FastAPI(title="nearhall hub page", docs_url=None, redoc_url=None, openapi_url=None)
    cookie = f"nearhall_{sha256(token.encode()).hexdigest()[:8]}"  # cookies ignore ports: two hubs of one machine must differ
    subscribers = 0

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        refusal = _refusal(request, token, hosts, cookie)
        response = refusal if refusal is not None else await go_on(request)
        response.headers.update(NO_STORE)
        return response

    @app.get("/")
    async def page(request: Request) -> Response:
        if "token" in request.query_params:
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(cookie, token, httponly=True, samesite="strict")
            return answer
        # Drawing takes up to a second; telemetry must not wait for it.
        html = await asyncio.to_thread(render, EVENTS_PATH, hub.live())
        return Response(html, media_type="text/html", headers={"x-frame-options": "DENY"})

    @app.get("/api/v1/live")
    async def live() -> Response:
        return _json(hub.live())

    @app.get(EVENTS_PATH)
    async def events() -> Response:
        nonlocal subscribers
        if subscribers >= SUBSCRIBERS_MAX:
            return Response("too many pages are open", status_code=503, headers={"retry-after": "10"})

        async def stream() -> AsyncIterator[bytes]:
            nonlocal subscribers
            subscribers += 1  # here, not before: a client that leaves at once never starts the stream, nor ends it
            try:
                async for event in _events(hub):
                    yield event
            finally:
                subscribers -= 1

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.get("/api/v1/sites")
    async def sites() -> Response:
        rows = await hub.sites()
        return _json([{"site": row.site, "software": row.software, "last_seen_s": row.last_seen_s} for row in rows])

    @app.get("/api/v1/sites/{site}/{half}")
    async def shadow(site: str, half: str) -> Response:
        found = await hub.shadow(site, half) if half in {"desired", "reported"} else None
        if found is None:
            return Response('{"error":"there is no such document"}', status_code=404, media_type="application/json")
        return _json({"version": found.version, "changed_s": found.changed_s, "document": json.loads(found.document)})

    @app.put("/api/v1/sites/{site}/desired")
    async def wish(request: Request, site: str, expected: Annotated[int | None, Query(ge=0)] = None) -> Response:
        try:
            body = await _limited(request)
            parse_desired(json.loads(body))
            written = await hub.wish(site, body, expected=expected)
        except ValueError as error:
            return _json({"error": str(error)}, status=400)
        except Conflict as error:
            return _json({"error": str(error)}, status=409)
        return _json({"version": written.version})

    return app


def _refusal(request: Request, token: str, hosts: frozenset[str], cookie: str) -> Response | None:
    """403 for a request that is not from our own page or from somebody who knows the token."""
    if request.headers.get("host", "") not in hosts:
        return Response("this address is not served here", status_code=403)
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc not in hosts:
        return Response("pages of other sites may not ask here", status_code=403)
    given = [
        request.query_params.get("token", "") if request.url.path == "/" else "",
        request.cookies.get(cookie, ""),
        request.headers.get("authorization", "").removeprefix("Bearer "),
    ]
    if not any(compare_digest(value.encode(), token.encode()) for value in given):
        return Response("open the address that the hub printed, with its token", status_code=403)
    return None


async def _limited(request: Request) -> bytes:
    """The body; raises ValueError as soon as it is larger than a desired document may be."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > DESIRED_BYTES_MAX:
            message = f"the document has more than {DESIRED_BYTES_MAX} bytes"
            raise ValueError(message)
        parts.append(part)
    return b"".join(parts)


async def _events(hub: Hub) -> AsyncIterator[bytes]:
    """Server-sent events: what is new, as soon as telemetry comes but about once a second, and at least every two seconds."""
    points: dict[str, float] = {}
    told = 0
    first = hub.live()
    for site in first.sites:
        points[site.id] = site.points[-1].at_s if site.points else 0.0
    _, told = hub.live_after(points, 0)
    while not hub.stopping:
        await hub.news(HEARTBEAT_S)
        state, told = hub.live_after(points, told)
        for site in state.sites:
            if site.points:
                points[site.id] = site.points[-1].at_s
            points.setdefault(site.id, 0.0)
        yield b"data: " + msgspec.json.encode(state) + b"\n\n"
        await asyncio.sleep(APART_S)


def _json(message: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(message), status_code=status, media_type="application/json")
