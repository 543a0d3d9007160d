"""One workload of pilot.json: requests, latencies here and at the hub, bytes, energy and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from nearhall.core.evidence import Kind, weakest
from nearhall.core.histogram import Histogram
from nearhall.core.statistics import median_interval
from nearhall.hub.about import About, WorkloadAbout
from nearhall.hub.evidence import Ledger
from nearhall.hub.period import SitePeriod
from nearhall.hub.pilot_energy import Books
from nearhall.hub.pilot_joules import Joules, joules_of
from nearhall.hub.tally import PathTally, Tally
from nearhall.physics.network import break_even_rtt_ms, serialisation_ms

USD_PER_KWH = 0.30
"""Assumed: a commercial tariff in Germany, 2025, rounded; the user's own belongs here."""
HUB_PUE = 1.2
"""Assumed: a large, modern hall."""
_GAIN_SOURCE = (
    "paired probes on warm connections, less what their bytes beyond the encoded ones take on the link; "
    "median with exact 95 % interval"
)
CHAT_BASELINE = "none: chat claims no saving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What is shared between the workloads of a site, and by which key."""

    workloads: Sequence[WorkloadAbout]
    answered: int
    agent_bytes: int
    books: Books
    joules: Joules
    rtt_ms: float | None
    """Of the link: as it is set where it is simulated, as it was seen where it is real."""

    @classmethod
    def of(cls, period: SitePeriod) -> Shares:
        """From a site's records; workloads that nobody named come last."""
        books = Books.of(period)
        named = {workload.id for workload in period.about.workloads}
        extra = [
            WorkloadAbout(id=name, model=name.removeprefix("model:")) for name in sorted(period.tallies) if name not in named
        ]
        return cls(
            workloads=[*period.about.workloads, *extra],
            answered=sum(tally.answered for tally in period.tallies.values()),
            agent_bytes=period.agent_bytes,
            books=books,
            joules=joules_of(period, books),
            rtt_ms=link_rtt_ms(period),
        )


def link_kind(about: About) -> Kind:
    """What the link's figures are: simulated behind the shaper, measured on a real one."""
    return Kind(about.link.kind) if about.link.kind in {kind.value for kind in Kind} else Kind.ASSUMED


def link_rtt_ms(period: SitePeriod) -> float | None:
    """The link's round trip: of a real link as the kernel sees it (or the agent's exchanges), of a played one as it was set."""
    seen = median(period.round_trips) if period.round_trips else None
    if link_kind(period.about) is Kind.MEASURED and period.kernel_round_trips:
        return round(median(period.kernel_round_trips), 3)
    if link_kind(period.about) is Kind.MEASURED:
        return seen
    return period.about.link.rtt_ms if period.about.link.rtt_ms is not None else seen


def workload(about: WorkloadAbout, period: SitePeriod, shares: Shares, pointer: str, ledger: Ledger) -> dict[str, Any]:
    """The workload's object, with its evidence written to the ledger."""
    tally = period.tallies.get(about.id, Tally())
    _evidence(about, period, shares, pointer, ledger)
    gain = _gain(about, tally, period)
    rtt = shares.rtt_ms
    local, hub = tally.paths["local"], _hub_seen(about, tally)
    break_even = None if gain is None or rtt is None else round(break_even_rtt_ms(rtt_ms=rtt, gain_ms=gain["value"]), 3)
    return {
        "id": about.id,
        "model": about.model,
        "slo_p99_ms": about.target_ms,
        "residency": about.residency,
        "chat": about.chat,
        "requests": _requests(tally),
        "latency_ms": {
            "local": _path(local),
            "hub": _path(hub),
            "gain_p50": gain or {"value": None, "low": None, "high": None, "n": 0},
        },
        "ttft_ms": {"local": _times(local.ttft), "hub": _times(hub.ttft)} if about.chat else {"local": None, "hub": None},
        "break_even_rtt_ms": break_even,
        "upstream_bytes": _bytes(about, tally, shares),
        "energy_j_per_request": shares.joules.of(about.id),
        "per_thousand": _per_thousand(about, tally, period, shares),
        "outcomes": {name: round(value, 3) for name, value in tally.outcomes.items()},
        "decisions": tally.decisions,
    }


