"""The rows of a plan report's tables: what is decided, what it costs, how a cabinet is built, what was assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearhall.core.evidence import Kind
from nearhall.core.shares import side
from nearhall.report.evidence_marks import Figure, joined, kind_named
from nearhall.report.formats import (
    NO_VALUE,
    capital,
    chance_beside,
    full_stop,
    gib,
    listed,
    money,
    ms,
    percent,
    plain,
    significant,
    size,
    years,
)
from nearhall.report.formats import energy as energy_text
from nearhall.report.plan.steps import whole
from nearhall.report.reader import elements
from nearhall.report.result_reader import ResultReader, path_words

KINDS = (Kind.MEASURED, Kind.SIMULATED, Kind.VENDOR, Kind.STANDARD, Kind.ASSUMED)
PLACE_WORDS: dict[str, tuple[str, str]] = {
    "edge": ("at the site", "good"),
    "hub": ("at the hub", "warn"),
    "either": ("either will do", "warn"),
    "infeasible": ("nowhere", "bad"),
}
LEDGER_SHOWN = 6
"""The rest moves the verdict too little to be read at once; it is folded."""
HARDLY = 0.005
"""A measurement that is worth less than this share of what is to be spent seldom turns the decision."""
SELDOM = 0.005
"""A share of cases below this is none in a hundred."""
TRIFLE = 0.05
"""A measurement that is worth less than this share of the best one is not told beside it."""
TIGHT_FROM = 0.25
"""A model that takes less of a server's memory has no reason to shrink."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One workload at one kind of site, and where it goes."""

    workload: str
    words: str
    """What it does."""
    model: str
    site: str
    sites: Figure
    count: float
    badge: str
    tone: str
    at: str
    limit: Figure
    until: str
    """What has to come within the limit, where it is not the whole answer."""
    in_time: Figure
    """Share of its answers within the limit, in the middle case."""
    sure: Figure
    """Chance that its limit is kept, over everything that is not known."""
    passes: bool
    """Whether that is what the plan asks for."""
    why: Figure
    chance: float | None
    alternatives: tuple[Mapping[str, Any], ...]


def evidence_counts(reader: ResultReader) -> list[dict[str, Any]]:
    """How many of the numbers the plan rests on are of which kind."""
    numbers = reader.counts("/counts")
    return [{"kind": kind, "n": numbers[kind.value]} for kind in KINDS if kind.value in numbers]


def led(reader: ResultReader) -> str:
    """Where the document tells of the case that leads: in steps, the rest only after a good pilot; else all at once."""
    return "/money/in_steps" if reader.number("/money/in_steps/npv/p50") is not None else "/money"


def money_first(reader: ResultReader) -> dict[str, Any]:
    """What the signer asks first: is it likely to pay, how much, and when it is back, of one case only."""
    base = led(reader)
    staged = base != "/money"
    asked, found = reader.number("/verdict/thresholds/min_p_npv_positive"), reader.number(f"{base}/p_npv_positive")
    compared = None if staged else asked
    return {
        "known": reader.number(f"{base}/npv/p50") is not None,
        "chance": reader.figure(f"{base}/p_npv_positive", lambda p: chance_beside(p, compared)),
        "side": side(found, compared) if found is not None and compared is not None else "",
        "passes": found is not None and asked is not None and found >= asked,
        "staged": staged,
        "sites": _sites_led(reader),
        "spread": [
            *(
                (words, reader.figure(f"{base}/npv/{name}", money))
                for name, words in (
                    ("p10", "bad case: one in ten is worse (P10)"),
                    ("p50", "middle case (P50)"),
                    ("p90", "good case: one in ten is better (P90)"),
                )
            ),
            *paid_back(reader, base),
        ],
    }


def _sites_led(reader: ResultReader) -> str:
    """How many sites the case that leads builds at most, in words."""
    every = whole(reader)
    built = reader.number(f"{every}/sites") if every is not None and led(reader) != "/money" else None
    sites = built if built is not None else reader.number("/plan/sites_planned")
    return "" if sites is None else f"{sites:,.0f} site{'' if sites == 1 else 's'}"


def all_at_once(reader: ResultReader) -> list[tuple[str, Figure]]:
    """The same if everything were built at once, whatever a pilot says; nothing where that is the case that leads."""
    if led(reader) == "/money":
        return []
    asked = reader.number("/verdict/thresholds/min_p_npv_positive")
    return [
        ("chance that it pays", reader.figure("/money/p_npv_positive", lambda p: chance_beside(p, asked))),
        ("return, middle case (8 of 10 cases)", joined_range(reader, "/money/npv")),
        *paid_back(reader, "/money"),
    ]


