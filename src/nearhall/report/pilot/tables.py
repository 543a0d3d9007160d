"""The rows of a pilot report's tables: every cell a `Figure`, so that none stands without its evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from nearhall.core.evidence import Kind
from nearhall.core.histogram import SAMPLES_NEEDED
from nearhall.report.evidence_marks import Figure
from nearhall.report.formats import (
    NO_VALUE,
    celsius,
    count,
    date_and_time,
    mbps,
    ms,
    percent,
    plain,
    ratio,
    signed_ms,
    significant,
    size,
    usd,
)
from nearhall.report.formats import (
    energy as energy_text,
)
from nearhall.report.pilot.verdict import Finding, find, pays_above
from nearhall.report.reader import NOT_IN_DOCUMENT, PilotReader, SiteView, WorkloadView, elements, escaped, members

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
FIGURES_LISTED_MAX = 5000
"""A long run's blocks make tens of thousands of figures; a browser lays out this many rows in about a second."""

REFUSED_BECAUSE: dict[str, str] = {
    "restarting": "the gateway was starting; the agent answered in its place, so clients knew to retry",
    "draining": "the gateway was being stopped on purpose",
    "deadline": "no place that was allowed could have answered in time",
    "queue_full": "more requests were waiting than the bounded queue holds",
    "residency": "only a place that the residency rule forbids could have answered",
    "hub_unreachable": "only the hub could have answered, and the link or the hub was down",
    "model_unknown": "neither site nor hub knows the model",
    "model_not_ready": "the model was loading and no other place was allowed",
    "bad_request": "the request was malformed",
    "unsupported": "the request asked for something this server does not do",
    "too_large": "the body was over the limit",
    "runtime_failed": "the runtime broke while it worked on the request",
}