def _requests(tally: Tally) -> dict[str, Any]:
    return {
        "total": tally.total,
        "local": tally.local,
        "hub": tally.hub,
        "rejected": tally.rejected,
        "failed": tally.failed,
        "cancelled": tally.cancelled,
        "late": tally.late,
        "within_10_ms": tally.within_10_ms,
    }


def _hub_seen(about: WorkloadAbout, tally: Tally) -> PathTally:
    """What the hub took: requests that it answered, and probes, which ask it for the same work."""
    seen = PathTally()
    sent = tally.paths["hub"]
    for part in ("latency", "queue", "service", "network", "ttft"):
        getattr(seen, part).merge(getattr(sent, part))
    for probe in tally.probes:
        times = seen.ttft if about.chat else seen.latency
        times.add(probe.hub_ms)
        if not about.chat and probe.hub_service_ms > 0:
            seen.queue.add(probe.hub_queue_ms)
            seen.service.add(probe.hub_service_ms)
            seen.network.add(max(0.0, probe.hub_ms - probe.hub_queue_ms - probe.hub_service_ms))
    return seen


def _path(path: PathTally) -> dict[str, Any]:
    latency = path.latency
    return {
        "n": latency.n,
        "p50": _quantile(latency, 0.5),
        "p95": _quantile(latency, 0.95),
        "p99": _quantile(latency, 0.99),
        "queue_p50": _quantile(path.queue, 0.5),
        "service_p50": _quantile(path.service, 0.5),
        "network_p50": _quantile(path.network, 0.5),
    }


def _times(histogram: Histogram) -> dict[str, Any] | None:
    if histogram.n == 0:
        return None
    return {"n": histogram.n, **{f"p{round(q * 100)}": _quantile(histogram, q) for q in (0.5, 0.95, 0.99)}}


def _quantile(histogram: Histogram, q: float) -> float | None:
    value = histogram.reported(q)
    return None if value is None else round(value, 4)


def _gain(about: WorkloadAbout, tally: Tally, period: SitePeriod) -> dict[str, Any] | None:
    """The median of what the hub took longer, over paired probes, with its exact 95 % interval.

    A probe carries what the model takes, a decoded tensor; a sensible central design would send the encoded bytes. What the
    difference takes on the link is not the site's merit, so it is taken off each pair (`payload_ms`).
    """
    payload_ms = _payload_ms(about, tally, period)
    found = median_interval([probe.hub_ms - probe.local_ms - payload_ms for probe in tally.probes])
    if found is None:
        return None
    low, high = (None if end is None else round(end, 4) for end in (found.low, found.high))
    return {"value": round(found.value, 4), "low": low, "high": high, "n": found.n, "payload_ms": round(payload_ms, 4)}


def _payload_ms(about: WorkloadAbout, tally: Tally, period: SitePeriod) -> float:
    """What a probe's bytes beyond the encoded ones take on the link; 0 where either is unknown or the link is unlimited."""
    mbps = period.about.link.mbps
    if about.chat or not mbps or not tally.probes or not tally.raw_known:
        return 0.0
    carried = tally.probe_bytes / len(tally.probes)
    return serialisation_ms(size_bytes=max(0.0, carried - tally.raw_bytes / tally.raw_known), mbps=mbps)


def _bytes(about: WorkloadAbout, tally: Tally, shares: Shares) -> dict[str, Any]:
    """Raw against sent; the agent's own bytes are shared out by answered requests, so that the workloads add up to the link."""
    of_agent = round(shares.agent_bytes * tally.answered / shares.answered) if shares.answered else 0
    sent = tally.sent_bytes + of_agent
    known = tally.raw_known > 0 and not about.chat
    raw = tally.raw_bytes if known else None
    return {
        "raw": raw,
        "sent": sent,
        "probe": tally.probe_bytes,
        "saved_fraction": round(1.0 - sent / raw, 6) if raw else None,
        "baseline": CHAT_BASELINE
        if about.chat
        else (about.raw_baseline or "unknown: no request said what a camera or sensor had sent"),
        "sent_telemetry": of_agent,
    }


