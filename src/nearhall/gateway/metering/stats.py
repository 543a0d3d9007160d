"""What the gateway counts, by workload: cumulative since the process started, read by the agent and by `/metrics`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from nearhall.core.histogram import Histogram
from nearhall.core.reasons import FAILURES, Reason
from nearhall.gateway.metering.statistics import ModelCounter
from nearhall.ports.clock import Clock
from nearhall.wire.telemetry import Event, GatewayStats, ModelState, PathStats, ProbePair, Sketch, WorkloadStats

PROBES_KEPT = 600
EVENTS_KEPT = 1_000
"""Both as `wire.telemetry` promises; the totals count all."""
WITHIN_MS = 10.0
UNBOOKED_MAX = 16
"""Answers that wait to be counted: a request's Python took 52 microseconds in a loop and 127 with cold caches, so they are
counted together, and few enough that nobody waits long for it. Whoever reads a counter has them all counted first."""


@dataclass(slots=True)
class PathCounts:
    """Answers of one workload by one path."""

    latency: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    network: Histogram = field(default_factory=Histogram)
    ttft: Histogram = field(default_factory=Histogram)

    def frozen(self) -> PathStats:
        """As it travels."""
        return PathStats(
            latency=Sketch.of(self.latency),
            queue=Sketch.of(self.queue),
            service=Sketch.of(self.service),
            network=Sketch.of(self.network),
            ttft=Sketch.of(self.ttft),
        )


@dataclass(slots=True)
class Counts:
    """Everything that is counted for one workload."""

    answered: dict[str, int] = field(default_factory=lambda: {"local": 0, "hub": 0})
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    decisions: dict[str, int] = field(default_factory=dict[str, int])
    variants: dict[str, int] = field(default_factory=dict[str, int])
    """Requests that were given to a variant here, by `<model>/<variant>`."""
    stepped_down: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """Those of them that a better variant would have answered, by that one and by why."""
    paths: dict[str, PathCounts] = field(default_factory=dict[str, PathCounts])
    probes: deque[ProbePair] = field(default_factory=lambda: deque(maxlen=PROBES_KEPT))
    probes_total: int = 0
    failed: int = 0
    cancelled: int = 0
    late: int = 0
    within_10_ms: int = 0
    raw_bytes: int = 0
    raw_known: int = 0
    sent_bytes: int = 0
    probe_bytes: int = 0
    service_cpu_ms: float = 0.0
    busy_ms: float = 0.0


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """One answered request, milliseconds. Made in a tenth of the time of a frozen dataclass."""

    path: str
    """`local` or `hub`."""
    latency_ms: float
    queue_ms: float
    service_ms: float
    ttft_ms: float | None = None
    """For chat."""
    target_ms: float | None = None
    """The workload's SLO, on latency or for chat on ttft."""
    cpu_ms: float = 0.0
    batch: int = 1
    """How many requests the run answered."""
    raw_bytes: int | None = None


