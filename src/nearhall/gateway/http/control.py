"""The control socket: what the agent may ask and tell. HTTP over a Unix socket that only its owner can open."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.body import read_body
from nearhall.gateway.cap import read_cap
from nearhall.gateway.exchange import ClientGoneError, Exchange, Receive, Scope, Send
from nearhall.gateway.http.repository_api import repository_api
from nearhall.gateway.load import load_report
from nearhall.gateway.metering.energy import read_told
from nearhall.gateway.plane import Plane
from nearhall.wire.paths import SHOWN_MAX, WORK, wrong_method
from nearhall.wire.telemetry import GatewayStats

log = logging.getLogger("nearhall.gateway")

_PATHS = {
    "/control/stats": ("GET",),
    "/control/load": ("GET",),
    "/control/cap": ("GET", "POST"),
    "/control/drain": WORK,
    "/control/energy": WORK,
}


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
        methods = WORK if exchange.path.startswith("/v2/repository/") else _PATHS.get(exchange.path, ())
        if not methods:
            served = f"{', '.join(_PATHS)} and /v2/repository/..."
            raise Refusal(Reason.PATH_UNKNOWN, f"there is no {exchange.path[:SHOWN_MAX]} here, but {served}")
        if exchange.method not in methods:
            raise wrong_method(exchange.method, exchange.path, methods)
        asked = (exchange.method, exchange.path)
        if asked == ("GET", "/control/stats"):
            return await exchange.json(200, msgspec.json.encode(snapshot(self._plane)))
        if asked == ("GET", "/control/load"):
            return await exchange.json(200, load_report(self._plane))
        if asked == ("POST", "/control/drain"):
            await exchange.json(200, b"{}")
            self._stop()
            return None
        if asked == ("POST", "/control/energy"):
            self._plane.energy.told(read_told((await read_body(exchange, self._plane.limits)).plain))
            return await exchange.json(200, b"{}")
        if exchange.path == "/control/cap":
            return await self._cap(exchange)
        return await repository_api(self._plane, exchange, may_load=True)

    async def _cap(self, exchange: Exchange) -> None:
        """Sets a power cap, or ends it; answers what holds now, in words."""
        plane = self._plane
        now_s = plane.clock.monotonic()
        if exchange.method == "POST":
            body = await read_body(exchange, plane.limits)
            plane.choosing.cap.set(read_cap(body.plain, utc_s=plane.clock.utc(), now_s=now_s), now_s)
        await exchange.json(200, msgspec.json.encode(plane.choosing.cap.told(now_s)))


def snapshot(plane: Plane) -> GatewayStats:
    """All counters, models and events."""
    hub = plane.hub
    cap = plane.choosing.cap.told(plane.clock.monotonic())
    stats = plane.stats.snapshot(
        models=plane.models.states(),
        hub_reachable=None if hub is None else hub.reachable,
        hub_kept_warm_bytes=0 if hub is None else hub.kept_warm_bytes,
        models_budget_mib=plane.models.memory.budget_mib,
        counters_j=dict(plane.energy.counters_j),
    )
    return msgspec.structs.replace(
        stats,
        device_budgets_mib=dict(plane.models.memory.device_budgets_mib),
        device_beyond_mib=plane.models.memory.devices_beyond_mib(),
        power_cap=None if cap.until_s is None else cap,
    )
