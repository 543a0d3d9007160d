"""Chats and completions: place, generate or forward, stream, and account for the time to the first token.

Before the first token a chat may move to another variant or to the hub; after it an answer is never spliced or restarted: the
stream says `data: {"error": ...}` and ends without `[DONE]`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import cast

from nearhall.core.errors import PermanentError, Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.gateway.body import read_body
from nearhall.gateway.exchange import ClientGoneError, Exchange, Expired, Header
from nearhall.gateway.forward import header, hub_times, link_bytes, returned_headers, whole_body
from nearhall.gateway.metering.stats import Answered
from nearhall.gateway.models.variants import Chat, Upstream
from nearhall.gateway.plane import Call, Lost, Plane, check_able, loaded, place
from nearhall.gateway.probes import ChatProbeAsk
from nearhall.gateway.queues.lanes import RuntimeBrokenError
from nearhall.gateway.queues.turns import Talk, Turn
from nearhall.gateway.tensors import broken, reason_of
from nearhall.gateway.upstream import pass_through
from nearhall.policy.route import AwaitModel, ForwardToHub, ServeLocal
from nearhall.ports.runtime import ChatAsk, ChatMessage, ChatPiece, ForwardResponse
from nearhall.wire import headers as names
from nearhall.wire.chat_events import FirstText
from nearhall.wire.headers import server_timing
from nearhall.wire.openai import DONE, ChatAnswer, ChatRequest, Usage, decode_chat, error_event
from nearhall.wire.openai_completions import CompletionAnswer, CompletionRequest, decode_completion
from nearhall.wire.openai_params import with_max_tokens

_EVENTS: list[Header] = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


_Request = ChatRequest | CompletionRequest


async def chat(plane: Plane, exchange: Exchange) -> None:
    """Answers POST /v1/chat/completions; raises Refusal or ClientGoneError. A client that goes away cancels the work."""
    await _text(plane, exchange, decode_chat)


async def complete(plane: Plane, exchange: Exchange) -> None:
    """Answers POST /v1/completions in the same way: the prompt as it stands, without a chat template."""
    await _text(plane, exchange, decode_completion)


async def _text(plane: Plane, exchange: Exchange, decode: Callable[..., _Request]) -> None:
    body = await read_body(exchange, plane.limits)
    request = decode(body.plain, tokens_max=plane.limits.answer_tokens)
    name = request.model
    rules = plane.workloads.rules(exchange.ask, name)
    exchange.workload = rules.workload
    model = plane.models.find(name)
    if model is not None and not model.entry.chat:
        raise Refusal(Reason.UNSUPPORTED, f"model {name!r} is no language model; {model.door}")
    check_able(model, request.beyond)
    talk = Talk(request.prompt_bytes, request.max_tokens)
    call = Call(plane, exchange, rules, name, model, body, input_bytes=talk.prompt_bytes, talk=talk, beyond=request.beyond)
    await _unless_gone(exchange, _answer(call, request))


async def _unless_gone(exchange: Exchange, work: Awaitable[None]) -> None:
    """Awaits the work, or raises ClientGoneError and cancels it when the client leaves first."""
    answering = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(exchange))
    try:
        await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
        # A server reports the end of an answer as a disconnect, too: then what follows it, the accounting, goes on.
        if not answering.done() and not exchange.ended:
            raise ClientGoneError
        await answering
    finally:
        for task in (answering, watching):
            task.cancel()
        with suppress(asyncio.CancelledError, Refusal, ClientGoneError, TemporaryError, PermanentError, RuntimeBrokenError):
            await answering


async def _disconnected(exchange: Exchange) -> None:
    while (await exchange.receive())["type"] != "http.disconnect":
        pass


async def _answer(call: Call, request: _Request) -> None:
    lost = Lost()
    while True:
        decision = place(call, lost)
        if isinstance(decision, ServeLocal) and call.model is not None:
            try:
                return await _here(call, request, decision.reason)
            except RuntimeBrokenError as error:
                broken(call, lost, error)
        elif isinstance(decision, ForwardToHub):
            try:
                return await _at_hub(call, request, decision.reason)
            except TemporaryError:
                lost.hub = True
        elif isinstance(decision, AwaitModel):
            await loaded(call, decision)


@dataclass(slots=True)
class _Told:
    """What has been said so far; times are milliseconds since the request's first byte."""

    arrived_ms: float = 0.0
    begun_ms: float = 0.0
    first_ms: float | None = None
    last: ChatPiece | None = None


