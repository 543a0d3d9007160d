"""The live page's pictures: one data source a site, into which `live.js` streams the points that come with each event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, DatetimeTickFormatter, NumeralTickFormatter

from nearhall.core.evidence import Kind
from nearhall.report.evidence_marks import MARKS, kind_named
from nearhall.report.figures import bare, hover, line, toned
from nearhall.report.pilot.figures import METER_TONES
from nearhall.wire.live import LivePoint, LiveSite

POINTS_SHOWN = 300
"""Ten minutes of 2 s windows; also what the hub keeps in the snapshot."""
HEIGHT_PX = 190
NOT_A_NUMBER = float("nan")
_FIELDS = (
    "local_per_s",
    "hub_per_s",
    "refused_per_s",
    "local_p50_ms",
    "local_p99_ms",
    "hub_p50_ms",
    "sent_bytes_per_s",
    "raw_bytes_per_s",
    "inlet_c",
)


def source_name(index: int) -> str:
    """The name by which `live.js` finds a site's data source."""
    return f"points-{index}"


def site_source(index: int, site: LiveSite) -> ColumnDataSource:
    """The site's points so far. Column `p<n>` is the power of its n-th meter; names from outside never become column names."""
    points = site.points[-POINTS_SHOWN:]
    data: dict[str, Sequence[Any]] = {"t": [point.at_s * 1000 for point in points]}
    for name in _FIELDS:
        data[name] = [_number(getattr(point, name)) for point in points]
    for number, meter in enumerate(site.meters):
        data[f"p{number}"] = [_power(point, meter.id) for point in points]
    return ColumnDataSource(data, name=source_name(index))


def _number(value: float | None) -> float:
    return NOT_A_NUMBER if value is None else value


def _power(point: LivePoint, meter: str) -> float:
    return point.power_w.get(meter, NOT_A_NUMBER)


def keys_of(site: LiveSite) -> dict[str, list[dict[str, str]]]:
    """By picture: each line's column, label, tone, and the kind of evidence that its dashes show."""
    return {
        "latency": [
            _key("local_p50_ms", "local p50", "local", _kind(site, "latency_local"), unit="ms"),
            _key("local_p99_ms", "local p99", "cooling", _kind(site, "latency_local"), unit="ms"),
            _key("hub_p50_ms", "hub p50", "hub", _kind(site, "latency_hub"), unit="ms"),
        ],
        "rate": [
            _key("local_per_s", "local", "local", _kind(site, "counts"), unit="1/s"),
            _key("hub_per_s", "hub", "hub", _kind(site, "counts"), unit="1/s"),
            _key("refused_per_s", "refused", "refused", _kind(site, "counts"), unit="1/s"),
        ],
        "power": [
            _key(f"p{number}", meter.id, METER_TONES.get(meter.position, "other"), kind_named(meter.kind), unit="W")
            for number, meter in enumerate(site.meters)
            if meter.power_w is not None or any(meter.id in point.power_w for point in site.points)
        ],
        "bytes": [
            _key("raw_bytes_per_s", "raw", "raw", _kind(site, "bytes_raw"), unit="B/s"),
            _key("sent_bytes_per_s", "sent", "local", _kind(site, "bytes_sent"), unit="B/s"),
        ],
    }


def _key(column: str, label: str, tone: str, kind: Kind, *, unit: str) -> dict[str, str]:
    return {"column": column, "label": label, "tone": tone, "kind": kind.value, "letter": MARKS[kind].letter, "unit": unit}


def _kind(site: LiveSite, figure: str) -> Kind:
    return kind_named(site.kinds.get(figure))


def site_pictures(index: int, site: LiveSite) -> Iterator[tuple[str, Any]]:
    """(element id, picture): latency, requests, power and bytes over time, all on the site's one data source."""
    source = site_source(index, site)
    for name, keys in keys_of(site).items():
        if keys:
            yield f"{name}-{index}", _over_time(source, keys)


def _over_time(source: ColumnDataSource, keys: Sequence[Mapping[str, str]]) -> Any:
    unit = keys[0]["unit"]
    made = bare(HEIGHT_PX, x_axis_type="datetime", y_axis_label=unit)
    made.xaxis.formatter = DatetimeTickFormatter(seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M", hourmin="%H:%M")
    made.xaxis.ticker.desired_num_ticks = 4
    made.y_range.start = 0
    made.x_range.range_padding = 0.01
    lines = [line(made, source, "t", key["column"], tone=key["tone"], kind=Kind(key["kind"])) for key in keys]
    if unit == "1/s":
        area = made.varea("t", 0, keys[0]["column"], source=source, fill_alpha=0.15)
        toned(area.glyph, fill=keys[0]["tone"])
    if unit == "B/s":
        made.yaxis.formatter = NumeralTickFormatter(format="0 a")
    tips = [(key["label"], f"@{key['column']}{{0,0.0}} {unit}") for key in keys]
    hover(made, lines[:1], [("UTC", "@t{%H:%M:%S}"), *tips], mode="vline", formatters={"@t": "datetime"})
    return made
