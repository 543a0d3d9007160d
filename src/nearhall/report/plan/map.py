"""Sites, hubs and who serves whom, drawn without tiles: longitude is shrunk by the cosine of the middle latitude.

Over more than a few thousand kilometres such a map is too wide near the pole and too narrow near the equator.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan2, ceil, cos, degrees, floor, log10, pi, radians, sin
from typing import Any

from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.plotting import figure

from nearhall.report.figures import text, toned
from nearhall.report.reader import elements
from nearhall.report.result_reader import ResultReader

KM_PER_DEGREE = 2 * pi * 6371.0088 / 360
"""Of a great circle on a sphere of the Earth's mean radius (IUGG, 6,371.0088 km)."""
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
ASPECT = 1.25
"""Width over height."""
NARROW_PX = 310
"""A phone's map: labels that would meet there are left out, and read from the table or under the pointer."""
LETTER_PX, LINE_PX = 7.0, 15.0
MARGIN = 0.14
"""Room around the outermost points, as a share of what they span."""
SPAN_MIN = 0.05
"""Degrees: what a map of one place shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A point on the map."""

    id: str
    lat: float
    lon: float
    """Not wrapped at 180 degrees, so that a fleet across the date line stays together."""
    hub: bool
    open: bool
    count: int

    @property
    def label(self) -> str:
        """Its name, and how many it stands for."""
        return f"{self.id} ({self.count})" if self.count > 1 else self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What part of the Earth the map shows; x is the longitude times `shrink`."""

    left: float
    right: float
    bottom: float
    top: float
    shrink: float

    def x(self, lon: float) -> float:
        """Where a longitude stands."""
        return lon * self.shrink

    @property
    def px(self) -> float:
        """Degrees of latitude for one pixel of a narrow screen."""
        return (self.right - self.left) / NARROW_PX


def places(reader: ResultReader) -> list[Place]:
    """Every point that has a position on Earth."""
    found: list[tuple[str, Any, float, float]] = []
    for pointer, point in reader.items("/placement/points"):
        lat, lon = reader.number(f"{pointer}/lat"), reader.number(f"{pointer}/lon")
        if lat is not None and lon is not None and abs(lat) <= 90 and abs(lon) <= 360:
            found.append((pointer, point, lat, lon))
    # The mean direction, not the mean number: 179 and -179 are neighbours.
    middle = degrees(atan2(sum(sin(radians(r[3])) for r in found), sum(cos(radians(r[3])) for r in found)))
    return [
        Place(
            id=str(point.get("id", "?")),
            lat=lat,
            lon=middle + ((lon - middle + 180) % 360 - 180),
            hub=point.get("kind") == "hub",
            open=point.get("open") is not False,
            count=int(reader.number(f"{pointer}/count") or 1),
        )
        for pointer, point, lat, lon in found
    ]


def frame_of(points: list[Place]) -> Frame:
    """A frame of the map's aspect around all points."""
    lats, lons = [p.lat for p in points], [p.lon for p in points]
    shrink = max(cos(radians((min(lats) + max(lats)) / 2)), 0.02)
    middle_x, middle_y = shrink * (min(lons) + max(lons)) / 2, (min(lats) + max(lats)) / 2
    height = max((max(lats) - min(lats)), (max(lons) - min(lons)) * shrink / ASPECT, SPAN_MIN) * (1 + 2 * MARGIN)
    width = height * ASPECT
    return Frame(
        left=middle_x - width / 2,
        right=middle_x + width / 2,
        bottom=middle_y - height / 2,
        top=middle_y + height / 2,
        shrink=shrink,
    )


def placement_map(reader: ResultReader) -> Any:
    """The map; None where no point has a position."""
    points = places(reader)
    if not points:
        return None
    frame = frame_of(points)
    # Without axes and borders the frame is the whole picture, so its aspect is exactly the ranges'.
    made = figure(
        aspect_ratio=ASPECT,
        sizing_mode="scale_width",
        tools="",
        toolbar_location=None,
        min_border=0,
        x_range=Range1d(start=frame.left, end=frame.right),
        y_range=Range1d(start=frame.bottom, end=frame.top),
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
    )
    made.axis.visible = False
    made.grid.visible = False
    _graticule(made, frame)
    _links(made, reader, points, frame)
    # Sites are smaller and drawn last: one that stands beside its hub is seen on top of it.
    for hub in (True, False):
        for opened in (True, False):
            _dots(made, [p for p in points if p.hub is hub and p.open is opened], frame, hub=hub, opened=opened)
    _names(made, points, frame)
    _scale_bar(made, frame)
    return made


def _graticule(made: Any, frame: Frame) -> None:
    step = next((s for s in STEPS if (frame.top - frame.bottom) / s <= 5), STEPS[-1])
    for axis, low, high in (("lat", frame.bottom, frame.top), ("lon", frame.left / frame.shrink, frame.right / frame.shrink)):
        for degree in [step * k for k in range(ceil(low / step), floor(high / step) + 1)]:
            _one_degree(made, frame, degree, is_latitude=axis == "lat", step=step)


