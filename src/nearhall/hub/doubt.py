"""Whether a record makes sense, before it is kept: one that does not would break every reading of the store after it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from nearhall.core.evidence import Kind
from nearhall.wire.telemetry import Event, MeterWindow, PathStats, Record, Sketch, WorkloadStats

KINDS = frozenset(kind.value for kind in Kind)
WINDOW_S_MAX = 86_400.0
"""A window of a day is a clock that jumped, not a window."""
NAMES_MAX = 256
"""Workloads, or instruments, of one site: many times what one cabinet holds."""
BUCKET_MAX = 10_000
"""Beyond either end of what a 64-bit float can hold in milliseconds; the wire's indexes are integers of any size."""


def checked(record: Record, number: int, now_s: float) -> Record:
    """The record, or in its place an empty one of the same window that says what was wrong, so that the loss is on record.

    A window that is none is dated by the hub's clock, `now_s`.
    """
    fault = next(faults(record), None)
    if fault is None:
        return record
    start, end = (record.start_s, record.end_s) if _is_window(record) else (now_s, now_s + 1e-3)
    text = f"record {number} was not understood and is not counted: {fault}"
    event = Event(at_s=end, kind="record_refused", text=text, level="error")
    return Record(start_s=start, end_s=end, boot_id=record.boot_id, gateway_up=False, events=[event])


def faults(record: Record) -> Iterator[str]:
    """What is wrong with a record, in words."""
    if not _is_window(record):
        yield f"its window runs from {record.start_s} to {record.end_s}"
    if max(len(record.workloads), len(record.meters), len(record.outcomes)) > NAMES_MAX:
        yield f"it names more than {NAMES_MAX} workloads or instruments"
    for name, stats in record.workloads.items():
        yield from _workload_faults(name, stats)
    for name, window in record.meters.items():
        yield from _meter_faults(name, window)
    link = record.link
    if min(link.sent_bytes, link.received_bytes, link.spooled_bytes) < 0:
        yield "a count of bytes is negative"


def _is_window(record: Record) -> bool:
    dated = isfinite(record.start_s) and isfinite(record.end_s) and record.start_s >= 0
    return dated and 0 < record.end_s - record.start_s <= WINDOW_S_MAX


def _workload_faults(name: str, stats: WorkloadStats) -> Iterator[str]:
    counts = (stats.local, stats.hub, stats.failed, stats.cancelled, stats.late, stats.within_10_ms, stats.raw_bytes)
    counts = (*counts, stats.raw_known, stats.sent_bytes, stats.probe_bytes, *stats.rejected.values(), *stats.decisions.values())
    if min(counts) < 0:
        yield f"a count of {name} is negative"
    for path in stats.paths.values():
        if any(_bad_sketch(sketch) for sketch in _sketches(path)):
            yield f"a histogram of {name} is malformed"
    if not all(isfinite(value) for probe in stats.probes for value in (probe.at_s, probe.local_ms, probe.hub_ms)):
        yield f"a probe of {name} is not a number"


def _meter_faults(name: str, window: MeterWindow) -> Iterator[str]:
    if window.kind not in KINDS:
        yield f"the evidence of {name} is {window.kind!r}"
    if len(window.register_kwh) not in {0, 2} or not all(isfinite(value) for value in window.register_kwh):
        yield f"the registers of {name} are {window.register_kwh}"
    if window.virtual and window.kind == Kind.MEASURED.value:
        yield f"{name} is a virtual instrument and claims to be measured"


def _sketches(path: PathStats) -> tuple[Sketch, ...]:
    return (path.latency, path.queue, path.service, path.network, path.ttft)


def _bad_sketch(sketch: Sketch) -> bool:
    if len(sketch.i) != len(sketch.c) or not isfinite(sketch.total):
        return True
    return any(count < 0 for count in sketch.c) or any(abs(index) > BUCKET_MAX for index in sketch.i)
