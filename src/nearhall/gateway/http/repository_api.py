"""The v2 model repository API: index, load, unload (Triton's "model repository extension")."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway import describe
from nearhall.gateway.body import read_body
from nearhall.gateway.exchange import Exchange
from nearhall.gateway.plane import Plane

_PREFIX = "/v2/repository/"
CONTROL = (
    "through the gateway's control socket (nearhall serve --control-socket PATH; under `nearhall site` control.sock in --state)"
)


async def repository_api(plane: Plane, exchange: Exchange, *, may_load: bool) -> None:
    """Answers POST /v2/repository/...; raises Refusal. Loading and unloading only where `may_load`."""
    body = await read_body(exchange, plane.limits)
    asked = _asked(body.plain)
    path = exchange.path[len(_PREFIX) :].strip("/")
    if path == "index":
        return await exchange.json(200, msgspec.json.encode(describe.repository_index(plane, ready=asked.get("ready") is True)))
    head, _, rest = path.partition("/")
    name, _, verb = rest.rpartition("/")
    if head != "models" or verb not in {"load", "unload"} or not name:
        raise Refusal(Reason.PATH_UNKNOWN, f"{exchange.path[:128]} is no path of the model repository API")
    await change(plane, verb, name, asked.get("parameters"), may_load=may_load)
    return await exchange.json(200, b"{}")


async def change(plane: Plane, verb: str, name: str, parameters: object, *, may_load: bool) -> None:
    """Loads or unloads a model, or the variant of it that the parameters name; raises Refusal."""
    if not may_load:
        raise Refusal(Reason.UNSUPPORTED, f"models are not {verb}ed at this address, but {CONTROL}")
    variant = _variant(parameters, verb)
    if verb == "load":
        await plane.models.load(name, variant)
    else:
        await plane.models.unload(name, variant)


def _variant(parameters: object, verb: str) -> str | None:
    """The variant that is meant, None for the model; raises Refusal for parameters of another kind."""
    if not parameters:
        return None
    said = cast("dict[str, Any]", parameters) if isinstance(parameters, dict) else {"": None}
    variant = said.get("variant")
    if set(said) - {"unload_dependents", "variant"} or not (variant is None or isinstance(variant, str)):
        message = f'of the parameters of {verb} only "variant", a name, is supported; change model.yaml and load again'
        raise Refusal(Reason.UNSUPPORTED, message)
    return variant


def _asked(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(Reason.BAD_REQUEST, f"the body is not a JSON object: {error}") from error
