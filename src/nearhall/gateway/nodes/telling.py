"""What a front says of its nodes all together, for REST and gRPC alike."""

from __future__ import annotations

from typing import Any

from nearhall import __version__
from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.nodes.fleet import Fleet, Node
from nearhall.gateway.nodes.passing import fetch
from nearhall.gateway.nodes.relay import Relay
from nearhall.ports.node import NodeAnswer
from nearhall.wire.load import ModelLoad

TELL_S = 2.0
"""For what some node says of a model."""
EXTENSIONS = ("binary_tensor_data", "model_configuration", "schedule_policy")
"""Of the v2 protocol, what holds through a front: `timeout` is its own deadline for the request, `priority` goes on to the node.
The repository's index is answered too, but neither load nor unload, and no statistics."""
STATISTICS = "statistics are each node's own; the front's are at /metrics"
LOADING = "models are loaded and unloaded at their node, not through the front"
_STATES = {"ready": "READY", "loading": "LOADING"}


def check_ready(relay: Relay) -> None:
    """Raises Refusal unless one node at least answers for a model."""
    relay.check_open()
    able = [node for node in relay.fleet.up() if node.load is not None and not node.load.draining]
    if not able:
        raise Refusal(Reason.NODES_AWAY, "no node answers", retry_after_ms=1000)
    if not any(line.ready or line.loadable for node in able if node.load is not None for line in node.load.models):
        raise Refusal(Reason.MODEL_NOT_READY, "no node has a model ready", retry_after_ms=1000)


def server_metadata() -> dict[str, Any]:
    """Of the front."""
    return {"name": "nearhall", "version": __version__, "extensions": EXTENSIONS}


def lines_of(fleet: Fleet, name: str, version: str | None = None) -> list[tuple[Node, ModelLoad]]:
    """The nodes that answer and have the model, with what each reported of it; raises Refusal where none has."""
    having = [(node, line) for node in fleet.up() if (line := node.model(name)) is not None and version in {None, line.version}]
    if having:
        return having
    if len(fleet.up()) < len(fleet.nodes):
        raise Refusal(Reason.NODES_AWAY, f"model {name[:64]!r} is at none of the nodes that answer", retry_after_ms=1000)
    raise Refusal(Reason.MODEL_UNKNOWN, f"model {name[:64]!r} is at none of the nodes")


async def told_of_model(fleet: Fleet, name: str, target: bytes) -> NodeAnswer:
    """What a node that has the model says at `target`, one where it is ready first; raises Refusal."""
    having = lines_of(fleet, name)
    nodes = [node for node, line in having if line.ready] + [node for node, line in having if not line.ready]
    answer = await fetch(nodes, target, seconds=TELL_S)
    if answer is None:
        raise Refusal(Reason.NODES_AWAY, f"no node with model {name[:64]!r} answers", retry_after_ms=1000)
    return answer


def index(fleet: Fleet, *, ready: bool) -> list[dict[str, str]]:
    """Every model of every node that answers, or those that are ready anywhere."""
    rows: dict[tuple[str, str], list[tuple[Node, ModelLoad]]] = {}
    for node in fleet.up():
        for line in () if node.load is None else node.load.models:
            rows.setdefault((line.name, line.version), []).append((node, line))
    told = [_described(name, version, rows[name, version]) for name, version in sorted(rows)]
    return [row for row in told if not ready or row["state"] == "READY"]


def _described(name: str, version: str, at: list[tuple[Node, ModelLoad]]) -> dict[str, str]:
    ready = [node.name for node, line in at if line.ready]
    state = "READY" if ready else next((_STATES[line.state] for _, line in at if line.state == "loading"), "UNAVAILABLE")
    where = ", ".join(node.name for node, _ in at)
    return {"name": name, "version": version, "state": state, "reason": f"ready at {', '.join(ready) or 'no node'}, of {where}"}
