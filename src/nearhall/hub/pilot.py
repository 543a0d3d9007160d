"""pilot.json: what a pilot returned, from the hub's store, every figure with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any

from nearhall import __version__
from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind, weakest
from nearhall.hub.about import MeterAbout, parse_about
from nearhall.hub.evidence import Ledger
from nearhall.hub.period import Block, MeterSum, NodePeriod, SitePeriod, by_site
from nearhall.hub.pilot_energy import Books, energy, it_position, say_energy
from nearhall.hub.pilot_workload import Shares, link_kind, workload
from nearhall.physics.pue import CATEGORY_BY_POSITION, is_interim, pue
from nearhall.ports.store import Store
from nearhall.wire.telemetry import Event

SCHEMA = "nearhall/pilot/v1"
EVENTS_MAX = 500

Json = dict[str, Any]


def build_pilot(store: Store, *, start_s: float, end_s: float, seed: int | None) -> Json:
    """The document for [start_s, end_s); raises InputError when no site reported in that period."""
    rows = store.sites()
    abouts = {row.site: parse_about(row.about) for row in rows}
    seen_s = {row.site: row.first_seen_s for row in rows}
    periods = by_site(store.records(start_s, end_s), abouts, start_s=start_s, end_s=end_s, first_seen_s=seen_s)
    if not any(period.records for period in periods.values()):
        right = "name a period in which the pilot ran (--from, --to)"
        raise InputError("the store holds no telemetry of this period", where=f"{iso(start_s)} to {iso(end_s)}", right=right)
    ledger = Ledger()
    sites = [_site(name, period, f"/sites/{index}", ledger) for index, (name, period) in enumerate(sorted(periods.items()))]
    document: Json = {
        "schema": SCHEMA,
        "run": {"started": iso(start_s), "ended": iso(end_s), "software": f"nearhall {__version__}", "seed": seed},
        "evidence": ledger.entries,
        "counts": {},
        "sites": sites,
        "totals": _totals(sites),
        "events": _events(periods),
    }
    ledger.say("/totals", Kind.MEASURED, "sums of the gateways' counters and of the kernel's counts of their connections")
    document["counts"] = ledger.counts(document)
    return document


def iso(seconds: float) -> str:
    """UTC, ISO 8601, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _site(name: str, period: SitePeriod, pointer: str, ledger: Ledger) -> Json:
    about, several = period.about, len(period.nodes) > 1
    shares = Shares.of(period)
    books = shares.books
    _evidence(period, shares, pointer, ledger)
    workloads = [
        workload(item, period, shares, f"{pointer}/workloads/{index}", ledger) for index, item in enumerate(shares.workloads)
    ]
    return {
        "id": name,
        "class": about.site_class,
        "jurisdiction": about.jurisdiction,
        "period": {"start": iso(period.start_s), "end": iso(period.end_s)},
        "coverage": round(period.coverage, 4),
        "clock_error_ms": period.clock_error_ms,
        "nodes": [_node(node, period.covered_by(session)) for session, node in period.nodes.items()] if several else [],
        "host": {**about.host, "hardware": about.catalogue.id},
        "link": {
            "rtt_ms": shares.rtt_ms,
            "mbps": about.link.mbps,
            "observed_rtt_ms": _middle(period.round_trips),
            "agent_bytes": period.agent_bytes,
            "measured": about.link.measured,
        },
        "meters": [_meter(meter, period.meters.get(meter.id), name) for meter in about.meters if meter.position != "other"],
        "workloads": workloads,
        "energy": energy(period, books),
        "pue": _pue(period, books),
        "blocks": [_block(block) for block in period.blocks],
        "series": period.series(),
    }


def _node(node: NodePeriod, coverage: float) -> Json:
    return {
        "id": node.id,
        "hardware": node.hardware,
        "host": node.about.host,
        "heard": node.heard,
        "coverage": round(coverage, 4),
        "clock_error_ms": node.clock_error_ms,
    }


def _meter(about: MeterAbout, seen: MeterSum | None, site: str) -> Json:
    virtual = seen is not None and seen.virtual
    return {
        "id": about.id,
        "position": about.position,
        "protocol": about.protocol,
        "serial": about.serial or (f"VIRTUAL-{site}-{about.position}" if virtual else None),
        "class_percent": about.class_percent,
        "ct_ratio": about.ct_ratio,
        "virtual": virtual,
        "kind": (seen.kind if seen is not None and seen.kind is not None else Kind.ASSUMED).value,
    }


