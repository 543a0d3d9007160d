"""The pictures of a pilot's report: from the document to a Bokeh figure, or None when it holds nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, Range1d

from nearhall.core.evidence import Kind
from nearhall.report.evidence_marks import MARKS
from nearhall.report.figures import PART_HATCH, bare, bars, hover, line, nought, rows_figure, toned
from nearhall.report.formats import plain
from nearhall.report.reader import PilotReader, SiteView, WorkloadView, elements

PLACES = ("local", "hub")
METER_TONES: dict[str, str] = {
    "feed": "ink",
    "pdu": "other",
    "ups_in": "ups",
    "ups_out": "hub",
    "it": "local",
    "cooling": "cooling",
    "other": "other",
}


def row_of(workload: WorkloadView, place: str, below: str) -> str:
    """A row's name; the letter is the evidence of its figures."""
    kind, _ = workload.reader.evidence.find(f"{workload.pointer}/{below}")
    return f"{workload.id} · {place} [{MARKS[kind].letter}]"


def latency_parts(workloads: Sequence[WorkloadView]) -> Any:
    """Median service, queue and network time, stacked, local against hub.

    A bar stands at the median of the whole, a dot at p95, a ring at p99.
    """
    rows: list[str] = []
    by_place: dict[str, dict[str, list[Any]]] = {place: _empty_parts() for place in PLACES}
    for workload in workloads:
        for place in PLACES:
            found = {
                q: workload.number(f"latency_ms/{place}/{q}") for q in ("p50", "p95", "p99", *(f"{p}_p50" for p in PART_HATCH))
            }
            if found["p50"] is None:
                continue
            row = row_of(workload, place, f"latency_ms/{place}")
            rows.append(row)
            _add_row(by_place[place], row, found)
    if not rows:
        return None
    made = rows_figure(rows, x_label="ms")
    for place in PLACES:
        _draw_parts(made, ColumnDataSource(by_place[place]), tone=place)
    made.x_range.start = 0
    return made


def _empty_parts() -> dict[str, list[Any]]:
    columns = ["row", "p50", "p95", "p99"]
    for part in PART_HATCH:
        columns += [part, f"{part}_left", f"{part}_right"]
    return {column: [] for column in columns}


def _add_row(columns: dict[str, list[Any]], row: str, found: Mapping[str, float | None]) -> None:
    columns["row"].append(row)
    for quantile in ("p50", "p95", "p99"):
        # A null would be drawn at zero.
        columns[quantile].append(float("nan") if found[quantile] is None else found[quantile])
    edge = 0.0
    for part in PART_HATCH:
        width = found[f"{part}_p50"] or 0.0
        columns[part].append(found[f"{part}_p50"])
        columns[f"{part}_left"].append(edge)
        edge += width
        columns[f"{part}_right"].append(edge)


def _draw_parts(made: Any, source: ColumnDataSource, *, tone: str) -> None:
    drawn = [
        bars(made, source, "row", f"{part}_left", f"{part}_right", tone=tone, hatch=hatch) for part, hatch in PART_HATCH.items()
    ]
    whole = made.scatter("p50", "row", source=source, marker="dash", angle=1.5708, size=20, line_width=3)
    high = made.scatter("p95", "row", source=source, marker="circle", size=7, line_color=None)
    highest = made.scatter("p99", "row", source=source, marker="circle", size=8, fill_alpha=0, line_width=1.8)
    toned(whole.glyph, line="ink")
    toned(high.glyph, fill="ink")
    toned(highest.glyph, line="ink")
    quantiles = [(q, f"@{q}{{0.00}} ms") for q in ("p50", "p95", "p99")]
    hover(made, [*drawn, whole, high, highest], [("", "@row"), *quantiles, *((p, f"@{p}{{0.00}} ms") for p in PART_HATCH)])


def gains(workloads: Sequence[WorkloadView]) -> Any:
    """How much sooner the local answer came, paired, with its 95 % interval; right of the line local is faster."""
    data: dict[str, list[Any]] = {"row": [], "value": [], "low": [], "high": []}
    for workload in workloads:
        found = {key: workload.number(f"latency_ms/gain_p50/{key}") for key in ("value", "low", "high")}
        if found["value"] is None:
            continue
        kind, _ = workload.reader.evidence.find(f"{workload.pointer}/latency_ms/gain_p50")
        data["row"].append(f"{workload.label} [{MARKS[kind].letter}]")
        for key, value in found.items():
            data[key].append(found["value"] if value is None else value)
    if not data["row"]:
        return None
    made = rows_figure(data["row"], x_label="ms sooner than the hub", row_px=26)
    source = ColumnDataSource(data)
    whisker = made.segment("low", "row", "high", "row", source=source, line_width=3)
    dot = made.scatter("value", "row", source=source, size=10, line_color=None)
    toned(whisker.glyph, line="local")
    toned(dot.glyph, fill="local")
    nought(made)
    edge = max(1.0, *(abs(v) for v in (*data["low"], *data["high"])))
    made.x_range = Range1d(min(-0.12 * edge, 1.15 * min(data["low"])), max(0.12 * edge, 1.15 * max(data["high"])))
    hover(made, [whisker, dot], [("", "@row"), ("median", "@value{0.00} ms"), ("95 % interval", "@low{0.00} to @high{0.00} ms")])
    return made


