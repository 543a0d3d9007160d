"""What a site tells the hub: one `Record` per window, and what the gateway tells the agent: one `GatewayStats`.

JSON by msgspec, gzip on the wire. Fields are additive: a reader ignores what it does not know, a writer never reuses a name.
Version 1.
"""

from __future__ import annotations

import msgspec

from nearhall.core.histogram import Histogram
from nearhall.wire.power_cap import PowerCapTold

OTHER = "model:(other)"
"""Requests of no workload, where their model is not known or there are too many to name."""


class Sketch(msgspec.Struct, frozen=True, omit_defaults=True):
    """A histogram on the wire: parallel arrays of bucket indexes and counts, and the exact sum."""

    i: list[int] = []
    c: list[int] = []
    total: float = 0.0

    @classmethod
    def of(cls, histogram: Histogram) -> Sketch:
        """The wire form of a histogram."""
        items = sorted(histogram.counts.items())
        return cls(i=[i for i, _ in items], c=[c for _, c in items], total=histogram.total)

    def histogram(self) -> Histogram:
        """The histogram; raises ValueError when the arrays differ in length."""
        return Histogram(dict(zip(self.i, self.c, strict=True)), self.total)


class PathStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answered requests of one workload by one path (`local` or `hub`), milliseconds.

    latency = first byte at the gateway to last byte sent = queue + service + network, each its own histogram.
    For chat `ttft` is first byte at the gateway to first token sent.
    """

    latency: Sketch = Sketch()
    queue: Sketch = Sketch()
    service: Sketch = Sketch()
    network: Sketch = Sketch()
    ttft: Sketch = Sketch()


class ProbePair(msgspec.Struct, frozen=True, omit_defaults=True):
    """One paired probe: the same (or, for residency `site`, an equal-sized random) payload, here and at the hub.

    For chat both are times to first token.
    """

    at_s: float
    local_ms: float
    hub_ms: float
    hub_queue_ms: float = 0.0
    hub_service_ms: float = 0.0
    random_payload: bool = False


class WorkloadStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """One workload: cumulative in `GatewayStats`, one window's worth in `Record`."""

    local: int = 0
    """Answered by this site."""
    hub: int = 0
    """Answered by the hub through this site."""
    rejected: dict[str, int] = {}
    """Refused, by reason (`core.reasons`)."""
    failed: int = 0
    """Ended by the product's own fault: runtime_failed, or a stream broken off."""
    cancelled: int = 0
    """The client went away before the answer."""
    late: int = 0
    """Answered after the workload's SLO."""
    within_10_ms: int = 0
    """Answered within 10 ms, by any path."""
    decisions: dict[str, int] = {}
    """Every routing decision, by reason."""
    variants: dict[str, int] = {}
    """Requests that a variant answered here, by `<model>/<variant>`."""
    stepped_down: dict[str, int] = {}
    """Requests that a lesser variant answered, by the better one that would have: a power cap, an overload, a short deadline."""
    paths: dict[str, PathStats] = {}
    """`local`, `hub`."""
    probes: list[ProbePair] = []
    """In `GatewayStats`: those since the process started, at most the last 600, five minutes of them: the agent asks every
    two seconds and is away for ten at the most; `probes_total` counts all."""
    probes_total: int = 0
    raw_bytes: int = 0
    """What a sensible central design would have sent (`x-nearhall-raw-bytes`), for requests that said so."""
    raw_known: int = 0
    """Requests that said so."""
    sent_bytes: int = 0
    """Put on the link for requests that the hub answered, both ways, TLS included."""
    probe_bytes: int = 0
    """Put on the link by probes, both ways."""
    service_cpu_ms: float = 0.0
    """CPU time of the runtime's threads for this workload, where it can be told; 0 for one that runs in a process of its own."""
    busy_ms: float = 0.0
    """Time for which runs of this workload held its runtime; requests that ran together share their run's."""


