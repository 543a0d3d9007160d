"""A plan's pictures, but for the map and the money: power, latency, memory, fleet; None where there is nothing to draw."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, isnan, log, log10, nan
from typing import Any

from bokeh.core.properties import value as constant
from bokeh.models import ColumnDataSource, FixedTicker, LabelSet, NumeralTickFormatter, Range1d, Span

from nearhall.core.evidence import Kind
from nearhall.report.figures import bare, bars, hover, rows_figure, toned
from nearhall.report.look import LIGHT
from nearhall.report.result_reader import ResultReader

LABEL_CHARS_MAX = 54
"""What a phone shows of a row's words in one line."""
STAGE_TONES: dict[str, str] = {
    "IT": "local",
    "UPS loss": "ups",
    "distribution": "other",
    "fans": "cooling",
    "compressor": "cooling",
    "other": "other",
    "feed": "ink",
}
MEMORY_PARTS: dict[str, tuple[str, str]] = {
    "weights": ("local", "blank"),
    "kv": ("hub", "right_diagonal_line"),
    "activations": ("raw", "dot"),
    "runtime": ("other", "cross"),
}
"""Tone and pattern of each part of a model's memory."""
CURVES: tuple[tuple[str, str, str], ...] = (
    ("local", "solid", "circle"),
    ("hub", "dashed", "square"),
    ("raw", "dotdash", "triangle"),
    ("cooling", "dotted", "diamond"),
    ("refused", "dashdot", "inverted_triangle"),
)
"""Tone, dash and marker of the curves of one picture, told apart without colour."""
LOG_FROM = 30.0
"""A longest time so many times the shortest needs a logarithmic axis."""
LITTLE = 0.01
HOURS = list(range(25))


def letter(reader: ResultReader, pointer: str) -> str:
    """The evidence of what a picture draws, for its axis; nothing where it is assumed, as all is that the page does not mark."""
    return "" if reader.evidence.find(pointer)[0] is Kind.ASSUMED else reader.letter(pointer)


def power_steps(reader: ResultReader, site: str) -> Any:
    """From the servers up to the feed: each bar the median of one stage, its whisker up to P99; the last three are wholes."""
    stages = _stages(reader, site)
    if not stages:
        return None
    made = rows_figure(
        [stage.name for stage in stages], x_label=f"W, or VA where it says so{letter(reader, f'{site}/waterfall')}"
    )
    for stage in stages:
        ends = {"left": [stage.start], "right": [stage.start + stage.median], "high": [stage.start + stage.p99]}
        source = ColumnDataSource({"row": [stage.name], "median": [stage.median], "p99": [stage.p99], **ends})
        drawn = bars(made, source, "row", "left", "right", tone=stage.tone, hatch=stage.hatch)
        toned(made.segment("right", "row", "high", "row", source=source, line_width=2).glyph, line="ink")
        toned(made.scatter("high", "row", source=source, marker="dash", angle=1.5708, size=12, line_width=2).glyph, line="ink")
        hover(made, [drawn], [("", "@row"), ("P50", "@median{0,0}"), ("P99", "@p99{0,0}")])
    made.x_range.start = 0
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """One bar of the power steps; `start` is where the one above ended."""

    name: str
    start: float
    median: float
    p99: float
    """NaN where it is not known."""
    tone: str
    hatch: str = "blank"


def _stages(reader: ResultReader, site: str) -> list[_Stage]:
    stages: list[_Stage] = []
    edge = 0.0
    for pointer, stage in reader.items(f"{site}/waterfall"):
        name, median = str(stage.get("stage", "?")), reader.middle(f"{pointer}/w")
        p99 = reader.number(f"{pointer}/w/p99")
        if median is None or name in {stage.name for stage in stages} or (median == 0 and not p99):
            continue
        start = 0.0 if name == "feed" else edge
        tone = STAGE_TONES.get(name, "other")
        stages.append(_Stage(name=name, start=start, median=median, p99=nan if p99 is None else p99, tone=tone))
        edge = start + median
    for name, pointer, tone, hatch in (
        ("feed, VA", f"{site}/va", "ink", "right_diagonal_line"),
        ("nameplates, VA", f"{site}/nameplate_va", "other", "cross"),
    ):
        median, p99 = reader.middle(pointer), reader.number(f"{pointer}/p99")
        if median is not None:
            stages.append(_Stage(name=name, start=0.0, median=median, p99=nan if p99 is None else p99, tone=tone, hatch=hatch))
    return stages


