"""Which workload a request belongs to, and which rules hold for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.core.residency import Reach, Residency
from nearhall.gateway.settings import Workload
from nearhall.wire.headers import AskHeaders
from nearhall.wire.telemetry import OTHER

NAMES_MAX = 64
"""Models that no workload names are counted by name up to here, and then together: names come from clients."""

RANK_UNSAID = 5
"""Of a request that says nothing and belongs to no workload: in the middle, so that silence goes before no critical one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds for one request."""

    workload: str
    residency: Residency
    priority: int
    target_ms: float | None
    """The workload's SLO; for chat to the first token."""
    deadline_ms: float | None
    """Stated by the client, from the first byte on."""
    quality_min: float | None = None
    """The least quality of a variant that may answer; None: never one below the default variant's."""

    def within(self, ms: float) -> Rules:
        """The same with one more deadline: the earliest counts."""
        return replace(self, deadline_ms=ms if self.deadline_ms is None else min(ms, self.deadline_ms))


class Workloads:
    """The workloads of this gateway."""

    def __init__(self, workloads: Sequence[Workload]) -> None:
        self._by_id = {workload.id: workload for workload in workloads}
        self._by_model: dict[str, Workload] = {}
        for workload in workloads:
            self._by_model.setdefault(workload.model, workload)
        self._residency = {workload.id: Residency.parse(workload.residency) for workload in workloads}
        self._others: set[str] = set()

    def rules(self, ask: AskHeaders, model: str) -> Rules:
        """The rules for a request to `model`; a header may tighten the residency, never loosen it."""
        workload = self._workload(ask.workload, model)
        residency = Residency(Reach.ANY) if workload is None else self._residency[workload.id]
        if ask.residency is not None:
            residency = residency.stricter(ask.residency)
        priority = ask.priority if ask.priority is not None else (workload.priority if workload is not None else RANK_UNSAID)
        return Rules(
            workload=self.name(workload, model),
            residency=residency,
            priority=priority,
            target_ms=None
            if workload is None
            else (workload.slo_ttft_ms if workload.slo_ttft_ms is not None else workload.slo_ms),
            deadline_ms=ask.deadline_ms,
            quality_min=None if workload is None else workload.quality_min,
        )

    def floors(self, model: str) -> set[float | None]:
        """The `quality_min` of each workload of a model; None alone where it has no workload."""
        return {workload.quality_min for workload in self._by_id.values() if workload.model == model} or {None}

    def name(self, workload: Workload | None, model: str) -> str:
        """What a request is counted under."""
        if workload is not None:
            return workload.id
        if model not in self._others and len(self._others) >= NAMES_MAX:
            return OTHER
        self._others.add(model)
        return f"model:{model}"

    def _workload(self, wanted: str | None, model: str) -> Workload | None:
        if wanted is None:
            return self._by_model.get(model)
        workload = self._by_id.get(wanted)
        if workload is None:
            known = ", ".join(self._by_id) or "none"
            raise Refusal(Reason.BAD_REQUEST, f"header x-nearhall-workload names {wanted[:64]!r}; known here: {known}")
        return workload
