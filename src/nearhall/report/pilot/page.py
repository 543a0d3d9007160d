"""`pilot.json` in, `report.html` out: the first screen for the person who decides, then pictures, tables and every figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearhall.core.evidence import Kind
from nearhall.report.evidence_marks import Figure
from nearhall.report.formats import NO_VALUE, clock, date_and_time, moment, seconds
from nearhall.report.pages import render
from nearhall.report.pilot import figures as draw
from nearhall.report.pilot import tables
from nearhall.report.pilot.next_steps import LINK_COMMAND, METER_COMMAND, next_steps
from nearhall.report.pilot.outside import from_outside
from nearhall.report.pilot.verdict import decide
from nearhall.report.reader import PilotReader, SiteView

LATENCY_LINES = {"local_p50_ms": ("local p50", "local"), "hub_p50_ms": ("hub p50", "hub")}
BORDER = {
    Kind.MEASURED: "solid",
    Kind.SIMULATED: "dashed",
    Kind.VENDOR: "double",
    Kind.STANDARD: "double",
    Kind.ASSUMED: "dotted",
}
EVENTS_SHOWN = 200
"""An operator reads these by eye; pilot.json has them all."""


def render_report(pilot: Mapping[str, Any]) -> str:
    """The report as one HTML page that stands alone. Parts that the document does not hold are named as missing."""
    reader = PilotReader(pilot)
    pictures = _pictures(reader)
    return render(
        "report.html.j2",
        pictures=pictures,
        decision=decide(pilot),
        when=_when(reader),
        software=str(reader.at("/run/software") or "nearhall"),
        seed=str(reader.at("/run/seed") if reader.at("/run/seed") is not None else NO_VALUE),
        sites=reader.sites,
        counts=tables.evidence_counts(reader),
        where_it_pays=tables.where_it_pays(reader),
        link_rtts=list(zip([site.id for site in reader.sites], tables.link_round_trips(reader), strict=True)),
        price=tables.price(reader),
        in_time=tables.in_time(reader),
        steps=next_steps(pilot),
        link_command=LINK_COMMAND,
        meter_command=METER_COMMAND,
        latency_rows=tables.latencies(reader),
        gain_rows=tables.gains(reader),
        request_rows=tables.requests(reader),
        outside_rows=from_outside(reader),
        refusals=tables.refusals(reader),
        byte_rows=tables.byte_rows(reader),
        joule_rows=tables.joules(reader),
        site_pictures=[_site_pictures(site, pictures) for site in reader.sites],
        site_facts=[{"id": site.id, "rows": tables.site_facts(site)} for site in reader.sites],
        events=_events(reader),
        all_rows=tables.every_figure(reader),
    )


def _pictures(reader: PilotReader) -> dict[str, Any]:
    """By the id of the element that holds it; None where there is nothing to draw."""
    tensor = [w for w in reader.workloads if not w.chat]
    chat = [w for w in reader.workloads if w.chat]
    pictures: dict[str, Any] = {
        "gain": draw.gains(tensor),
        "gain_chat": draw.gains(chat),
        "requests": draw.requests_by_place(reader),
        "bytes": draw.bytes_by_workload(reader),
    }
    for site in reader.sites:
        pictures[f"latency_{site.index}"] = draw.latency_parts([w for w in site.workloads if not w.chat])
        pictures[f"chat_{site.index}"] = draw.latency_parts([w for w in site.workloads if w.chat])
        pictures[f"power_{site.index}"] = draw.over_time(site, draw.meters_of(site), unit="W")
        pictures[f"energy_{site.index}"] = draw.energy_steps(site)
        pictures[f"times_{site.index}"] = draw.over_time(site, LATENCY_LINES, unit="ms")
    return pictures


def _site_pictures(site: SiteView, pictures: Mapping[str, Any]) -> dict[str, Any]:
    def name(kind: str) -> str | None:
        found = f"{kind}_{site.index}"
        return found if pictures.get(found) is not None else None

    return {
        "id": site.id,
        "power": name("power"),
        "power_kind": _whole(site, "series/power_w") if name("power") else None,
        "lines": _keys(site, draw.meters_of(site)),
        "energy": name("energy"),
        "energy_kind": _whole(site, "energy") if name("energy") else None,
        "rows": tables.energy(site),
        "latency": name("latency"),
        "chat": name("chat"),
        "times": name("times"),
        "times_lines": _keys(site, LATENCY_LINES),
    }


def _whole(site: SiteView, below: str) -> Figure:
    return site.reader.texts(f"{site.pointer}/{below}", "")


def _keys(site: SiteView, lines: Mapping[str, tuple[str, str]]) -> list[dict[str, str]]:
    """The key under a picture over time: each line's name, tone, and whether it is solid or broken."""
    keys: list[dict[str, str]] = []
    for path, (label, tone) in lines.items():
        found = _whole(site, f"series/{path}")
        keys.append({"label": f"{label} [{found.letter}]", "tone": tone, "border": BORDER[found.kind]})
    return keys


def _when(reader: PilotReader) -> str:
    started, ended = (moment(reader.at(f"/run/{end}") or "") for end in ("started", "ended"))
    if started is None or ended is None:
        return "date unknown"
    return f"{date_and_time(started.timestamp())}, {seconds((ended - started).total_seconds())}"


def _events(reader: PilotReader) -> list[dict[str, str]]:
    """The run's events, oldest first, wherever the document keeps them."""
    found = [(str(e.get("site", "")), e) for _, e in reader.items("/events")]
    for site in reader.sites:
        found += [(site.id, e) for _, e in reader.items(f"{site.pointer}/events")]
    listed = [
        {
            "at": clock(e.get("at_s", e.get("at", ""))),
            "site": site,
            "text": str(e.get("text", e.get("kind", ""))),
            "level": str(e.get("level", "info")) if e.get("level", "info") in {"info", "warning", "error"} else "info",
        }
        for site, e in sorted(found, key=lambda pair: str(pair[1].get("at_s", pair[1].get("at", ""))))
    ]
    return listed[-EVENTS_SHOWN:]
