"""The gateway's HTTP face, plain ASGI: which path is answered by what, and how a request may end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import FAILURES, Reason
from nearhall.gateway import describe
from nearhall.gateway.chat import chat, complete
from nearhall.gateway.embeddings import embed
from nearhall.gateway.exchange import ClientGoneError, Exchange, Receive, Scope, Send
from nearhall.gateway.front import PREFIX, Front
from nearhall.gateway.http_connection import Turned
from nearhall.gateway.infer import hopeless, infer
from nearhall.gateway.load import load_report, may_tell_load
from nearhall.gateway.metrics import CONTENT_TYPE, Metrics
from nearhall.gateway.oip_paths import MODELS, model_and_version, not_served, tell_not_served, tell_of_models
from nearhall.gateway.plane import Plane
from nearhall.gateway.repository_api import repository_api
from nearhall.policy.storm import Budget, delay_s
from nearhall.wire.headers import DEADLINE, FRONT, HEAD_LENGTH, PRIORITY, PROBE, RESIDENCY, SERVED_BY, WORKLOAD
from nearhall.wire.load import PATH as LOAD_PATH
from nearhall.wire.openai import models_list, one_model
from nearhall.wire.refusal import refusal_response
from nearhall.wire.telemetry import OTHER

log = logging.getLogger("nearhall.gateway")

FOR_WANT_OF_ROOM = frozenset({Reason.QUEUE_FULL, Reason.DEADLINE})
Handler = Callable[[Exchange], Awaitable[None]]
AWAY_S = 0.001
"""For so long a refusal holds for all who ask the same: a lane does not get on by more meanwhile, and judging each one anew took
the event loop's time from those who were accepted."""
AWAY_MAX = 256
_JUDGED = frozenset({DEADLINE, PRIORITY, WORKLOAD, RESIDENCY, FRONT, PROBE, HEAD_LENGTH, b"content-length"})
"""What a head says that decides."""


@dataclass(frozen=True, slots=True)
class _Away:
    """A refusal that holds for a moment."""

    turned: Turned
    workload: str
    reason: Reason
    until_s: float


