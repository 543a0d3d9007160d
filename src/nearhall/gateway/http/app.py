"""The gateway's HTTP face, plain ASGI: which path is answered by what, and how a request may end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import FAILURES, Reason
from nearhall.gateway import describe
from nearhall.gateway.exchange import ClientGoneError, Exchange, Expired, Header, Receive, Scope, Send
from nearhall.gateway.http.chat import chat, complete
from nearhall.gateway.http.embeddings import embed
from nearhall.gateway.http.front import PREFIX, Front
from nearhall.gateway.http.infer import infer
from nearhall.gateway.http.oip_paths import not_served, tell_not_served, tell_of_models
from nearhall.gateway.http.repository_api import repository_api
from nearhall.gateway.load import load_report, may_tell_load
from nearhall.gateway.metering.metrics import CONTENT_TYPE, Metrics
from nearhall.gateway.plane import Plane
from nearhall.policy.storm import Budget, delay_s
from nearhall.wire.headers import FRONT, SERVED_BY
from nearhall.wire.load import PATH as LOAD_PATH
from nearhall.wire.oip_describe import LIVE, READY
from nearhall.wire.openai import models_list, one_model
from nearhall.wire.paths import MODELS, methods_at, model_and_version, not_there
from nearhall.wire.refusal import refusal_response
from nearhall.wire.telemetry import OTHER

log = logging.getLogger("nearhall.gateway")

FOR_WANT_OF_ROOM = frozenset({Reason.QUEUE_FULL, Reason.DEADLINE})
Handler = Callable[[Exchange], Awaitable[None]]


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
        await self.settle(exchange, self._answer(exchange))

    async def settle(self, exchange: Exchange, answering: Awaitable[None]) -> None:
        """Awaits what answers a request that is in flight, and says and counts how that went wrong, if it does."""
        plane = self._plane
        try:
            await answering
        except Refusal as refusal:
            await self._refuse(exchange, refusal)
        except ClientGoneError:
            if exchange.workload and not exchange.ask.probe:
                plane.stats.of(exchange.workload).cancelled += 1
        except Exception:  # the last net: a fault of ours is told and counted, and the connection ends in order
            log.exception("%s %s", exchange.method, exchange.path)
            await self._refuse(exchange, Refusal(Reason.RUNTIME_FAILED, "the gateway failed; its log says why"))
        finally:
            self.done(exchange)

    def done(self, exchange: Exchange) -> None:
        """The request is not in flight any more."""
        self._plane.stats.in_flight -= 1
        self._plane.stats.probes_served += exchange.ask.probe

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
        raise not_there(exchange.method, path)

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
        raise not_there(exchange.method, path)

    async def _tell(self, exchange: Exchange, path: str) -> None:
        handler = self._get.get(path.rstrip("/") or "/")
        if handler is not None:
            return await handler(exchange)
        if path.startswith(MODELS) and exchange.method in methods_at(path):
            return await tell_of_models(self._plane, exchange)
        if path == LOAD_PATH and may_tell_load(exchange.scope, wherever=self._plane.load_report):
            return await exchange.json(200, load_report(self._plane))
        if path.startswith("/v1/models/"):
            return await self._openai_model(exchange, path[len("/v1/models/") :])
        raise not_there(exchange.method, path)

    async def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Answers with a refusal, counted; a stream that has begun can only be cut off."""
        status, headers, body, wait_s = self.refused(exchange, refusal)
        if exchange.started:
            return exchange.abort()
        if wait_s:
            await asyncio.sleep(wait_s)
        with suppress(ClientGoneError):
            await exchange.head(status, headers)
            await exchange.part(body, more=False)
        return None

    def refused(self, exchange: Exchange, refusal: Refusal) -> tuple[int, list[Header], bytes, float]:
        """A refusal's status, headers and body, and for how many seconds it is to be kept back; counted."""
        if exchange.workload and not exchange.ask.probe:
            self._plane.stats.refused(exchange.workload, refusal.reason)
        if refusal.reason in FAILURES:
            log.error("%s %s: %s", exchange.method, exchange.path, refusal)
        status, headers, body = refusal_response(refusal, exchange.path, expired=isinstance(refusal, Expired))
        room = refusal.reason in FOR_WANT_OF_ROOM and not exchange.started
        wait_s = self.kept_back_s(exchange, front=self._from_front(exchange)) if room else 0.0
        return status, [*headers, (SERVED_BY, self._plane.node)], body, wait_s

    def kept_back_s(self, exchange: Exchange, *, front: bool) -> float:
        """How long the refusal of this request is kept back; a `front` holds back who comes again at once by itself."""
        if front:
            return 0.0
        now_s = self._plane.clock.monotonic()
        since_s, answers = exchange.since_refusal_s(), self._plane.stats.answers
        wait_s, self._budget = delay_s(self._budget, now_s=now_s, since_refusal_s=since_s, answers=answers)
        exchange.refused_in(wait_s)
        return wait_s

    def _from_front(self, exchange: Exchange) -> bool:
        """Whether all clients of a front share its connections here."""
        return self.believed(exchange) and any(name == FRONT for name, _ in exchange.headers)

    def believed(self, exchange: Exchange) -> bool:
        """Whether somebody who says that he is a front may be one."""
        return may_tell_load(exchange.scope, wherever=self._plane.load_report)

    async def _live(self, exchange: Exchange) -> None:
        await exchange.json(200, LIVE)

    async def _ready(self, exchange: Exchange) -> None:
        describe.check_ready(self._plane)
        await exchange.json(200, READY)

    async def _server(self, exchange: Exchange) -> None:
        await exchange.json(200, msgspec.json.encode(describe.server_metadata(may_load=self._may_load)))

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
