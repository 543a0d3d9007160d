"""The control socket: what the agent may ask and tell. HTTP over a Unix socket that only its owner can open."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.exchange import ClientGoneError, Exchange, Receive, Scope, Send
from nearhall.gateway.plane import Plane
from nearhall.gateway.repository_api import repository_api
from nearhall.wire.telemetry import GatewayStats

log = logging.getLogger("nearhall.gateway")
NOT_YET = b'{"error":"capping power is not implemented in this version"}'


class Control:
    """The ASGI application on the control socket."""

    def __init__(self, plane: Plane, *, stop: Callable[[], None]) -> None:
        """`stop` begins a clean stop: no new work, what is in progress ends."""
        self._plane = plane
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send, self._plane.clock)
        try:
            exchange.read_headers()
            await self._answer(exchange)
        except Refusal as refusal:
            await exchange.refuse(refusal, self._plane.node)
        except ClientGoneError:
            return

    async def _answer(self, exchange: Exchange) -> None:
        asked = (exchange.method, exchange.path)
        if asked == ("GET", "/control/stats"):
            return await exchange.json(200, msgspec.json.encode(snapshot(self._plane)))
        if asked == ("POST", "/control/drain"):
            await exchange.json(200, b"{}")
            self._stop()
            return None
        if exchange.path == "/control/cap":
            return await exchange.json(501, NOT_YET)
        if exchange.path.startswith("/v2/repository/") and exchange.method == "POST":
            return await repository_api(self._plane, exchange, may_load=True)
        message = (
            f"{exchange.method} {exchange.path[:128]} is not served; GET /control/stats, POST /control/drain, /v2/repository/..."
        )
        raise Refusal(Reason.BAD_REQUEST, message)


def snapshot(plane: Plane) -> GatewayStats:
    """All counters, models and events."""
    hub = plane.hub
    return plane.stats.snapshot(
        models=plane.models.states(),
        hub_reachable=None if hub is None else hub.reachable,
        hub_kept_warm_bytes=0 if hub is None else hub.kept_warm_bytes,
    )
