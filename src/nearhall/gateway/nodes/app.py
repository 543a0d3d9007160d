"""The front's HTTP face, plain ASGI: which path goes to a node, and what the front answers of all of them together."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import FAILURES, Reason
from nearhall.gateway.body import MIB, received
from nearhall.gateway.exchange import ClientGoneError, Exchange, Receive, Scope, Send
from nearhall.gateway.http.oip_paths import not_served, tell_not_served
from nearhall.gateway.metering.metrics import CONTENT_TYPE
from nearhall.gateway.nodes import telling
from nearhall.gateway.nodes.asks import infer_job, openai_job
from nearhall.gateway.nodes.metrics import FrontMetrics
from nearhall.gateway.nodes.relay import Relay
from nearhall.wire.load import ModelLoad
from nearhall.wire.oip_describe import LIVE, READY
from nearhall.wire.openai import models_list, one_model
from nearhall.wire.paths import MODELS, methods_at, model_and_version, not_there

log = logging.getLogger("nearhall.front")

INDEX_MIB_MAX = 1
Handler = Callable[[Exchange], Awaitable[None]]


class FrontApp:
    """The ASGI application of a front."""

    def __init__(self, relay: Relay, *, name: bytes, metrics: FrontMetrics) -> None:
        self._relay = relay
        self._fleet = relay.fleet
        self._limits = relay.limits
        self._stats = relay.stats
        self._clock = relay.clock
        self._name = name
        self._metrics = metrics
        self._get: Mapping[str, Handler] = {
            "/healthz": self._live,
            "/v2": self._server,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            "/v1/models": self._openai_models,
            "/metrics": self._metrics_page,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; nothing that a client or a node does ends in a traceback."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send, self._clock)
        self._stats.in_flight += 1
        try:
            await self._answer(exchange)
        except Refusal as refusal:
            await self._refuse(exchange, refusal)
        except ClientGoneError:
            self._stats.cancelled += 1
        except Exception:  # the last net: a fault of ours is told and counted, and the connection ends in order
            log.exception("%s %s", exchange.method, exchange.path)
            await self._refuse(exchange, Refusal(Reason.RUNTIME_FAILED, "the front failed; its log says why"))
        finally:
            self._stats.in_flight -= 1

    async def _answer(self, exchange: Exchange) -> None:
        exchange.read_headers()
        path = exchange.path
        if (why := not_served(path)) is not None:
            return await tell_not_served(exchange, why)
        if exchange.method == "POST":
            return await self._work(exchange, path)
        if exchange.method in {"GET", "HEAD"}:
            return await self._tell(exchange, path)
        raise not_there(exchange.method, path)

    async def _work(self, exchange: Exchange, path: str) -> None:
        if exchange.connections > self._limits.connections:
            text = f"more than {self._limits.connections} connections are open; use fewer of them"
            raise Refusal(Reason.QUEUE_FULL, text, retry_after_ms=1000)
        self._relay.check_open()
        if path.startswith(MODELS) and path.endswith("/infer"):
            name, version = model_and_version(path[len(MODELS) : -len("/infer")])
            return await self._relay.answer(await infer_job(exchange, self._fleet, self._limits, name, version))
        if path.startswith("/v1/") and "POST" in methods_at(path):
            return await self._relay.answer(await openai_job(exchange, self._fleet, self._limits))
        if path.rstrip("/") == "/v2/repository/index":
            return await self._index(exchange)
        if path.startswith("/v2/repository/") and "POST" in methods_at(path):
            raise Refusal(Reason.UNSUPPORTED, telling.LOADING)
        raise not_there(exchange.method, path)

    async def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Answers with a refusal, counted; a stream that has begun can only be cut off."""
        self._stats.refuse(refusal.reason)
        if refusal.reason in FAILURES:
            log.error("%s %s: %s", exchange.method, exchange.path, refusal)
        if exchange.started:
            return exchange.abort()
        await self._relay.hold_back(exchange, refusal)
        with suppress(ClientGoneError):
            await exchange.refuse(refusal, self._name)
        return None

    async def _tell(self, exchange: Exchange, path: str) -> None:
        handler = self._get.get(path.rstrip("/") or "/")
        if handler is not None:
            return await handler(exchange)
        if path.startswith(MODELS) and exchange.method in methods_at(path):
            return await self._model(exchange, path[len(MODELS) :])
        if path.startswith("/v1/models/"):
            return await self._openai_model(exchange, path[len("/v1/models/") :])
        raise not_there(exchange.method, path)

    async def _live(self, exchange: Exchange) -> None:
        await exchange.json(200, LIVE)

    async def _ready(self, exchange: Exchange) -> None:
        """Ready while one node is."""
        telling.check_ready(self._relay)
        await exchange.json(200, READY)

    async def _server(self, exchange: Exchange) -> None:
        await exchange.json(200, msgspec.json.encode(telling.server_metadata()))

    async def _metrics_page(self, exchange: Exchange) -> None:
        await exchange.reply(200, [(b"content-type", CONTENT_TYPE)], self._metrics.page())

    async def _model(self, exchange: Exchange, rest: str) -> None:
        """What a node says of a model; readiness is that of any."""
        name, _, more = rest.partition("/")
        if name == "stats" or more.rpartition("/")[2] == "stats":
            raise Refusal(Reason.UNSUPPORTED, telling.STATISTICS)
        if more.rpartition("/")[2] == "ready" and not any(line.ready for _, line in telling.lines_of(self._fleet, name)):
            raise Refusal(Reason.MODEL_NOT_READY, f"model {name[:64]!r} is ready at no node", retry_after_ms=1000)
        target: bytes = exchange.scope.get("raw_path") or exchange.path.encode()
        answer = await telling.told_of_model(self._fleet, name, target)
        body = answer.body if isinstance(answer.body, bytes) else b""
        await exchange.reply(answer.status, [h for h in answer.headers if h[0] != b"content-length"], body)

    async def _index(self, exchange: Exchange) -> None:
        """Every model of every node that answers: ready if it is so anywhere."""
        body = await received(exchange, INDEX_MIB_MAX * MIB)
        try:
            asked = msgspec.json.decode(body, type=dict[str, Any]) if body else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal(Reason.BAD_REQUEST, f"the body is not a JSON object: {error}") from error
        rows = telling.index(self._fleet, ready=asked.get("ready") is True)
        await exchange.json(200, msgspec.json.encode(rows))

    async def _openai_models(self, exchange: Exchange) -> None:
        names = sorted({line.name for line in self._ready_chats()})
        await exchange.json(200, models_list([(name, 0) for name in names], self._name.decode()))

    async def _openai_model(self, exchange: Exchange, name: str) -> None:
        if all(line.name != name for line in self._ready_chats()):
            raise Refusal(Reason.MODEL_UNKNOWN, f"there is no chat model {name[:64]!r} ready at any node")
        await exchange.json(200, one_model(name, 0, self._name.decode()))

    def _ready_chats(self) -> list[ModelLoad]:
        loads = [node.load for node in self._fleet.up() if node.load is not None]
        return [line for load in loads for line in load.models if line.chat and line.ready]