def _evidence(period: SitePeriod, shares: Shares, pointer: str, ledger: Ledger) -> None:
    """What vouches for a site's figures, except its workloads'."""
    books, link = shares.books, period.about.link
    kind = link_kind(period.about)
    at_once, worst = ("; of all nodes at once", "; of the nodes the worst") if len(period.nodes) > 1 else ("", "")
    ledger.say(f"{pointer}/coverage", Kind.MEASURED, f"records that reached the hub, over the period{at_once}")
    clock = f"the exchange with the shortest round trip between site and hub{worst}"
    ledger.say(f"{pointer}/clock_error_ms", Kind.MEASURED, clock)
    if len(period.nodes) > 1:
        ledger.say(f"{pointer}/nodes", Kind.MEASURED, "records of each node that reached the hub, over the period")
    ledger.say(f"{pointer}/host", Kind.MEASURED, "as the site's operating system says")
    ledger.say(f"{pointer}/meters", Kind.VENDOR, "data sheet of the instrument, or its commissioning record")
    through = (
        "the kernel's shortest round trips (TCP_INFO) to whatever ends the connection"
        if kind is Kind.MEASURED
        else (link.source or "as the site was set up")
    )
    ledger.say(f"{pointer}/link", kind, through)
    ledger.say(f"{pointer}/link/mbps", Kind.ASSUMED if kind is Kind.MEASURED else kind, link.source or "as the site was set up")
    ledger.say(f"{pointer}/link/observed_rtt_ms", kind, "median of the agent's exchanges, the hub's own time taken off")
    if link.measured is not None:
        ledger.say(f"{pointer}/link/measured", Kind.MEASURED, "nearhall up --hub-probe, from this machine before the run")
    ledger.say(f"{pointer}/link/agent_bytes", Kind.MEASURED, "TCP payload with TLS, counted by the kernel (TCP_INFO)")
    say_energy(ledger, f"{pointer}/energy", books)
    it = it_position(books)
    ratio = f"energy registers: feed over {it or 'it'}, the same period"
    if not books.comparable("feed", it or "it"):
        ratio = f"none: of feed and {it or 'it'} one meter is real and one virtual, which do not see the same load"
    ledger.say(f"{pointer}/pue", books.kind("feed", it or "it"), ratio)
    instrument = "the virtual cabinet" if books.whole_kind is Kind.SIMULATED else "the site's instruments"
    for part in ("blocks", "series"):
        ledger.say(f"{pointer}/{part}", books.whole_kind, f"registers and readings of {instrument}")
    for index in range(len(period.blocks)):
        for part in ("slo", "bytes", "it_load"):
            ledger.say(f"{pointer}/blocks/{index}/{part}", Kind.MEASURED, "counters of the gateway and of the kernel")
    for part in ("t_s", "local_p50_ms", "local_per_s", "hub_per_s"):
        ledger.say(f"{pointer}/series/{part}", Kind.MEASURED, "clock and counters of the gateway")
    ledger.say(f"{pointer}/series/hub_p50_ms", weakest([Kind.MEASURED, kind]), "clock of the gateway, over the link as it was")


def _pue(period: SitePeriod, books: Books) -> Json:
    position = it_position(books)
    facility, it = books.kwh("feed"), (None if position is None else books.kwh(position))
    apart = position is None or not books.comparable("feed", position)
    value = None if facility is None or it is None or apart else pue(facility_kwh=facility, it_kwh=it)
    return {
        "value": None if value is None else round(value, 4),
        "category": None if position is None else CATEGORY_BY_POSITION[position],
        "interim": is_interim(period.end_s - period.start_s),
    }


def _block(block: Block) -> Json:
    return {
        "start": iso(block.start_s),
        "end": iso(block.end_s),
        "register_kwh": {
            name: [meter.first_kwh, meter.last_kwh] for name, meter in block.meters.items() if meter.last_kwh is not None
        },
        "outdoor_c": round(sum(block.outdoor) / len(block.outdoor), 2) if block.outdoor else None,
        "it_load": None if block.it_load is None else round(block.it_load, 4),
        "slo": {name: [block.good.get(name, 0), total] for name, total in block.total.items()},
        "bytes": {"sent": block.sent, "raw": block.raw},
    }


def _totals(sites: list[Json]) -> Json:
    requests: dict[str, Any] = {
        "total": 0,
        "local": 0,
        "hub": 0,
        "rejected": {},
        "failed": 0,
        "cancelled": 0,
        "late": 0,
        "within_10_ms": 0,
    }
    sent = probe = raw = 0
    sent_where_raw = 0
    for site in sites:
        sent += site["link"]["agent_bytes"]  # once, and also where no workload could take its share
        for item in site["workloads"]:
            for name in requests:
                if name == "rejected":
                    for reason, count in item["requests"]["rejected"].items():
                        requests["rejected"][reason] = requests["rejected"].get(reason, 0) + count
                else:
                    requests[name] += item["requests"][name]
            moved = item["upstream_bytes"]
            sent += moved["sent"] - moved["sent_telemetry"]
            probe += moved["probe"]
            if moved["raw"] is not None:
                raw += moved["raw"]
                sent_where_raw += moved["sent"]
    saved = round(1.0 - sent_where_raw / raw, 6) if raw else None
    return {"requests": requests, "upstream_bytes": {"raw": raw or None, "sent": sent, "probe": probe, "saved_fraction": saved}}


def _events(periods: Mapping[str, SitePeriod]) -> list[Json]:
    rows = [
        {"at_s": event.at_s, "at": iso(event.at_s), "site": site, "kind": event.kind, "text": event.text, "level": event.level}
        for site, period in periods.items()
        for event in [*period.events, *_silent(site, period)]
    ]
    return sorted(rows, key=lambda row: row["at_s"])[-EVENTS_MAX:]


def _silent(site: str, period: SitePeriod) -> list[Event]:
    """One event for each node that its site names and that sent no record."""
    return [
        Event(
            at_s=period.end_s,
            kind="node_missing",
            text=f"node {node.id} of {site} sent nothing in this period: what it served is not counted, and the site not covered",
            level="error",
        )
        for node in period.nodes.values()
        if not node.heard and len(period.nodes) > 1
    ]


def _middle(values: list[float]) -> float | None:
    return round(median(values), 3) if values else None
