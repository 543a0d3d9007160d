"""How a cabinet must be built, in rows: power, breaker, UPS, hold and cooling, each with what is needed and what there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

from nearhall.report.evidence_marks import Figure, joined
from nearhall.report.formats import NO_VALUE, amperes, chance, kilowatts, minutes, ratio, significant, volt_amperes, watts
from nearhall.report.formats import energy as energy_text
from nearhall.report.reader import elements, members
from nearhall.report.result_reader import ResultReader

CHECK_WORDS: dict[str, tuple[str, str]] = {
    "ok": ("ok", "good"),
    "fails": ("fails", "bad"),
    "not_checked": ("not checked", "warn"),
}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """One line of a cabinet's sizing; a cell that does not apply is None."""

    what: str
    middle: Figure | None
    bad: Figure | None
    there: Figure | None
    words: str


def sizing(reader: ResultReader, site: str) -> list[Sizing]:
    """The cabinet from its servers to its feed: the middle case, a bad one, and what there is."""
    feed = next(
        (pointer for pointer, stage in reader.items(f"{site}/waterfall") if stage.get("stage") == "feed"),
        f"{site}/waterfall/feed",
    )
    nameplates = reader.figure(f"{site}/nameplate_va", lambda v: f"nameplates: {volt_amperes(v)}")
    rows = [
        Sizing(what="servers, switch and meters", **_pair(reader, f"{site}/it_w", watts), there=None, words=""),
        Sizing(what="power at the feed", **_pair(reader, f"{feed}/w", watts), there=None, words=""),
        Sizing(
            what="apparent power at the feed",
            **_pair(reader, f"{site}/va", volt_amperes),
            there=nameplates,
            words=_against_plates(reader, site),
        ),
        *_lines(reader, site),
        _breaker(reader, site),
        *_ups(reader, site),
        _cooling(reader, site),
        Sizing(
            what="PUE over a year",
            **_pair(reader, f"{site}/pue/annual", ratio, bad="p90"),
            there=None,
            words=_pue(reader, site),
        ),
        Sizing(
            what="energy of a year", **_pair(reader, f"{site}/energy_kwh_per_year", energy_text, bad="p90"), there=None, words=""
        ),
    ]
    rows = [replace(row, words=signs(row.words)) for row in rows]
    return [row for row in rows if row.words or any(f is not None and not f.missing for f in (row.middle, row.bad, row.there))]


def signs(words: str) -> str:
    """As engineers write them."""
    return words.replace("<=", "≤").replace("mm2", "mm²").replace("m3/h", "m³/h")


def _pair(reader: ResultReader, pointer: str, form: Callable[[float], str], *, bad: str = "p99") -> dict[str, Figure]:
    return {
        "middle": reader.median(pointer, form),
        "bad": reader.figure(f"{pointer}/{bad}", lambda v: f"{form(v)} ({bad.upper()})"),
    }


def _against_plates(reader: ResultReader, site: str) -> str:
    plate, p99 = reader.number(f"{site}/nameplate_va"), reader.number(f"{site}/va/p99")
    if not plate or p99 is None:
        return ""
    return "P99 is what breaker and UPS are sized for; beside it the servers' nameplates with the same losses and cooling"


def _lines(reader: ResultReader, site: str) -> list[Sizing]:
    lines = [pointer for pointer, _ in reader.items(f"{site}/lines_a")]
    if not lines:
        return []
    middle, bad = (
        joined(
            " / ".join(f"{v:,.1f}" if v is not None else NO_VALUE for v in values) + f" A{told}",
            [reader.texts(pointer, "") for pointer in lines],
        )
        for values, told in (
            ([reader.middle(pointer) for pointer in lines], ""),
            ([reader.number(f"{pointer}/p99") for pointer in lines], " (P99)"),
        )
    )
    unbalance, neutral = reader.number(f"{site}/unbalance_percent"), reader.number(f"{site}/neutral_a")
    told = [f"unbalance {unbalance:.0f} %"] if unbalance is not None and len(lines) > 1 else []
    told += [f"neutral {amperes(neutral)}, harmonics included"] if neutral is not None and len(lines) > 1 else []
    what = "current on each line" if len(lines) > 1 else "current"
    return [Sizing(what=what, middle=middle, bad=bad, there=None, words=", ".join(told))]


def _breaker(reader: ResultReader, site: str) -> Sizing:
    base = f"{site}/breaker"
    factor = reader.number(f"{base}/factor")
    code = reader.text(f"{base}/code")
    words = [reader.text(f"{base}/words")]
    words += [f"the code's factor {factor:g} is applied once"] if factor is not None and factor != 1 else []
    return Sizing(
        what=f"breaker{f' by {code}' if code else ''}",
        middle=None,
        bad=reader.figure(f"{base}/needed_a", lambda v: f"needs {v:g} A"),
        there=reader.figure(f"{base}/given_a", lambda v: f"{v:g} A"),
        words="; ".join(part for part in words if part),
    )