def latency_curves(reader: ResultReader, entries: list[str], *, limit_ms: float | None) -> Any:
    """What share of answers comes within a time: own site against hub, the limit as a line. `entries`: pointers of one site's."""
    curves = [(pointer, *_cdf(reader, pointer)) for pointer in entries]
    curves = [curve for curve in curves if curve[1]]
    if not curves:
        return None
    shown = [t for _, times, shares in curves for t, s in zip(times, shares, strict=True) if s >= 0.002]
    ends = [reader.number(f"{pointer}/p99_ms/deciding") or 0.0 for pointer, _, _ in curves]
    top = max([*(_time_at(times, shares, 0.999) for _, times, shares in curves), *ends, 1.15 * (limit_ms or 0.0)])
    low = max(min(shown, default=top), top / 1e4)
    apart = top / low > LOG_FROM
    made = bare(
        230,
        x_axis_label="ms until the answer" + (" (logarithmic)" if apart else ""),
        y_axis_label="% of answers",
        x_axis_type="log" if apart else "linear",
        x_range=(low / 1.2 if apart else 0.0, top * 1.08),
        y_range=(0, 104),
    )
    if apart:
        made.xaxis.formatter = NumeralTickFormatter(format="0,0[.]0")
        made.xaxis.ticker = FixedTicker(ticks=_decades(low, top))
    for pointer, times, shares in curves:
        _curve(made, reader, pointer, times, shares)
    if limit_ms is not None:
        made.add_layout(toned(Span(location=limit_ms, dimension="height", line_width=2), line="refused"))
    return made


def _decades(low: float, top: float) -> list[float]:
    """Round times between the two, few enough to stand side by side on a phone."""
    steps = (1, 2, 5) if top / low < 100 else (1,)
    return [k * 10.0**power for power in range(floor(log10(low)), ceil(log10(top)) + 1) for k in steps]


def _cdf(reader: ResultReader, pointer: str) -> tuple[list[float], list[float]]:
    times, shares = (reader.series(f"{pointer}/cdf/{name}") for name in ("ms", "share"))
    pairs = [(t, s) for t, s in zip(times, shares, strict=False) if not isnan(t) and not isnan(s) and t > 0]
    return [t for t, _ in pairs], [s for _, s in pairs]


def _time_at(times: list[float], shares: list[float], share: float) -> float:
    """The first time by which that share has come; the last there is when it never has."""
    return next((t for t, s in zip(times, shares, strict=True) if s >= share), times[-1])


def _curve(made: Any, reader: ResultReader, pointer: str, times: list[float], shares: list[float]) -> None:
    hub = reader.at(f"{pointer}/is_hub") is True
    tone, dash, marker = CURVES[1] if hub else CURVES[0]
    source = ColumnDataSource({"t": times, "s": [100 * s for s in shares]})
    drawn = made.line("t", "s", source=source, line_width=2.5, line_dash=dash)
    toned(drawn.glyph, line=tone)
    # The slowest of a hundred is what the limit is about, so that point is marked.
    at = _time_at(times, shares, 0.99)
    toned(made.scatter([at], [99], marker=marker, size=10, line_color=None).glyph, fill=tone)
    deciding = reader.number(f"{pointer}/p99_ms/deciding")
    if deciding is not None and deciding > at:
        toned(made.segment([at], [99], [deciding], [99], line_width=2).glyph, line=tone)
        toned(made.scatter([deciding], [99], marker="dash", angle=1.5708, size=14, line_width=2.5).glyph, line=tone)
    hover(made, [drawn], [("", reader.text(f"{pointer}/at")), ("within", "@t{0.0} ms"), ("answers", "@s{0.0} %")], mode="vline")


def worded_rows(labels: list[str], *, x_label: str, row_px: int = 46, **settings: Any) -> Any:
    """A figure with a row for each label, the first on top; its words stand above its bar, so that a phone shows them too."""
    n = len(labels)
    made = bare(n * row_px + 62, y_range=Range1d(start=-0.5, end=n - 0.5), x_axis_label=x_label, **settings)
    made.yaxis.visible = False
    made.ygrid.grid_line_color = None
    made.ygrid.tags = ["bare"]
    data = {"x": [2] * n, "y": [n - 1 - i + 0.16 for i in range(n)], "text": [_short(label) for label in labels]}
    words = LabelSet(x="x", y="y", text="text", x_units="screen", text_font_size="12px", source=ColumnDataSource(data))
    words.text_font = constant("sans-serif")
    words.update(background_fill_alpha=0.85, background_fill_color=LIGHT["card"], tags=["tone:background:card"])
    made.add_layout(toned(words, text="ink"))
    return made


def _short(label: str) -> str:
    """As much of a label as a phone shows; up to its last comma where that is enough to know it by."""
    if len(label) <= LABEL_CHARS_MAX:
        return label
    head = label[:LABEL_CHARS_MAX].rpartition(",")[0]
    return head if len(head) >= LABEL_CHARS_MAX // 2 else f"{label[: LABEL_CHARS_MAX - 1].rstrip()}…"


