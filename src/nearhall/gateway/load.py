"""What this node tells the front of its site: how much waits for each model, and what a request to it takes."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec
from msgspec.structs import replace

from nearhall.gateway.exchange import EXTENSION, Scope
from nearhall.gateway.models.model import Model
from nearhall.gateway.models.variants import State, Variant
from nearhall.gateway.plane import Plane
from nearhall.gateway.queues.lanes import Lane
from nearhall.gateway.queues.slots import Slots
from nearhall.gateway.queues.turns import Turns
from nearhall.wire.headers import PRIORITY_MAX
from nearhall.wire.load import ModelLoad, NodeLoad
from nearhall.wire.openai_params import TokensMax

_HERE = frozenset({"127.0.0.1", "::1", "localhost"})


def load_report(plane: Plane) -> bytes:
    """The answer to `GET /control/load`."""
    now_s = plane.clock.monotonic()
    most = plane.limits.answer_tokens
    models = [_model(model, now_s, most) for model in plane.models.all()]
    load = NodeLoad(
        node=plane.node.decode(),
        gateway_id=plane.stats.gateway_id,
        draining=plane.draining,
        in_flight=plane.stats.in_flight,
        models=models,
    )
    return msgspec.json.encode(load)


def may_tell_load(scope: Scope, *, wherever: bool) -> bool:
    """Whether who asks through the service port may know it: where settings say so, with a certificate, or on this machine."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    if wherever or "tls" in extensions:
        return True
    own: dict[str, Any] = extensions.get(EXTENSION) or {}
    transport: Any = own.get("transport")
    peer: Any = None if transport is None else transport.get_extra_info("peername")
    return not isinstance(peer, tuple) or peer[0] in _HERE  # a Unix socket's peer has no address


def _model(model: Model, now_s: float, most: TokensMax) -> ModelLoad:
    """One model: as the variant stands that stands for it, or as one does that a request would have loaded."""
    entry = model.entry
    told = replace(_variant(model, model.front, now_s), state=model.state.value)
    if not told.ready:
        loads = [each for each in model.variants.values() if each.loadable]
        if loads:
            told = replace(told, loadable=True, free=1, backlog_ms=round(min(_load_ms(each, now_s) for each in loads), 3))
    if not model.openai:
        return told
    engines = [replace(_variant(model, each, now_s), tokens_max=most.elsewhere) for each in model.engines]
    first = min(engines, key=lambda one: (not one.ready, not one.loadable, one.backlog_ms + one.own_ms), default=None)
    return replace(told, tokens_max=most.own if entry.chat else None, engine=first)


def _variant(model: Model, variant: Variant, now_s: float) -> ModelLoad:
    """A model by one of its variants."""
    told = ModelLoad(
        name=model.entry.name,
        version=model.entry.version,
        variant=variant.name,
        state=variant.state.value,
        ready=variant.ready,
        chat=model.entry.chat,
        stateful=model.entry.stateful,
        free=0,
    )
    if not variant.ready:
        return replace(told, loadable=True, free=1, backlog_ms=round(_load_ms(variant, now_s), 3)) if variant.loadable else told
    queue = variant.queue
    if isinstance(queue, Slots):
        return replace(told, **_chats(queue))
    if isinstance(queue, Turns):
        return replace(told, **_talks(queue))
    return told if queue is None else replace(told, **_runs(queue))


def _load_ms(variant: Variant, now_s: float) -> float:
    """Until it is loaded, if it is asked for now."""
    until_s = variant.loading_until_s if variant.state is State.LOADING else now_s + variant.load_s
    return max(0.0, until_s - now_s) * 1e3


def _chats(slots: Slots) -> dict[str, Any]:
    own_ms = slots.own_ms(0)
    return {
        "backlog_ms": round(max(0.0, slots.expected_ms(inf, PRIORITY_MAX, 0) - own_ms), 3),
        "own_ms": round(own_ms, 3),
        "hold_ms": round(slots.total.service_ms, 3),
        "slots": slots.count,
        "free": max(0, slots.free - slots.waiting),
        "waiting": slots.waiting,
    }


def _talks(turns: Turns) -> dict[str, Any]:
    own_ms = turns.own_ms(0)
    use = turns.use
    return {
        "backlog_ms": round(max(0.0, turns.expected_ms(inf, PRIORITY_MAX, 0) - own_ms), 3),
        "own_ms": round(own_ms, 3),
        "hold_ms": round(turns.answer_ms, 3),
        "slots": turns.capacity.sequences,
        "free": max(0, turns.capacity.sequences - use.running - use.waiting),
        "waiting": use.waiting,
    }


def _runs(lane: Lane) -> dict[str, Any]:
    own_ms = round(lane.estimate.service_ms, 3)
    return {
        "backlog_ms": round(max(0.0, lane.backlog_ms()), 3),
        "own_ms": own_ms,
        "own_by_size_ms": {size: round(estimate.service_ms, 3) for size, estimate in lane.times.by_class.items()},
        "hold_ms": own_ms,
        "slots": lane.workers_max,
        "free": max(0, lane.workers_max - lane.running - lane.waiting),
        "waiting": lane.waiting,
    }
