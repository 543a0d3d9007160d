"""Paired probes: after an answer from here, the hub is asked the same, to know what it would have taken.

The request itself goes along only where its data may; otherwise a random payload of the same size stands in for it. Probes go
over connections of their own, after the local answer has left, and are counted apart.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from nearhall.core.errors import TemporaryError
from nearhall.gateway.exchange import Exchange, Header
from nearhall.gateway.forward import HubLink, header, hub_times, link_bytes, whole_body
from nearhall.gateway.metering.stats import Stats
from nearhall.gateway.models.models import Models
from nearhall.gateway.models.samples import random_like, random_words
from nearhall.gateway.models.variants import Tensors
from nearhall.gateway.settings import Probe
from nearhall.gateway.workloads import Rules
from nearhall.policy.probe import Budget, choose, fresh, payload_may_leave
from nearhall.policy.probe import Probe as Chosen
from nearhall.ports.clock import Clock
from nearhall.ports.runtime import ForwardRequest
from nearhall.wire import headers as names
from nearhall.wire.chat_events import FirstText
from nearhall.wire.oip import json_values
from nearhall.wire.oip_tensors import InferRequest
from nearhall.wire.openai import ChatRequest
from nearhall.wire.telemetry import ProbePair

IN_FLIGHT_MAX = 8
"""More than this unanswered means a hub or link in trouble: probing on would only add to it."""
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class TensorAsk:
    """A v2 request that was answered here."""

    model: str
    request: InferRequest
    body: bytes


@dataclass(frozen=True, slots=True)
class ChatProbeAsk:
    """A chat that was answered here."""

    request: ChatRequest

    @property
    def model(self) -> str:
        """The model's name."""
        return self.request.model


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a probe repeats."""

    path: str
    headers: Sequence[Header]
    workload: str
    local_ms: float
    ask: TensorAsk | ChatProbeAsk


class Probes:
    """Chooses and sends probes."""

    def __init__(self, settings: Probe, *, hub: HubLink | None, models: Models, stats: Stats, clock: Clock) -> None:
        self._settings = settings
        self._hub = hub
        self._models = models
        self._stats = stats
        self._clock = clock
        self._draw = random.Random(settings.seed)  # noqa: S311 (a fair sample, no secret)
        self._budgets: dict[str, Budget] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def consider(self, exchange: Exchange, rules: Rules, local_ms: float, ask: TensorAsk | ChatProbeAsk) -> None:
        """Perhaps sends a probe for a request that was just answered here in `local_ms` (chat: to the first token)."""
        hub = self._hub
        if hub is None or not self._settings.share or not hub.reachable or len(self._tasks) >= IN_FLIGHT_MAX:
            return
        now_s = self._clock.monotonic()
        chosen, self._budgets[rules.workload] = choose(
            self._budgets.get(rules.workload, fresh(self._settings.per_second_max, now_s)),
            draw=self._draw.random(),
            wait_draw=self._draw.random(),
            share=self._settings.chat_share if isinstance(ask, ChatProbeAsk) else self._settings.share,
            may_leave=payload_may_leave(rules.residency, hub.jurisdiction),
            now_s=now_s,
        )
        if chosen is None:
            return
        task = asyncio.create_task(
            self._send(hub, _Answered(exchange.path, exchange.headers, rules.workload, local_ms, ask), chosen)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Gives up what is on its way."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, hub: HubLink, answered: _Answered, chosen: Chosen) -> None:
        await asyncio.sleep(chosen.wait_ms / 1e3)
        request = self._request(answered, random_payload=chosen.random_payload)
        pair: ProbePair | None = None
        used = 0
        begun = self._clock.monotonic()
        try:
            async with hub.exchange(request, probe=True) as response:
                if isinstance(answered.ask, TensorAsk):
                    await whole_body(response)
                else:
                    await _until_text(response.body)
                hub_ms = (self._clock.monotonic() - begun) * 1e3
            used = link_bytes(response)
            if response.status == 200:
                queue_ms, service_ms = hub_times(response.headers)
                pair = ProbePair(
                    at_s=self._clock.utc(),
                    local_ms=answered.local_ms,
                    hub_ms=hub_ms,
                    hub_queue_ms=queue_ms,
                    hub_service_ms=service_ms,
                    random_payload=chosen.random_payload,
                )
                hub.learn(answered.ask.model, hub_ms)
        except (TemporaryError, TimeoutError):
            pass
        self._stats.probed(answered.workload, pair, used)

    def _request(self, answered: _Answered, *, random_payload: bool) -> ForwardRequest:
        head: list[Header] = [(names.PROBE, b"1")]
        ask, path = answered.ask, answered.path
        if isinstance(ask, TensorAsk):
            if random_payload and not path.startswith("/v2/"):  # texts by OpenAI's words: random ones are tensors
                path = f"/v2/models/{ask.model}/infer"
            body, head_bytes = self._random_tensors(ask) if random_payload else (ask.body, _head_bytes(answered.headers))
            if head_bytes is None:
                head.append((b"content-type", b"application/json"))
            else:
                head += [(b"content-type", b"application/octet-stream"), (names.HEAD_LENGTH, b"%d" % head_bytes)]
        else:
            head.append((b"content-type", b"application/json"))
            body = self._chat(ask, random_payload=random_payload)
        return ForwardRequest(method="POST", path=path, headers=head, body=body, timeout_s=TIMEOUT_S)

    def _random_tensors(self, ask: TensorAsk) -> tuple[bytes, int | None]:
        """The same request with other values, in the same form and of about the same size."""
        model = self._models.find(ask.model)
        sample = model.served.lane.sample if model is not None and isinstance(model.served, Tensors) else None
        inputs = random_like(ask.request.inputs, sample, self._draw)
        binary = len(ask.body) < 2 * sum(len(tensor.data) for tensor in ask.request.inputs) + 1024
        described: list[dict[str, Any]] = []
        for tensor in inputs:
            item: dict[str, Any] = {"name": tensor.name, "datatype": tensor.dtype, "shape": tensor.shape}
            described.append(item)
            if binary:
                item["parameters"] = {"binary_data_size": len(tensor.data)}
            else:
                item["data"] = json_values(tensor)
        encoded = msgspec.json.encode(
            {"inputs": described, "outputs": _wanted(ask.request), "parameters": _defaults(ask.request)}
        )
        if not binary:
            return encoded, None
        return b"".join([encoded, *(tensor.data for tensor in inputs)]), len(encoded)

    def _chat(self, ask: ChatProbeAsk, *, random_payload: bool) -> bytes:
        """The same chat as a stream, since only its first token is waited for; with other words where the data may not leave."""
        turns = [replace(t, content=random_words(t.content, self._draw)) if random_payload else t for t in ask.request.messages]
        return msgspec.json.encode(
            {
                "model": ask.request.model,
                "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
                "stream": True,
                "max_tokens": ask.request.max_tokens,
                "temperature": ask.request.temperature,
                "top_p": ask.request.top_p,
            }
        )


async def _until_text(parts: AsyncIterator[bytes]) -> None:
    """Returns once the first text of a streamed chat has come, or the stream has ended."""
    text = FirstText()
    async for part in parts:
        if text.feed(part):
            return


def _head_bytes(headers: Sequence[Header]) -> int | None:
    value = header(headers, names.HEAD_LENGTH)
    return None if value is None else int(value)


def _wanted(request: InferRequest) -> list[dict[str, Any]]:
    return [{"name": wanted.name, "parameters": {"binary_data": wanted.binary}} for wanted in request.outputs]


def _defaults(request: InferRequest) -> dict[str, Any]:
    return {"binary_data_output": True} if request.binary_by_default else {}
