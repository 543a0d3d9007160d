"""ModelInfer: reads a call, has it answered where every tensor request is, and ends it as gRPC does."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol, cast

import grpc.aio

from nearhall.core.errors import Refusal
from nearhall.core.reasons import FAILURES, Reason
from nearhall.gateway.exchange import ClientGoneError, Expired
from nearhall.gateway.grpc.exchange import CallExchange, InFlight, plain_text
from nearhall.gateway.grpc.status import code_of, trailers
from nearhall.ports.clock import Clock
from nearhall.wire import headers as names

log = logging.getLogger("nearhall.gateway")

Context = grpc.aio.ServicerContext[bytes, bytes]


class Answering(Protocol):
    """Who answers ModelInfer: a gateway with models of its own, or the front of several."""

    @property
    def name(self) -> bytes:
        """What refusals say that they come from."""
        ...

    @property
    def clock(self) -> Clock:
        """The monotonic clock of deadlines."""
        ...

    @property
    def stats(self) -> InFlight:
        """Where requests under way are counted."""
        ...

    @property
    def clients_max(self) -> int:
        """Of so many clients it is remembered when they were refused."""
        ...

    def stirred(self) -> None:
        """A call has come."""
        ...

    async def answer(self, data: bytes, exchange: CallExchange, context: Context) -> None:
        """Leaves the answer in the exchange; raises Refusal, or ClientGoneError."""
        ...

    async def hold_back(self, exchange: CallExchange, refusal: Refusal) -> None:
        """Waits before a refusal is told, where clients come again too fast (`policy.storm`)."""
        ...

    def refused(self, exchange: CallExchange, reason: Reason) -> None:
        """Counts a refusal that was decided here."""
        ...

    def left(self, exchange: CallExchange, *, late: bool) -> None:
        """Counts a call that gRPC has ended: at its deadline (`late`), or because the client did not want it any more."""
        ...

    def ended(self, exchange: CallExchange) -> None:
        """A call has ended, in whatever way."""
        ...


class Calls:
    """Answers ModelInfer."""

    def __init__(self, by: Answering) -> None:
        self._by = by
        self._notes: dict[str, dict[str, float]] = {}
        """Of clients that were refused, by their address; the latest last."""

    async def infer(self, data: bytes, context: Context) -> bytes:
        """The answer's message; every way to fail ends the call with a status and the reason in its trailing metadata."""
        by = self._by
        exchange = CallExchange(by.stats, by.clock, self._notes.get(context.peer()))
        by.stats.in_flight += 1
        by.stirred()
        try:
            await by.answer(data, exchange, context)
        except Refusal as error:
            return await self._refuse(context, exchange, self._counted(exchange, error))
        except (asyncio.CancelledError, ClientGoneError):
            exchange.leave()
            left_s = seconds_left(context)
            by.left(exchange, late=left_s is not None and left_s <= 0)
            raise
        except Exception:  # the last net: a fault of ours is told and counted, and the call ends in order
            log.exception("gRPC ModelInfer")
            fault = Refusal(Reason.RUNTIME_FAILED, "the gateway failed; its log says why")
            return await self._refuse(context, exchange, self._counted(exchange, fault))
        finally:
            by.stats.in_flight -= 1
            by.ended(exchange)
        try:
            back = exchange.answered()
        except Refusal as error:  # another server's, counted when it came
            return await self._refuse(context, exchange, error)
        context.set_trailing_metadata(exchange.trailing())
        return back

    def _counted(self, exchange: CallExchange, refusal: Refusal) -> Refusal:
        self._by.refused(exchange, refusal.reason)
        if refusal.reason in FAILURES:
            log.error("gRPC ModelInfer %s: %s", exchange.path, refusal)
        return refusal

    async def _refuse(self, context: Context, exchange: CallExchange, refusal: Refusal) -> bytes:
        client = context.peer()
        self._notes.pop(client, None)
        self._notes[client] = exchange.notes
        if len(self._notes) > self._by.clients_max:
            del self._notes[next(iter(self._notes))]
        await self._by.hold_back(exchange, refusal)
        return await refuse(context, refusal, exchange.served_by or self._by.name)


def seconds_left(context: Context) -> float | None:
    """Until the deadline that the client has given gRPC; None without one, whatever the library's types say."""
    return cast("float | None", context.time_remaining())


async def refuse(context: Context, refusal: Refusal, served_by: bytes) -> bytes:
    """Ends a call with a refusal; never returns."""
    trailing = (*trailers(refusal), (names.SERVED_BY.decode(), plain_text(served_by)))
    await context.abort(code_of(refusal, expired=isinstance(refusal, Expired)), refusal.message, trailing)
