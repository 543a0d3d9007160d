"""`nearhall report`: pilot.json and report.html from a hub's store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from nearhall.cli.moments import moment
from nearhall.cli.output import emit
from nearhall.core.errors import InputError
from nearhall.documents.whole_file import write_whole
from nearhall.drivers.store_sqlite import SqliteStore
from nearhall.hub.pilot import build_pilot
from nearhall.report.pilot.page import render_report
from nearhall.report.pilot.summary import words

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Example:  nearhall report --store pilot/state/hub/hub.db --from 2026-11-01T08:00Z --out november")
def report(
    store: Annotated[Path, typer.Option(help="The hub's store: hub.db.")],
    out: Annotated[Path, typer.Option(help="Folder for pilot.json and report.html. Made if it is not there.")],
    start: Annotated[str | None, typer.Option("--from", help="Start, ISO 8601 (UTC). Default: the first telemetry.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, ISO 8601 (UTC). Default: the last telemetry.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of the run, for the record.", min=0)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="pilot.json on standard output.")] = False,
) -> None:
    """Write what the pilot returned: every figure with its evidence, for a period or for everything that the store holds."""
    start_s, end_s = moment(start, "--from"), moment(end, "--to")
    held = SqliteStore.open_existing(store)
    try:
        span = held.span()
        if span is None:
            right = "let a site report to this hub first"
            raise InputError("holds no telemetry yet", where=str(store), right=right)
        begin, finish = (start_s if start_s is not None else span[0]), (end_s if end_s is not None else span[1])
        if begin >= finish:
            raise InputError("the period ends before it begins", where="--from, --to", right="an earlier --from or a later --to")
        pilot = build_pilot(held, start_s=begin, end_s=finish, seed=seed)
    finally:
        held.close()
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "pilot.json", json.dumps(pilot, indent=1, ensure_ascii=False).encode())
        write_whole(out / "report.html", render_report(pilot).encode())
    except OSError as error:
        right = "name a folder that you may write"
        raise InputError(f"{out} cannot be written ({error.strerror})", where="--out", right=right) from error
    closing = f"\nReport: {out / 'report.html'}\nFigures: {out / 'pilot.json'}"
    emit(escape(words(pilot) + closing), pilot, as_json=as_json)
