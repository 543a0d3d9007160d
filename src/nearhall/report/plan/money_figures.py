"""The pictures of a plan's money: how the return may come out, what moves it, and cash over the years."""

from __future__ import annotations

from itertools import pairwise
from math import isnan
from typing import Any

from bokeh.models import ColumnDataSource, FixedTicker, NumeralTickFormatter, Range1d, Span

from nearhall.report.evidence_marks import MARKS
from nearhall.report.figures import bare, bars, hover, nought, text, toned
from nearhall.report.plan.figures import letter, row_heights, worded_rows
from nearhall.report.plan.tables import led
from nearhall.report.result_reader import ResultReader, bar_words

BARS_MAX = 8
"""More inputs than these move the return too little to be seen."""
TAIL = 0.005
"""Of the cases at each end that may lie outside the picture."""
MONEY_TICKS = "$0[.]0a"
"""$250k, $1.5m."""


def npv_histogram(reader: ResultReader) -> Any:
    """How often the return comes out where: what pays is solid, what loses is striped; lines at P10, P50 and P90."""
    base = led(reader)
    edges = reader.series(f"{base}/npv_histogram/edges")
    shares = reader.series(f"{base}/npv_histogram/share")
    if len(shares) < 2 or len(edges) != len(shares) + 1 or any(isnan(v) for v in (*edges, *shares)):
        return None
    made = bare(
        250,
        x_axis_label=f"return over the plan's years, in today's dollars{letter(reader, f'{base}/npv_histogram')}",
        y_axis_label="% of cases",
    )
    drawn: list[Any] = []
    for pays, tone, hatch in ((True, "local", "blank"), (False, "refused", "right_diagonal_line")):
        rows = _bars_on_one_side(edges, shares, pays=pays)
        quads = made.quad(
            left="left",
            right="right",
            bottom=0,
            top="share",
            source=ColumnDataSource(rows),
            line_width=0.6,
            hatch_pattern=hatch,
            hatch_alpha=0.75,
            hatch_scale=8,
        )
        drawn.append(toned(quads.glyph, fill=tone, line="card") and quads)
    top = 100 * max(shares)
    for name, dash, align, offset, level in (
        ("p10", "dashed", "right", -4, 1.06),
        ("p50", "solid", "center", 0, 1.22),
        ("p90", "dashed", "left", 4, 1.06),
    ):
        value = reader.number(f"{base}/npv/{name}")
        if value is not None:
            ends = made.segment([value], [0], [value], [top * (level - 0.02)], line_width=2, line_dash=dash)
            toned(ends.glyph, line="ink")
            text(made, value, top * level, name.upper(), text_align=align, x_offset=offset)
    nought(made)
    made.y_range = Range1d(start=0, end=top * 1.36)
    start, end = _where_it_happens(edges, shares)
    made.x_range = Range1d(start=start, end=end)
    _in_dollars(made.xaxis)
    hover(made, drawn, [("from", "@left{$0,0}"), ("to", "@right{$0,0}"), ("cases", "@share{0.0} %")])
    return made


def _where_it_happens(edges: list[float], shares: list[float]) -> tuple[float, float]:
    """From where to where all but one case in a hundred lie, with zero and some room: one case far out would hide the others."""
    before, sums = 0.0, list[float]()
    for share in shares:
        before += share
        sums.append(before)
    low = next((left for left, upto in zip(edges, sums, strict=False) if upto > TAIL * before), edges[0])
    high = next((right for right, upto in zip(edges[1:], sums, strict=True) if upto >= (1 - TAIL) * before), edges[-1])
    room = 0.04 * (max(high, 0.0) - min(low, 0.0))
    return min(low, 0.0) - room, max(high, 0.0) + room


def mean_return(reader: ResultReader) -> float | None:
    """The mean of the return of all sites at once, from its histogram; its median where there is none."""
    edges, shares = (reader.series(f"/money/npv_histogram/{name}") for name in ("edges", "share"))
    if shares and len(edges) == len(shares) + 1 and not any(isnan(v) for v in (*edges, *shares)) and sum(shares) > 0:
        middles = [(left + right) / 2 for left, right in pairwise(edges)]
        return sum(m * share for m, share in zip(middles, shares, strict=True)) / sum(shares)
    return reader.number("/money/npv/p50")