def joined_range(reader: ResultReader, pointer: str) -> Figure:
    """The median, and from where to where 8 of 10 cases lie."""
    middle, between = reader.median(pointer, money), reader.between(pointer, money)
    return middle if middle.missing or between.missing else joined(f"{middle.text} ({between.text})", [middle, between])


def paid_back(reader: ResultReader, base: str) -> list[tuple[str, Figure]]:
    """When the money is back in the middle case, and in how many cases it is not within the plan."""
    found: list[tuple[str, Figure]] = []
    if reader.middle(f"{base}/payback_years") is not None:
        found.append(("the money is back after, middle case", reader.median(f"{base}/payback_years", years)))
    elif reader.middle(f"{base}/npv") is not None:
        horizon = reader.number("/plan/horizon_years")
        told = f"not in {horizon:g} years" if horizon is not None else "not within the plan"
        found.append(("the money is back, middle case", Figure(text=told, missing="in the middle case it does not come back")))
    never = reader.number(f"{base}/payback_years/never")
    if never is not None and never >= SELDOM:
        share = reader.figure(f"{base}/payback_years/never", lambda p: f"{100 * p:.0f} of 100 cases")
        found.append(("not back within the plan's years", share))
    return found


def placements(reader: ResultReader) -> list[Placed]:
    """Every workload at every kind of site."""
    rows: list[Placed] = []
    asked = reader.number("/verdict/thresholds/min_p_slo")
    for pointer, workload in reader.items("/workloads"):
        limit = _limit(reader, pointer)
        for place, placed in reader.items(f"{pointer}/placed"):
            badge, tone = PLACE_WORDS.get(str(placed.get("verdict")), ("not said", "warn"))
            rows.append(
                Placed(
                    workload=str(workload.get("id", "?")),
                    words=str(workload.get("words") or ""),
                    model=str(workload.get("model") or ""),
                    site=str(placed.get("site", "?")),
                    count=reader.number(f"{place}/count") or 0.0,
                    sites=reader.figure(f"{place}/count", lambda n: f"{n:,.0f} sites" if n != 1 else "1 site"),
                    badge=badge,
                    tone=tone,
                    at=str(placed.get("at") or ""),
                    limit=limit,
                    until=_until(reader, pointer),
                    in_time=share_in_time(reader, pointer, str(placed.get("site")), str(placed.get("at"))),
                    sure=reader.figure(f"{place}/p_slo", lambda p: chance_beside(p, asked)),
                    passes=asked is None or (reader.number(f"{place}/p_slo") or 0.0) >= asked,
                    why=reader.sentence(f"{place}/why"),
                    chance=reader.number(f"{place}/p_slo"),
                    alternatives=tuple(_alternatives(reader, place)),
                )
            )
    return rows


def _limit(reader: ResultReader, workload: str) -> Figure:
    return reader.figure(f"{workload}/slo/limit_ms", ms)


def _until(reader: ResultReader, workload: str) -> str:
    return "to the first word" if reader.text(f"{workload}/slo/of") == "ttft" else ""


def share_in_time(reader: ResultReader, workload: str, site: str, at: str) -> Figure:
    """The share of answers within the limit, read from the curve of that site and place."""
    for pointer, entry in reader.items(f"{workload}/latency"):
        if str(entry.get("site")) != site or str(entry.get("at")) != at:
            continue
        limit = reader.number(f"{pointer}/limit_ms") or reader.number(f"{workload}/slo/limit_ms")
        times, shares = (reader.series(f"{pointer}/cdf/{name}") for name in ("ms", "share"))
        if limit is not None and times and len(times) == len(shares):
            share = _at(times, shares, limit)
            # A curve drawn up to its 99.5 % says no more than that of what comes after its end.
            more, told = limit > times[-1] and share < 1, percent(share)
            return reader.texts(f"{pointer}/cdf", f"> {told}" if more and not told.startswith(">") else told)
    return Figure(text=NO_VALUE, missing=reader.missing("a distribution of these answers' times"))