def _ups(reader: ResultReader, site: str) -> list[Sizing]:
    base, hold = f"{site}/ups", f"{site}/hold"
    needs = [reader.number(f"{base}/{name}_needed") for name in ("kw", "kva")]
    has = [reader.number(f"{base}/{name}") for name in ("kw", "kva")]
    required = reader.figure(f"{hold}/required_min", lambda v: f"required: {minutes(v)}")
    likely = reader.number(f"{hold}/p_hold")
    said = reader.text(f"{hold}/words")
    held = [said] + (
        [f"held long enough in {chance(likely)} of cases"] if likely is not None and "of the cases" not in said else []
    )
    rows = [
        Sizing(
            what="UPS",
            middle=None,
            bad=_both(reader, base, needs, "needs "),
            there=_both(reader, base, has, ""),
            words=reader.text(f"{base}/words"),
        )
    ]
    for name, what in (
        ("battery", "battery lasts, at the end of its life"),
        ("battery_new", "battery lasts, new"),
        ("thermal", "heat allows"),
    ):
        rows.append(Sizing(what=what, **_pair(reader, f"{hold}/{name}_min", minutes, bad="p10"), there=None, words=""))
    rows.append(
        Sizing(
            what="battery, the smallest that does, as printed on a new one",
            middle=None,
            bad=reader.figure(f"{hold}/needed_kwh/new", lambda v: f"{significant(v)} kWh"),
            there=None,
            words=reader.text(f"{hold}/needed_words"),
        )
    )
    rows.append(
        Sizing(
            what="hold, the shorter of both",
            **_pair(reader, f"{hold}/hold_min", minutes, bad="p10"),
            there=required,
            words="; ".join(part for part in held if part),
        )
    )
    return [row for row in rows if any(f is not None and not f.missing for f in (row.middle, row.bad, row.there))]


def _both(reader: ResultReader, pointer: str, pair: Sequence[float | None], before: str) -> Figure:
    kw, kva = pair
    if kw is None and kva is None:
        return Figure(text=NO_VALUE, missing=reader.missing("it"))
    told = [kilowatts(kw)] if kw is not None else []
    told += [kilowatts(kva).replace("W", "VA")] if kva is not None else []
    return reader.texts(pointer, before + ", ".join(told))


def _cooling(reader: ResultReader, site: str) -> Sizing:
    base = f"{site}/cooling"
    air, inlet = reader.number(f"{base}/airflow_m3_h"), reader.text(f"{base}/class")
    told = [reader.text(f"{base}/words")] + ([f"air {significant(air)} m³/h"] if air is not None else [])
    told += [f"inlet class {inlet}"] if inlet else []
    return Sizing(
        what="heat to be moved",
        **_pair(reader, f"{base}/needed_kw", kilowatts),
        there=reader.figure(f"{base}/capacity_kw", lambda v: f"capacity: {kilowatts(v)}"),
        words="; ".join(part for part in told if part),
    )


def _pue(reader: ResultReader, site: str) -> str:
    """How it goes over the day, and by where the IT energy is metered."""
    base = f"{site}/pue"
    told = ["interim: less than 12 months"] if reader.at(f"{base}/interim") is True else []
    hours = [value for value in reader.series(f"{base}/by_hour") if not isnan(value)]
    if hours:
        low, high = (hours.index(end(hours)) for end in (min, max))
        told.append(f"over the day {ratio(hours[low])} (from {low}:00) to {ratio(hours[high])} (from {high}:00)")
    found = ((name, reader.number(f"{base}/by_category/{name}")) for name in ("1", "2", "3"))
    named = [f"{name}: {ratio(value)}" for name, value in found if value is not None]
    return "; ".join([*told, *([f"by category {', '.join(named)}"] if named else [])])


def checks(reader: ResultReader, site: str) -> list[dict[str, Any]]:
    """What was held against the rules, with those that fail on top and those that nobody could check named."""
    order = {"fails": 0, "not_checked": 1, "ok": 2}
    rows = sorted(reader.items(f"{site}/checks"), key=lambda row: order.get(str(row[1].get("state")), 1))
    return [
        {
            "name": str(row.get("name", "?")),
            "badge": CHECK_WORDS.get(str(row.get("state")), ("not checked", "warn"))[0],
            "tone": CHECK_WORDS.get(str(row.get("state")), ("not checked", "warn"))[1],
            "value": _of(reader, pointer, row),
            "words": signs(str(row.get("words") or "")),
        }
        for pointer, row in rows
    ]


def _of(reader: ResultReader, pointer: str, row: Mapping[str, Any]) -> Figure | None:
    """What was found and what is allowed, in one cell."""
    value, limit = reader.number(f"{pointer}/value"), reader.number(f"{pointer}/limit")
    told = [_whole(value)] if value is not None else []
    told += [f"against {_whole(limit)}"] if limit is not None else []
    return reader.texts(pointer, f"{' '.join(told)} {row.get('unit') or ''}".strip()) if told else None


def _whole(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else significant(value)


def pue_by_month(reader: ResultReader) -> list[dict[str, Any]]:
    """The ratio of sums, month by month, for sites that have twelve."""
    return [
        {
            "site": str(site.get("id", "?")),
            "figures": [reader.figure(f"{pointer}/pue/by_month/{month}", ratio) for month in range(len(MONTHS))],
            "year": reader.figure(f"{pointer}/pue/of_sums", ratio),
        }
        for pointer, site in reader.items("/sites")
        if len(elements(members(site.get("pue")).get("by_month"))) == len(MONTHS)
    ]
