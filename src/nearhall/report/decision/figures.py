"""The pictures of a decision: belief before and after, the conditions, and what a measurement is worth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bokeh.models import ColumnDataSource, FixedTicker, LabelSet, NumeralTickFormatter, Range1d, Span

from nearhall.report.decision.tables import WORTH_LEAST_USD, kind_named_in
from nearhall.report.figures import bars, hover, toned
from nearhall.report.look import LIGHT
from nearhall.report.plan.figures import row_heights, worded_rows
from nearhall.report.plan.money_figures import MONEY_TICKS
from nearhall.report.reader import elements
from nearhall.report.result_reader import ResultReader

SPREADS: tuple[tuple[str, str, str, float], ...] = (
    ("prior", "other", "right_diagonal_line", 0.17),
    ("posterior", "local", "blank", 0.0),
    ("new_site", "hub", "dot", -0.17),
)
"""Name, tone, pattern and place within the row, from top to bottom."""
HILLS: tuple[tuple[str, str, int], ...] = (("prior", "other", 1), ("new_site", "hub", -1))
"""Name, tone and side of the curves: before above the bars, the next site below them."""
HILL_FOOT, HILL_HEIGHT = 0.245, 0.09
ROW_PX = 122
LABEL_UP = 0.09
"""Of a row: its words stand so much above the highest curve, and below the lowest of the row before."""
LOG_FROM = 6.0
"""A spread so many times wide needs a logarithmic axis."""
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
LEAST, MOST = 1.0, 10_000.0
"""Percent of the old middle: what lies beyond is drawn at the edge."""
STEPS_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One quantity in percent of what was believed to be its middle."""

    label: str
    spreads: tuple[tuple[float, float, float] | None, ...]
    """As in SPREADS: P10, P50, P90."""
    data: float | None
    curve_at: tuple[float, ...] = ()
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    """Probability for each percent, by name in HILLS."""


def beliefs(reader: ResultReader, site_class: str) -> Any:
    """Each quantity before and after, and of a site that nobody measured; the diamond is what the pilots measured."""
    rows = [
        row
        for pointer, item in reader.items("/quantities")
        if kind_named_in(item) == site_class and (row := _row(reader, pointer))
    ]
    if not rows:
        return None
    values = [v for row in rows for spread in row.spreads if spread for v in spread] + [row.data for row in rows if row.data]
    low, high = max(min(values), LEAST), min(max(values), MOST)
    apart = high / low > LOG_FROM
    made = worded_rows(
        [row.label for row in rows],
        x_label="% of what the plan took as the middle" + (" (logarithmic)" if apart else ""),
        row_px=ROW_PX,
        x_axis_type="log" if apart else "linear",
    )
    clear_of_lines(made, up=LABEL_UP)
    for y, row in zip(row_heights(len(rows)), rows, strict=True):
        _hills(made, row, y, apart=apart)
    for index in range(len(SPREADS)):
        _spreads(made, rows, index)
    _data(made, rows)
    made.add_layout(toned(Span(location=100, dimension="height", line_width=1.5, line_dash="dotted"), line="ink"))
    room = (high / low) ** 0.05
    made.x_range = Range1d(start=low / room, end=high * room) if apart else Range1d(start=0, end=high * 1.06)
    if apart:
        made.xaxis.ticker = FixedTicker(ticks=list(TICKS))
        made.xaxis.formatter = NumeralTickFormatter(format="0,0")
    return made


def _row(reader: ResultReader, pointer: str) -> _Row | None:
    middle = reader.number(f"{pointer}/prior/p50")
    if middle is None or middle <= 0:
        return None
    spreads: list[tuple[float, float, float] | None] = []
    for name, *_ in SPREADS:
        ends = [reader.number(f"{pointer}/{name}/{quantile}") for quantile in ("p10", "p50", "p90")]
        known = [100 * v / middle for v in ends if v is not None and v > 0]
        spreads.append((known[0], known[1], known[2]) if len(known) == len(ends) else None)
    data = reader.number(f"{pointer}/data/value")
    words = reader.text(f"{pointer}/words") or reader.text(f"{pointer}/name") or "?"
    return _Row(
        label=f"{words}{reader.letter(f'{pointer}/posterior')}",
        spreads=tuple(spreads),
        data=100 * data / middle if data is not None and data > 0 else None,
        curve_at=tuple(100 * x / middle for x in _numbers(reader, f"{pointer}/density/x")),
        curves={name: _numbers(reader, f"{pointer}/density/{name}") for name, *_ in HILLS},
    )


def _numbers(reader: ResultReader, pointer: str) -> tuple[float, ...]:
    values = [reader.number(f"{pointer}/{index}") for index in range(len(elements(reader.at(pointer))))]
    return tuple(value for value in values if value is not None)


def _hills(made: Any, row: _Row, y: float, *, apart: bool) -> None:
    """How probable each value is, the higher of both curves as high as the row allows; on a logarithmic axis by its steps."""
    shown = {
        name: [p * (x if apart else 1.0) for x, p in zip(row.curve_at, row.curves.get(name, ()), strict=False)]
        for name, *_ in HILLS
    }
    top = max((value for values in shown.values() for value in values), default=0.0)
    for name, tone, side in HILLS:
        if top <= 0 or len(shown[name]) != len(row.curve_at):
            continue
        points = [(x, value) for x, value in zip(row.curve_at, shown[name], strict=True) if x > 0]
        foot = y + side * HILL_FOOT
        source = ColumnDataSource(
            {
                "x": [x for x, _ in points],
                "foot": [foot] * len(points),
                "y": [foot + side * HILL_HEIGHT * v / top for _, v in points],
            }
        )
        toned(made.varea("x", "foot", "y", source=source, fill_alpha=0.55).glyph, fill=tone)


