"""`nearhall doctor`: what works on this machine, what does not, and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nearhall.cli.output import EXIT_FAILED, emit
from nearhall.cli.roots.doctor import Finding, can_run, examine
from nearhall.cli.roots.models import cache_folder

LOOKS = {"ok": ("ok", "green"), "absent": ("-", "dim"), "unknown": ("?", "yellow"), "broken": ("NO", "bold red")}
"""A word beside each colour: nobody has to see colours to read it."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Exit code 0: nearhall up can run here. 1: it cannot. Nothing is changed and no other machine is asked.")
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say what works on this machine, what does not and why, each with how to mend it."""
    findings = examine(cache_folder(os.environ))
    fit = can_run(findings)
    emit(summary(findings), {"up_can_run": fit, "findings": [asdict(finding) for finding in findings]}, as_json=as_json)
    if not fit:
        raise typer.Exit(EXIT_FAILED)


def summary(findings: Sequence[Finding]) -> RenderableType:
    """A line for each finding, its mend under it, and the verdict last, where the eye is."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    area = ""
    for finding in findings:
        word, style = LOOKS[finding.state]
        table.add_row(finding.area if finding.area != area else "", Text(word, style=style), finding.name, Text(finding.says))
        if finding.mend:
            table.add_row("", "", "", Text(f"-> {finding.mend}", style="yellow" if finding.state == "broken" else "dim"))
        area = finding.area
    broken = [finding.name for finding in findings if finding.state == "broken"]
    if broken:
        return Group(table, Text(f"\nnearhall up cannot run here: mend {', '.join(broken)} first.", style="bold red"))
    return Group(table, Text("\nnearhall up can run here.", style="bold green"))
