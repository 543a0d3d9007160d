"""The v2 model repository API: index, load, unload (Triton's "model repository extension")."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.body import read_body
from nearhall.gateway.exchange import Exchange
from nearhall.gateway.models import Model, State
from nearhall.gateway.plane import Plane

_STATES = {State.LOADING: "LOADING", State.READY: "READY", State.FAILED: "UNAVAILABLE", State.UNLOADED: "UNAVAILABLE"}
"""Our states in Triton's words."""
_PREFIX = "/v2/repository/"


async def repository_api(plane: Plane, exchange: Exchange, *, may_load: bool) -> None:
    """Answers POST /v2/repository/...; raises Refusal. Loading and unloading only where `may_load`."""
    body = await read_body(exchange, plane.limits)
    asked = _asked(body.plain)
    path = exchange.path[len(_PREFIX) :].strip("/")
    if path == "index":
        models = [model for model in plane.models.all() if model.ready or asked.get("ready") is not True]
        return await exchange.json(200, msgspec.json.encode([_described(model) for model in models]))
    head, _, rest = path.partition("/")
    name, _, verb = rest.rpartition("/")
    if head != "models" or verb not in {"load", "unload"} or not name:
        raise Refusal(Reason.BAD_REQUEST, f"{exchange.path[:128]} is no path of the model repository API")
    if not may_load:
        raise Refusal(Reason.UNSUPPORTED, f"models are {verb}ed through the control socket, not through the service port")
    parameters = asked.get("parameters")
    if parameters and (not isinstance(parameters, dict) or list(cast("dict[str, Any]", parameters)) != ["unload_dependents"]):
        raise Refusal(Reason.UNSUPPORTED, f"parameters of {verb} are not supported; change model.yaml and load again")
    if verb == "load":
        await plane.models.load(name)
    else:
        await plane.models.unload(name)
    return await exchange.json(200, b"{}")


def _asked(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(Reason.BAD_REQUEST, f"the body is not a JSON object: {error}") from error


def _described(model: Model) -> dict[str, str]:
    state = State.LOADING if model.state is State.READY and not model.ready else model.state
    return {"name": model.entry.name, "version": model.entry.version, "state": _STATES[state], "reason": model.detail}
