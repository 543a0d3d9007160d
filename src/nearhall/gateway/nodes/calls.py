"""gRPC at a front: ModelInfer goes to a node as binary v2 REST, the way that HTTP requests go; the rest is told of all nodes.

Imported only where gRPC is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast
from urllib.parse import quote

import msgspec
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.grpc import open_inference_pb2 as pb
from nearhall.gateway.grpc.calls import Context, seconds_left
from nearhall.gateway.grpc.exchange import CallExchange, refusal_of
from nearhall.gateway.grpc.messages import read, request_of
from nearhall.gateway.nodes import telling
from nearhall.gateway.nodes.asks import Named, tensor_job
from nearhall.gateway.nodes.metrics import FrontStats
from nearhall.gateway.nodes.relay import Relay
from nearhall.ports.clock import Clock


class FrontCalls:
    """ModelInfer at a front."""

    def __init__(self, relay: Relay, *, name: bytes) -> None:
        self.name = name
        self._relay = relay

    @property
    def clock(self) -> Clock:
        """The front's."""
        return self._relay.clock

    @property
    def stats(self) -> FrontStats:
        """The front's."""
        return self._relay.stats

    @property
    def clients_max(self) -> int:
        """As many as may be connected."""
        return self._relay.limits.connections

    def stirred(self) -> None:
        """A front runs nothing that calls could crowd out."""

    async def answer(self, data: bytes, exchange: CallExchange, context: Context) -> None:
        """Has a node answer; raises Refusal for what no node need see, and where no node can take it."""
        relay = self._relay
        relay.check_open()
        message, raw = read(data)
        name, version = message.model_name, message.model_version
        exchange.ask_for(name, version, cast("Sequence[tuple[str, str | bytes]]", context.invocation_metadata() or ()))
        exchange.request = request = request_of(message, raw)
        exchange.rank()
        body = exchange.raw
        exchange.request = replace(request, inputs=())  # the body has them now
        left_s, timeout_us = seconds_left(context), request.timeout_us
        limits_ms = (exchange.ask.deadline_ms, timeout_us / 1e3 if timeout_us else None, None if left_s is None else left_s * 1e3)
        job = tensor_job(
            exchange,
            relay.fleet,
            relay.limits,
            Named(name, version or None),
            body=body,
            stated_ms=[ms for ms in limits_ms if ms is not None],
            sequence=False,  # `request_of` takes no request that is a part of one
        )
        await relay.answer(job, beside=len(data))

    async def hold_back(self, exchange: CallExchange, refusal: Refusal) -> None:
        """As over HTTP; a node's refusal has been kept back when it came."""
        if not exchange.started:
            await self._relay.hold_back(exchange, refusal)

    def refused(self, exchange: CallExchange, reason: Reason) -> None:
        """Counts a refusal of the front's own."""
        self._relay.stats.refuse(reason)

    def left(self, exchange: CallExchange, *, late: bool) -> None:
        """Counts a call that gRPC has ended."""
        if late:
            self._relay.stats.refuse(Reason.DEADLINE)
        else:
            self._relay.stats.cancelled += 1

    def ended(self, exchange: CallExchange) -> None:
        """Nothing more to count."""


class FrontTold:
    """What a front says of its nodes."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def ready(self, _: pb.ServerReadyRequest) -> Message:
        """Ready while one node is."""
        try:
            telling.check_ready(self._relay)
        except Refusal:
            return pb.ServerReadyResponse(ready=False)
        return pb.ServerReadyResponse(ready=True)

    async def model_ready(self, asked: pb.ModelReadyRequest) -> Message:
        """Ready if it is so anywhere; one that no node has is not, and no call fails for it."""
        try:
            having = telling.lines_of(self._relay.fleet, asked.name, asked.version or None)
        except Refusal:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=any(line.ready for _, line in having))

    async def server(self, _: pb.ServerMetadataRequest) -> Message:
        """The front's name and version, and what passes through it."""
        return ParseDict(telling.server_metadata(), pb.ServerMetadataResponse())

    async def model(self, asked: pb.ModelMetadataRequest) -> Message:
        """What a node says of a model's inputs and outputs."""
        told = await self._told(asked.name, asked.version, "")
        return _parsed(told, pb.ModelMetadataResponse())

    async def config(self, asked: pb.ModelConfigRequest) -> Message:
        """What a node says of a model's configuration."""
        told = await self._told(asked.name, asked.version, "/config")
        return _parsed({"config": told}, pb.ModelConfigResponse())

    async def statistics(self, _: pb.ModelStatisticsRequest) -> Message:
        """Refused: each node has its own."""
        raise Refusal(Reason.UNSUPPORTED, telling.STATISTICS)

    async def index(self, asked: pb.RepositoryIndexRequest) -> Message:
        """Every model of every node that answers."""
        models = telling.index(self._relay.fleet, ready=asked.ready)
        return ParseDict({"models": models}, pb.RepositoryIndexResponse())

    async def load(self, _: pb.RepositoryModelLoadRequest) -> Message:
        """Refused: a model belongs to its node."""
        raise Refusal(Reason.UNSUPPORTED, telling.LOADING)

    async def unload(self, _: pb.RepositoryModelUnloadRequest) -> Message:
        """Refused likewise."""
        raise Refusal(Reason.UNSUPPORTED, telling.LOADING)

    async def _told(self, name: str, version: str, what: str) -> Any:
        versions = f"/versions/{quote(version, safe='')}" if version else ""
        target = f"/v2/models/{quote(name, safe='')}{versions}{what}"
        answer = await telling.told_of_model(self._relay.fleet, name, target.encode())
        body = answer.body if isinstance(answer.body, bytes) else b""
        if answer.status != 200:
            raise refusal_of(answer.status, answer.headers, body)
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _unreadable(name) from error


def _parsed(told: Any, message: Message) -> Message:
    """A node's JSON as a message; one that is newer may say more than this front knows."""
    try:
        return ParseDict(told, message, ignore_unknown_fields=True)
    except (ParseError, TypeError, AttributeError) as error:
        raise _unreadable("") from error


def _unreadable(name: str) -> Refusal:
    of = f" of model {name[:64]!r}" if name else ""
    return Refusal(Reason.RUNTIME_FAILED, f"what the node says{of} cannot be read")