class ModelState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model as the gateway holds it."""

    name: str
    version: str
    variant: str
    runtime: str
    state: str
    """`loading`, `ready`, `failed`, `unloaded`."""
    detail: str = ""
    memory_mib: float = 0.0
    """What it takes once loaded."""
    p50_ms: float | None = None
    memory_kind: str = ""
    """`core.evidence.Kind` of `memory_mib`; empty from a gateway that did not say."""
    held_mib: float = 0.0
    """What it is charged with now; 0 while it is not loaded, and for an upstream server."""
    quality: float | None = None
    """Its score over that of the reference variant; None where nobody measured it."""
    loads: int = 0
    evictions: int = 0
    """How often it left memory for another model's sake."""
    device: str = ""
    """Where a tensor model runs while it is loaded: `cpu`, or `cuda:` and the device's name."""
    device_id: str = ""
    """The device whose memory it is charged with as well, `cuda:<index>`; empty where it is on none, or nobody can count it."""
    device_held_mib: float = 0.0
    """With how much of it."""
    device_held_kind: str = ""
    """`core.evidence.Kind` of that: `measured` as the driver counts this process's memory, `assumed` for a limit."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something a person may want to know, said once."""

    at_s: float
    kind: str
    """`gateway_started`, `gateway_lost`, `gateway_adopted`, `agent_started`, `meter_lost`, `meter_back`, `link_lost`,
    `link_back`, `spool_full`, `balance`, `model_ready`, `model_failed`, `clock_step`, ..."""
    text: str
    """One line, in words."""
    level: str = "info"
    """`info`, `warning`, `error`."""


class GatewayStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """The gateway's counters since it started: `GET /control/stats` on its control socket."""

    gateway_id: str
    """New at every start of the gateway process: counters restart at zero with it."""
    pid: int
    started_s: float
    at_s: float
    workloads: dict[str, WorkloadStats] = {}
    """By workload id; requests for a model that no workload names are under `model:<name>`."""
    models: list[ModelState] = []
    events: list[Event] = []
    """Since the process started, at most the last 1,000."""
    events_total: int = 0
    models_budget_mib: float = 0.0
    """What loaded models may take together; 0 from a gateway that did not say."""
    device_budgets_mib: dict[str, float] = {}
    """The same of each device's memory, by its name (`cuda:0`)."""
    device_beyond_mib: dict[str, float] = {}
    """What the driver counts there as the gateway's beyond what models are charged with: CUDA's own, and what runs took since."""
    hub_reachable: bool | None = None
    """None without a hub."""
    hub_kept_warm_bytes: int = 0
    """Put on the link by health checks of the hub, both ways."""
    in_flight: int = 0
    cpu_s: float = 0.0
    """CPU seconds of the gateway and its children since they started."""
    children_cpu_s: float = 0.0
    """The part of it that living children used: runtimes with a process of their own, such as language models."""
    counters_j: dict[str, float] = {}
    """Joules by the machine's own counters, where it has any: `rapl` (processor packages and memory), `nvml` (accelerators)."""
    power_cap: PowerCapTold | None = None
    """The power cap in force, and what it is held against."""


class MeterWindow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One instrument over one window."""

    virtual: bool
    kind: str
    """`core.evidence.Kind` of everything here."""
    power_w: float | None = None
    """Mean of the polls in the window; for pictures. Energy comes from the registers."""
    register_kwh: list[float] = []
    """[at the last poll of the window before, at the last poll of this one]; empty while unknown."""
    register_s: list[float] = []
    """When those two polls were, seconds since 1970 UTC: instruments are not read at the same moment, and their energies are only
    comparable over the time that each was really read for."""
    values: dict[str, float] = {}
    """Everything else of the last poll, by quantity with its unit last."""
    polls: int = 0
    missed: int = 0


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the site's application found, of which only numbers leave: faces counted, seconds of speech, ..."""

    name: str
    count: int = 0
    total: float = 0.0


class LinkWindow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The agent's own use of the link in one window, and what it saw of it."""

    sent_bytes: int = 0
    received_bytes: int = 0
    rtt_ms: float | None = None
    """Median round trip of the window's control exchanges less the hub's own time."""
    kernel_rtt_ms: float | None = None
    """The shortest round trip of the last minutes, by TCP's acknowledgements: the link alone, to whatever ends TCP."""
    up: bool = True
    spooled_bytes: int = 0
    dropped: int = 0


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One window of one site. Windows of a site do not overlap; a gap is a time when the agent did not run."""

    start_s: float
    end_s: float
    boot_id: str
    gateway_id: str = ""
    gateway_up: bool = True
    workloads: dict[str, WorkloadStats] = {}
    models: list[ModelState] = []
    meters: dict[str, MeterWindow] = {}
    outcomes: dict[str, list[Outcome]] = {}
    """By workload id."""
    events: list[Event] = []
    link: LinkWindow = LinkWindow()
    clock_error_ms: float | None = None
    """Site clock minus hub clock, by the exchange with the shortest round trip."""
    cpu_share: float | None = None
    """CPU seconds used by the site's processes per second of the window."""
    children_cpu_s: float = 0.0
    """CPU seconds in the window of runtimes with a process of their own."""
    counters_j: dict[str, float] = {}
    """Joules that the machine's own counters (`rapl`, `nvml`) saw in the window."""
