"""`/metrics` for Prometheus, read from the gateway's own counters when it is scraped: nothing is paid per request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nearhall.core.histogram import Histogram
from nearhall.gateway.metering.energy import EnergyBook, Labels
from nearhall.gateway.metering.stats import Counts, Stats
from nearhall.gateway.queues.turns import LanguageUse
from nearhall.policy.power_cap import STALE_S
from nearhall.ports.clock import Clock
from nearhall.wire.power_cap import PowerCapTold
from nearhall.wire.telemetry import ModelState

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
METRICS: dict[str, str] = {
    "nearhall_requests": "Answered requests, by workload and path (local, hub).",
    "nearhall_requests_rejected": "Refused requests, by workload and reason.",
    "nearhall_requests_failed": "Requests that ended by the product's own fault, by workload.",
    "nearhall_requests_cancelled": "Requests whose client went away, by workload.",
    "nearhall_requests_late": "Requests answered after their workload's SLO, by workload.",
    "nearhall_decisions": "Routing decisions, by workload and reason.",
    "nearhall_variant_requests": "Requests given to a model's variant here, by workload and variant (`model/variant`).",
    "nearhall_variant_stepped_down": (
        "Requests that a lesser variant answered, by workload, the better variant, and why (cap, overload, deadline, absent)."
    ),
    "nearhall_latency_seconds": "First byte at the gateway to last byte sent, by workload and path.",
    "nearhall_queue_seconds": "Part of the latency spent waiting for the model, by workload and path.",
    "nearhall_service_seconds": "Part of the latency spent in the runtime, by workload and path.",
    "nearhall_network_seconds": "The rest of the latency: reading, parsing, writing, and the link, by workload and path.",
    "nearhall_ttft_seconds": "Chat: first byte at the gateway to first token sent, by workload and path.",
    "nearhall_raw_bytes": "What a sensible central design would have sent, by workload.",
    "nearhall_sent_bytes": "Put on the link for requests that the hub answered, both ways, by workload.",
    "nearhall_probe_bytes": "Put on the link by probes, both ways, by workload.",
    "nearhall_probes": "Paired probes of the hub, by workload.",
    "nearhall_probes_served": "Probes of sites that this gateway answered as their hub.",
    "nearhall_service_cpu_seconds": "CPU time of the runtimes' threads, by workload.",
    "nearhall_language_running": "Chats and completions under way, by model and variant.",
    "nearhall_language_waiting": "Chats and completions that wait for their turn, by model and variant.",
    "nearhall_language_kv_tokens": "Tokens in a language model's cache when its last step began, by model and variant.",
    "nearhall_language_kv_tokens_budget": "Tokens that the cache holds, by model and variant.",
    "nearhall_language_prompt_tokens": "Tokens of prompts that were answered, by model and variant.",
    "nearhall_language_generated_tokens": "Tokens of answers, by model and variant.",
    "nearhall_language_steps": "Steps, each of which gives a token to every answer under way, by model and variant.",
    "nearhall_language_step_seconds": "Time of all steps, by model and variant; over their number, the pause between tokens.",
    "nearhall_in_flight": "Requests being answered now.",
    "nearhall_model_ready": "Whether a model answers (1) or not (0), by model, version, variant and runtime.",
    "nearhall_model_memory_bytes": "What a loaded model is charged with, by model, version, variant and evidence (kind).",
    "nearhall_models_budget_bytes": "What loaded models may take together.",
    "nearhall_model_device_memory_bytes": (
        "What a loaded model is charged with of a device's memory, by model, version, variant, device and evidence (kind)."
    ),
    "nearhall_models_device_budget_bytes": "What loaded models may take of a device's memory together, by device.",
    "nearhall_models_device_beyond_bytes": "What the driver counts beyond what models are charged with, by device.",
    "nearhall_model_loads": "How often a model was loaded, by model, version and variant.",
    "nearhall_model_evictions": "How often a model left memory for another one's sake, by model, version and variant.",
    "nearhall_power_cap_ratio": "The power cap in force: how far variants may step down, 0 (none) to 1.",
    "nearhall_power_cap_watts": "The power cap in watts; absent without one.",
    "nearhall_power_cap_reached": "Whether a meter shows no more than the cap in watts; absent without cap or meter.",
    "nearhall_power_metered_watts": (
        "What each meter saw in its last window, if that is no older than 15 s: of the servers, the site, or the counters' part."
    ),
    "nearhall_cpu_seconds": "CPU time of the gateway and its children since they started.",
    "nearhall_energy_joules": "Joules of answers given here, by model, share, kind of evidence and source: see below.",
    "nearhall_energy_joules_per_request": "The same for one answer: the mean since the gateway started.",
    "nearhall_counter_joules": "Joules by the machine's own counters, by source (rapl, nvml), where it has any.",
    "nearhall_hub_reachable": "Whether the last exchange reached the hub; absent without a hub.",
}
"""Every metric by name (counters get `_total` on the wire), with its help. The one table: documentation and a test read it."""

BUCKETS_MS = (0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 200, 500, 1000, 2000, 5000, 10_000)
"""Around the targets that sites have: single milliseconds for machines, tens for people, seconds for chat."""
_GAUGES: dict[str, Callable[[LanguageUse], float]] = {
    "nearhall_language_running": lambda use: use.running,
    "nearhall_language_waiting": lambda use: use.waiting,
    "nearhall_language_kv_tokens": lambda use: use.kv_tokens,
    "nearhall_language_kv_tokens_budget": lambda use: use.kv_tokens_budget,
}
_COUNTERS: dict[str, Callable[[LanguageUse], float]] = {
    "nearhall_language_prompt_tokens": lambda use: use.prompt_tokens,
    "nearhall_language_generated_tokens": lambda use: use.generated_tokens,
    "nearhall_language_steps": lambda use: use.steps,
    "nearhall_language_step_seconds": lambda use: use.step_s,
}
_WORKLOAD = ("workload",)
_MODEL = ("model", "variant")
MIB = 1024 * 1024
_PATH = ("workload", "path")


class _Reader(Collector):
    """Turns the counters into metric families at each scrape."""

    def __init__(
        self,
        stats: Stats,
        *,
        models: Callable[[], list[ModelState]],
        hub_reachable: Callable[[], bool | None],
        cpu_s: Callable[[], float],
        budgets_mib: Callable[[], Mapping[str, float]],
        device_beyond_mib: Callable[[], Mapping[str, float]],
        cap: Callable[[], PowerCapTold],
        clock: Clock,
        energy: EnergyBook,
        languages: Callable[[], list[tuple[tuple[str, str], LanguageUse]]],
    ) -> None:
        self._budgets_mib = budgets_mib
        self._device_beyond_mib = device_beyond_mib
        self._cap = cap
        self._clock = clock
        self._stats = stats
        self._energy = energy
        self._models = models
        self._languages = languages
        self._hub_reachable = hub_reachable
        self._cpu_s = cpu_s

    def collect(self) -> Iterator[Metric]:
        """Every family of `METRICS`."""
        workloads = self._stats.by_workload
        yield _counter("nearhall_requests", _PATH, [((w, p), n) for w, c in workloads.items() for p, n in c.answered.items()])
        reasons = ("workload", "reason")
        yield _counter(
            "nearhall_requests_rejected", reasons, [((w, r), n) for w, c in workloads.items() for r, n in c.rejected.items()]
        )
        yield _counter("nearhall_decisions", reasons, [((w, r), n) for w, c in workloads.items() for r, n in c.decisions.items()])
        given = [((w, v), n) for w, c in workloads.items() for v, n in c.variants.items()]
        yield _counter("nearhall_variant_requests", ("workload", "variant"), given)
        lesser = [((w, *key), n) for w, c in workloads.items() for key, n in c.stepped_down.items()]
        yield _counter("nearhall_variant_stepped_down", ("workload", "variant", "why"), lesser)
        for name, read in _PLAIN.items():
            yield _counter(name, _WORKLOAD, [((w,), read(c)) for w, c in workloads.items()])
        for part in ("latency", "queue", "service", "network", "ttft"):
            name = f"nearhall_{part}_seconds"
            family = HistogramMetricFamily(name, METRICS[name], labels=_PATH)
            for workload, counts in workloads.items():
                for path, sums in counts.paths.items():
                    histogram: Histogram = getattr(sums, part)
                    family.add_metric((workload, path), buckets(histogram), histogram.total / 1e3)
            yield family
        yield _counter("nearhall_probes_served", (), [((), self._stats.probes_served)])
        yield _counter("nearhall_cpu_seconds", (), [((), self._cpu_s())])
        yield _gauge("nearhall_in_flight", (), [((), self._stats.in_flight)])
        yield from _of_models(self._models())
        budgets_mib = self._budgets_mib()
        yield _gauge("nearhall_models_budget_bytes", (), [((), mib * MIB) for place, mib in budgets_mib.items() if not place])
        devices = [((place,), mib * MIB) for place, mib in budgets_mib.items() if place]
        yield _gauge("nearhall_models_device_budget_bytes", ("device",), devices)
        beyond = [((place,), mib * MIB) for place, mib in self._device_beyond_mib().items()]
        yield _gauge("nearhall_models_device_beyond_bytes", ("device",), beyond)
        yield from _of_cap(self._cap())
        now_s = self._clock.monotonic()
        fresh = [seen for seen in self._energy.metered.values() if now_s - seen.draw.at_s <= STALE_S]
        metered = [((seen.of, seen.kind.value, seen.source), seen.draw.watts) for seen in fresh]
        yield _gauge("nearhall_power_metered_watts", ("of", "kind", "source"), metered)
        sums = self._energy.sums
        yield _counter("nearhall_energy_joules", Labels._fields, [(labels, sum_.joules) for labels, sum_ in sums.items()])
        per_request = [(labels, sum_.joules / sum_.requests) for labels, sum_ in sums.items() if sum_.requests]
        yield _gauge("nearhall_energy_joules_per_request", Labels._fields, per_request)
        yield _counter("nearhall_counter_joules", ("source",), [((s,), j) for s, j in self._energy.counters_j.items()])
        languages = self._languages()
        for name, read in _GAUGES.items():
            yield _gauge(name, _MODEL, [(labels, read(use)) for labels, use in languages])
        for name, read in _COUNTERS.items():
            yield _counter(name, _MODEL, [(labels, read(use)) for labels, use in languages])
        reachable = self._hub_reachable()
        yield _gauge("nearhall_hub_reachable", (), [] if reachable is None else [((), float(reachable))])


def _of_cap(cap: PowerCapTold) -> Iterator[Metric]:
    yield _gauge("nearhall_power_cap_ratio", (), [((), cap.step_down)])
    yield _gauge("nearhall_power_cap_watts", (), [] if cap.watts is None else [((), cap.watts)])
    # Until a step shows in the draw the cap is not reached yet: that is no 1.
    reached = [] if cap.metered is None else [((), float(cap.reached is True))]
    yield _gauge("nearhall_power_cap_reached", (), reached)


def _of_models(models: Sequence[ModelState]) -> Iterator[Metric]:
    names = ("model", "version", "variant")
    labels = (*names, "runtime")
    states = [((m.name, m.version, m.variant, m.runtime), float(m.state == "ready")) for m in models]
    yield _gauge("nearhall_model_ready", labels, states)
    held = [((m.name, m.version, m.variant, m.memory_kind), m.held_mib * MIB) for m in models]
    yield _gauge("nearhall_model_memory_bytes", (*names, "kind"), held)
    there = [
        ((m.name, m.version, m.variant, m.device_id, m.device_held_kind), m.device_held_mib * MIB) for m in models if m.device_id
    ]
    yield _gauge("nearhall_model_device_memory_bytes", (*names, "device", "kind"), there)
    yield _counter("nearhall_model_loads", names, [((m.name, m.version, m.variant), m.loads) for m in models])
    yield _counter("nearhall_model_evictions", names, [((m.name, m.version, m.variant), m.evictions) for m in models])


_PLAIN: dict[str, Callable[[Counts], float]] = {
    "nearhall_requests_failed": lambda c: c.failed,
    "nearhall_requests_cancelled": lambda c: c.cancelled,
    "nearhall_requests_late": lambda c: c.late,
    "nearhall_raw_bytes": lambda c: c.raw_bytes,
    "nearhall_sent_bytes": lambda c: c.sent_bytes,
    "nearhall_probe_bytes": lambda c: c.probe_bytes,
    "nearhall_probes": lambda c: c.probes_total,
    "nearhall_service_cpu_seconds": lambda c: c.service_cpu_ms / 1e3,
}


def _counter(name: str, labels: tuple[str, ...], values: Sequence[tuple[tuple[str, ...], float]]) -> Metric:
    family = CounterMetricFamily(name, METRICS[name], labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _gauge(name: str, labels: tuple[str, ...], values: Sequence[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, METRICS[name], labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts; a value is within half a percent of where it is counted."""
    shares = [(f"{limit / 1e3:g}", (histogram.share_within(limit) or 0.0) * histogram.n) for limit in BUCKETS_MS]
    return [(limit, float(round(count))) for limit, count in shares] + [("+Inf", float(histogram.n))]


class Metrics:
    """The page at `/metrics`."""

    def __init__(
        self,
        stats: Stats,
        *,
        models: Callable[[], list[ModelState]],
        hub_reachable: Callable[[], bool | None],
        cpu_s: Callable[[], float],
        energy: EnergyBook,
        languages: Callable[[], list[tuple[tuple[str, str], LanguageUse]]],
        budgets_mib: Callable[[], Mapping[str, float]] = lambda: {"": 0.0},
        device_beyond_mib: Callable[[], Mapping[str, float]] = dict[str, float],
        clock: Clock,
        cap: Callable[[], PowerCapTold] = PowerCapTold,
    ) -> None:
        """`budgets_mib`: what models may take, by device (main memory's name is empty); `cap`: the power cap in force."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(
            _Reader(
                stats,
                models=models,
                hub_reachable=hub_reachable,
                cpu_s=cpu_s,
                energy=energy,
                budgets_mib=budgets_mib,
                device_beyond_mib=device_beyond_mib,
                cap=cap,
                clock=clock,
                languages=languages,
            )
        )

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
