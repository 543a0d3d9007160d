"""What a pilot leaves: pilot.json, report.html, and a summary in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from nearhall.cli.pilot.layout import Layout
from nearhall.cli.pilot.run import Ended
from nearhall.documents.whole_file import write_whole
from nearhall.drivers.store_sqlite import SqliteStore
from nearhall.hub.pilot import build_pilot
from nearhall.report.pilot.page import render_report
from nearhall.report.pilot.summary import words


def write_returns(layout: Layout, out: Path, ended: Ended) -> tuple[str, Mapping[str, object]]:
    """Writes pilot.json and report.html into `out`; gives the summary and the document.

    With the hub elsewhere there is no store here: the hub's own `nearhall report` writes them.
    """
    if layout.hub is None:
        url = layout.up.hub.url
        report = "its operator writes the report on its machine: nearhall report --store STATE/hub.db --out FOLDER"
        text = f"The hub at {url} holds this pilot's telemetry; {report}"
        if not ended.drained:
            waits = f"Not all telemetry reached the hub at {url}: the rest waits in {out}/state/sites/*/outbox.db"
            text = f"{waits}. Of what did, {report}"
        return text, {"schema": "nearhall/pilot/v1", "hub": url, "drained": ended.drained, "players": ended.players}
    store = SqliteStore(layout.hub.folder / "hub.db")
    try:
        pilot = build_pilot(store, start_s=ended.started_s, end_s=ended.ended_s, seed=layout.up.seed)
    finally:
        store.close()
    pilot["players"] = ended.players  # what was seen from outside, beside what the sites counted themselves
    pilot["evidence"]["/players"] = {"kind": "measured", "source": "counters and clock of the players, outside the product"}
    write_whole(out / "pilot.json", json.dumps(pilot, indent=1, ensure_ascii=False).encode())
    write_whole(out / "report.html", render_report(pilot).encode())
    closing = f"\nReport: {out / 'report.html'}\nFigures: {out / 'pilot.json'}\nRepeat: nearhall up {out / 'pilot.yaml'}"
    if not ended.drained:
        closing = "\nSome telemetry did not reach the hub in time; the report covers what did." + closing
    return words(pilot) + closing, pilot
