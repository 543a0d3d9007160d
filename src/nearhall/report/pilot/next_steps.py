"""What to measure next, most telling first, and the commands that put the user's own link and meter in the simulation's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nearhall.core.evidence import Kind
from nearhall.core.histogram import SAMPLES_NEEDED
from nearhall.report.formats import listed
from nearhall.report.pilot.verdict import Finding, balance_warnings, find
from nearhall.report.reader import PilotReader

LINK_COMMAND = "nearhall up --hub-probe https://your-hub.example"
METER_COMMAND = (
    "nearhall meters read modbus://METER:502/1 --profile sdm630\nnearhall up --meter feed=modbus://METER:502/1,profile=sdm630"
)
CAMERA_COMMAND = "nearhall up --camera rtsp://your-camera/stream --model your-model"
STEPS_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One measurement worth making."""

    what: str
    why: str
    command: str = ""


def next_steps(pilot: Mapping[str, Any]) -> list[Step]:
    """The three next measurements worth making: doubts about the figures first, then what the verdict rests on, then detail."""
    reader = PilotReader(pilot)
    steps = [step for candidate in _CANDIDATES if (step := candidate(reader)) is not None]
    return steps[:STEPS_SHOWN]


_OPEN = frozenset({Finding.UNKNOWN, Finding.UNSURE})


def _balance(reader: PilotReader) -> Step | None:
    if not any(balance_warnings(site) for site in reader.sites):
        return None
    return Step(
        what="Read the meter that disagrees beside a second instrument",
        why="the energy balance does not close, so one register lies; no energy or cost figure can be used until it is found",
        command="nearhall meters read modbus://METER:502/1 --profile sdm630",
    )


def _pairs(reader: PilotReader) -> Step | None:
    missing = [w.label for w in reader.workloads if find(w) in _OPEN and w.number("requests/local")]
    if not missing:
        return None
    return Step(
        what="Run longer, so that every workload is compared",
        why=f"too few pairs yet to compare with the hub for {listed(missing)}",
        command="nearhall up --seconds 600",
    )


def _link(reader: PilotReader) -> Step | None:
    if not _weak(reader, "link/rtt_ms"):
        return None
    return Step(
        what="The round trip from your site to your hub or cloud region",
        why="every hub latency, the gain and whether a site pays follow from it, and here it was not measured",
        command=LINK_COMMAND,
    )


def _power(reader: PilotReader) -> Step | None:
    if not _weak(reader, "energy/facility_kwh"):
        return None
    return Step(
        what="Power at the feed, with a commissioned meter",
        why="energy, PUE and cost rest on no commissioned instrument here, and not on your equipment",
        command=METER_COMMAND,
    )


def _work(_: PilotReader) -> Step:
    return Step(
        what="Your own camera and model",
        why="service time differs most between models; the ones here are stand-ins of your workload",
        command=CAMERA_COMMAND,
    )


def _tails(reader: PilotReader) -> Step | None:
    short = [
        w.label
        for w in reader.workloads
        if w.number("latency_ms/local/p50") is not None and w.number("latency_ms/local/p99") is None
    ]
    if not short:
        return None
    return Step(
        what="A longer run, for the slowest answers",
        why=f"a p99 needs {SAMPLES_NEEDED[0.99]:,} answers; there are fewer for {listed(short)}",
        command="nearhall up --seconds 3600",
    )


def _weak(reader: PilotReader, below: str) -> bool:
    return (
        any(reader.evidence.find(f"{site.pointer}/{below}")[0] is not Kind.MEASURED for site in reader.sites) or not reader.sites
    )


_CANDIDATES: tuple[Callable[[PilotReader], Step | None], ...] = (_balance, _pairs, _link, _power, _work, _tails)
"""In order of how much of the verdict falls with them."""
