"""What one server gives one workload: how long a request takes, how many a second, whether the model fits.

What the user measured comes first, then a benchmark of the same model on the same server, then the roofline of its arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np

from nearhall.core.evidence import Kind
from nearhall.core.quantity import Z90, LogNormal, Quantity
from nearhall.documents.catalogue_models import CatalogueModel
from nearhall.documents.hardware import Benchmark, Catalogue
from nearhall.documents.plan_work import ServiceOn, Workload
from nearhall.physics.inference import decode_s_per_token, forward_s, prefill_s
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.fit import MemoryFit
from nearhall.planner.serving.server import Server

SLOTS_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One workload on one kind of server."""

    workload: str
    server: str
    slots: int
    """Requests that one server holds at once."""
    slot_s: Samples
    """How long a request keeps its slot."""
    first_s: Samples
    """How long it takes to what the SLO counts to: the answer, or for a language model the first token; without waiting."""
    until_first: bool
    """Whether the SLO counts to the first token."""
    cv: Samples
    """Coefficient of variation of `slot_s` from one request to the next."""
    busy_w: Samples
    fit: MemoryFit | None
    """None where the model's size is not known."""
    how: str
    """Where the times come from, in words."""
    kind: Kind
    missing: str = ""
    """Why this server cannot serve it; empty when it can."""

    @property
    def per_s(self) -> Samples:
        """Requests a second at full load of one server."""
        return self.slots / self.slot_s


def serve_on(
    workload: Workload, model: CatalogueModel, server: Server, fit: MemoryFit, ledger: Ledger, *, catalogue: Catalogue
) -> Service:
    """The workload on the server; a server that cannot serve it says why."""
    measured = next((on for on in workload.measured if on.hardware == server.id), None)
    if measured is not None:
        return _by_user(workload, measured, server, fit, ledger)
    if model.kind == "llm":
        return _language(workload, model, server, fit, ledger)
    found = _by_benchmark(workload, model, server, fit, ledger, overlap=overlap_of(model, catalogue))
    return found or _by_roofline(workload, model, server, fit, ledger)


def overlap_of(model: CatalogueModel, catalogue: Catalogue) -> float:
    """Requests that one accelerator has in work at full rate: its rate times the latency of one alone, the catalogue's median.

    With it the latency of a server is told from its rate where the benchmark has no run of single requests.
    """
    found: list[float] = []
    for system in catalogue.systems:
        rows = [row for row in system.benchmarks if row.model == model.mlperf]
        alone = [row.latency_p90_ms for row in rows if row.latency_p90_ms is not None]
        rates = [row.per_s for row in rows if row.per_s is not None]
        if alone and rates:
            found.append(min(alone) / 1e3 * max(rates) / max(system.accelerators, 1))
    return float(np.median(found)) if found else _OVERLAP


def _plain(
    workload: Workload,
    server: Server,
    fit: MemoryFit | None,
    ledger: Ledger,
    *,
    latency_s: Samples,
    per_s: Samples,
    busy_w: Samples,
    how: str,
    kind: Kind,
    has_run: bool = False,
) -> Service:
    """A network that answers whole: slots as many as overlap at full load, each as long as keeps that rate."""
    slots = int(np.clip(np.floor(np.median(per_s * latency_s)), 1, SLOTS_MAX))
    slot_s = np.maximum(slots / per_s, latency_s) if slots == 1 else slots / per_s
    return Service(
        workload=workload.id,
        server=server.id,
        slots=slots,
        slot_s=slot_s,
        first_s=np.maximum(latency_s, slot_s),
        until_first=False,
        cv=ledger.take(f"workloads.{workload.id}.service_cv", None, "service.cv"),
        busy_w=busy_w,
        fit=fit,
        how=how,
        kind=kind,
        missing="" if has_run else _too_big(fit, server),  # what has run there fits
    )


def _by_user(workload: Workload, on: ServiceOn, server: Server, fit: MemoryFit, ledger: Ledger) -> Service:
    at = f"workloads.{workload.id}.measured.{server.id}"
    busy_w = ledger.take(f"{at}.busy_w", on.busy_w) if on.busy_w is not None else server.busy_w
    return _plain(
        workload,
        server,
        fit,
        ledger,
        latency_s=ledger.take(f"{at}.service_ms", on.service_ms) / 1e3,
        per_s=ledger.take(f"{at}.per_s", on.per_s),
        busy_w=busy_w,
        how=f"the plan's own figures: {on.service_ms.evidence.source}",
        kind=on.service_ms.evidence.kind,
        has_run=True,
    )