def _at(times: Sequence[float], shares: Sequence[float], limit: float) -> float:
    """The curve at `limit`, straight between its points."""
    before, below = 0.0, 0.0
    for time, share in zip(times, shares, strict=True):
        if time >= limit:
            part = (limit - before) / (time - before) if time > before else 1.0
            return below + part * (share - below)
        before, below = time, share
    return below


def _alternatives(reader: ResultReader, place: str) -> list[Mapping[str, Any]]:
    asked = reader.number("/verdict/thresholds/min_p_slo")
    return [
        {
            "at": str(option.get("at", "?")),
            "hub": option.get("is_hub") is True,
            "p99": reader.median(f"{pointer}/p99_ms", ms),
            "p99_between": reader.between(f"{pointer}/p99_ms", ms, ends=("p50", "deciding")),
            "sure": reader.figure(f"{pointer}/p_slo", lambda p: chance_beside(p, asked)),
            "usd": reader.median(f"{pointer}/usd_per_year", money),
            "against": [str(reason) for reason in elements(option.get("against"))],
            "allowed": option.get("allowed") is not False,
        }
        for pointer, option in reader.items(f"{place}/alternatives")
    ]


def in_time(rows: Sequence[Placed]) -> dict[str, Any]:
    """The least sure workload of those that are placed, and each placed workload's share of answers in time."""
    placed = [row for row in rows if row.badge != PLACE_WORDS["infeasible"][0]]
    least = min((row for row in placed if row.chance is not None), key=lambda row: row.chance or 0.0, default=None)
    return {
        "least": least,
        "rows": [(f"{row.workload}, {row.site}", row.in_time) for row in placed],
        "homeless": [f"{row.workload} at {row.site}" for row in rows if row not in placed],
    }


def latencies(reader: ResultReader) -> list[dict[str, Any]]:
    """Each workload's time at its own site and at the hub, by part."""
    return [
        {
            "workload": str(workload.get("id", "?")),
            "site": str(entry.get("site", "?")),
            "at": str(entry.get("at", "?")),
            "until": _until(reader, place),
            "figures": [
                *(reader.figure(f"{pointer}/{part}_ms", ms) for part in ("network", "steady_wait", "queue", "service")),
                reader.median(f"{pointer}/p99_ms", ms),
                reader.figure(f"{pointer}/p99_ms/deciding", ms),
                _limit(reader, place),
            ],
        }
        for place, workload in reader.items("/workloads")
        for pointer, entry in reader.items(f"{place}/latency")
    ]


def per_thousand(reader: ResultReader) -> list[dict[str, Any]]:
    """Energy and cost of a thousand answers, here and at the hub."""
    return [
        {
            "workload": str(workload.get("id", "?")),
            "figures": [
                reader.median(f"{pointer}/per_thousand/{place}/{what}", form)
                for what, form in (("energy_kwh", energy_text), ("usd", money))
                for place in ("local", "hub")
            ],
        }
        for pointer, workload in reader.items("/workloads")
        if workload.get("per_thousand")
    ]


def memory(reader: ResultReader) -> list[dict[str, Any]]:
    """What was looked at for each model and server."""
    return [
        {
            "workload": str(row.get("workload", "?")),
            "hardware": str(row.get("hardware", "?")),
            "bits": reader.figure(f"{pointer}/bits", lambda n: f"{n:.0f} bits"),
            "quality": reader.figure(f"{pointer}/quality", percent),
            "p95": reader.figure(f"{pointer}/p95_gib", gib),
            "usable": reader.figure(f"{pointer}/usable_gib", gib),
            "fits": row.get("fits") is True,
            "known": isinstance(row.get("fits"), bool),
            "words": reader.text(f"{pointer}/words"),
            "smaller": _smaller(reader, pointer),
        }
        for pointer, row in reader.items("/memory")
    ]


def _smaller(reader: ResultReader, pointer: str) -> list[Figure]:
    """What smaller variants would cost in quality, where memory is tight enough for anybody to ask."""
    bits, p95, usable = (reader.number(f"{pointer}/{name}") for name in ("bits", "p95_gib", "usable_gib"))
    if p95 is None or usable is None or p95 < TIGHT_FROM * usable:
        return []
    told: list[Figure] = []
    for below, row in reader.items(f"{pointer}/smaller"):
        fewer = reader.number(f"{below}/bits")
        if row.get("words") and (fewer is None or bits is None or fewer < bits):
            said = str(row["words"])
            said = said if fewer is None or said.startswith(f"{fewer:g} bits") else f"{fewer:g} bits: {said}"
            told.append(reader.texts(f"{below}/words", said))
    return told


