"""ModelInfer: reads a call, has it answered where every tensor request is, and ends it as gRPC does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import cast

import grpc.aio

from nearhall.core.errors import Refusal
from nearhall.core.reasons import FAILURES, Reason
from nearhall.gateway.app import FOR_WANT_OF_ROOM
from nearhall.gateway.exchange import ClientGoneError, Expired
from nearhall.gateway.grpc.exchange import CallExchange
from nearhall.gateway.grpc.messages import read, request_of
from nearhall.gateway.grpc.status import code_of, trailers
from nearhall.gateway.plane import Call, Plane
from nearhall.gateway.tensors import answer
from nearhall.policy.storm import Budget, delay_s
from nearhall.wire import headers as names

log = logging.getLogger("nearhall.gateway")

Context = grpc.aio.ServicerContext[bytes, bytes]


class Calls:
    """Answers ModelInfer."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._budget = Budget()
        self._refused_s: dict[str, float] = {}
        """When a client was last refused for want of room, by its address; the latest last."""

    async def infer(self, data: bytes, context: Context) -> bytes:
        """The answer's message; every way to fail ends the call with a status and the reason in its trailing metadata."""
        exchange = CallExchange(self._plane.stats, self._plane.clock)
        self._plane.stats.in_flight += 1
        self._plane.loop.stirred()
        try:
            await self._answer(data, exchange, context)
        except Refusal as error:
            return await self._refuse(context, exchange, self._counted(exchange, error))
        except (asyncio.CancelledError, ClientGoneError):
            exchange.leave()
            self._left(exchange, context)
            raise
        except Exception:  # the last net: a fault of ours is told and counted, and the call ends in order
            log.exception("gRPC ModelInfer")
            fault = Refusal(Reason.RUNTIME_FAILED, "the gateway failed; its log says why")
            return await self._refuse(context, exchange, self._counted(exchange, fault))
        finally:
            self._plane.stats.in_flight -= 1
            self._plane.stats.probes_served += exchange.ask.probe
        try:
            back = exchange.answered()
        except Refusal as error:  # another server's, counted when it came
            return await self._refuse(context, exchange, error)
        context.set_trailing_metadata(exchange.trailing())
        return back

    async def _answer(self, data: bytes, exchange: CallExchange, context: Context) -> None:
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
        left_s = cast("float | None", context.time_remaining())  # None without a deadline, whatever its types say
        if left_s is not None:
            rules = rules.within(left_s * 1e3)
        call = Call(plane, exchange, rules, name, model, exchange)
        await answer(call, request, partial(exchange.give, call))

    def _left(self, exchange: CallExchange, context: Context) -> None:
        """Counts a call that gRPC has ended: at its deadline, or because the client did not want it any more."""
        if not exchange.workload or exchange.ask.probe:
            return
        left_s = cast("float | None", context.time_remaining())
        if left_s is not None and left_s <= 0:
            self._plane.stats.refused(exchange.workload, Reason.DEADLINE)
        else:
            self._plane.stats.of(exchange.workload).cancelled += 1

    def _counted(self, exchange: CallExchange, refusal: Refusal) -> Refusal:
        if exchange.workload and not exchange.ask.probe:
            self._plane.stats.refused(exchange.workload, refusal.reason)
        if refusal.reason in FAILURES:
            log.error("gRPC ModelInfer %s: %s", exchange.path, refusal)
        return refusal

    async def _refuse(self, context: Context, exchange: CallExchange, refusal: Refusal) -> bytes:
        if refusal.reason in FOR_WANT_OF_ROOM and (wait_s := self._kept_back_s(context.peer(), exchange.first_byte_s)):
            await asyncio.sleep(wait_s)
        return await refuse(context, refusal, self._plane.node)

    def _kept_back_s(self, client: str, asked_s: float) -> float:
        """How long a refusal for want of room is kept back; noted as told then."""
        now_s = self._plane.clock.monotonic()
        since_s = asked_s - self._refused_s.pop(client, -inf)
        wait_s, self._budget = delay_s(self._budget, now_s=now_s, since_refusal_s=since_s)
        self._refused_s[client] = now_s + wait_s
        if len(self._refused_s) > self._plane.limits.connections:
            del self._refused_s[next(iter(self._refused_s))]
        return wait_s


async def refuse(context: Context, refusal: Refusal, node: bytes) -> bytes:
    """Ends a call with a refusal; never returns."""
    trailing = (*trailers(refusal), (names.SERVED_BY.decode(), node.decode()))
    await context.abort(code_of(refusal, expired=isinstance(refusal, Expired)), refusal.message, trailing)