def row_heights(n: int) -> list[float]:
    """Where the bars of `worded_rows` stand, the first on top."""
    return [n - 1 - i - 0.18 for i in range(n)]


def memory_bars(reader: ResultReader) -> Any:
    """What each model takes of its server's usable memory: the parts' medians stacked, P95 as a dash, the memory as a line."""
    found = [(p, m) for p, m in reader.items("/memory") if (reader.number(f"{p}/usable_gib") or 0) > 0]
    if not found:
        return None
    labels = [f"{m.get('workload', '?')} on {m.get('hardware', '?')}{letter(reader, pointer)}" for pointer, m in found]
    made = worded_rows(labels, x_label="% of the memory that the server can use")
    ys = row_heights(len(found))
    ends = [105.0]
    for y, (pointer, _) in zip(ys, found, strict=True):
        usable, edge = reader.number(f"{pointer}/usable_gib") or 1.0, 0.0
        for part, (tone, hatch) in MEMORY_PARTS.items():
            gib = reader.number(f"{pointer}/parts_gib/{part}") or 0.0
            share = 100 * gib / usable
            data = {"y": [y], "left": [edge], "right": [edge + share], "part": [part], "gib": [gib]}
            drawn = bars(made, ColumnDataSource(data), "y", "left", "right", tone=tone, hatch=hatch, height=0.36)
            hover(made, [drawn], [("", "@part"), ("median", "@gib{0.00} GiB")])
            edge += share
        p95 = reader.number(f"{pointer}/p95_gib")
        if p95 is not None:
            dash = made.scatter([100 * p95 / usable], [y], marker="dash", angle=1.5708, size=22, line_width=3)
            toned(dash.glyph, line="ink")
            edge = max(edge, 100 * p95 / usable)
        ends.append(edge * 1.05)
    made.x_range = Range1d(start=0, end=max(ends))
    made.add_layout(toned(Span(location=100, dimension="height", line_width=2.5), line="refused"))
    return made


def coincidence(reader: ResultReader) -> Any:
    """How much of the sum of all sites' own peaks comes at once, against their number; a curve for each correlation."""
    found: dict[float, list[tuple[float, float, float, float]]] = {}
    for pointer, _ in reader.items("/fleet/coincidence"):
        n, common, p50 = (reader.number(f"{pointer}/{name}") for name in ("n", "common", "p50"))
        if n is None or n < 1 or p50 is None:
            continue
        low, high = (reader.number(f"{pointer}/{name}") for name in ("p10", "p90"))
        row = (n, 100 * p50, 100 * (p50 if low is None else low), 100 * (p50 if high is None else high))
        found.setdefault(common or 0.0, []).append(row)
    if not found:
        return None
    made = bare(
        260,
        x_axis_label=f"sites (logarithmic){letter(reader, '/fleet/coincidence')}",
        y_axis_label="% of the sum of their peaks",
        x_axis_type="log",
    )
    numbers = sorted({row[0] for rows in found.values() for row in rows})
    made.xaxis.ticker = FixedTicker(ticks=apart_on_log_axis(numbers))
    made.xaxis.major_label_overrides = {int(n): f"{n:,.0f}" for n in numbers}
    for (common, rows), (tone, dash, marker) in zip(sorted(found.items()), CURVES * 4, strict=False):
        n, p50, low, high = (list(column) for column in zip(*sorted(rows), strict=True))
        source = ColumnDataSource({"n": n, "p50": p50, "low": low, "high": high})
        band = made.varea("n", "low", "high", source=source, fill_alpha=0.12)
        toned(band.glyph, fill=tone)
        toned(made.line("n", "p50", source=source, line_width=2, line_dash=dash).glyph, line=tone)
        dots = made.scatter("n", "p50", source=source, marker=marker, size=8, line_color=None)
        toned(dots.glyph, fill=tone)
        tips = [
            ("common part", f"{common:g}"),
            ("sites", "@n{0,0}"),
            ("P50", "@p50{0} %"),
            ("P10 to P90", "@low{0} to @high{0} %"),
        ]
        hover(made, [dots], tips)
    lowest = min(row[2] for rows in found.values() for row in rows)
    made.y_range = Range1d(start=max(0, 10 * floor(lowest / 10 - 1)), end=102)
    return made


def apart_on_log_axis(numbers: list[float]) -> list[float]:
    """Those of the numbers whose labels do not meet, the last one first."""
    room = 0.12 * log(numbers[-1] / numbers[0])
    kept: list[float] = []
    for number in reversed(numbers):
        if not kept or log(kept[-1] / number) >= room:
            kept.append(number)
    return kept[::-1]


def common_parts(reader: ResultReader) -> list[tuple[str, str, str]]:
    """The key under `coincidence`: words, tone and dash of each curve."""
    parts = sorted({reader.number(f"{p}/common") or 0.0 for p, _ in reader.items("/fleet/coincidence")})
    return [(_alike(common), tone, dash) for common, (tone, dash, _) in zip(parts, CURVES * 4, strict=False)]


