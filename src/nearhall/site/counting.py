"""From the gateway's counters, which grow until it restarts, to what one window added; and what the stand-in refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nearhall.core.reasons import Reason
from nearhall.wire.headers import WORKLOAD
from nearhall.wire.telemetry import OTHER, Event, GatewayStats, PathStats, Sketch, WorkloadStats

_NOTHING = WorkloadStats()
_NO_PATH = PathStats()
_MODELS, _CHAT = "/v2/models/", "/v1/chat/completions"
_COUNTS = (
    "local",
    "hub",
    "failed",
    "cancelled",
    "late",
    "within_10_ms",
    "probes_total",
    "raw_bytes",
    "raw_known",
    "sent_bytes",
    "probe_bytes",
    "service_cpu_ms",
    "busy_ms",
)


class Window(msgspec.Struct, frozen=True):
    """What one window added."""

    workloads: dict[str, WorkloadStats]
    events: list[Event]
    cpu_s: float
    kept_warm_bytes: int = 0
    counters_j: dict[str, float] = {}
    children_cpu_s: float = 0.0


def added(now: GatewayStats, before: GatewayStats | None) -> Window:
    """What was counted since `before`; a new gateway (another id) counts from zero, so the whole is new."""
    same = before is not None and before.gateway_id == now.gateway_id
    earlier: Mapping[str, WorkloadStats] = before.workloads if same and before is not None else {}
    workloads = {name: _workload(stats, earlier.get(name, _NOTHING)) for name, stats in now.workloads.items()}
    told = before.events_total if same and before is not None else 0
    fresh = min(now.events_total - told, len(now.events))
    events = now.events[len(now.events) - fresh :] if fresh > 0 else []
    cpu = now.cpu_s - (before.cpu_s if same and before is not None else 0.0)
    warm = now.hub_kept_warm_bytes - (before.hub_kept_warm_bytes if same and before is not None else 0)
    busy = {name: stats for name, stats in workloads.items() if stats != _NOTHING}
    counted: Mapping[str, float] = before.counters_j if same and before is not None else {}
    counters = {name: max(0.0, joules - counted.get(name, 0.0)) for name, joules in now.counters_j.items()}
    # A child that has ended takes its time with it: what is left then says nothing of the window.
    children = max(0.0, now.children_cpu_s - (before.children_cpu_s if same and before is not None else 0.0))
    return Window(busy, list(events), max(0.0, cpu), max(0, warm), counters, children)


def with_refused(workloads: Mapping[str, WorkloadStats], refused: Mapping[str, int]) -> dict[str, WorkloadStats]:
    """The window's workloads with what the stand-in refused while no gateway lived, under the reason `restarting`."""
    found = dict(workloads)
    reason = Reason.RESTARTING.value
    for name, count in refused.items():
        stats = found.get(name, _NOTHING)
        found[name] = msgspec.structs.replace(stats, rejected={**stats.rejected, reason: stats.rejected.get(reason, 0) + count})
    return found


def counted_under(head: bytes, workloads: Sequence[Mapping[str, Any]]) -> str | None:
    """The workload of a request that nobody but its head describes: by header, by the model in its path, or the site's only chat.

    `head` is the request line and the headers as they came. None for what asks for no inference (health, metadata, metrics).
    """
    line, *headers = head.split(b"\r\n")
    method, _, rest = line.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
    infers = path.startswith(_MODELS) and path.endswith("/infer")
    if method != b"POST" or not (infers or path == _CHAT):
        return None
    named = next((value.strip() for name, _, value in (h.partition(b":") for h in headers) if name.lower() == WORKLOAD), None)
    if named is not None and any(workload["id"] == named.decode("latin-1") for workload in workloads):
        return named.decode("latin-1")
    if infers:
        model = path.removeprefix(_MODELS).partition("/")[0]
        known = (str(workload["id"]) for workload in workloads if workload["model"] == model)
        return next(known, OTHER)
    chats = [str(workload["id"]) for workload in workloads if workload.get("chat")]
    return chats[0] if len(chats) == 1 else OTHER


def remembered(stats: GatewayStats) -> bytes:
    """What must survive a restart of the agent so that nothing is counted twice: the counters, without pairs and texts."""
    slim = {name: msgspec.structs.replace(workload, probes=[]) for name, workload in stats.workloads.items()}
    return msgspec.json.encode(msgspec.structs.replace(stats, workloads=slim, events=[], models=[]))


def recalled(kept: bytes | None) -> GatewayStats | None:
    """The counters as `remembered` left them; None where there are none or they cannot be read."""
    if kept is None:
        return None
    try:
        return msgspec.json.decode(kept, type=GatewayStats)
    except msgspec.DecodeError:
        return None


def _workload(now: WorkloadStats, before: WorkloadStats) -> WorkloadStats:
    counts = {name: getattr(now, name) - getattr(before, name) for name in _COUNTS}
    fresh = min(now.probes_total - before.probes_total, len(now.probes))
    return WorkloadStats(
        **counts,
        rejected=_counts(now.rejected, before.rejected),
        decisions=_counts(now.decisions, before.decisions),
        paths={name: _path(path, before.paths.get(name, _NO_PATH)) for name, path in now.paths.items()},
        probes=now.probes[len(now.probes) - fresh :] if fresh > 0 else [],
    )


def _counts(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in now.items() if count != before.get(name, 0)}


def _path(now: PathStats, before: PathStats) -> PathStats:
    return PathStats(**{name: _sketch(getattr(now, name), getattr(before, name)) for name in PathStats.__struct_fields__})


def _sketch(now: Sketch, before: Sketch) -> Sketch:
    return now if not before.i else Sketch.of(now.histogram().minus(before.histogram()))