def _one_degree(made: Any, frame: Frame, degree: float, *, is_latitude: bool, step: float) -> None:
    if is_latitude and abs(degree) > 90:
        return
    places_after = max(0, -floor(log10(step)))
    wrapped = degree if is_latitude else (degree + 180) % 360 - 180
    side = ("N" if wrapped >= 0 else "S") if is_latitude else ("E" if wrapped >= 0 else "W")
    told = f"{abs(wrapped):.{places_after}f}° {side}"
    if is_latitude:
        xs, ys, at, offsets = [frame.left, frame.right], [degree] * 2, (frame.left, degree), (3, -2)
    else:
        x = frame.x(degree)
        xs, ys, at, offsets = [x] * 2, [frame.bottom, frame.top], (x, frame.top), (3, 13)
    toned(made.line(xs, ys, line_width=1).glyph, line="line")
    text(made, *at, told, tone="soft", x_offset=offsets[0], y_offset=offsets[1], text_font_size="10px")


def _links(made: Any, reader: ResultReader, points: list[Place], frame: Frame) -> None:
    by_id = {p.id: p for p in points}
    data: dict[str, list[Any]] = {name: [] for name in ("x0", "y0", "x1", "y1", "told")}
    for _, link in reader.items("/placement/links"):
        start, end = by_id.get(str(link.get("from"))), by_id.get(str(link.get("to")))
        if start is None or end is None or start is end:
            continue
        for name, value in (("x0", frame.x(start.lon)), ("y0", start.lat), ("x1", frame.x(end.lon)), ("y1", end.lat)):
            data[name].append(value)
        data["told"].append(f"{start.id} to {end.id}: {', '.join(map(str, elements(link.get('workloads'))))}")
    if not data["x0"]:
        return
    drawn = made.segment("x0", "y0", "x1", "y1", source=ColumnDataSource(data), line_width=2, line_dash="dashed")
    toned(drawn.glyph, line="hub")
    made.add_tools(HoverTool(renderers=[drawn], tooltips=[("", "@told")], line_policy="interp"))


def _dots(made: Any, points: list[Place], frame: Frame, *, hub: bool, opened: bool) -> None:
    if not points:
        return
    told = "serves" if opened else "not used"
    data = {
        "x": [frame.x(p.lon) for p in points],
        "y": [p.lat for p in points],
        "told": [f"{p.label} ({'hub' if hub else 'site'}, {told})" for p in points],
    }
    drawn = made.scatter(
        "x", "y", source=ColumnDataSource(data), marker="square" if hub else "circle", size=17 if hub else 9, line_width=2.5
    )
    toned(drawn.glyph, fill=("hub" if hub else "local") if opened else "card", line="hub" if hub else "local")
    made.add_tools(HoverTool(renderers=[drawn], tooltips=[("", "@told")]))


def _names(made: Any, points: list[Place], frame: Frame) -> None:
    for place, (x, y, align) in labelled(points, frame):
        text(made, x, y, place.label, text_align=align, text_baseline="middle")


def labelled(points: list[Place], frame: Frame) -> list[tuple[Place, tuple[float, float, str]]]:
    """Where each name stands so that none meets another on a narrow screen: hubs first, then the sites that stand for most.

    A name that has no room is left out.
    """
    px = frame.px
    dot = 9 * px
    taken = [(frame.x(p.lon) - dot, p.lat - dot, frame.x(p.lon) + dot, p.lat + dot) for p in points]
    # The scale bar's corner.
    taken.append((frame.right - 0.4 * (frame.right - frame.left), frame.bottom, frame.right, frame.bottom + 34 * px))
    found: list[tuple[Place, tuple[float, float, str]]] = []
    for place in sorted(points, key=lambda p: (not p.hub, -p.count, p.id)):
        x, y, wide = frame.x(place.lon), place.lat, len(place.label) * LETTER_PX * px
        for at_x, at_y, align, start in (
            (x + 11 * px, y, "left", x + 11 * px),
            (x - 11 * px, y, "right", x - 11 * px - wide),
            (x, y + 17 * px, "center", x - wide / 2),
            (x, y - 17 * px, "center", x - wide / 2),
        ):
            box = (start, at_y - LINE_PX * px / 2, start + wide, at_y + LINE_PX * px / 2)
            inside = frame.left <= box[0] and box[2] <= frame.right and frame.bottom <= box[1] and box[3] <= frame.top
            if inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                found.append((place, (at_x, at_y, align)))
                break
    return found


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def scale_km(frame: Frame) -> float:
    """A round length of at most a third of the map's width."""
    most = (frame.right - frame.left) * KM_PER_DEGREE / 3
    power = 10.0 ** floor(log10(most))
    return next(k * power for k in (5, 2, 1) if k * power <= most)


def _scale_bar(made: Any, frame: Frame) -> None:
    """In the lower right corner; true at the map's middle latitude."""
    kilometres = scale_km(frame)
    wide = kilometres / KM_PER_DEGREE
    px = frame.px
    right, y = frame.right - 12 * px, frame.bottom + 12 * px
    left = right - wide
    for xs, ys in (([left, right], [y, y]), ([left] * 2, [y - 3 * px, y + 3 * px]), ([right] * 2, [y - 3 * px, y + 3 * px])):
        toned(made.line(xs, ys, line_width=2).glyph, line="ink")
    text(made, (left + right) / 2, y + 5 * px, f"{kilometres:g} km", text_align="center", text_font_size="11px")
