"""`/metrics` of a front: what each node was given and gave back, what was expected of it, and what the front itself refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nearhall.core.histogram import Histogram
from nearhall.core.reasons import Reason
from nearhall.gateway.metering.metrics import buckets
from nearhall.gateway.nodes.fleet import Fleet, Node
from nearhall.policy.spread import Standing

FRONT_METRICS: dict[str, str] = {
    "nearhall_front_node_sent": "Front: requests that a node was given, by node; one that moves is counted at each.",
    "nearhall_front_node_answered": "Front: answers below status 400 that clients got whole from a node, by node.",
    "nearhall_front_node_refused": "Front: refusals and errors of a node that clients got, by node.",
    "nearhall_front_node_moved": "Front: requests given to another node because this one was silent, lost or full, by node.",
    "nearhall_front_node_lost": "Front: requests that ended because a node broke them off or did not answer in time, by node.",
    "nearhall_front_node_expected_seconds": "Front: what answered requests were expected to take at a node, by node.",
    "nearhall_front_node_finish_seconds": "Front: what they took there (streams: to their first part), by node.",
    "nearhall_front_node_in_flight": "Front: requests at a node now, by node.",
    "nearhall_front_node_state": "Front: 1 for the state that a node is in (up, trial, away), by node and state.",
    "nearhall_front_node_round_trip_seconds": "Front: the time that a node's load report takes, by node.",
    "nearhall_front_refused": "Front: requests that it refused itself, by reason.",
    "nearhall_front_cancelled": "Front: requests whose client went away.",
    "nearhall_front_in_flight": "Front: requests being answered now.",
    "nearhall_front_latency_seconds": "Front: first byte at the front to the answer's last byte written.",
    "nearhall_front_cpu_seconds": "Front: CPU time of its process.",
}
"""Every metric of a front by name, with its help; documentation and a test read it."""
_NODE = ("node",)


@dataclass(slots=True)
class FrontStats:
    """What the front counts of itself."""

    refused: dict[str, int] = field(default_factory=dict[str, int])
    cancelled: int = 0
    in_flight: int = 0
    latency: Histogram = field(default_factory=Histogram)

    def refuse(self, reason: Reason) -> None:
        """Counts a refusal."""
        self.refused[reason.value] = self.refused.get(reason.value, 0) + 1


class _Reader(Collector):
    def __init__(self, fleet: Fleet, stats: FrontStats, cpu_s: Callable[[], float]) -> None:
        self._fleet = fleet
        self._stats = stats
        self._cpu_s = cpu_s

    def collect(self) -> Iterator[Metric]:
        """Every family of `FRONT_METRICS`."""
        nodes, stats = self._fleet.nodes, self._stats
        for kind, read in _COUNTED.items():
            yield _counter(f"node_{kind}", _NODE, [((node.name,), read(node)) for node in nodes])
        for kind, histogram in _SPREAD.items():
            yield _histogram(f"node_{kind}_seconds", _NODE, [((node.name,), histogram(node)) for node in nodes])
        for kind, read in _NOW.items():
            yield _gauge(f"node_{kind}", _NODE, [((node.name,), read(node)) for node in nodes])
        states = [((node.name, state.value), float(node.standing is state)) for node in nodes for state in Standing]
        yield _gauge("node_state", ("node", "state"), states)
        yield _counter("refused", ("reason",), [((reason,), n) for reason, n in stats.refused.items()])
        yield _counter("cancelled", (), [((), stats.cancelled)])
        yield _gauge("in_flight", (), [((), stats.in_flight)])
        yield _histogram("latency_seconds", (), [((), stats.latency)])
        yield _counter("cpu_seconds", (), [((), self._cpu_s())])


_COUNTED: dict[str, Callable[[Node], float]] = {
    "sent": lambda node: node.counts.sent,
    "answered": lambda node: node.counts.answered,
    "refused": lambda node: node.counts.refused,
    "moved": lambda node: node.counts.moved,
    "lost": lambda node: node.counts.lost,
}
_SPREAD: dict[str, Callable[[Node], Histogram]] = {
    "expected": lambda node: node.counts.expected,
    "finish": lambda node: node.counts.finished,
}
_NOW: dict[str, Callable[[Node], float]] = {
    "in_flight": lambda node: node.in_flight,
    "round_trip_seconds": lambda node: node.rtt_ms / 1e3,
}


_Values = Sequence[tuple[Sequence[str], float]]


def _counter(name: str, labels: Sequence[str], values: _Values) -> Metric:
    name = f"nearhall_front_{name}"
    family = CounterMetricFamily(name, FRONT_METRICS[name], labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _gauge(name: str, labels: Sequence[str], values: _Values) -> Metric:
    name = f"nearhall_front_{name}"
    family = GaugeMetricFamily(name, FRONT_METRICS[name], labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _histogram(name: str, labels: Sequence[str], values: Sequence[tuple[Sequence[str], Histogram]]) -> Metric:
    name = f"nearhall_front_{name}"
    family = HistogramMetricFamily(name, FRONT_METRICS[name], labels=labels)
    for key, histogram in values:
        family.add_metric(key, buckets(histogram), histogram.total / 1e3)
    return family


class FrontMetrics:
    """The page at `/metrics`."""

    def __init__(self, fleet: Fleet, stats: FrontStats, cpu_s: Callable[[], float]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Reader(fleet, stats, cpu_s))

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