def requests_by_place(reader: PilotReader) -> Any:
    """Share of each workload's requests answered here, answered by the hub, and refused."""
    data: dict[str, list[Any]] = {name: [] for name in ("row", "local", "hub", "refused", "l", "h", "r")}
    for workload in reader.workloads:
        local, hub = (workload.number(f"requests/{place}") for place in PLACES)
        refused = sum(reader.counts(f"{workload.pointer}/requests/rejected").values())
        total = (local or 0) + (hub or 0) + refused
        if not total:
            continue
        data["row"].append(workload.label)
        for name, value in (("local", local or 0), ("hub", hub or 0), ("refused", refused)):
            data[name].append(value)
        data["l"].append((local or 0) / total * 100)
        data["h"].append(((local or 0) + (hub or 0)) / total * 100)
        data["r"].append(100)
    if not data["row"]:
        return None
    source = ColumnDataSource(data)
    made = rows_figure(data["row"], x_label="% of requests", x_range=(0, 100))
    drawn = [
        bars(made, source, "row", 0, "l", tone="local"),
        bars(made, source, "row", "l", "h", tone="hub", hatch="right_diagonal_line"),
        bars(made, source, "row", "h", "r", tone="refused", hatch="cross"),
    ]
    hover(made, drawn, [("", "@row"), ("local", "@local{0,0}"), ("hub", "@hub{0,0}"), ("refused", "@refused{0,0}")])
    return made


def bytes_by_workload(reader: PilotReader) -> Any:
    """What a central design would have sent, and what went over the link."""
    data: dict[str, list[Any]] = {"row": [], "raw": [], "sent": []}
    for workload in reader.workloads:
        raw, sent = (workload.number(f"upstream_bytes/{name}") for name in ("raw", "sent"))
        if raw is None and sent is None:
            continue
        data["row"].append(workload.label)
        data["raw"].append(float("nan") if raw is None else raw / 1e6)
        data["sent"].append(float("nan") if sent is None else sent / 1e6)
    if not data["row"]:
        return None
    source = ColumnDataSource(data)
    made = rows_figure(data["row"], x_label="MB", row_px=30)
    raw_bars = bars(made, source, "row", 0, "raw", tone="raw", hatch="right_diagonal_line", height=0.72)
    sent_bars = bars(made, source, "row", 0, "sent", tone="local", height=0.36)
    made.x_range.start = 0
    hover(made, [raw_bars, sent_bars], [("", "@row"), ("raw", "@raw{0.000} MB"), ("sent", "@sent{0.000} MB")])
    return made


def energy_steps(site: SiteView) -> Any:
    """From the feed down to the servers: each bar is one meter's energy; cooling and other hang beside the UPS, from the feed."""
    values = {
        name: site.reader.number(f"{site.pointer}/energy/{name}_kwh")
        for name in ("facility", "ups_in", "ups_out", "it", "cooling", "other")
    }
    if values["facility"] is None:
        return None
    beside = values["ups_in"] if values["ups_in"] is not None else values["it"] or 0.0
    after = beside + (values["cooling"] or 0.0)
    starts = {"cooling": beside, "other": after}
    names = {"facility": "feed", "cooling": "cooling", "other": "other", "ups_in": "UPS in", "ups_out": "UPS out", "it": "IT"}
    tones = {"facility": "ink", "cooling": "cooling", "other": "other", "ups_in": "ups", "ups_out": "hub", "it": "local"}
    rows = [name for name in names if values[name] is not None]
    made = rows_figure([names[name] for name in rows], x_label="Wh")
    drawn: list[Any] = []
    for name in rows:
        start, width = starts.get(name, 0.0) * 1000, (values[name] or 0.0) * 1000
        source = ColumnDataSource({"row": [names[name]], "left": [start], "right": [start + width], "wh": [width]})
        hatch = "right_diagonal_line" if name in starts else "blank"
        drawn.append(bars(made, source, "row", "left", "right", tone=tones[name], hatch=hatch))
    made.x_range.start = 0
    hover(made, drawn, [("", "@row"), ("energy", "@wh{0.000} Wh")])
    return made


def over_time(site: SiteView, names: Mapping[str, tuple[str, str]], *, unit: str, height: int = 210) -> Any:
    """Lines over the run from the site's `series`; `names` maps a path below it to (label, tone)."""
    reader = site.reader
    times = elements(reader.at(f"{site.pointer}/series/t_s"))
    if not times:
        return None
    data: dict[str, list[Any]] = {"t": times}
    made = bare(height, x_axis_label="s since the start", y_axis_label=unit)
    drawn: list[tuple[str, str, str, Kind]] = []
    for path, (label, tone) in names.items():
        values = elements(reader.at(f"{site.pointer}/series/{path}"))
        if len(values) == len(times) and any(v is not None for v in values):
            data[label] = [float("nan") if v is None else v for v in values]
            drawn.append((label, label, tone, reader.evidence.find(f"{site.pointer}/series/{path}")[0]))
    if not drawn:
        return None
    source = ColumnDataSource(data)
    lines = [line(made, source, "t", column, tone=tone, kind=kind) for _, column, tone, kind in drawn]
    made.y_range.start = 0
    tips = [(label, f"@{{{column}}}{{0.0}} {unit}") for label, column, _, _ in drawn]
    hover(made, lines[:1], [("at", "@t{0} s"), *tips], mode="vline")
    return made


def meters_of(site: SiteView) -> dict[str, tuple[str, str]]:
    """The site's meters as lines of `over_time`: path in `series` to (label, tone)."""
    return {
        f"power_w/{meter.get('id')}": (plain(str(meter.get("id"))), METER_TONES.get(str(meter.get("position")), "other"))
        for _, meter in site.reader.items(f"{site.pointer}/meters")
    }
