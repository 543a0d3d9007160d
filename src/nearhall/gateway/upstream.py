"""Another v2 or OpenAI server behind our admission, residency and metering: the request goes through as it came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import msgspec

from nearhall.core.errors import TemporaryError
from nearhall.core.reasons import Reason
from nearhall.gateway.exchange import Header
from nearhall.gateway.forward import close_body, header
from nearhall.gateway.metering.stats import Answered
from nearhall.gateway.models.variants import Upstream
from nearhall.gateway.plane import Call, counted
from nearhall.gateway.queues.lanes import RuntimeBrokenError
from nearhall.ports.runtime import ForwardRequest, ForwardResponse
from nearhall.wire import headers as names
from nearhall.wire.chat_events import FirstText
from nearhall.wire.openai import error_event

_NOT_SENT = frozenset(
    {b"host", b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"transfer-encoding", b"content-length", b"expect"}
)
"""Of one hop only (RFC 9110, 7.6.1); our own `x-nearhall-` headers are not for foreign servers either."""
_NOT_ASKED = _NOT_SENT | {b"content-encoding"}
"""The body goes on inflated: most servers take no compressed request, and the model's name in it may be another there."""
HELD_BYTES_MAX = 64 * 1024
"""Of an answer that has not begun for the client: a stream's openings are some hundred bytes, most whole answers a few thousand.
What is larger begins before it is known to be whole."""
_UNABLE = frozenset({502, 503, 504})
"""The engine cannot answer now: it still loads its model, is full, or a proxy before it does not reach it."""
WORDS_BYTES_MAX = 4096
"""Of such an answer, for the message; an engine's own has some hundred bytes."""
WORDS_MAX = 200


async def pass_through(call: Call, served: Upstream, reason: Reason, *, body: bytes | None = None) -> None:
    """Answers from the upstream server, with the call's own body if no other is given.

    Raises RuntimeBrokenError if it breaks, or says that it cannot answer now, before the client has had anything of it, so that
    another variant, or the hub, may be tried. Of a stream the client has nothing before its first token.
    """
    plane, exchange, rules = call.plane, call.exchange, call.rules
    chat = call.model is not None and call.model.entry.chat
    arrived = plane.clock.monotonic()
    async with served.slots.turn(due_s=call.due_s, deadline_s=call.deadline_s, priority=rules.priority):
        begun = plane.clock.monotonic()
        left_ms = call.left_ms
        most_s = plane.limits.forward_timeout_s
        ask = ForwardRequest(
            method=exchange.method,
            path=exchange.path,
            headers=[(k, v) for k, v in exchange.headers if k not in _NOT_ASKED and not k.startswith(b"x-nearhall-")],
            body=call.body.plain if body is None else body,
            # A chat's deadline is to its first token and must not bound the pauses of its stream.
            timeout_s=most_s if left_ms is None or chat else max(0.001, min(most_s, left_ms / 1e3)),
        )
        try:
            response = await served.runtime.forward(ask)
        except (TemporaryError, TimeoutError) as error:
            raise RuntimeBrokenError(str(error)) from error
        if response.status in _UNABLE and not (call.model is not None and call.model.entry.stateful):
            raise RuntimeBrokenError(await _unable(response))
        try:
            first_ms = await _send(call, response, reason)
        except (TemporaryError, TimeoutError) as error:
            if not exchange.started:
                raise RuntimeBrokenError(str(error)) from error
            await _broken_off(call, response, str(error))
            return
        ended = plane.clock.monotonic()
    started_ms = (begun - exchange.first_byte_s) * 1e3
    served.slots.seen(first_token_ms=max(0.0, first_ms - started_ms), total_ms=(ended - begun) * 1e3)
    if response.status >= 500:
        plane.stats.refused(rules.workload, Reason.RUNTIME_FAILED)
    elif response.status >= 400:
        plane.stats.refused(rules.workload, Reason.BAD_REQUEST)
    else:
        counted(call).answered(
            latency_ms=exchange.elapsed_ms(),
            queue_ms=(begun - arrived) * 1e3,
            compute_ms=(ended - begun) * 1e3,
            at_s=plane.clock.utc(),
        )
        plane.stats.answered(
            rules.workload,
            Answered(
                path="local",
                latency_ms=exchange.elapsed_ms(),
                queue_ms=(begun - arrived) * 1e3,
                service_ms=(ended - begun) * 1e3,
                ttft_ms=first_ms if chat else None,
                target_ms=rules.target_ms,
                raw_bytes=exchange.ask.raw_bytes,
            ),
        )


async def _unable(response: ForwardResponse) -> str:
    """That the engine cannot answer now, with its own words if it has any; the body is closed."""
    said, parts = b"", response.body
    try:
        async for part in parts:
            said += part
            if len(said) > WORDS_BYTES_MAX:
                break
        told: object = msgspec.json.decode(said)
    except (TemporaryError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = None
    finally:
        await close_body(parts)
    # OpenAI's form has an object there, v2's a text.
    error = cast("dict[str, object]", told).get("error") if isinstance(told, dict) else None
    words = cast("dict[str, object]", error).get("message") if isinstance(error, dict) else error
    answered = f"its server answered with status {response.status}"
    return f"{answered}: {words[:WORDS_MAX]}" if isinstance(words, str) else answered


async def _broken_off(call: Call, response: ForwardResponse, why: str) -> None:
    """Ends an answer that the upstream server broke off: a stream says so, anything else must not look whole."""
    call.plane.stats.of(call.rules.workload).failed += 1
    kind = header(response.headers, b"content-type") or b""
    if kind.startswith(b"text/event-stream"):
        await call.exchange.part(error_event(f"the upstream server broke off: {why}", Reason.RUNTIME_FAILED), more=False)
    else:
        call.exchange.abort()


async def _send(call: Call, response: ForwardResponse, reason: Reason) -> float:
    """Passes the answer on as it comes; returns when it began (of a stream: its first token), in ms from the first byte."""
    exchange = call.exchange
    headers: list[Header] = [
        (key, value)
        for key, value in ((key.lower(), value) for key, value in response.headers)
        # An engine that is itself such a gateway names itself: whoever asked here was answered by this one.
        if key not in _NOT_SENT - {b"content-length"} and not key.startswith(b"x-nearhall-")
    ]
    headers += [
        (names.SERVED_BY, call.plane.node),
        *call.variant_headers(),
        (names.REASON, reason.value.encode()),
    ]
    first: float | None = None
    streamed = (header(response.headers, b"content-type") or b"").startswith(b"text/event-stream")
    text, held = FirstText(), b""
    parts: AsyncIterator[bytes] = response.body
    try:
        async for part in parts:
            if first is None and (not streamed or text.feed(part)):
                first = exchange.elapsed_ms()
            if exchange.started:
                await exchange.part(part)
                continue
            held += part
            if (streamed and first is not None) or len(held) > HELD_BYTES_MAX:
                await exchange.head(response.status, headers)
                await exchange.part(held)
        if exchange.started:
            await exchange.part(b"", more=False)
        else:
            await exchange.head(response.status, headers)
            await exchange.part(held, more=False)
    finally:
        await close_body(parts)
    return exchange.elapsed_ms() if first is None else first