class App:
    """The ASGI application on the service port."""

    def __init__(self, plane: Plane, metrics: Metrics, *, may_load: bool, front: Front | None = None) -> None:
        """`may_load`: whether models may be loaded and unloaded through this port, and not only by the control socket.

        `front`: at a hub, what hands the control API's requests on.
        """
        self._plane = plane
        self._metrics = metrics
        self._may_load = may_load
        self._front = front
        self._budget = Budget()
        self._away: dict[tuple[str, tuple[tuple[bytes, bytes], ...]], _Away] = {}
        self._get: Mapping[str, Handler] = {
            "/healthz": self._live,
            "/v2": self._server,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            "/v1/models": self._openai_models,
            "/metrics": self._metrics_page,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; nothing that a client does ends in a traceback."""
        if scope["type"] != "http":
            return
        plane = self._plane
        exchange = Exchange(scope, receive, send, plane.clock)
        plane.stats.in_flight += 1
        try:
            await self._answer(exchange)
        except Refusal as refusal:
            await self._refuse(exchange, refusal)
        except ClientGoneError:
            if exchange.workload and not exchange.ask.probe:
                plane.stats.of(exchange.workload).cancelled += 1
        except Exception:  # the last net: a fault of ours is told and counted, and the connection ends in order
            log.exception("%s %s", exchange.method, exchange.path)
            await self._refuse(exchange, Refusal(Reason.RUNTIME_FAILED, "the gateway failed; its log says why"))
        finally:
            plane.stats.in_flight -= 1
            plane.stats.probes_served += exchange.ask.probe

    async def _answer(self, exchange: Exchange) -> None:
        exchange.read_headers()
        if exchange.ask.probe and self._plane.hub is not None:
            # Probes come from sites to their hub; a client of a site that claims to be one would only go uncounted.
            exchange.ask = replace(exchange.ask, probe=False)
        path = exchange.path
        if self._front is not None and path.startswith(PREFIX):
            return await self._front.answer(exchange)
        if (why := not_served(path)) is not None:
            return await tell_not_served(exchange, why)
        if exchange.method == "POST":
            return await self._work(exchange, path)
        if exchange.method in {"GET", "HEAD"}:
            return await self._tell(exchange, path)
        raise _unknown(exchange)

    async def _work(self, exchange: Exchange, path: str) -> None:
        most = self._plane.limits.connections
        if exchange.connections > most:
            exchange.workload = OTHER  # its body, which would name the model, is not read
            raise Refusal(Reason.QUEUE_FULL, f"more than {most} connections are open; use fewer of them", retry_after_ms=1000)
        if path.startswith(MODELS) and path.endswith("/infer"):
            return await infer(self._plane, exchange, *model_and_version(path[len(MODELS) : -len("/infer")]))
        if path == "/v1/chat/completions":
            return await chat(self._plane, exchange)
        if path == "/v1/completions":
            return await complete(self._plane, exchange)
        if path == "/v1/embeddings":
            return await embed(self._plane, exchange)
        if path.startswith("/v2/repository/"):
            return await repository_api(self._plane, exchange, may_load=self._may_load)
        raise _unknown(exchange)

    async def _tell(self, exchange: Exchange, path: str) -> None:
        handler = self._get.get(path.rstrip("/") or "/")
        if handler is not None:
            return await handler(exchange)
        if path.startswith(MODELS):
            return await tell_of_models(self._plane, exchange)
        if path == LOAD_PATH and may_tell_load(exchange.scope, wherever=self._plane.load_report):
            return await exchange.json(200, load_report(self._plane))
        if path.startswith("/v1/models/"):
            return await self._openai_model(exchange, path[len("/v1/models/") :])
        raise _unknown(exchange)

    async def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Answers with a refusal, counted; a stream that has begun can only be cut off."""
        if exchange.workload and not exchange.ask.probe:
            self._plane.stats.refused(exchange.workload, refusal.reason)
        if refusal.reason in FAILURES:
            log.error("%s %s: %s", exchange.method, exchange.path, refusal)
        if exchange.started:
            return exchange.abort()
        if refusal.reason in FOR_WANT_OF_ROOM and (wait_s := self._kept_back_s(exchange)):
            await asyncio.sleep(wait_s)
        with suppress(ClientGoneError):
            await exchange.refuse(refusal, self._plane.node)
        return None

    def turn_away(self, scope: Scope) -> Turned | None:
        """The refusal of a tensor request whose head says already that it cannot be answered in time; None: let it come.

        Under overload most requests are refused, and what that costs is taken from those that are not: here nothing is read,
        parsed or copied of them, and no task is made. What is refused holds for a moment for all who ask the same.
        """
        said = tuple([pair for pair in scope["headers"] if pair[0] in _JUDGED])
        if scope["method"] != "POST" or not any(name == DEADLINE for name, _ in said):
            return None
        key = (scope["path"], said)
        now_s = self._plane.clock.monotonic()
        known = self._away.get(key)
        if known is not None and now_s < known.until_s:
            self._plane.stats.decided(known.workload, known.reason)
            self._plane.stats.refused(known.workload, known.reason)
            return replace(known.turned, delay_s=self._kept_back_s(Exchange(scope, _never, _never, self._plane.clock)))
        found = self._judged(scope)
        if found is None:
            return None
        if len(self._away) >= AWAY_MAX:
            self._away.clear()
        self._away[key] = found
        return found.turned

    def _judged(self, scope: Scope) -> _Away | None:
        """What the head alone decides; raises nothing."""
        path: str = scope["path"]
        if not path.startswith(MODELS) or not path.endswith("/infer"):
            return None
        exchange = Exchange(scope, _never, _never, self._plane.clock)
        try:
            exchange.read_headers()
            head_bytes, length = exchange.ask.head_bytes, exchange.ask.content_length
            if head_bytes is None or length is None or exchange.ask.probe:
                return None
            name, version = model_and_version(path[len(MODELS) : -len("/infer")])
            hopeless(self._plane, exchange, name, version, length - head_bytes)
        except Refusal as refusal:
            if refusal.reason not in FOR_WANT_OF_ROOM:
                return None  # it will be found again, with the body read
            self._plane.stats.refused(exchange.workload, refusal.reason)
            status, headers, body = refusal_response(refusal, path)
            wait_s = self._kept_back_s(exchange)
            turned = Turned.put_together(status, [*headers, (SERVED_BY, self._plane.node)], body, delay_s=wait_s)
            until_s = self._plane.clock.monotonic() + AWAY_S
            return _Away(turned, exchange.workload, refusal.reason, until_s)
        return None

    def _kept_back_s(self, exchange: Exchange) -> float:
        """How long the refusal of this request is kept back."""
        if self._from_front(exchange):
            return 0.0
        now_s = self._plane.clock.monotonic()
        wait_s, self._budget = delay_s(self._budget, now_s=now_s, since_refusal_s=exchange.since_refusal_s())
        exchange.refused_in(wait_s)
        return wait_s

    def _from_front(self, exchange: Exchange) -> bool:
        """Whether a front holds back those who come again at once: all of its clients share its connections here."""
        asked = any(name == FRONT for name, _ in exchange.headers)
        return asked and may_tell_load(exchange.scope, wherever=self._plane.load_report)

    async def _live(self, exchange: Exchange) -> None:
        await exchange.json(200, b"{}")

    async def _ready(self, exchange: Exchange) -> None:
        describe.check_ready(self._plane)
        await exchange.json(200, b"{}")

    async def _server(self, exchange: Exchange) -> None:
        await exchange.json(200, msgspec.json.encode(describe.server_metadata()))

    async def _metrics_page(self, exchange: Exchange) -> None:
        await exchange.reply(200, [(b"content-type", CONTENT_TYPE)], self._metrics.page())

    async def _openai_models(self, exchange: Exchange) -> None:
        listed = [(m.entry.name, int(m.loaded_s)) for m in self._plane.models.all() if m.openai and m.ready]
        await exchange.json(200, models_list(listed, self._plane.node.decode()))

    async def _openai_model(self, exchange: Exchange, name: str) -> None:
        model = self._plane.models.find(name)
        if model is None or not model.openai or not model.ready:
            raise Refusal(Reason.MODEL_UNKNOWN, f"there is no model {name[:64]!r} of texts ready here")
        await exchange.json(200, one_model(name, int(model.loaded_s), self._plane.node.decode()))


async def _never(*_: object) -> Any:
    raise AssertionError  # a request that is judged by its head alone neither reads nor writes


def _unknown(exchange: Exchange) -> Refusal:
    what = f"{exchange.method} {exchange.path[:128]}"
    return Refusal(Reason.BAD_REQUEST, f"{what} is not served; see /v2, /v1/models and /metrics")