def _bars_on_one_side(edges: list[float], shares: list[float], *, pays: bool) -> dict[str, list[float]]:
    """The bars above zero, or below; the one that zero falls into is cut there, in proportion."""
    rows: dict[str, list[float]] = {"left": [], "right": [], "share": []}
    for left, right, share in zip(edges, edges[1:], shares, strict=False):
        start, end = (max(left, 0.0), max(right, 0.0)) if pays else (min(left, 0.0), min(right, 0.0))
        if end > start:
            rows["left"].append(start)
            rows["right"].append(end)
            rows["share"].append(100 * share)
    return rows


def _in_dollars(axis: Any) -> None:
    axis.formatter = NumeralTickFormatter(format=MONEY_TICKS)
    axis.ticker.desired_num_ticks = 5


def tornado(reader: ResultReader) -> Any:
    """How far each input moves the return: solid towards what is better than the average, striped towards what is worse."""
    found = [
        (pointer, bar, low, high)
        for pointer, bar in reader.items("/money/tornado")
        for low, high in [(reader.number(f"{pointer}/low"), reader.number(f"{pointer}/high"))]
        if low is not None and high is not None
    ]
    if not found:
        return None
    found = sorted(found, key=lambda row: -abs(row[3] - row[2]))[:BARS_MAX]
    said = mean_return(reader)
    middle = said if said is not None else sum(low + high for _, _, low, high in found) / (2 * len(found))
    labels = [bar_words(bar) for _, bar, _, _ in found]
    made = worded_rows(labels, x_label=f"average return in today's dollars{letter(reader, '/money/tornado')}")
    ys = row_heights(len(found))
    for better, tone, hatch in ((False, "refused", "right_diagonal_line"), (True, "local", "blank")):
        ends = [max(low, high) if better else min(low, high) for _, _, low, high in found]
        which = ["high (P90)" if (high > low) is better else "low (P10)" for _, _, low, high in found]
        data: dict[str, list[Any]] = {"y": ys, "left": [min(e, middle) for e in ends], "right": [max(e, middle) for e in ends]}
        data |= {"end": ends, "input": labels, "which": which}
        drawn = bars(made, ColumnDataSource(data), "y", "left", "right", tone=tone, hatch=hatch, height=0.34)
        hover(made, [drawn], [("", "@input"), ("if it is", "@which"), ("average return", "@end{$0,0}")])
    toned(made.segment([middle], [-0.5], [middle], [len(found) - 0.5], line_width=1.5, line_dash="dotted").glyph, line="ink")
    extent = [v for _, _, low, high in found for v in (low, high)] + [middle]
    room = 0.06 * (max(extent) - min(extent) or abs(middle) or 1.0)
    made.x_range = Range1d(start=min(extent) - room, end=max(extent) + room)
    if min(extent) < 0 < max(extent):
        nought(made)
    _in_dollars(made.xaxis)
    return made


def cash_dash(reader: ResultReader) -> str:
    """How the line of `cash_by_year` is drawn: solid where it is measured."""
    return MARKS[reader.evidence.find(f"{led(reader)}/cash_by_year")[0]].line_dash


def cash_by_year(reader: ResultReader) -> Any:
    """Money in less money out up to each year: the middle case as a line, 8 of 10 cases within the band."""
    base = led(reader)
    columns = {name: reader.series(f"{base}/cash_by_year/{name}") for name in ("p10", "p50", "p90")}
    n = len(columns["p50"])
    years = reader.series(f"{base}/years") or [float(year) for year in range(n)]
    if n < 2 or len(years) != n or any(len(column) != n for column in columns.values()):
        return None
    made = bare(250, x_axis_label=f"years from now{letter(reader, f'{base}/cash_by_year')}", y_axis_label="dollars up to then")
    source = ColumnDataSource({"year": years, **columns})
    toned(made.varea("year", "p10", "p90", source=source, fill_alpha=0.25).glyph, fill="local")
    toned(made.line("year", "p50", source=source, line_width=2.5, line_dash=cash_dash(reader)).glyph, line="local")
    dots = made.scatter("year", "p50", source=source, size=8, line_color=None)
    toned(dots.glyph, fill="local")
    made.xaxis.ticker = FixedTicker(ticks=list(range(n)) if n <= 11 else list(range(0, n, 5)))
    made.add_layout(toned(Span(location=0, dimension="width", line_width=1.5), line="soft"))
    _in_dollars(made.yaxis)
    tips = [("end of year", "@year"), ("P50", "@p50{$0,0}"), ("P10 to P90", "@p10{$0,0} to @p90{$0,0}")]
    hover(made, [dots], tips, mode="vline")
    return made
