"""A pilot in words, for the end of `nearhall up`: plain text, at most 40 lines, every figure followed by its evidence letter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from textwrap import wrap
from typing import Any

from nearhall.report.evidence_marks import Figure, in_text
from nearhall.report.formats import LINES_MAX, WIDTH, count, listed, ms, percent, plain, ratio, signed_ms, size
from nearhall.report.pilot.next_steps import LINK_COMMAND, METER_COMMAND, next_steps
from nearhall.report.pilot.tables import SO, first_token, in_time
from nearhall.report.pilot.verdict import Decision, decide, find, pays_above
from nearhall.report.reader import PilotReader, WorkloadView

PAYLOAD_MS_TOLD = 1.0
"""From here on hub less local is not the gain by eye."""
LABEL_WIDTH = 22
WORKLOADS_SHOWN = 12
"""More would push the verdict off a terminal's first screen; the report has them all."""


def words(pilot: Mapping[str, Any]) -> str:
    """The summary."""
    reader = PilotReader(pilot)
    decision = decide(pilot)
    lines = _verdict(decision)
    lines += ["", *_workloads(reader)]
    lines += ["", *_totals(reader)]
    lines += [
        f"! {line}"
        for warning in decision.warnings
        for line in wrap(f"Energy balance: {in_text(warning)}", WIDTH - 2, break_on_hyphens=False)
    ]
    lines += ["", "Worth measuring next:"]
    lines += [f" {number}. {step.what}" for number, step in enumerate(next_steps(pilot), 1)]
    lines += [f"Your link:  {LINK_COMMAND}", *_meter_lines()]
    lines += ["M measured  S simulated  V vendor  N norm  A assumed"]
    return "\n".join(lines[:LINES_MAX])


def _verdict(decision: Decision) -> list[str]:
    stamp = "REHEARSED" if decision.rehearsed else "MEASURED"
    paragraph = " ".join(in_text(reason) for reason in decision.reasons)
    purchase = (
        f"It cannot support a purchase: {listed(list(decision.unsupported))}."
        if decision.unsupported
        else "It may support a purchase."
    )
    return [
        *wrap(f"{stamp}  {in_text(decision.sentence)}", WIDTH, break_on_hyphens=False),
        *wrap(f"{paragraph} {purchase}".strip(), WIDTH, break_on_hyphens=False),
    ]


def _workloads(reader: PilotReader) -> list[str]:
    shown = reader.workloads[:WORKLOADS_SHOWN]
    if not shown:
        return ["pilot.json holds no workload."]
    width = min(max(len(_label(w)) for w in shown), LABEL_WIDTH)
    rows = [f"{'milliseconds':<{width}} {'local p50':>9} {'hub p50':>9} {'gain':>10} {'pays above':>10}"]
    for workload in shown:
        local, hub = (_median(workload, place).marked for place in ("local", "hub"))
        gain = workload.figure("latency_ms/gain_p50/value", _bare(signed_ms)).marked
        above = workload.figure("break_even_rtt_ms", _bare(partial(pays_above, workload))).marked
        row = f"{_label(workload):<{width}} {local:>9} {hub:>9} {gain:>10} {above:>10}  {_so(workload)}"
        rows.append(row)
    if any((workload.number("latency_ms/gain_p50/payload_ms") or 0) >= PAYLOAD_MS_TOLD for workload in shown):
        rows.append("gain: in pairs, less what decoded pictures take on the link beyond encoded ones")
    if len(reader.workloads) > len(shown):
        rows.append(f"and {len(reader.workloads) - len(shown)} more in the report")
    return rows


def _label(workload: WorkloadView) -> str:
    return f"{workload.id} {workload.site}"[:LABEL_WIDTH]


def _so(workload: WorkloadView) -> str:
    if workload.number("latency_ms/gain_p50/value") is None:
        return "not compared"
    return SO[find(workload)][0]


def _bare(form: Callable[[float], str]) -> Callable[[float], str]:
    """Milliseconds without their unit, which the table's head names."""
    return lambda value: form(value).removesuffix(" ms")


def _median(workload: WorkloadView, place: str) -> Figure:
    """The median that is compared: of whole answers, for chat of first tokens."""
    if workload.chat:
        return first_token(workload, place, form=_bare(ms))
    return workload.figure(f"latency_ms/{place}/p50", _bare(ms))


def _totals(reader: PilotReader) -> list[str]:
    base = "/totals/requests"
    timed = in_time(reader)["share"]
    refused = [f"{plain(reason)} {count(n)}" for reason, n in reader.counts(f"{base}/rejected").items() if n]
    figures = {name: reader.figure(f"{base}/{name}", count).marked for name in ("total", "local", "hub", "late", "failed")}
    link = {name: reader.figure(f"/totals/upstream_bytes/{name}", size).marked for name in ("raw", "sent", "probe")}
    saved = reader.figure("/totals/upstream_bytes/saved_fraction", percent).marked
    pues = [f"{site.id} {site.figure('pue/value', ratio).marked}" for site in reader.sites]
    lines = [
        f"Requests: {figures['total']}, local {figures['local']}, hub {figures['hub']}, late {figures['late']}, "
        f"failed {figures['failed']}, within 10 ms {timed.marked if timed else 'not counted'}",
        f"Refused:  {', '.join(refused) if refused else 'none'}",
        f"Link:     raw {link['raw']}, sent {link['sent']}, saved {saved}, probes {link['probe']}",
        f"PUE:      {', '.join(pues) if pues else 'not metered'}",
    ]
    return [part for line in lines for part in wrap(line, WIDTH, subsequent_indent=" " * 10, break_on_hyphens=False)]


def _meter_lines() -> list[str]:
    first, *rest = METER_COMMAND.splitlines()
    return [f"Your meter: {first}", *(f"            {line}" for line in rest)]
