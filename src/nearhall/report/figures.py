"""The pictures' shared look: bare Bokeh figures whose colours the page paints by tag, for light and for dark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.core.properties import value as constant
from bokeh.document import Document
from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Model, Span
from bokeh.plotting import figure
from bokeh.resources import Resources

from nearhall.core.evidence import Kind
from nearhall.report.evidence_marks import MARKS
from nearhall.report.look import LIGHT

PART_HATCH: dict[str, str] = {"service": "blank", "queue": "dot", "network": "right_diagonal_line"}
"""Parts of one latency differ by pattern, so that they are told apart without colour."""
ROW_PX = 24


def bokeh_script() -> str:
    """BokehJS, minified, to stand inline: a page never asks another host for anything."""
    return Resources(mode="inline", components=["bokeh"]).js_raw[0]


def json_in_html(value: Any) -> str:
    """JSON that can stand inside a `<script type="application/json">`: no `<` in it can end the element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def pictures_json(pictures: Mapping[str, Model]) -> str:
    """What `look.js` needs to draw each picture into the element whose id is its name: one Bokeh document for the whole page."""
    if not pictures:
        return json_in_html({"docs": {}, "items": []})
    document = Document()
    # Frozen, Bokeh looks for the models of all pictures once, not once a picture: half the time of a page.
    with document.models.freeze():
        for picture in pictures.values():
            document.add_root(picture)
    item = {"docid": "page", "roots": {p.id: name for name, p in pictures.items()}, "root_ids": [p.id for p in pictures.values()]}
    return json_in_html({"docs": {"page": document.to_json(deferred=False)}, "items": [item]})


def bare(height: int, **settings: Any) -> Any:
    """A figure without tools, as wide as its column."""
    made = figure(
        height=height,
        sizing_mode="stretch_width",
        tools="",
        toolbar_location=None,
        min_border_right=12,
        min_border_left=4,
        **settings,
    )
    made.background_fill_color = None
    made.border_fill_color = None
    made.outline_line_color = None
    for axis in made.axis:
        axis.major_label_text_font_size = "12px"
        axis.axis_label_text_font_size = "12px"
        axis.axis_label_text_font_style = "normal"
        axis.major_label_text_font = axis.axis_label_text_font = "sans-serif"
        axis.minor_tick_line_color = None
        axis.axis_line_color = axis.major_tick_line_color = LIGHT["line"]
        axis.major_label_text_color = axis.axis_label_text_color = LIGHT["soft"]
    for grid in made.grid:
        grid.grid_line_color = LIGHT["grid"]
    return made


def rows_figure(rows: Sequence[Any], *, x_label: str, row_px: int = ROW_PX, **settings: Any) -> Any:
    """A figure with one row for each factor, the first on top."""
    made = bare(
        len(rows) * row_px + 62, y_range=FactorRange(*reversed(rows), range_padding=0.02), x_axis_label=x_label, **settings
    )
    made.ygrid.grid_line_color = None
    made.ygrid.tags = ["bare"]
    made.yaxis.major_tick_line_color = None
    return made


def toned(model: Any, **tones: str) -> Any:
    """Tags a glyph with the tones it takes (`fill`, `line`, `text`) and gives it the light ones to begin with."""
    model.tags = [*model.tags, *(f"tone:{what}:{tone}" for what, tone in tones.items())]
    model.update(**{f"{what}_color": LIGHT[tone] for what, tone in tones.items()})
    return model


def line(made: Any, source: ColumnDataSource, x: str, y: str, *, tone: str, kind: Kind, width: float = 2) -> Any:
    """A line over time: solid where it is measured, broken where it is not."""
    drawn = made.line(x, y, source=source, line_width=width, line_dash=MARKS[kind].line_dash)
    toned(drawn.glyph, line=tone)
    return drawn


def bars(
    made: Any, source: ColumnDataSource, y: str, left: Any, right: Any, *, tone: str, hatch: str = "blank", height: float = 0.78
) -> Any:
    """Horizontal bars in one tone and pattern."""
    drawn = made.hbar(
        y=y,
        left=left,
        right=right,
        height=height,
        source=source,
        line_color=None,
        hatch_pattern=hatch,
        hatch_color=LIGHT["card"],
        hatch_alpha=0.75,
        hatch_scale=8,
        hatch_weight=1.6,
    )
    toned(drawn.glyph, fill=tone)
    return drawn


def text(made: Any, x: float, y: float, words: str, *, tone: str = "ink", **settings: Any) -> None:
    """Words inside a picture."""
    drawn = made.text([x], [y], text=[words], text_font=constant("sans-serif"), **{"text_font_size": "12px"} | settings)
    toned(drawn.glyph, text=tone)


def nought(made: Any) -> None:
    """A line at zero."""
    made.add_layout(toned(Span(location=0, dimension="height", line_width=1.5), line="soft"))


def hover(made: Any, renderers: Sequence[Any], tooltips: Sequence[tuple[str, str]], **settings: Any) -> None:
    """Says the values under the pointer."""
    made.add_tools(HoverTool(renderers=list(renderers), tooltips=list(tooltips), **settings))