SO: dict[Finding, tuple[str, str]] = {
    Finding.LOCAL: ("local sooner", "yes"),
    Finding.EVEN: ("about even", "even"),
    Finding.HUB: ("hub sooner", "no"),
    Finding.UNSURE: ("not sure yet", "even"),
    Finding.UNKNOWN: ("too few pairs", "even"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A label and its figures."""

    label: str
    figures: list[Figure]
    pairs: list[list[Figure]] = field(default_factory=list[list[Figure]])
    """Cells of several figures."""
    found: list[tuple[str, Figure]] = field(default_factory=list[tuple[str, Figure]])
    """What the application found, by name."""
    site: str = ""
    place: str = ""
    baseline: str = ""


def evidence_counts(reader: PilotReader) -> list[dict[str, Any]]:
    """How many figures there are of each kind, for the kinds that occur."""
    counted = [(kind, reader.number(f"/counts/{kind.value}")) for kind in Kind]
    return [
        {
            "kind": k,
            "n": int(n),
            "figure": Figure(text=count(n), kind=k, source="how many figures of pilot.json are of this kind"),
        }
        for k, n in counted
        if n
    ]


def where_it_pays(reader: PilotReader) -> list[Row]:
    """The round trip above which local pays, and what a thousand requests take, here and at the hub, by workload."""
    missing = "not compared: no pairs of this workload at this site"
    return [
        Row(
            label=workload.id,
            site=workload.site,
            figures=[workload.figure("break_even_rtt_ms", partial(pays_above, workload), missing=missing)],
            pairs=[_per_thousand(workload, place) for place in ("local", "hub")],
        )
        for workload in reader.workloads
    ]


def price(reader: PilotReader) -> Figure | None:
    """The tariff that costs rest on, as its evidence words it."""
    for workload in reader.workloads:
        figure = workload.figure("per_thousand/local/cost_usd", usd)
        if not figure.missing and figure.source:
            return Figure(text=figure.source, kind=figure.kind, source="the tariff of this report")
    return None


def link_round_trips(reader: PilotReader) -> list[Figure]:
    """The link's round trip, a figure for each site."""
    return [site.figure("link/rtt_ms", ms, missing="the site did not report its round trip") for site in reader.sites]


def in_time(reader: PilotReader) -> dict[str, Any]:
    """The share of answers within 10 ms, and what was late, refused or failed, of all sites."""
    base = "/totals/requests"
    share = _share(reader)
    refused = list(reader.counts(f"{base}/rejected").items())
    rows: list[tuple[str, Figure]] = [
        ("requests", reader.figure(f"{base}/total", count)),
        ("answered on site", reader.figure(f"{base}/local", count)),
        ("answered by the hub", reader.figure(f"{base}/hub", count)),
        ("late (after their target)", reader.figure(f"{base}/late", count)),
    ]
    rows += [(f"refused: {plain(reason)}", reader.figure(f"{base}/rejected/{reason}", count)) for reason, n in refused if n]
    rows.append(("failed", reader.figure(f"{base}/failed", count)))
    return {"share": share, "missing": "pilot.json does not count answers within 10 ms", "rows": rows}


def _share(reader: PilotReader) -> Figure | None:
    """The share as the document has it, or as its two counts say it."""
    base = "/totals/requests"
    for name in ("within_10_ms_share", "within_10_ms_fraction"):
        if reader.number(f"{base}/{name}") is not None:
            return reader.figure(f"{base}/{name}", percent)
    within, local, hub = (reader.number(f"{base}/{name}") for name in ("within_10_ms", "local", "hub"))
    answered = (local or 0) + (hub or 0)
    return reader.texts(f"{base}/within_10_ms", percent(within / answered)) if within is not None and answered else None


def _per_thousand(workload: WorkloadView, place: str) -> list[Figure]:
    """Energy and cost of a thousand requests, each with its own evidence; or one dash."""
    base = f"per_thousand/{place}"
    known = [workload.figure(f"{base}/{name}", form) for name, form in (("energy_kwh", energy_text), ("cost_usd", usd))]
    known = [figure for figure in known if not figure.missing]
    if known:
        return known
    if place == "local" and workload.number("energy_j_per_request/full") is not None:
        # Joules of one request are kilojoules of a thousand.
        return [workload.figure("energy_j_per_request/full", lambda each: f"{significant(each)} kJ")]
    return [Figure(text=NO_VALUE, missing="nothing was answered there, or its energy is not known")]


def latencies(reader: PilotReader) -> list[Row]:
    """Latency of each workload by each place."""
    rows: list[Row] = []
    for workload in reader.workloads:
        for place in ("local", "hub"):
            base = f"latency_ms/{place}"
            if workload.number(f"{base}/n"):
                quantiles = [workload.figure(f"{base}/{q}", ms, missing=_too_few(share)) for q, share in QUANTILES.items()]
                parts = [workload.figure(f"{base}/{part}_p50", ms) for part in ("service", "queue", "network")]
                answers = workload.figure(f"{base}/n", count)
                rows.append(
                    Row(
                        label=workload.id,
                        site=workload.site,
                        place=place,
                        figures=[answers, *quantiles, *parts, first_token(workload, place)],
                    )
                )
    return rows


def first_token(workload: WorkloadView, place: str, form: Callable[[float], str] = ms) -> Figure:
    """Median time to the first token; the document may hold it plain or as an object with its quantiles."""
    if not workload.chat:
        return Figure(text="", missing="not a chat")
    below = f"ttft_ms/{place}"
    return workload.figure(below if workload.number(below) is not None else f"{below}/p50", form, missing="too few answers")


def _too_few(share: float) -> str:
    return f"needs {SAMPLES_NEEDED[share]:,} answers"


def gains(reader: PilotReader) -> list[dict[str, Any]]:
    """The paired gain of each workload and what it means."""
    rows: list[dict[str, Any]] = []
    for workload in reader.workloads:
        base = "latency_ms/gain_p50"
        low, high = (workload.number(f"{base}/{end}") for end in ("low", "high"))
        so, tone = SO[find(workload)]
        interval = Figure(text=NO_VALUE, missing="too few pairs for an interval")
        if low is not None and high is not None:
            interval = reader.texts(
                f"{workload.pointer}/{base}/low", f"{signed_ms(low).removesuffix(' ms')} to {signed_ms(high)}"
            )
        so = so if low is not None or workload.number(f"{base}/value") is not None else "not compared"
        value = workload.figure(f"{base}/value", signed_ms, missing="no pairs were compared")
        payload = workload.figure(f"{base}/payload_ms", ms, missing="nothing was taken off")
        row = {"label": workload.id, "site": workload.site, "value": value, "interval": interval, "payload": payload}
        rows.append({**row, "so": so, "tone": tone})
    return rows


def requests(reader: PilotReader) -> list[Row]:
    """Where each workload's requests went."""
    rows: list[Row] = []
    for workload in reader.workloads:
        total = sum(reader.counts(f"{workload.pointer}/requests/rejected").values())
        refused = reader.texts(f"{workload.pointer}/requests/rejected", count(total))
        figures = {name: workload.figure(f"requests/{name}", count) for name in ("local", "hub", "failed", "late")}
        found = [(plain(name), workload.figure(f"outcomes/{name}", significant_or_count)) for name in workload.counts("outcomes")]
        rows.append(
            Row(
                label=workload.id,
                site=workload.site,
                figures=[figures["local"], figures["hub"], refused, figures["failed"], figures["late"]],
                found=found,
            )
        )
    return rows


def refusals(reader: PilotReader) -> list[dict[str, Any]]:
    """What was refused and why, in words."""
    return [
        {
            "label": workload.id,
            "site": workload.site,
            "reason": reason,
            "figure": workload.figure(f"requests/rejected/{reason}", count),
            "why": REFUSED_BECAUSE.get(reason, plain(reason)),
        }
        for workload in reader.asked_for
        for reason, n in reader.counts(f"{workload.pointer}/requests/rejected").items()
        if n
    ]


def byte_rows(reader: PilotReader) -> list[Row]:
    """Bytes raw against sent, by workload and in all."""
    rows: list[Row] = []
    for workload in reader.workloads:
        base = "upstream_bytes"
        none = "chat claims no saving" if workload.chat else NOT_IN_DOCUMENT
        figures = [
            workload.figure(f"{base}/raw", size, missing=none),
            workload.figure(f"{base}/sent", size),
            workload.figure(f"{base}/saved_fraction", percent, missing=none),
            workload.figure(f"{base}/probe", size),
        ]
        baseline = str(reader.at(f"{workload.pointer}/{base}/baseline") or "")
        rows.append(Row(label=workload.id, site=workload.site, figures=figures, baseline=baseline))
    total = "/totals/upstream_bytes"
    names: tuple[tuple[str, Callable[[float], str]], ...] = (
        ("raw", size),
        ("sent", size),
        ("saved_fraction", percent),
        ("probe", size),
    )
    rows.append(
        Row(
            label="all",
            baseline="with telemetry and control",
            figures=[reader.figure(f"{total}/{name}", form) for name, form in names],
        )
    )
    return rows


def joules(reader: PilotReader) -> list[Row]:
    """What one answer took, marginal beside full, by workload."""
    missing = "no meter at the servers, no counter in them, or nothing was answered here"
    whole = "no meter at the feed, or nothing was answered here"
    return [
        Row(
            label=workload.id,
            site=workload.site,
            figures=[
                workload.figure("energy_j_per_request/marginal", joules_text, missing=missing),
                _fit(workload),
                workload.figure("energy_j_per_request/full", joules_text, missing=whole),
                workload.figure("requests/local", count),
            ],
        )
        for workload in reader.workloads
    ]


def _fit(workload: WorkloadView) -> Figure:
    """The interval that a fit over windows leaves to the marginal figure."""
    low, high = (workload.number(f"energy_j_per_request/fit/{end}") for end in ("low", "high"))
    if low is None or high is None:
        return Figure(text=NO_VALUE, missing="too few windows, or the workloads' use did not vary apart from each other")
    return workload.reader.texts(f"{workload.pointer}/energy_j_per_request/fit", f"{significant(low)} to {significant(high)} J")


def joules_text(value: float) -> str:
    """Joules of one request."""
    return f"{significant(value)} J"


def energy(site: SiteView) -> list[tuple[str, Figure]]:
    """The site's energy by place, its balance and its PUE."""
    labels = {
        "facility": "feed",
        "cooling": "cooling",
        "other": "other",
        "ups_in": "UPS input",
        "ups_out": "UPS output",
        "it": "IT",
    }
    rows = [(label, site.figure(f"energy/{name}_kwh", energy_text)) for name, label in labels.items()]
    rows += [
        (
            label,
            site.figure(
                f"energy/{name}_percent", lambda value: f"{value:.1f} %", missing="too short to tell, or a meter is missing"
            ),
        )
        for name, label in (("closure", "feed and its parts differ by"), ("tolerance", "their classes allow"))
    ]
    category = site.reader.at(f"{site.pointer}/pue/category")
    interim = ", interim" if site.reader.at(f"{site.pointer}/pue/interim") else ""
    label = f"PUE (category {category}{interim})" if category else f"PUE{interim}"
    return [*rows, (label, site.figure("pue/value", ratio, missing="too little energy to divide"))]


def site_facts(site: SiteView) -> list[tuple[str, str | Figure]]:
    """What the site is and what it ran on."""
    reader = site.reader
    rows: list[tuple[str, str | Figure]] = [
        (plain(name), str(value))
        for name in ("class", "jurisdiction")
        if (value := reader.at(f"{site.pointer}/{name}")) is not None
    ]
    for end in ("start", "end"):
        value = reader.at(f"{site.pointer}/period/{end}")
        if isinstance(value, str | int | float):
            rows.append((f"period {end}", date_and_time(value)))
    rows += [
        ("telemetry covers", site.figure("coverage", percent)),
        *(
            (
                f"of it node {node.get('id')}",
                site.figure(f"nodes/{index}/coverage", percent) if node.get("heard") else "no word of it",
            )
            for index, (_, node) in enumerate(reader.items(f"{site.pointer}/nodes"))
        ),
        ("clock off by", site.figure("clock_error_ms", ms)),
        ("round trip to the hub", site.figure("link/rtt_ms", ms)),
        ("round trip that the agent saw", site.figure("link/observed_rtt_ms", ms)),
        ("bandwidth", site.figure("link/mbps", mbps)),
    ]
    rows += [
        (plain(name), str(value))
        for name, value in reader.entries(f"{site.pointer}/host")
        if isinstance(value, str | int | float)
    ]
    for _, meter in reader.items(f"{site.pointer}/meters"):
        words = [str(meter.get("protocol") or ""), str(meter.get("serial") or "no serial")]
        rows.append((f"meter {meter.get('id')} ({meter.get('position')})", " ".join(word for word in words if word)))
    return rows


def every_figure(reader: PilotReader) -> list[dict[str, Any]]:
    """Each number of the document with its pointer and evidence, except the evidence itself and long series."""
    rows: list[dict[str, Any]] = []
    for pointer, value in _numbers(reader.pilot, ""):
        form = _form(pointer.rsplit("/", 1)[-1])
        rows.append({"pointer": pointer, "figure": reader.texts(pointer, form(value))})
        if len(rows) == FIGURES_LISTED_MAX:
            break
    return rows


_SKIPPED = frozenset({"evidence", "counts", "run", "series", "blocks", "host", "events"})


def _numbers(value: Any, pointer: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield pointer, value
    elif isinstance(value, list):
        for index, below in enumerate(elements(cast("Any", value))):
            yield from _numbers(below, f"{pointer}/{index}")
    else:
        for name, below in members(value).items():
            if name not in _SKIPPED:
                yield from _numbers(below, f"{pointer}/{escaped(name)}")


def _form(name: str) -> Callable[[float], str]:
    """How a figure is written, from the unit at the end of its name."""
    units: dict[str, Callable[[float], str]] = {
        "_kwh": energy_text,
        "_fraction": percent,
        "_usd": usd,
        "_c": celsius,
        "_mbps": mbps,
    }
    return next((form for unit, form in units.items() if name.endswith(unit)), significant_or_count)


def significant_or_count(value: float) -> str:
    """Whole numbers whole, others to four digits."""
    return count(value) if float(value).is_integer() else significant(value, 4)
