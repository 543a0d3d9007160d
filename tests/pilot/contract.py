"""The fields of pilot.json (DESIGN's contract), as paths: `[]` is every item of a list, `*` every key of an object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FIELDS: tuple[str, ...] = (
    "schema",
    "run.started",
    "run.ended",
    "run.software",
    "run.seed",
    "evidence",
    "counts.measured",
    "counts.simulated",
    "counts.vendor",
    "counts.standard",
    "counts.assumed",
    "sites[].id",
    "sites[].class",
    "sites[].jurisdiction",
    "sites[].period.start",
    "sites[].period.end",
    "sites[].coverage",
    "sites[].clock_error_ms",
    "sites[].nodes",
    "sites[].host",
    "sites[].link.rtt_ms",
    "sites[].link.mbps",
    "sites[].meters[].id",
    "sites[].meters[].position",
    "sites[].meters[].protocol",
    "sites[].meters[].serial",
    "sites[].meters[].class_percent",
    "sites[].meters[].ct_ratio",
    "sites[].workloads[].id",
    "sites[].workloads[].model",
    "sites[].workloads[].slo_p99_ms",
    "sites[].workloads[].residency",
    "sites[].workloads[].requests.total",
    "sites[].workloads[].requests.local",
    "sites[].workloads[].requests.hub",
    "sites[].workloads[].requests.rejected",
    "sites[].workloads[].requests.failed",
    "sites[].workloads[].requests.late",
    *(
        f"sites[].workloads[].latency_ms.{path}.{figure}"
        for path in ("local", "hub")
        for figure in ("n", "p50", "p95", "p99", "queue_p50", "service_p50", "network_p50")
    ),
    "sites[].workloads[].latency_ms.gain_p50.value",
    "sites[].workloads[].latency_ms.gain_p50.low",
    "sites[].workloads[].latency_ms.gain_p50.high",
    "sites[].workloads[].ttft_ms.local",
    "sites[].workloads[].ttft_ms.hub",
    "sites[].workloads[].break_even_rtt_ms",
    "sites[].workloads[].upstream_bytes.raw",
    "sites[].workloads[].upstream_bytes.sent",
    "sites[].workloads[].upstream_bytes.probe",
    "sites[].workloads[].upstream_bytes.saved_fraction",
    "sites[].workloads[].upstream_bytes.baseline",
    "sites[].workloads[].energy_j_per_request.marginal",
    "sites[].workloads[].energy_j_per_request.full",
    *(f"sites[].energy.{figure}_kwh" for figure in ("facility", "ups_in", "ups_out", "it", "cooling", "other")),
    "sites[].energy.closure_percent",
    "sites[].pue.value",
    "sites[].pue.category",
    "sites[].pue.interim",
    "sites[].blocks[].start",
    "sites[].blocks[].end",
    "sites[].blocks[].register_kwh",
    "sites[].blocks[].outdoor_c",
    "sites[].blocks[].it_load",
    "sites[].blocks[].slo",
    "sites[].blocks[].bytes.sent",
    "sites[].blocks[].bytes.raw",
    "totals.requests",
    "totals.upstream_bytes",
)


def missing(pilot: dict[str, Any]) -> list[str]:
    """The contract's fields that the document does not have."""
    return [field for field in FIELDS if not all(_has(pilot, field.split(".")))]


def _has(value: Any, steps: list[str]) -> Iterator[bool]:
    if not steps:
        yield True
        return
    step, rest = steps[0], steps[1:]
    key = step.removesuffix("[]")
    if not isinstance(value, dict) or key not in value:
        # A ttft, gain or hub column that does not apply is null as a whole.
        yield value is None
        return
    if step.endswith("[]"):
        yield bool(value[key])
        for item in value[key]:
            yield from _has(item, rest)
    else:
        yield from _has(value[key], rest)
