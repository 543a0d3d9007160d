"""The front's HTTP face, plain ASGI: which path goes to a node, and what the front answers of all of them together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from nearhall import __version__
from nearhall.core.errors import Refusal
from nearhall.core.reasons import FAILURES, Reason
from nearhall.gateway.body import MIB, received
from nearhall.gateway.exchange import EXTENSION, ClientGoneError, Exchange, Receive, Scope, Send
from nearhall.gateway.http_connection import GONE
from nearhall.gateway.metrics import CONTENT_TYPE
from nearhall.gateway.nodes.asks import infer_job, openai_job
from nearhall.gateway.nodes.fleet import Fleet, Node
from nearhall.gateway.nodes.metrics import FrontMetrics, FrontStats
from nearhall.gateway.nodes.passing import Job, Passing, fetch
from nearhall.gateway.nodes.settings import FrontLimits
from nearhall.policy.storm import Budget, delay_s
from nearhall.ports.clock import Clock
from nearhall.wire.load import ModelLoad
from nearhall.wire.openai import models_list, one_model

log = logging.getLogger("nearhall.front")

TOLD_S = 0.002
"""A refusal that is kept back is told this long before its deadline."""
TELL_S = 2.0
"""For what a node says of a model: it takes a millisecond."""
INDEX_MIB_MAX = 1
EXTENSIONS = ("binary_tensor_data", "model_configuration")
"""Of the v2 protocol, as far as they pass through a front."""
_FOR_WANT_OF_ROOM = frozenset({Reason.QUEUE_FULL, Reason.DEADLINE, Reason.NODES_AWAY})
_ROOM_STATUSES = frozenset({429, 503})
_MODELS = "/v2/models/"
_STATES = {"ready": "READY", "loading": "LOADING"}
Handler = Callable[[Exchange], Awaitable[None]]


class FrontApp:
    """The ASGI application of a front."""

    def __init__(
        self, fleet: Fleet, *, name: bytes, limits: FrontLimits, clock: Clock, stats: FrontStats, metrics: FrontMetrics
    ) -> None:
        self.draining = False
        """Set when the front is being stopped."""
        self._fleet = fleet
        self._name = name
        self._limits = limits
        self._clock = clock
        self._stats = stats
        self._metrics = metrics
        self._budget = Budget()
        self._held = 0
        """Bytes of all bodies under way."""
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
        if exchange.method == "POST":
            return await self._work(exchange, path)
        if exchange.method in {"GET", "HEAD"}:
            return await self._tell(exchange, path)
        raise _not_served(exchange)

    async def _work(self, exchange: Exchange, path: str) -> None:
        if exchange.connections > self._limits.connections:
            text = f"more than {self._limits.connections} connections are open; use fewer of them"
            raise Refusal(Reason.QUEUE_FULL, text, retry_after_ms=1000)
        if self.draining:
            raise Refusal(Reason.DRAINING, "this front is being stopped", retry_after_ms=1000)
        if path.startswith(_MODELS) and path.endswith("/infer"):
            name, version = _model_and_version(path[len(_MODELS) : -len("/infer")])
            return await self._pass(await infer_job(exchange, self._fleet, self._limits, name, version))
        if path.startswith("/v1/"):
            return await self._pass(await openai_job(exchange, self._fleet, self._limits))
        if path.rstrip("/") == "/v2/repository/index":
            return await self._index(exchange)
        if path.startswith("/v2/repository/"):
            raise Refusal(Reason.UNSUPPORTED, "models are loaded and unloaded at their node, not through the front")
        raise _not_served(exchange)

    async def _pass(self, job: Job) -> None:
        """Has a node answer; counted."""
        size = len(job.body)
        if self._held + size > self._limits.held_mib * MIB:
            text = "the requests under way hold all the memory that they may; come back"
            raise Refusal(Reason.QUEUE_FULL, text, retry_after_ms=1000)
        self._held += size
        try:
            await self._passed(job)
        finally:
            self._held -= size

    async def _passed(self, job: Job) -> None:
        exchange = job.exchange
        passing = Passing(self._fleet, job, self._clock, self._limits)
        notes = _notes(exchange.scope)
        notes[GONE] = passing.client_gone
        try:
            if exchange.gone():
                raise ClientGoneError
            answer = await passing.first()
            if answer.status in _ROOM_STATUSES:
                await self._hold_back(exchange, job.due_s)
            await passing.deliver(answer)
        finally:
            notes.pop(GONE, None)
            passing.close()
        if answer.status < 400:
            self._stats.latency.add(exchange.elapsed_ms())

    async def _hold_back(self, exchange: Exchange, due_s: float) -> None:
        """Lets a client that comes again at once after a refusal wait for the next one, within its deadline (`policy.storm`)."""
        now_s = self._clock.monotonic()
        wait_s, self._budget = delay_s(self._budget, now_s=now_s, since_refusal_s=exchange.since_refusal_s())
        wait_s = min(wait_s, max(0.0, due_s - now_s - TOLD_S))
        exchange.refused_in(wait_s)
        if wait_s:
            await asyncio.sleep(wait_s)

    async def _refuse(self, exchange: Exchange, refusal: Refusal) -> None:
        """Answers with a refusal, counted; a stream that has begun can only be cut off."""
        self._stats.refuse(refusal.reason)
        if refusal.reason in FAILURES:
            log.error("%s %s: %s", exchange.method, exchange.path, refusal)
        if exchange.started:
            return exchange.abort()
        if refusal.reason in _FOR_WANT_OF_ROOM:
            stated_ms = exchange.ask.deadline_ms
            await self._hold_back(exchange, float("inf") if stated_ms is None else exchange.first_byte_s + stated_ms / 1e3)
        with suppress(ClientGoneError):
            await exchange.refuse(refusal, self._name)
        return None

    async def _tell(self, exchange: Exchange, path: str) -> None:
        handler = self._get.get(path.rstrip("/") or "/")
        if handler is not None:
            return await handler(exchange)
        if path.startswith(_MODELS):
            return await self._model(exchange, path[len(_MODELS) :])
        if path.startswith("/v1/models/"):
            return await self._openai_model(exchange, path[len("/v1/models/") :])
        raise _not_served(exchange)

    async def _live(self, exchange: Exchange) -> None:
        await exchange.json(200, b"{}")

    async def _ready(self, exchange: Exchange) -> None:
        """Ready while one node is."""
        if self.draining:
            raise Refusal(Reason.DRAINING, "this front is being stopped", retry_after_ms=1000)
        able = [node for node in self._fleet.up() if node.load is not None and not node.load.draining]
        if not able:
            raise Refusal(Reason.NODES_AWAY, "no node answers", retry_after_ms=1000)
        if not any(line.ready or line.loadable for node in able if node.load is not None for line in node.load.models):
            raise Refusal(Reason.MODEL_NOT_READY, "no node has a model ready", retry_after_ms=1000)
        await exchange.json(200, b"{}")

    async def _server(self, exchange: Exchange) -> None:
        told = {"name": "nearhall", "version": __version__, "extensions": EXTENSIONS}
        await exchange.json(200, msgspec.json.encode(told))

    async def _metrics_page(self, exchange: Exchange) -> None:
        await exchange.reply(200, [(b"content-type", CONTENT_TYPE)], self._metrics.page())

    async def _model(self, exchange: Exchange, rest: str) -> None:
        """What a node says of a model; readiness is that of any."""
        name, _, more = rest.partition("/")
        if name == "stats" or more.rpartition("/")[2] == "stats":
            raise Refusal(Reason.UNSUPPORTED, "statistics are each node's own; the front's are at /metrics")
        having = [(node, line) for node in self._fleet.up() if (line := node.model(name)) is not None]
        if not having:
            raise self._no_model(name)
        ready = [node for node, line in having if line.ready]
        if more.rpartition("/")[2] == "ready" and not ready:
            raise Refusal(Reason.MODEL_NOT_READY, f"model {name[:64]!r} is ready at no node", retry_after_ms=1000)
        target: bytes = exchange.scope.get("raw_path") or exchange.path.encode()
        answer = await fetch([*ready, *(node for node, line in having if not line.ready)], target, seconds=TELL_S)
        if answer is None or not isinstance(answer.body, bytes):
            raise Refusal(Reason.NODES_AWAY, f"no node with model {name[:64]!r} answers", retry_after_ms=1000)
        await exchange.reply(answer.status, [h for h in answer.headers if h[0] != b"content-length"], answer.body)

    def _no_model(self, name: str) -> Refusal:
        if len(self._fleet.up()) < len(self._fleet.nodes):
            text = f"model {name[:64]!r} is at none of the nodes that answer"
            return Refusal(Reason.NODES_AWAY, text, retry_after_ms=1000)
        return Refusal(Reason.MODEL_UNKNOWN, f"model {name[:64]!r} is at none of the nodes")

    async def _index(self, exchange: Exchange) -> None:
        """Every model of every node that answers: ready if it is so anywhere."""
        body = await received(exchange, INDEX_MIB_MAX * MIB)
        try:
            asked = msgspec.json.decode(body, type=dict[str, Any]) if body else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal(Reason.BAD_REQUEST, f"the body is not a JSON object: {error}") from error
        rows: dict[tuple[str, str], list[tuple[Node, ModelLoad]]] = {}
        for node in self._fleet.up():
            for line in () if node.load is None else node.load.models:
                rows.setdefault((line.name, line.version), []).append((node, line))
        told = [_described(name, version, rows[name, version]) for name, version in sorted(rows)]
        wanted = [row for row in told if asked.get("ready") is not True or row["state"] == "READY"]
        await exchange.json(200, msgspec.json.encode(wanted))

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


def _described(name: str, version: str, at: list[tuple[Node, ModelLoad]]) -> dict[str, str]:
    ready = [node.name for node, line in at if line.ready]
    state = "READY" if ready else next((_STATES[line.state] for _, line in at if line.state == "loading"), "UNAVAILABLE")
    where = ", ".join(node.name for node, _ in at)
    return {"name": name, "version": version, "state": state, "reason": f"ready at {', '.join(ready) or 'no node'}, of {where}"}


def _notes(scope: Scope) -> dict[str, Any]:
    """What lives as long as the client's connection."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    own: dict[str, Any] = extensions.get(EXTENSION) or {}
    return own.get("connection", {})


def _not_served(exchange: Exchange) -> Refusal:
    what = f"{exchange.method} {exchange.path[:128]}"
    return Refusal(Reason.BAD_REQUEST, f"{what} is not served; see /v2, /v1/models and /metrics")


def _model_and_version(rest: str) -> tuple[str, str | None]:
    """`faces` or `faces/versions/1`."""
    name, slash, tail = rest.partition("/")
    if not slash:
        return name, None
    head, _, version = tail.partition("/")
    if head != "versions" or not version or "/" in version:
        raise Refusal(Reason.BAD_REQUEST, f"/v2/models/{rest[:128]} is no path of the v2 protocol")
    return name, version