def ledger(reader: ResultReader) -> list[dict[str, Any]]:
    """Every number the plan rests on, the one that moves the return most on top; each marked with its own evidence."""
    rows = sorted(reader.items("/ledger"), key=lambda row: -abs(reader.number(f"{row[0]}/swing_usd") or 0.0))
    return [_entry(reader, pointer, entry) for pointer, entry in rows]


def _entry(reader: ResultReader, pointer: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    said = str(entry.get("source") or "no source is given")
    source = f"{said}, {entry['date']}" if entry.get("date") else said
    kind = kind_named(entry.get("kind"))
    unit = str(entry.get("unit") or "")
    low, middle, high = (reader.number(f"{pointer}/{quantile}") for quantile in ("p10", "p50", "p90"))
    name = str(entry.get("name") or "?")
    between = f"{amount(low, unit)} to {amount(high, unit)}" if low is not None and high is not None and low != high else "exact"
    return {
        "name": name,
        "words": str(entry["words"]) if entry.get("words") and entry["words"] != name else path_words(name),
        "is_default": entry.get("is_default") is True,
        "value": Figure(text=amount(middle, unit), kind=kind, source=source)
        if middle is not None
        else Figure(text=NO_VALUE, missing=reader.missing("its value")),
        "between": between,
        "swing": reader.figure(f"{pointer}/swing_usd", lambda v: money(abs(v)) if v else "too little to tell"),
        "share": reader.figure(f"{pointer}/share", percent),
        "source": source,
        "ask": str(entry.get("ask") or ""),
        "kind": kind,
        "used_by": [str(path) for path in elements(entry.get("used_by"))],
    }


UNITS = {"1": "", "usd": "USD", "per_year": "a year", "C": "°C", "percent": "%"}


def amount(value: float | None, unit: str) -> str:
    """A number with the unit as the plan writes it: `usd_per_kwh` is `USD per kwh`."""
    if value is None:
        return NO_VALUE
    if unit == "B":
        return size(value)
    told = UNITS.get(unit, plain(unit).replace("usd", "USD"))
    return f"{significant(value)} {told}".strip()


def next_steps(reader: ResultReader) -> list[dict[str, Any]]:
    """What to measure next, worth most first, as the document ranks it; without trifles, where something is worth more."""
    found = reader.items("/next")
    most = max([0.0, *((reader.number(f"{pointer}/usd") or 0.0) for pointer, _ in found)])
    kept = [
        row
        for row in found
        if (reader.number(f"{row[0]}/usd") or 0.0) >= TRIFLE * most or _share_or_all(reader, row[0]) >= TRIFLE
    ]
    return [_step(reader, pointer, step) for pointer, step in kept]


def _share_or_all(reader: ResultReader, pointer: str) -> float:
    """What a measurement explains; everything where the document does not say."""
    share = reader.number(f"{pointer}/share")
    return 1.0 if share is None else share


def _step(reader: ResultReader, pointer: str, step: Mapping[str, Any]) -> dict[str, Any]:
    what = str(step.get("what") or step.get("words") or "?")
    worth, spent, share = reader.number(f"{pointer}/usd"), reader.middle("/money/capex"), reader.number(f"{pointer}/share")
    little = worth is not None and spent is not None and worth < HARDLY * spent
    explains = bool(share and (worth or not step.get("why")))
    told = [str(step["words"])] if step.get("words") and step.get("words") != what else []
    # Why it is worth nothing by itself has to be said; what it is worth stands beside it as a figure.
    told += [str(step["why"])] if step.get("why") and not worth else []
    told += [f"It explains {percent(share)} of what is not known of the return"] if share and explains else []
    told += ["It seldom turns the decision: most of what it may say leaves the plan on the same side"] if worth and little else []
    return {
        "at_desk": step.get("by") == "desk",
        "by": {"desk": "at a desk", "pilot": "with a pilot"}.get(str(step.get("by")), ""),
        "what": capital(what),
        "explains": explains,
        "ask": listed([str(who) for who in elements(reader.at(f"{pointer}/ask"))]),
        "words": " ".join(full_stop(capital(part)) for part in told),
        "days": reader.figure(f"{pointer}/days", lambda v: f"{v:,.3g} day{'' if v == 1 else 's'}"),
        "usd": reader.figure(f"{pointer}/usd", money) if worth and not little else None,
    }
