"""How figures of a run look on a screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nearhall.cli.roots.bench.compare import CLIENTS, Footprint, Measured, limits_ms
from nearhall.cli.roots.bench.goals import Says, Verdict
from nearhall.cli.roots.bench.measured import Figure, Row

_LOOKS = {Says.HOLDS: "green", Says.MISSES: "bold red", Says.NOT_JUDGED: "yellow"}


_COLUMNS = ("p50", "x limit", "95 %", "+ms", "p10 x", "p99", "CPU", "x limit", f"/s at {CLIENTS}", "of limit", "slices")
_NEEDED = (0, 1, 3, 7, 8, 10)
"""Of them, what a screen of 80 columns has room for."""
WIDE_COLUMNS = 132


def measured_table(found: Sequence[Measured], *, columns: int = WIDE_COLUMNS) -> RenderableType:
    """A line for each subject; ratios are to the limit of the same slices. `columns`: of the screen."""
    wide = columns >= WIDE_COLUMNS
    chosen = range(len(_COLUMNS)) if wide else _NEEDED
    table = Table(box=None, padding=(0, 1))
    for head in ("server", "model", "form") if wide else ("",):
        table.add_column(head, no_wrap=True)
    for index in chosen:
        head = "CPU x limit" if index == 7 and not wide else _COLUMNS[index]
        table.add_column(head, justify="right", no_wrap=index != 7)
    limits = limits_ms(found)
    for model, ms in limits.items():
        cells = [f"{ms:.3f} ms", "[bold]1.00[/bold]", *[""] * (len(_COLUMNS) - 2)]
        table.add_row(*(["limit", model, "session.run"] if wide else [f"limit {model}"]), *(cells[i] for i in chosen))
    for one in found:
        names = [f"[bold]{escape(one.subject.server)}[/bold]", one.subject.model, one.subject.form]
        cells = _cells(one)
        table.add_row(*(names if wide else [" ".join(names)]), *([cells[i] for i in chosen] if cells else ["no answer"]))
    return table


def _cells(one: Measured) -> list[str]:
    row = one.one
    if row is None:
        return []
    return [
        f"{row.p50_ms:.3f} ms",
        f"[bold]{row.p50_ratio.value:.2f}[/bold]",
        _between(row.p50_ratio),
        f"{row.added_p50_ms.value:+.3f}",
        f"{row.p10_ratio:.2f}",
        "-" if row.p99_ms is None else f"{row.p99_ms:.2f}",
        "-" if row.cpu_ms is None else f"{row.cpu_ms:.3f}",
        "-" if row.cpu_ratio is None else f"[bold]{row.cpu_ratio:.2f}[/bold]",
        f"{one.per_s:.0f}",
        "-" if one.per_s_ratio is None else f"{one.per_s_ratio:.2f}",
        _slices(row),
    ]


def _between(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f"{figure.low:.2f} to {figure.high:.2f}"


def _slices(row: Row) -> str:
    used = row.slices - row.disturbed - row.unexplained
    return f"{used}/{row.slices}" if row.headline else f"[yellow]{used}/{row.slices} noisy[/yellow]"


def legend() -> str:
    """What the columns mean, in two lines."""
    return (
        "x limit: over session.run in this process, in the slices around it. CPU: milliseconds of the server for one answer.\n"
        "slices: those that count, of all; left out: the machine was disturbed, or the spread has no explanation. "
        "noisy: no headline."
    )


def footprint_lines(one: Footprint) -> str:
    """Start, idle and memory."""
    return (
        f"start to ready {one.start_s:.2f} s · idle {one.idle_cpu_percent:.2f} % of a core · memory {one.pss_mib:.0f} MiB PSS "
        f"({one.models_mib:.1f} MiB of model files) · {one.processes} process{'es' if one.processes > 1 else ''}"
    )


def verdict_table(verdicts: Sequence[Verdict]) -> RenderableType:
    """A line for each goal."""
    table = Table(box=None, padding=(0, 1))
    table.add_column("goal")
    table.add_column("bound", no_wrap=True)
    table.add_column("this run", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("compared with")
    for one in verdicts:
        note = one.goal.beside if one.goal.beside != "nothing" else ""
        beside = f"{note} ({one.note})" if one.note and note else one.note or note
        table.add_row(one.goal.what, one.goal.shown, one.shown, Text(one.says.value, style=_LOOKS[one.says]), escape(beside))
    return table


def warned(lines: Sequence[str]) -> RenderableType:
    """What makes the figures doubtful, first and in yellow."""
    return Group(*(Text(f"! {line}", style="yellow") for line in lines))