def _by_benchmark(
    workload: Workload, model: CatalogueModel, server: Server, fit: MemoryFit, ledger: Ledger, *, overlap: float
) -> Service | None:
    rows = [row for row in server.system.benchmarks if model.mlperf is not None and row.model == model.mlperf]
    rates = sorted((row for row in rows if row.per_s is not None), key=lambda row: row.scenario != "server")
    rate = rates[0] if rates else None
    alone = next((row for row in rows if row.latency_p90_ms is not None), None)
    if rate is None and alone is None:
        return None
    base_s = alone.latency_p90_ms / 1e3 if alone is not None and alone.latency_p90_ms is not None else None
    base_rate = rate.per_s if rate is not None and rate.per_s is not None else None
    if base_s is None:
        base_s = overlap * max(server.system.accelerators, 1) / (base_rate or 1.0)
    if base_rate is None:
        base_rate = 1.0 / base_s
    how = f"{server.system.source.split(',')[0]}, {model.mlperf} on {server.system.name}"
    if rate is not None and rate.scenario == "offline":
        at = f"workloads.{workload.id}"
        base_s, base_rate = batched(
            alone_s=base_s,
            per_s=base_rate,
            accelerators=max(server.system.accelerators, 1),
            longest_s=workload.slo.limit_ms / 1e3 * ledger.fixed(at, "service.batch_of_slo"),
            share=ledger.fixed(at, "service.offline_share"),
        )
        how += "; an Offline run: batches as long as the SLO lets them"
    return _plain(
        workload,
        server,
        fit,
        ledger,
        latency_s=base_s / server.speed,
        per_s=base_rate * server.speed,
        busy_w=np.maximum(server.drawn_w((rate or alone or rows[0]).mean_w), server.idle_w),
        how=how,
        kind=Kind(server.system.kind),
        has_run=True,
    )


def batched(*, alone_s: float, per_s: float, accelerators: int, longest_s: float, share: float) -> tuple[float, float]:
    """(seconds of a batch, requests a second) where only single requests and full batches (`per_s`) were measured.

    A batch of b takes a fixed time and b times one that grows with it, t = f + b / r; r is an accelerator's rate at full
    batches and f what a single request takes beyond 1 / r. So a shorter batch costs rate: (1 - f / t) of it is left. The batch
    takes as long as gives `share` of the rate, at most `longest_s`, at least a single request's time.
    """
    fixed_s = alone_s - accelerators / per_s
    if fixed_s <= 0:
        return alone_s, per_s
    batch_s = max(alone_s, min(longest_s, fixed_s / (1.0 - share)))
    return batch_s, (1.0 - fixed_s / batch_s) * per_s


_OVERLAP = 4.0
"""Where no system of the catalogue has both. Assumed."""


