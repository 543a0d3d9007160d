"""What one gateway answers over gRPC: inference by its own data plane, and what it says of itself and its models."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway import describe
from nearhall.gateway.grpc import open_inference_pb2 as pb
from nearhall.gateway.grpc.calls import Context, seconds_left
from nearhall.gateway.grpc.exchange import CallExchange
from nearhall.gateway.grpc.messages import read, request_of
from nearhall.gateway.http.app import FOR_WANT_OF_ROOM
from nearhall.gateway.http.repository_api import change
from nearhall.gateway.metering.stats import Stats
from nearhall.gateway.plane import Call, Plane
from nearhall.gateway.tensors import answer
from nearhall.policy.storm import Budget, delay_s
from nearhall.ports.clock import Clock


class CallsHere:
    """ModelInfer at a gateway with models of its own."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._budget = Budget()

    @property
    def name(self) -> bytes:
        """The node's."""
        return self._plane.node

    @property
    def clock(self) -> Clock:
        """The data plane's."""
        return self._plane.clock

    @property
    def stats(self) -> Stats:
        """The gateway's."""
        return self._plane.stats

    @property
    def clients_max(self) -> int:
        """As many as may be connected."""
        return self._plane.limits.connections

    def stirred(self) -> None:
        """A call crowds the event loop as a request does."""
        self._plane.loop.stirred()

    async def answer(self, data: bytes, exchange: CallExchange, context: Context) -> None:
        """Answers here or at the hub; raises Refusal, or ClientGoneError."""
        plane = self._plane
        message, raw = read(data)
        name, version = message.model_name, message.model_version
        exchange.ask_for(name, version, cast("Sequence[tuple[str, str | bytes]]", context.invocation_metadata() or ()))
        if exchange.ask.probe and plane.hub is not None:  # only sites probe, and only their hub
            exchange.ask = replace(exchange.ask, probe=False)
        rules = plane.workloads.rules(exchange.ask, name)
        exchange.workload = rules.workload
        model = plane.models.find(name, version or None)
        if model is not None and model.entry.chat:
            raise Refusal(Reason.UNSUPPORTED, f"model {name!r} is a language model; ask it at /v1/chat/completions over HTTP")
        exchange.request = request = request_of(message, raw)
        left_s = seconds_left(context)
        if left_s is not None:
            rules = rules.within(left_s * 1e3)
        call = Call(plane, exchange, rules, name, model, exchange)
        await answer(call, request, partial(exchange.give, call))

    async def hold_back(self, exchange: CallExchange, refusal: Refusal) -> None:
        """Waits before a refusal for want of room is told, where there are too many of them."""
        if refusal.reason not in FOR_WANT_OF_ROOM:
            return
        now_s = self._plane.clock.monotonic()
        since_s, answers = exchange.since_refusal_s(), self._plane.stats.answers
        wait_s, self._budget = delay_s(self._budget, now_s=now_s, since_refusal_s=since_s, answers=answers)
        exchange.refused_in(wait_s)
        if wait_s:
            await asyncio.sleep(wait_s)

    def refused(self, exchange: CallExchange, reason: Reason) -> None:
        """Counts a refusal with its workload."""
        if exchange.workload and not exchange.ask.probe:
            self._plane.stats.refused(exchange.workload, reason)

    def left(self, exchange: CallExchange, *, late: bool) -> None:
        """Counts a call that gRPC has ended."""
        if not exchange.workload or exchange.ask.probe:
            return
        if late:
            self._plane.stats.refused(exchange.workload, Reason.DEADLINE)
        else:
            self._plane.stats.of(exchange.workload).cancelled += 1

    def ended(self, exchange: CallExchange) -> None:
        """Counts a probe."""
        self._plane.stats.probes_served += exchange.ask.probe


class ToldHere:
    """What one gateway says of itself and its models."""

    def __init__(self, plane: Plane, *, may_load: bool) -> None:
        """`may_load`: whether models may be loaded and unloaded through this port."""
        self._plane = plane
        self._may_load = may_load

    async def ready(self, _: pb.ServerReadyRequest) -> Message:
        """Whether it should be sent work."""
        return pb.ServerReadyResponse(ready=not self._plane.draining and self._plane.models.settled)

    async def model_ready(self, asked: pb.ModelReadyRequest) -> Message:
        """Whether a model answers; one that there is not does not, as Triton has it, and no call fails for it."""
        try:
            ready = describe.found(self._plane, asked.name, asked.version).ready
        except Refusal:
            ready = False
        return pb.ModelReadyResponse(ready=ready)

    async def server(self, _: pb.ServerMetadataRequest) -> Message:
        """Name, version, and which parts of the protocol are served."""
        return ParseDict(describe.server_metadata(may_load=self._may_load), pb.ServerMetadataResponse())

    async def model(self, asked: pb.ModelMetadataRequest) -> Message:
        """A model's inputs and outputs."""
        found = describe.found(self._plane, asked.name, asked.version)
        return ParseDict(describe.model_metadata(found), pb.ModelMetadataResponse())

    async def config(self, asked: pb.ModelConfigRequest) -> Message:
        """A model's configuration."""
        config = describe.model_config(describe.found(self._plane, asked.name, asked.version))
        return ParseDict({"config": config}, pb.ModelConfigResponse())

    async def statistics(self, asked: pb.ModelStatisticsRequest) -> Message:
        """What was counted, of one model or of all."""
        return ParseDict(describe.model_statistics(self._plane, asked.name, asked.version), pb.ModelStatisticsResponse())

    async def index(self, asked: pb.RepositoryIndexRequest) -> Message:
        """The models of the repository."""
        models = describe.repository_index(self._plane, ready=asked.ready)
        return ParseDict({"models": models}, pb.RepositoryIndexResponse(), ignore_unknown_fields=True)  # it has no variants

    async def load(self, asked: pb.RepositoryModelLoadRequest) -> Message:
        """Loads a model."""
        await change(self._plane, "load", asked.model_name, _plain(asked.parameters), may_load=self._may_load)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, asked: pb.RepositoryModelUnloadRequest) -> Message:
        """Unloads one."""
        await change(self._plane, "unload", asked.model_name, _plain(asked.parameters), may_load=self._may_load)
        return pb.RepositoryModelUnloadResponse()


def _plain(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> dict[str, Any]:
    """Parameters as plain values."""
    plain: dict[str, Any] = {}
    for key, value in parameters.items():
        which = value.WhichOneof("parameter_choice")
        plain[key] = None if which is None else getattr(value, which)
    return plain
