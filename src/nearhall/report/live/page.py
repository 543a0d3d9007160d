"""The hub's live page: what every site does now, kept fresh by one stream of events, and honest when the stream stops."""

from __future__ import annotations

from typing import Any

import msgspec

from nearhall.core.evidence import Kind
from nearhall.report.evidence_marks import MARKS
from nearhall.report.figures import json_in_html
from nearhall.report.live.figures import POINTS_SHOWN, keys_of, site_pictures, source_name
from nearhall.report.look import shipped
from nearhall.report.pages import render
from nearhall.report.pilot.page import BORDER
from nearhall.wire.live import LiveSite, LiveState

STALE_SECONDS = 5.0
"""The hub says something every second; after five it is not merely slow."""


def render_page(events_url: str, snapshot: LiveState) -> str:
    """The page for `snapshot`, which then follows the server-sent events at `events_url` (each a `LiveState` as JSON).

    At each start of the stream it fetches the whole state once, from the same address without `/events`.

    Names come from sites and are data here: the template escapes them, the script sets them as text only.
    """
    pictures: dict[str, Any] = {}
    for index, site in enumerate(snapshot.sites):
        pictures.update(site_pictures(index, site))
    return render(
        "page.html.j2",
        pictures=pictures,
        connect=events_url if "://" in events_url else "'self'",
        hub=snapshot.hub,
        software=snapshot.software,
        sites=[_site(index, site) for index, site in enumerate(snapshot.sites)],
        setup=json_in_html(_setup(events_url, snapshot)),
        live_script=shipped("live.js"),
    )


def _site(index: int, site: LiveSite) -> dict[str, Any]:
    """What the template needs of a site; figures come from the script, so that the first and every later state look alike."""
    return {
        "index": index,
        "id": site.id,
        "klass": site.klass,
        "jurisdiction": site.jurisdiction,
        "workloads": [
            {"index": n, "id": w.id, "model": w.model, "residency": w.residency, "chat": w.chat}
            for n, w in enumerate(site.workloads)
        ],
        "meters": [{"index": n, "id": meter.id, "position": meter.position} for n, meter in enumerate(site.meters)],
        "lines": [
            {"name": name, "title": _TITLES[name], "keys": [key | {"border": BORDER[Kind(key["kind"])]} for key in keys]}
            for name, keys in keys_of(site).items()
        ],
    }


_TITLES = {
    "latency": "Latency, requests for tensors",
    "rate": "Requests per second",
    "power": "Power by meter",
    "bytes": "Bytes per second, raw against sent",
}


def _setup(events_url: str, snapshot: LiveState) -> dict[str, Any]:
    return {
        "events": events_url,
        "stale_s": STALE_SECONDS,
        "points": POINTS_SHOWN,
        "marks": {kind.value: {"letter": mark.letter, "meaning": mark.meaning} for kind, mark in MARKS.items()},
        "shape": [
            {
                "id": site.id,
                "source": source_name(index),
                "workloads": [workload.id for workload in site.workloads],
                "meters": [meter.id for meter in site.meters],
                "kinds": site.kinds,
                "lines": sum(map(len, keys_of(site).values())),
            }
            for index, site in enumerate(snapshot.sites)
        ],
        "snapshot": msgspec.to_builtins(snapshot),
    }