def _by_roofline(workload: Workload, model: CatalogueModel, server: Server, fit: MemoryFit, ledger: Ledger) -> Service:
    system = server.system
    if model.gflop is None or system.peak_tflops is None or system.bandwidth_gb_s is None:
        lacks = "its arithmetic" if model.gflop is None else f"peak compute and bandwidth of {system.name}"
        return _not_known(
            workload, server, fit, ledger, f"no benchmark of {model.name} on {system.name}, and {lacks} is not known"
        )
    passing = forward_s(
        flops=model.gflop * 1e9,
        weights_bytes=fit.weights_bytes,
        peak_flops=system.peak_tflops * 1e12 / fit.copies,
        bandwidth=system.bandwidth_gb_s * 1e9 / fit.copies,
        compute_share=ledger.take(f"workloads.{workload.id}.compute_share", None, "service.compute_share"),
        bandwidth_share=ledger.take(f"workloads.{workload.id}.bandwidth_share", None, "service.bandwidth_share"),
    )
    passing = passing + ledger.take(f"workloads.{workload.id}.launch_ms", None, "service.launch_ms") / 1e3
    return _plain(
        workload,
        server,
        fit,
        ledger,
        latency_s=passing / server.speed,
        per_s=fit.copies * server.speed / passing,
        busy_w=server.busy_w,
        how=f"roofline: {model.gflop:g} GFLOP on {system.peak_tflops:g} TFLOP/s",
        kind=Kind.ASSUMED,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Talk:
    """What a language model's roofline is made of, on one server."""

    model: CatalogueModel
    fit: MemoryFit
    prompt: float
    answer: float
    roof: dict[str, Samples]
    """Peaks of one copy's accelerators, and the shares of them that are reached."""

    def first_s(self, batch: int, at_once: int) -> tuple[Samples, Samples]:
        """(a prompt, a token of each of `batch` conversations on one copy); the cache in memory is that of `at_once`."""
        active = self.model.active_params or self.model.params
        prefill = prefill_s(params=active, tokens=self.prompt, weights_bytes=self.fit.weights_bytes, **self.roof)
        token = decode_s_per_token(
            params=active,
            weights_bytes=self.fit.weights_bytes * min(1.0, batch * active / self.model.params),
            kv_bytes=self.fit.kv_bytes * batch / at_once,
            batch=batch,
            **self.roof,
        )
        return np.asarray(prefill), np.asarray(token)


def _language(workload: Workload, model: CatalogueModel, server: Server, fit: MemoryFit, ledger: Ledger) -> Service:
    system, wish, at = server.system, workload.wish, f"workloads.{workload.id}.model"
    if system.peak_tflops is None or system.bandwidth_gb_s is None:
        return _not_known(workload, server, fit, ledger, f"peak compute and bandwidth of {system.name} are not known")
    prompt, prompts_cv = _tokens(ledger.quantity(f"{at}.prompt_tokens", wish.prompt_tokens, "llm.prompt_tokens"))
    answer, answers_cv = _tokens(ledger.quantity(f"{at}.output_tokens", wish.output_tokens, "llm.output_tokens"))
    roof = {
        "peak_flops": np.asarray(system.peak_tflops * 1e12 / fit.copies),
        "bandwidth": np.asarray(system.bandwidth_gb_s * 1e9 / fit.copies),
        "compute_share": ledger.take(f"{at}.compute_share", None, "service.compute_share"),
        "bandwidth_share": ledger.take(f"{at}.bandwidth_share", None, "service.bandwidth_share"),
    }
    talk = _Talk(model=model, fit=fit, prompt=prompt, answer=answer, roof=roof)
    run = _run_of(model, server)
    slots = wish.concurrent
    if run is not None:  # it batches as many as the memory holds
        slots = min(max(fit.concurrent_max or 1, wish.concurrent), max(SLOTS_MAX // fit.copies, 1))
    prefill, token = talk.first_s(slots, wish.concurrent)
    if run is None:
        # With continuous batching a prompt is read while others decode: it waits for their step, and they for it.
        whole = (prefill * slots + answer * token) / server.speed
        how, kind = f"roofline of prefill and decode: {model.name} at {fit.bits} bits on {system.name}", Kind.ASSUMED
    else:
        share = _share_of_run(talk, model.mlperf or "", f"workloads.{workload.id}", ledger)
        whole = slots * fit.copies / ((run.per_s or 0.0) * share * server.speed)
        told = f" times {share:.2f} for its tokens and {fit.bits} bits" if share < 1.0 else ""
        how = f"MLPerf Inference {run.run}: {run.per_s:g}/s at full batches{told}; first token by the roofline"
        kind = Kind(system.kind) if share >= 1.0 else Kind.ASSUMED
    return Service(
        workload=workload.id,
        server=server.id,
        slots=slots * fit.copies,
        slot_s=whole,
        first_s=(prefill + token) / server.speed,
        until_first=True,
        cv=np.full_like(whole, max(prompts_cv, answers_cv)),
        busy_w=server.busy_w if run is None else np.maximum(server.drawn_w(run.mean_w), server.idle_w),
        fit=fit,
        how=how,
        kind=kind,
        missing=_too_big(fit, server),
    )


def _run_of(model: CatalogueModel, server: Server) -> Benchmark | None:
    """The benchmark's run of this model on this system, of random arrivals rather than full batches."""
    rows = [row for row in server.system.benchmarks if row.model == model.mlperf and row.per_s is not None]
    return min(rows, key=lambda row: row.scenario != "server", default=None)


def _share_of_run(talk: _Talk, benchmark: str, at: str, ledger: Ledger) -> float:
    """Of a run's rate: less where prompts or answers are longer than the benchmark's or weights wider; never more."""
    asked = ledger.fixed(at, f"llm.run_prompt_tokens.{benchmark}")
    told = ledger.fixed(at, f"llm.run_output_tokens.{benchmark}")
    tokens = min(1.0, told / talk.answer, (asked + told) / (talk.prompt + talk.answer))
    return tokens * min(1.0, ledger.fixed(at, "llm.run_bits") / talk.fit.bits)


def _tokens(said: Quantity) -> tuple[float, float]:
    """Mean and coefficient of variation over requests: a spread of tokens is that of requests, not of what is not known."""
    if isinstance(said.spread, LogNormal):
        return said.p50 * exp(said.spread.sigma**2 / 2.0), (exp(said.spread.sigma**2) - 1.0) ** 0.5
    return said.p50, max(said.p90 - said.p50, 0.0) / (Z90 * said.p50)


def _not_known(workload: Workload, server: Server, fit: MemoryFit, ledger: Ledger, why: str) -> Service:
    none = np.full(ledger.draws.samples, np.inf)
    return Service(
        workload=workload.id,
        server=server.id,
        slots=1,
        slot_s=none,
        first_s=none,
        until_first=False,
        cv=np.zeros_like(none),
        busy_w=server.busy_w,
        fit=fit,
        how=why,
        kind=Kind.ASSUMED,
        missing=f"{why}; give measured: [{{hardware: {server.id}, service_ms: .., per_s: ..}}]",
    )


def _too_big(fit: MemoryFit | None, server: Server) -> str:
    if fit is None or fit.fits:
        return ""
    return f"memory: {fit.p95_gib:.1f} GiB (P95) > {fit.usable_gib:.1f} GiB of {server.system.name}"