async def _here(call: Call, request: _Request, reason: Reason) -> None:
    exchange, served = call.exchange, None if call.variant is None else call.variant.served
    if isinstance(served, Upstream):
        return await pass_through(call, served, reason, body=_bounded(call, request))
    if not isinstance(served, Chat) or call.talk is None:
        raise RuntimeBrokenError("the model has just been unloaded")
    total = exchange.ask.total_deadline_ms
    told = _Told(arrived_ms=call.spent_ms())
    try:
        async with (
            asyncio.timeout(None if total is None else max(0.0, total - told.arrived_ms) / 1e3),
            served.slots.turn(call.talk, due_s=call.due_s, deadline_s=call.deadline_s, priority=call.rules.priority) as turn,
        ):
            told.begun_ms = call.spent_ms()
            pieces = cast("AsyncGenerator[ChatPiece]", served.runtime.generate(_ask(request)))
            async with aclosing(pieces):
                await _Speaker(call, request, reason).speak(_heard(served, turn, pieces), told)
    except TimeoutError as error:
        if not exchange.started:
            raise Expired(Reason.DEADLINE, "the total deadline passed", retry_after_ms=None) from error
        return await _broken_off(call, "the total deadline passed", Reason.DEADLINE)
    except (TemporaryError, PermanentError) as error:
        if not exchange.started:
            raise RuntimeBrokenError(str(error)) from error
        return await _broken_off(call, f"the runtime broke off: {error}", Reason.RUNTIME_FAILED)
    _account(call, told)
    if isinstance(request, ChatRequest) and not exchange.ask.probe and told.first_ms is not None:
        call.plane.probes.consider(exchange, call.rules, told.first_ms, ChatProbeAsk(request))
    return None


async def _heard(served: Chat, turn: Turn, pieces: AsyncIterator[ChatPiece]) -> AsyncIterator[ChatPiece]:
    """The same pieces, noted in whose turn it is."""
    async for piece in pieces:
        served.slots.hear(turn, piece)
        yield piece


def _bounded(call: Call, request: _Request) -> bytes:
    """The body for another engine: as it came, but for the operator's limit where the client states none."""
    if call.plane.limits.chat_tokens_max is None or not request.shorten:
        return call.body.plain
    return with_max_tokens(call.body.plain, request.max_tokens)


def _account(call: Call, told: _Told) -> None:
    ended_ms = call.spent_ms()
    if call.exchange.ask.probe:
        return
    call.plane.stats.answered(
        call.rules.workload,
        Answered(
            path="local",
            latency_ms=ended_ms,
            queue_ms=told.begun_ms - told.arrived_ms,
            service_ms=ended_ms - told.begun_ms,
            ttft_ms=told.first_ms,
            target_ms=call.rules.target_ms,
            raw_bytes=call.exchange.ask.raw_bytes,
        ),
    )


def _ask(request: _Request) -> ChatAsk:
    turns = request.messages if isinstance(request, ChatRequest) else ()
    return ChatAsk(
        messages=[ChatMessage(role=turn.role, content=turn.content) for turn in turns],
        prompt=request.prompt if isinstance(request, CompletionRequest) else None,
        shorten=request.shorten,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=request.stop,
    )