def _spreads(made: Any, rows: list[_Row], index: int) -> None:
    name, tone, hatch, shift = SPREADS[index]
    columns: dict[str, list[float]] = {key: [] for key in ("y", "low", "middle", "high")}
    for y, row in zip(row_heights(len(rows)), rows, strict=True):
        spread = row.spreads[index]
        if spread is not None:
            for key, value in zip(columns, (y + shift, *spread), strict=True):
                columns[key].append(value)
    source = ColumnDataSource(columns)
    drawn = bars(made, source, "y", "low", "high", tone=tone, hatch=hatch, height=0.13)
    middles = made.scatter("middle", "y", source=source, marker="dash", angle=1.5708, size=11, line_width=3)
    toned(middles.glyph, line="ink")
    hover(
        made, [drawn, middles], [("", name.replace("_", " ")), ("P50", "@middle{0} %"), ("P10 to P90", "@low{0} to @high{0} %")]
    )


def _data(made: Any, rows: list[_Row]) -> None:
    points = [(row.data, y) for y, row in zip(row_heights(len(rows)), rows, strict=True) if row.data is not None]
    source = ColumnDataSource({"x": [x for x, _ in points], "y": [y + SPREADS[1][3] for _, y in points]})
    drawn = made.scatter("x", "y", source=source, marker="diamond", size=13, line_width=1.5)
    toned(drawn.glyph, fill="card", line="ink")
    hover(made, [drawn], [("measured", "@x{0} %")])


def gates(reader: ResultReader, site_class: str) -> Any:
    """How probable each condition is, those that do not hold on top: the bar must reach the mark."""
    found = sorted(
        [
            (gate, probability, reader.number(f"{pointer}/needed"))
            for pointer, gate in reader.items(f"{site_class}/gates")
            for probability in [reader.number(f"{pointer}/probability")]
            if probability is not None and gate.get("counts") is not False
        ],
        key=lambda row: row[0].get("holds") is True,
    )
    if not found:
        return None
    made = clear_of_lines(worded_rows([_short(gate) for gate, _, _ in found], x_label="% probable"))
    ys = row_heights(len(found))
    for holds, tone, hatch in ((True, "local", "blank"), (False, "refused", "right_diagonal_line")):
        chosen = [(y, 100 * p) for y, (gate, p, _) in zip(ys, found, strict=True) if (gate.get("holds") is True) is holds]
        source = ColumnDataSource({"y": [y for y, _ in chosen], "p": [p for _, p in chosen]})
        drawn = bars(made, source, "y", 0, "p", tone=tone, hatch=hatch, height=0.34)
        hover(made, [drawn], [("holds" if holds else "does not hold", "@p{0.0} %")])
    needed = [(100 * n, y) for y, (_, _, n) in zip(ys, found, strict=True) if n is not None and n <= 1]
    marks = made.scatter([x for x, _ in needed], [y for _, y in needed], marker="dash", angle=1.5708, size=24, line_width=3)
    toned(marks.glyph, line="ink")
    made.x_range = Range1d(start=0, end=102)
    return made


def _short(gate: Mapping[str, Any]) -> str:
    """The condition without its figures, which the bar and the table tell."""
    if isinstance(topic := gate.get("topic"), str) and topic:
        return topic
    words = str(gate.get("words") or gate.get("name") or "?")
    return re.split(r" with probability|, \d|; ", words)[0].rstrip(",")


def clear_of_lines(made: Any, *, up: float = 0.0) -> Any:
    """Puts the rows' words on a ground of their own, `up` by a share of a row, so that no line or curve runs through them."""
    for words in made.select({"type": LabelSet}):
        words.source.data["y"] = [y + up for y in words.source.data["y"]]
        words.update(
            level="overlay",
            background_fill_alpha=1.0,
            background_fill_color=LIGHT["card"],
            tags=[*words.tags, "tone:background:card"],
        )
    return made


def worth(reader: ResultReader) -> Any:
    """What a day of each measurement is worth."""
    rows = [
        (str(step.get("words") or step.get("what") or "?"), worth_usd)
        for pointer, step in reader.items("/next")
        for worth_usd in [reader.number(f"{pointer}/usd_per_day")]
        if worth_usd is not None and worth_usd > 0 and (reader.number(f"{pointer}/evppi_usd") or 0.0) >= WORTH_LEAST_USD
    ]
    rows = sorted(rows, key=lambda row: -row[1])[:STEPS_MAX]
    if not rows:
        return None
    made = clear_of_lines(worded_rows([label for label, _ in rows], x_label="dollars for each day of metering"))
    source = ColumnDataSource({"y": row_heights(len(rows)), "usd": [usd for _, usd in rows]})
    drawn = bars(made, source, "y", 0, "usd", tone="local", height=0.34)
    hover(made, [drawn], [("a day", "@usd{$0,0}")])
    made.x_range.start = 0
    made.xaxis.formatter = NumeralTickFormatter(format=MONEY_TICKS)
    made.xaxis.ticker.desired_num_ticks = 5
    return made