class Stats:
    """The counters of this process. Only the event loop touches them."""

    def __init__(
        self,
        *,
        gateway_id: str,
        pid: int,
        clock: Clock,
        cpu_s: Callable[[], float],
        children_cpu_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.gateway_id = gateway_id
        self.in_flight = 0
        self.probes_served = 0
        self.answers = 0
        """Of all workloads."""
        """Probes of sites that this gateway, as the hub, answered; they are in no workload."""
        self._by_workload: dict[str, Counts] = {}
        self._unbooked: list[tuple[str, Answered, ModelCounter, float]] = []
        self._by_model: dict[tuple[str, str], ModelCounter] = {}
        self._pid = pid
        self._clock = clock
        self._cpu_s = cpu_s
        self._children_cpu_s = children_cpu_s
        self._started_s = clock.utc()
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._events_total = 0

    def of(self, workload: str) -> Counts:
        """The counters of a workload; their number is bounded by `gateway.workloads`."""
        if self._unbooked:
            self._book()
        return self._of(workload)

    def _of(self, workload: str) -> Counts:
        counts = self._by_workload.get(workload)
        if counts is None:
            counts = self._by_workload[workload] = Counts()
        return counts

    @property
    def by_workload(self) -> Mapping[str, Counts]:
        """The counters of all workloads that were asked for."""
        self._book()
        return self._by_workload

    def ran(self, workload: str, answer: Answered, counter: ModelCounter, at_s: float) -> None:
        """Counts a model's own answer, told at `at_s` (seconds since 1970 UTC): now, or soon."""
        self._unbooked.append((workload, answer, counter, at_s))
        if len(self._unbooked) >= UNBOOKED_MAX:
            self._book()

    def _book(self) -> None:
        unbooked, self._unbooked = self._unbooked, []
        for workload, answer, counter, at_s in unbooked:
            counter.answered(
                latency_ms=answer.latency_ms,
                queue_ms=answer.queue_ms,
                compute_ms=answer.service_ms,
                at_s=at_s,
                together=answer.batch,
            )
            if workload:
                self.answered(workload, answer)

    def model(self, name: str, version: str) -> ModelCounter:
        """The counters of a version of a model of the repository, to read them."""
        self._book()
        return self.counter(name, version)

    def counter(self, name: str, version: str) -> ModelCounter:
        """The same, to count."""
        counter = self._by_model.get((name, version))
        if counter is None:
            counter = self._by_model[name, version] = ModelCounter()
        return counter

    def decided(self, workload: str, reason: Reason, variant: str | None = None) -> None:
        """Counts a routing decision, and the request for the variant that answers it here."""
        counts, said = self._of(workload), reason.value
        counts.decisions[said] = counts.decisions.get(said, 0) + 1
        if variant is not None:
            counts.variants[variant] = counts.variants.get(variant, 0) + 1

    def stepped_down(self, workload: str, variant: str, why: str) -> None:
        """Counts a request that a lesser variant answers."""
        counts = self._of(workload).stepped_down
        counts[variant, why] = counts.get((variant, why), 0) + 1

    def refused(self, workload: str, reason: Reason) -> None:
        """Counts a refusal; a fault of ours counts as failed."""
        counts = self._of(workload)
        if reason in FAILURES:
            counts.failed += 1
        else:
            counts.rejected[reason.value] = counts.rejected.get(reason.value, 0) + 1

    def answered(self, workload: str, answer: Answered) -> None:
        """Counts an answer and where its time went: latency = queue + service + network."""
        counts = self._of(workload)
        self.answers += 1
        counts.answered[answer.path] += 1
        path = counts.paths.get(answer.path)
        if path is None:
            path = counts.paths[answer.path] = PathCounts()
        path.latency.add(answer.latency_ms)
        path.queue.add(answer.queue_ms)
        path.service.add(answer.service_ms)
        path.network.add(answer.latency_ms - answer.queue_ms - answer.service_ms)
        judged = answer.latency_ms
        if answer.ttft_ms is not None:
            path.ttft.add(answer.ttft_ms)
            judged = answer.ttft_ms
        counts.late += answer.target_ms is not None and judged > answer.target_ms
        counts.within_10_ms += answer.latency_ms <= WITHIN_MS
        counts.service_cpu_ms += answer.cpu_ms
        counts.busy_ms += answer.service_ms / answer.batch if answer.path == "local" else 0.0
        if answer.raw_bytes is not None:
            counts.raw_bytes += answer.raw_bytes
            counts.raw_known += 1

    def probed(self, workload: str, pair: ProbePair | None, link_bytes: int) -> None:
        """Counts a probe; without a pair (it failed) only its bytes."""
        counts = self._of(workload)
        counts.probe_bytes += link_bytes
        if pair is not None:
            counts.probes.append(pair)
            counts.probes_total += 1

    def tell(self, event: Event) -> None:
        """Keeps an event for the agent to fetch."""
        self._events.append(event)
        self._events_total += 1

    def snapshot(
        self,
        *,
        models: list[ModelState],
        hub_reachable: bool | None,
        hub_kept_warm_bytes: int = 0,
        models_budget_mib: float = 0.0,
        counters_j: dict[str, float] | None = None,
    ) -> GatewayStats:
        """All of it as it travels."""
        return GatewayStats(
            gateway_id=self.gateway_id,
            pid=self._pid,
            started_s=self._started_s,
            at_s=self._clock.utc(),
            workloads={name: _frozen(counts) for name, counts in self.by_workload.items()},
            models=models,
            models_budget_mib=models_budget_mib,
            events=list(self._events),
            events_total=self._events_total,
            hub_reachable=hub_reachable,
            hub_kept_warm_bytes=hub_kept_warm_bytes,
            in_flight=self.in_flight,
            cpu_s=self._cpu_s(),
            children_cpu_s=self._children_cpu_s(),
            counters_j=counters_j or {},
        )


def _summed(counts: dict[tuple[str, str], int]) -> dict[str, int]:
    """By the better variant, whatever the reason."""
    found: dict[str, int] = {}
    for (variant, _), n in counts.items():
        found[variant] = found.get(variant, 0) + n
    return found


def _frozen(counts: Counts) -> WorkloadStats:
    return WorkloadStats(
        local=counts.answered["local"],
        hub=counts.answered["hub"],
        rejected=dict(counts.rejected),
        failed=counts.failed,
        cancelled=counts.cancelled,
        late=counts.late,
        within_10_ms=counts.within_10_ms,
        decisions=dict(counts.decisions),
        variants=dict(counts.variants),
        stepped_down=_summed(counts.stepped_down),
        paths={name: path.frozen() for name, path in counts.paths.items()},
        probes=list(counts.probes),
        probes_total=counts.probes_total,
        raw_bytes=counts.raw_bytes,
        raw_known=counts.raw_known,
        sent_bytes=counts.sent_bytes,
        probe_bytes=counts.probe_bytes,
        service_cpu_ms=counts.service_cpu_ms,
        busy_ms=counts.busy_ms,
    )