class _Speaker:
    """Says an answer to the client, whole or as a stream of events."""

    def __init__(self, call: Call, request: _Request, reason: Reason) -> None:
        self._exchange = call.exchange
        self._request = request
        form, kind = (ChatAnswer, "chatcmpl") if isinstance(request, ChatRequest) else (CompletionAnswer, "cmpl")
        self._answer = form(id=f"{kind}-{secrets.token_hex(12)}", model=request.model, created=int(call.plane.clock.utc()))
        self._headers: list[Header] = [
            (names.SERVED_BY, call.plane.node),
            *call.variant_headers(),
            (names.REASON, reason.value.encode()),
        ]

    async def speak(self, pieces: AsyncIterator[ChatPiece], told: _Told) -> None:
        """Says every piece; fills `told`. A stream's head goes out with its first piece: a failure before it can still move."""
        texts: list[str] = []
        async for piece in pieces:
            if piece.text:
                if self._request.stream:
                    await self._stream(piece.text, first=not texts, told=told)
                elif told.first_ms is None:
                    told.first_ms = self._exchange.elapsed_ms()
                texts.append(piece.text)
            if piece.finish is not None:
                told.last = piece
        if told.last is None:
            raise TemporaryError("the runtime ended without saying why")
        await self._end(told, texts)

    async def _stream(self, text: str, *, first: bool, told: _Told) -> None:
        if first:
            await self._exchange.head(200, [*_EVENTS, *self._headers, self._timing(told)])
        await self._exchange.part(self._answer.chunk(text, first=first, usage_comes=self._request.include_usage))
        if first:
            told.first_ms = self._exchange.elapsed_ms()

    async def _end(self, told: _Told, texts: Sequence[str]) -> None:
        last = cast("ChatPiece", told.last)
        usage = Usage(
            prompt_tokens=last.prompt_tokens,
            completion_tokens=last.completion_tokens,
            total_tokens=last.prompt_tokens + last.completion_tokens,
        )
        finish = last.finish or "stop"
        if not self._request.stream:
            headers = [(b"content-type", b"application/json"), *self._headers, self._timing(told)]
            await self._exchange.reply(200, headers, self._answer.whole("".join(texts), finish, usage))
            return
        if not texts:
            await self._exchange.head(200, [*_EVENTS, *self._headers, self._timing(told)])
        ending = self._answer.last(finish, usage_comes=self._request.include_usage)
        if self._request.include_usage:
            ending += self._answer.usage(usage)
        await self._exchange.part(ending + DONE, more=False)

    def _timing(self, told: _Told) -> Header:
        queue_ms = told.begun_ms - told.arrived_ms
        compute_ms = self._exchange.elapsed_ms() - told.begun_ms
        return (names.SERVER_TIMING, server_timing(queue_ms=queue_ms, compute_ms=compute_ms, network_ms=told.arrived_ms))


async def _broken_off(call: Call, message: str, reason: Reason) -> None:
    """Ends a stream that cannot go on: an error event, and no [DONE]."""
    call.plane.stats.of(call.rules.workload).failed += 1
    await call.exchange.part(error_event(message, reason), more=False)


async def _at_hub(call: Call, request: _Request, reason: Reason) -> None:
    plane, hub, exchange = call.plane, call.plane.hub, call.exchange
    if hub is None:
        raise TemporaryError("there is no hub")
    sent_ms = call.spent_ms()
    total = exchange.ask.total_deadline_ms
    ask = hub.request(
        exchange,
        call.body.raw,
        residency=call.rules.residency,
        deadline_ms=call.left_ms,
        total_ms=None if total is None else total - sent_ms,
        whole_ms=None if total is None else total - sent_ms,
    )
    counts = plane.stats.of(call.rules.workload)
    try:
        async with hub.exchange(ask) as response:
            try:
                first_ms = await _pass_on(exchange, request, response, reason)
            finally:
                counts.sent_bytes += link_bytes(response)
    except (TemporaryError, TimeoutError) as error:
        if exchange.started:
            return await _broken_off(call, f"the hub broke off: {error}", Reason.HUB_UNREACHABLE)
        raise TemporaryError(str(error)) from error
    if response.status != 200:
        plane.stats.refused(call.rules.workload, reason_of(header(response.headers, names.REASON)))
        return None
    hub.learn(request.model, first_ms - sent_ms)
    queue_ms, service_ms = hub_times(response.headers)
    plane.stats.answered(
        call.rules.workload,
        Answered(
            path="hub",
            latency_ms=call.spent_ms(),
            queue_ms=queue_ms,
            service_ms=service_ms,
            ttft_ms=first_ms,
            target_ms=call.rules.target_ms,
            raw_bytes=exchange.ask.raw_bytes,
        ),
    )
    return None


async def _pass_on(exchange: Exchange, request: _Request, response: ForwardResponse, reason: Reason) -> float:
    """Passes the hub's answer on as it comes; returns when its first text came, ms since the request's first byte."""
    good = response.status == 200
    if not (good and request.stream):
        whole = await whole_body(response)
        first_ms = exchange.elapsed_ms()
        headers = returned_headers(response.headers, reason=reason.value.encode() if good else None, total_ms=first_ms)
        await exchange.reply(response.status, headers, whole)
        return first_ms
    text, text_ms, tail = FirstText(), None, b""
    async for part in response.body:
        if not exchange.started:
            total_ms = exchange.elapsed_ms()
            await exchange.head(200, returned_headers(response.headers, reason=reason.value.encode(), total_ms=total_ms))
        if text.feed(part):
            text_ms = exchange.elapsed_ms()
        tail = (tail + part)[-2 * len(DONE) :]
        await exchange.part(part)
    if not tail.rstrip().endswith(b"[DONE]"):  # another engine's lines may end otherwise than ours
        raise TemporaryError("its stream ended early")
    await exchange.part(b"", more=False)
    return exchange.elapsed_ms() if text_ms is None else text_ms
