"""A pilot in words, for the end of `nearhall up`: plain text, at most 40 lines, every figure followed by its evidence letter."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from nearhall.report.evidence_marks import in_text
from nearhall.report.formats import count, listed, ms, percent, plain, ratio, signed_ms, size
from nearhall.report.next_steps import LINK_COMMAND, METER_COMMAND, next_steps
from nearhall.report.pilot_reader import PilotReader, WorkloadView
from nearhall.report.pilot_tables import SO, first_token, in_time
from nearhall.report.verdict import Decision, decide, find

LINES_MAX = 40
WIDTH = 100
WORKLOADS_SHOWN = 12
"""More would push the verdict off a terminal's first screen; the report has them all."""


def words(pilot: Mapping[str, Any]) -> str:
    """The summary."""
    reader = PilotReader(pilot)
    decision = decide(pilot)
    lines = _verdict(decision)
    lines += ["", *_workloads(reader)]
    lines += ["", *_totals(reader)]
    lines += [f"! {line}" for warning in decision.warnings for line in wrap(f"Energy balance: {in_text(warning)}", WIDTH - 2)]
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
    return [*wrap(f"{stamp}  {in_text(decision.sentence)}", WIDTH), *wrap(f"{paragraph} {purchase}".strip(), WIDTH)]


def _workloads(reader: PilotReader) -> list[str]:
    shown = reader.workloads[:WORKLOADS_SHOWN]
    if not shown:
        return ["pilot.json holds no workload."]
    width = max(len(w.label) for w in shown)
    rows = [f"{'':<{width}}  {'local p50':>13}  {'hub p50':>13}  {'paired gain':>13}  {'pays above':>13}"]
    for workload in shown:
        local, hub = (_median(workload, place) for place in ("local", "hub"))
        gain = workload.figure("latency_ms/gain_p50/value", signed_ms).marked
        above = workload.figure("break_even_rtt_ms", ms).marked
        rows.append(f"{workload.label:<{width}}  {local:>13}  {hub:>13}  {gain:>13}  {above:>13}  {SO[find(workload)][0]}")
    if len(reader.workloads) > len(shown):
        rows.append(f"and {len(reader.workloads) - len(shown)} more in the report")
    return rows


def _median(workload: WorkloadView, place: str) -> str:
    """The median that is compared: of whole answers, for chat of first tokens."""
    return (first_token(workload, place) if workload.chat else workload.figure(f"latency_ms/{place}/p50", ms)).marked


def _totals(reader: PilotReader) -> list[str]:
    base = "/totals/requests"
    timed = in_time(reader)["share"]
    refused = [f"{plain(reason)} {count(n)}" for reason, n in reader.counts(f"{base}/rejected").items() if n]
    figures = {name: reader.figure(f"{base}/{name}", count).marked for name in ("total", "local", "hub", "late", "failed")}
    lines = [
        f"Requests {figures['total']}: local {figures['local']}, hub {figures['hub']}, late {figures['late']}, "
        f"failed {figures['failed']}; within 10 ms {timed.marked if timed else 'not counted'}",
        f"Refused: {', '.join(refused) if refused else 'none'}",
        "Link: raw {}, sent {}, probes {}, saved {}".format(
            *(reader.figure(f"/totals/upstream_bytes/{n}", size).marked for n in ("raw", "sent", "probe")),
            reader.figure("/totals/upstream_bytes/saved_fraction", percent).marked,
        ),
    ]
    pues = [f"{site.id} {site.figure('pue/value', ratio).marked}" for site in reader.sites]
    return [*lines, f"PUE: {', '.join(pues)}"] if pues else lines


def _meter_lines() -> list[str]:
    first, *rest = METER_COMMAND.splitlines()
    return [f"Your meter: {first}", *(f"            {line}" for line in rest)]