def _alike(common: float) -> str:
    if common <= 0:
        return "every site for itself (0 % in common)"
    return f"{100 * common:.0f} % in common"


def restart(reader: ResultReader) -> Any:
    """Power of the fleet after an outage, all at once and spread in time, against the normal peak."""
    minutes = reader.series("/fleet/restart/minutes")
    made = bare(240, x_axis_label=f"minutes after power is back{letter(reader, '/fleet/restart')}", y_axis_label="kW")
    drawn: list[Any] = []
    for name, (tone, dash, _), label in zip(("kw", "kw_spread"), CURVES, ("all at once", "spread"), strict=False):
        values = reader.series(f"/fleet/restart/{name}")
        if not minutes or len(values) != len(minutes):
            continue
        source = ColumnDataSource({"t": minutes, "kw": values})
        curve = made.line("t", "kw", source=source, line_width=2.5, line_dash=dash)
        toned(curve.glyph, line=tone)
        hover(made, [curve], [("", label), ("minute", "@t{0}"), ("power", "@kw{0.0} kW")], mode="vline")
        drawn.append(curve)
    if not drawn:
        return None
    normal = reader.number("/fleet/restart/normal_peak_kw")
    if normal is not None:
        made.add_layout(toned(Span(location=normal, dimension="width", line_width=2, line_dash="dotted"), line="ink"))
    made.y_range.start = 0
    return made


def feeder_day(reader: ResultReader, feeder: str) -> Any:
    """A feeder's day: what is on it already, the fleet on top, with and without batteries, and what it can carry."""
    fleet = _day(reader, f"{feeder}/fleet_kva")
    if not fleet:
        return None
    existing = _day(reader, f"{feeder}/existing_kva") or [0.0] * 25
    shaved = _day(reader, f"{feeder}/shaved_kva")
    made = bare(240, x_axis_label=f"hour of the day{letter(reader, feeder)}", y_axis_label="kVA", x_range=(0, 24))
    made.xaxis.ticker = FixedTicker(ticks=[0, 6, 12, 18, 24])
    columns = {"h": HOURS, "low": existing, "high": [a + b for a, b in zip(existing, fleet, strict=True)], "fleet": fleet}
    columns["shaved"] = [a + b for a, b in zip(existing, shaved, strict=True)] if shaved else [nan] * 25
    source = ColumnDataSource(columns)
    before = made.varea_step("h", 0, "low", source=source, step_mode="after", hatch_pattern="right_diagonal_line", hatch_scale=8)
    before.glyph.update(hatch_alpha=0.75, hatch_weight=1.4)
    toned(before.glyph, fill="other")
    toned(made.varea_step("h", "low", "high", source=source, step_mode="after", fill_alpha=0.85).glyph, fill="local")
    top = made.step("h", "high", source=source, mode="after", line_width=1.5)
    toned(top.glyph, line="ink")
    if shaved:
        toned(made.step("h", "shaved", source=source, mode="after", line_width=3, line_dash="dashed").glyph, line="hub")
    limit = feeder_limit_kva(reader, feeder)
    if limit is not None:
        made.add_layout(toned(Span(location=limit, dimension="width", line_width=2.5), line="refused"))
    made.y_range = Range1d(start=0, end=1.12 * max([*columns["high"], limit or 0.0]) or 1.0)
    tips = [("hour", "@h"), ("there already", "@low{0} kVA"), ("with the fleet", "@high{0} kVA")]
    hover(made, [top], [*tips, *([("with batteries", "@shaved{0} kVA")] if shaved else [])], mode="vline")
    return made


def _day(reader: ResultReader, pointer: str) -> list[float]:
    """24 hours and the first again, so that the last hour is drawn too; nothing when one is missing."""
    hours = reader.series(pointer)
    return [*hours, hours[-1]] if len(hours) == 24 and not any(isnan(h) for h in hours) else []


def is_little(reader: ResultReader, feeder: str) -> bool:
    """Whether the fleet is less than a hundredth of what a feeder carries: nobody would see it."""
    fleet, limit = _day(reader, f"{feeder}/fleet_kva"), feeder_limit_kva(reader, feeder)
    return bool(fleet) and limit is not None and max(fleet) < LITTLE * limit


def feeder_limit_kva(reader: ResultReader, feeder: str) -> float | None:
    """What a feeder carries: what is said, else the headroom above the most that is on it already."""
    said = reader.number(f"{feeder}/limit_kva")
    headroom = reader.number(f"{feeder}/headroom_kva")
    if said is not None or headroom is None:
        return said
    return headroom + max([0.0, *(h for h in reader.series(f"{feeder}/existing_kva") if not isnan(h))])
