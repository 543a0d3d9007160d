"""The v2 protocol's paths beside inference: metadata, readiness, configuration, statistics, and words for what is not served."""

from __future__ import annotations

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway import describe
from nearhall.gateway.exchange import Exchange
from nearhall.gateway.plane import Plane
from nearhall.wire import headers as names
from nearhall.wire.oip_describe import model_ready
from nearhall.wire.paths import MODELS, model_and_version

_NOT_SERVED = {
    "/v2/systemsharedmemory": "shared memory",
    "/v2/cudasharedmemory": "shared memory",
    "/v2/trace": "trace",
    "/v2/logging": "log",
}


async def tell_of_models(plane: Plane, exchange: Exchange) -> None:
    """Answers GET /v2/models/stats and /v2/models/{name}[/versions/{version}][/ready|/config|/stats]; raises Refusal."""
    rest = exchange.path[len(MODELS) :].rstrip("/")
    if rest == "stats":
        return await _json(exchange, describe.model_statistics(plane))
    head, _, verb = rest.rpartition("/")
    if verb not in {"ready", "config", "stats"} or not head or head.endswith("/versions"):
        head, verb = rest, ""
    name, version = model_and_version(head)
    model = describe.found(plane, name, version)
    if verb == "ready":
        if not model.ready:
            raise Refusal(Reason.MODEL_NOT_READY, f"model {name!r} is {describe.standing(model)}", retry_after_ms=1000)
        return await _json(exchange, model_ready(name))
    if verb == "stats":
        return await _json(exchange, describe.model_statistics(plane, name))
    return await _json(exchange, describe.model_config(model) if verb == "config" else describe.model_metadata(model))


async def _json(exchange: Exchange, plain: object) -> None:
    await exchange.json(200, msgspec.json.encode(plain))


def not_served(path: str) -> str | None:
    """Why a path of Triton's protocol is not served; None if it is none of those."""
    if path.startswith(MODELS):
        return describe.NOT_SERVED["trace"] if path.endswith("/trace/setting") else None
    return next((describe.NOT_SERVED[what] for head, what in _NOT_SERVED.items() if path.startswith(head)), None)


async def tell_not_served(exchange: Exchange, why: str) -> None:
    """Answers 501: the protocol has this, and this server does not."""
    headers = [
        (b"content-type", b"application/json"),
        (names.REASON, Reason.UNSUPPORTED.value.encode()),
        (b"x-should-retry", b"false"),
    ]
    await exchange.reply(501, headers, msgspec.json.encode({"error": why}))