def _per_thousand(about: WorkloadAbout, tally: Tally, period: SitePeriod, shares: Shares) -> dict[str, Any]:
    """Energy and its price for a thousand requests: here as metered, at the hub from its service time on the same server.

    The hub is shared by many, so a request is charged its dynamic energy and the hall's overhead; here the whole site is charged.
    """
    full = shares.joules.of(about.id)["full"]
    catalogue = period.about.catalogue
    service = _hub_seen(about, tally).service
    there: float | None = None
    if service.n and catalogue.idle_w is not None and catalogue.busy_w is not None:
        cores = float(period.about.host.get("cores") or 1)
        core_w = (catalogue.busy_w - catalogue.idle_w) / cores
        there = service.total / service.n / 1e3 * core_w * HUB_PUE
    return {"local": _priced(full), "hub": _priced(there)}


def _priced(joules_each: float | None) -> dict[str, float | None]:
    if joules_each is None:
        return {"energy_kwh": None, "cost_usd": None}
    kwh = joules_each * 1000.0 / 3.6e6
    return {"energy_kwh": round(kwh, 9), "cost_usd": round(kwh * USD_PER_KWH, 9)}


def _evidence(about: WorkloadAbout, period: SitePeriod, shares: Shares, pointer: str, ledger: Ledger) -> None:
    link = link_kind(period.about)
    through = weakest([Kind.MEASURED, link])
    host = str(period.about.host.get("cpu", "this host"))
    ledger.say(f"{pointer}/requests", Kind.MEASURED, "counters of the site's gateway")
    ledger.say(f"{pointer}/decisions", Kind.MEASURED, "counters of the site's gateway")
    ledger.say(f"{pointer}/outcomes", Kind.MEASURED, "counted by the site's application")
    ledger.say(f"{pointer}/slo_p99_ms", Kind.ASSUMED, "set in the pilot's document")
    ledger.say(f"{pointer}/latency_ms/local", Kind.MEASURED, f"clock of the gateway, on {host}")
    ledger.say(
        f"{pointer}/latency_ms/hub", through, f"clock of the gateway, over the link ({period.about.link.source or link.value})"
    )
    ledger.say(
        f"{pointer}/latency_ms/gain_p50",
        through,
        "paired probes on warm connections, less what decoded tensors take on the link beyond encoded bytes; exact 95 % interval",
    )
    ledger.say(f"{pointer}/ttft_ms/local", Kind.MEASURED, f"clock of the gateway, on {host}")
    ledger.say(f"{pointer}/ttft_ms/hub", through, "clock of the gateway, over the link")
    ledger.say(f"{pointer}/break_even_rtt_ms", through, "link round trip less the paired gain")
    ledger.say(
        f"{pointer}/upstream_bytes", Kind.MEASURED, "TCP payload with TLS, counted by the kernel (TCP_INFO), without IP headers"
    )
    ledger.say(f"{pointer}/upstream_bytes/raw", Kind.MEASURED, about.raw_baseline or "as the requests said")
    full, marginal = shares.joules.full_evidence, shares.joules.marginal_evidence
    ledger.say(f"{pointer}/energy_j_per_request", full.kind, full.source)
    ledger.say(f"{pointer}/energy_j_per_request/marginal", marginal.kind, marginal.source)
    if shares.joules.of(about.id)["fit"] is not None:
        ledger.say(f"{pointer}/energy_j_per_request/fit", shares.joules.fit_evidence.kind, shares.joules.fit_evidence.source)
    ledger.say(f"{pointer}/per_thousand/local/energy_kwh", full.kind, full.source)
    ledger.say(f"{pointer}/per_thousand/local/cost_usd", Kind.ASSUMED, f"{USD_PER_KWH} USD/kWh")
    ledger.say(
        f"{pointer}/per_thousand/hub",
        Kind.ASSUMED,
        f"the hub's service time on {period.about.catalogue.id or 'the same server'} ({period.about.catalogue.source}), "
        f"PUE {HUB_PUE}, {USD_PER_KWH} USD/kWh",
    )
