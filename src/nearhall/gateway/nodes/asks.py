"""What the front reads of a request: which model, until when, whether it may be repeated. Tensors stay as they came."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.body import MIB, inflate, received
from nearhall.gateway.exchange import Exchange
from nearhall.gateway.nodes.fleet import Fleet
from nearhall.gateway.nodes.passing import Job
from nearhall.gateway.nodes.settings import FrontLimits
from nearhall.policy.able import PLAIN, Needs, worth_reading
from nearhall.wire.openai import decode_chat
from nearhall.wire.openai_completions import decode_completion
from nearhall.wire.openai_embeddings import EmbeddingsRequest, decode_embeddings
from nearhall.wire.openai_params import TextRequest, TokensMax

SEQUENCE_BYTES_MAX = 4096
"""Where a sequence is looked for: parameters come first, tensors after."""


class _Infer(msgspec.Struct):
    parameters: dict[str, Any] = {}


class _OpenAi(msgspec.Struct):
    model: str
    stream: bool | None = None


_infer = msgspec.json.Decoder(_Infer)
_openai = msgspec.json.Decoder(_OpenAi)
_UNBOUNDED = TokensMax(own=sys.maxsize)
"""How long an answer may be, each node says for itself."""
_READS: Mapping[str, Callable[[bytes], TextRequest | EmbeddingsRequest]] = {
    "/v1/chat/completions": partial(decode_chat, tokens_max=_UNBOUNDED),
    "/v1/completions": partial(decode_completion, tokens_max=_UNBOUNDED),
    "/v1/embeddings": decode_embeddings,
}


async def infer_job(exchange: Exchange, fleet: Fleet, limits: FrontLimits, model: str, version: str | None) -> Job:
    """A v2 inference; raises Refusal or ClientGoneError. What is wrong with the rest of it, its node says."""
    body = await received(exchange, int(limits.body_mib * MIB))
    ask = exchange.ask
    head = body if ask.head_bytes is None else body[: ask.head_bytes]
    plain = ask.encoding in {"", "identity"} and len(head) <= limits.json_mib * MIB
    stated = [ms for ms in (ask.deadline_ms, _timeout_ms(head) if plain else None) if ms is not None]
    sequence = not plain or b'"sequence_id"' in head[:SEQUENCE_BYTES_MAX]
    return tensor_job(exchange, fleet, limits, Named(model, version), body=body, stated_ms=stated, sequence=sequence)


@dataclass(frozen=True, slots=True)
class Named:
    """Which model is asked for."""

    model: str
    version: str | None
    """None: the one that is served."""


def tensor_job(
    exchange: Exchange,
    fleet: Fleet,
    limits: FrontLimits,
    named: Named,
    *,
    body: bytes,
    stated_ms: Sequence[float],
    sequence: bool,
) -> Job:
    """A v2 inference by whatever protocol. `stated_ms`: the client's deadlines; `sequence`: whether it may be a part of one."""
    load = fleet.load_of(named.model)
    stateful = load is not None and load.stateful
    return Job(
        exchange=exchange,
        model=named.model,
        version=named.version,
        body=body,
        due_s=exchange.first_byte_s + min([*stated_ms, limits.deadline_ms]) / 1e3,
        deadline_ms=min(stated_ms, default=None),
        chat=False,
        repeatable=not stateful and not sequence,
        sticky=stateful,
    )


def _timeout_ms(head: bytes) -> float | None:
    """v2 `parameters.timeout` (microseconds). Only a head that has the word is read: it may hold megabytes of numbers."""
    if b'"timeout"' not in head:
        return None
    try:
        timeout = _infer.decode(head).parameters.get("timeout")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return timeout / 1e3 if isinstance(timeout, int) and not isinstance(timeout, bool) and timeout > 0 else None


async def openai_job(exchange: Exchange, fleet: Fleet, limits: FrontLimits) -> Job:
    """A request of OpenAI's API, whose body names the model; raises Refusal or ClientGoneError."""
    body = await received(exchange, int(limits.body_mib * MIB))
    encoding = exchange.ask.encoding
    if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        raise Refusal(Reason.UNSUPPORTED, f"content-encoding {encoding!r} is not supported; known: gzip, deflate")
    plain = body if encoding in {"", "identity"} else inflate(body, encoding, int(limits.json_mib * MIB))
    if len(plain) > limits.json_mib * MIB:
        raise Refusal(Reason.TOO_LARGE, f"the request's JSON is over the limit of {limits.json_mib:g} MiB")
    try:
        asked = _openai.decode(plain)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(Reason.BAD_REQUEST, f"the body is not a request that names its model: {error}") from error
    ask, first_byte_s = exchange.ask, exchange.first_byte_s
    load = fleet.load_of(asked.model)
    chat = load is None or load.chat
    first_ms = ask.deadline_ms
    whole = chat and not asked.stream
    needs, wish = _needs(exchange.path, plain) if worth_reading(fleet.abilities(asked.model)) else (PLAIN, "")
    bounds: Sequence[float | None] = (ask.total_deadline_ms, None if whole else first_ms, limits.chat_deadline_ms)
    return Job(
        exchange=exchange,
        model=asked.model,
        version=None,
        body=body,
        due_s=first_byte_s + min(ms for ms in bounds if ms is not None) / 1e3,
        first_s=float("inf") if first_ms is None else first_byte_s + first_ms / 1e3,
        deadline_ms=first_ms,
        chat=chat,
        repeatable=not chat and load is not None and not load.stateful,
        sticky=load is not None and load.stateful,
        needs=needs,
        wish=wish,
    )


def _needs(path: str, plain: bytes) -> tuple[Needs, str]:
    """What a request asks for that not every node can do, and the first of it in words; what is wrong with it, its node says."""
    reads = _READS.get(path.rstrip("/"))
    try:
        asked = None if reads is None else reads(plain)
    except Refusal:
        asked = None
    if asked is None:
        return PLAIN, ""
    tokens = asked.max_tokens if isinstance(asked, TextRequest) and not asked.shorten else 0
    if asked.beyond is None and not tokens:
        return PLAIN, ""
    wish = f"an answer of {tokens} tokens is too long" if asked.beyond is None else asked.beyond.message
    return Needs(engine=asked.beyond is not None, tokens=tokens), wish
