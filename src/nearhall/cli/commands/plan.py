"""`nearhall plan`: which workloads belong at a small site, how its cabinet must be built, what it costs, what to measure next."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from nearhall import __version__
from nearhall.cli.output import emit, libraries_aside, notes, wide_console
from nearhall.cli.stoppable import Stoppable
from nearhall.core.errors import InputError, NearhallError
from nearhall.documents.catalogue_models import load_models
from nearhall.documents.defaults import all_defaults
from nearhall.documents.hardware import load_catalogue
from nearhall.documents.plan import Plan
from nearhall.documents.plan_beside import with_files
from nearhall.documents.plan_names import mistakes_with
from nearhall.documents.yaml_file import read_document

WORST_GAP = 0.1
"""A placement that was stopped and may cost so much more than the least possible is not worth a report."""
EXAMPLES = ("retail", "factory", "telco", "pilot")

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    epilog="Start with:  nearhall plan --example > plan.yaml; nearhall plan plan.yaml --out plan   ·   other examples: "
    "--example-named factory, --example-named telco"
)
def plan(
    document: Annotated[Path | None, typer.Argument(help="What to plan.", metavar="[PLAN.yaml]")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for plan-result.json, report.html, bill-of-materials.csv and sites/; with --json too. Default: ./plan."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="plan-result.json, or a list, on standard output.")] = False,
    example: Annotated[bool, typer.Option(help="Print a commented plan that plans at once, and stop.")] = False,
    example_named: Annotated[str | None, typer.Option(help=f"Print another example: {', '.join(EXAMPLES)}.")] = None,
    defaults: Annotated[bool, typer.Option(help="List every number that a plan may leave out, and stop.")] = False,
    hardware: Annotated[bool, typer.Option(help="List the hardware catalogue, and stop.")] = False,
    models: Annotated[bool, typer.Option(help="List the model catalogue, and stop.")] = False,
    samples: Annotated[int | None, typer.Option(help="Draws, instead of the plan's.", min=200, max=200_000)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the draws, instead of the plan's.", min=0)] = None,
) -> None:
    """Plan small sites against a regional hub: where each workload belongs, and why.

    Also hardware, breaker, UPS, cooling, money, feeders, and what to measure next. Every figure says what it rests on, and
    `nearhall decide` replaces assumptions by measurements.
    """
    if example or example_named is not None:
        sys.stdout.write(_example(EXAMPLES[0] if example_named is None else example_named))
        return
    if defaults or hardware or models:
        _list(_defaults() if defaults else (_hardware() if hardware else _models()), as_json=as_json)
        return
    if out is not None and str(out) in {"", "."}:
        raise InputError(
            "would fill the folder that you are in", where="--out", right="name a folder of its own, such as --out plan"
        )
    if document is None:
        raise InputError("no plan is named", where="nearhall plan", right="nearhall plan --example > plan.yaml writes one")
    read = with_files(read_document(document, Plan, across=mistakes_with(load_catalogue(), load_models())), document.parent)
    changed: dict[str, Any] = {k: v for k, v in (("samples", samples), ("seed", seed)) if v is not None}
    read = read.model_copy(update=changed)
    from nearhall.cli.plan_files import in_json, write_plan
    from nearhall.report.plan.page import plan_words

    result = in_json(_planned(read))
    written = write_plan(out or Path("plan"), read, result)
    names = {path.name: path for path in written}
    closing = (
        f"\nReport: {names['report.html']}\nFigures: {names['plan-result.json']}\nParts: {names['bill-of-materials.csv']}\n"
        + "".join(f"Site: {path}\n" for path in written if path.suffix == ".yaml")
    )
    emit(escape(plan_words(result) + closing.rstrip()), result, as_json=as_json)


def _planned(read: Plan) -> dict[str, Any]:
    try:
        from nearhall.planner.plan import make_plan
        from nearhall.planner.results.plan import result_document
    except ModuleNotFoundError as error:
        right = "make plan installs it, or pip install 'nearhall[plan]'"
        raise InputError(f"the planner needs {error.name}", where="nearhall plan", right=right) from error
    with libraries_aside(), notes().status("planning") as status, Stoppable() as stop:

        def tell(words: str) -> None:
            stop.armed = words.startswith("placing")
            status.update(f"{words} (Ctrl-C takes the best so far)" if stop.armed else words)

        planned = make_plan(
            read,
            catalogue=load_catalogue(),
            models=load_models(),
            defaults=all_defaults(),
            tell=tell,
            cancelled=lambda: stop.asked,
        )
        if stop.asked and planned.answer.gap > WORST_GAP:
            raise NearhallError("stopped before a good placement was found; nothing was written")
        status.update("writing the result")
        return result_document(planned, software=f"nearhall {__version__}")


def _example(name: str) -> str:
    if name not in EXAMPLES:
        raise InputError(f"there is no example {name!r}", where="--example-named", right=f"one of: {', '.join(EXAMPLES)}")
    return files("nearhall.documents").joinpath(f"data/examples/{name}.yaml").read_text(encoding="utf-8")


@dataclass(frozen=True)
class _Listed:
    """Rows for people and programs: the columns' names, the rows."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def _list(listed: _Listed, *, as_json: bool) -> None:
    """As a table, whose rows stay one line each where a program reads, or as JSON."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column(listed.columns[0], no_wrap=True)
    for column in listed.columns[1:]:
        table.add_column(column, overflow="fold", no_wrap=not sys.stdout.isatty())
    for row in listed.rows:
        table.add_row(*(escape(cell) for cell in row))
    rows = {"rows": [dict(zip(listed.columns, row, strict=True)) for row in listed.rows]}
    emit(table, rows, as_json=as_json, screen=None if sys.stdout.isatty() else wide_console())


def _defaults() -> _Listed:
    rows: list[tuple[str, ...]] = []
    for name, default in sorted(all_defaults().items()):
        q = default.amount
        values = " / ".join(f"{value:.3g}" for value in (q.p10, q.p50, q.p90))
        words = f"{default.words} ({q.evidence.kind.value}: {q.evidence.source})"
        rows.append((name, f"{values} {'' if q.unit == '1' else q.unit}".strip(), words))
    return _Listed(("name", "P10 / P50 / P90", "what it is, and where it comes from"), rows)


def _hardware() -> _Listed:
    rows = [
        (
            system.id,
            system.name,
            f"{system.mem_gib:g}",
            f"{system.idle_w:g} to {system.busy_w:g}",
            ", ".join(sorted({run.model for run in system.benchmarks})),
            ", ".join(system.refs),
        )
        for system in load_catalogue().systems
    ]
    return _Listed(("id", "what", "GiB", "idle to busy W", "benchmarks", "refs"), rows)


def _models() -> _Listed:
    rows = [
        (
            model.id,
            model.kind,
            f"{model.params / 1e6:,.1f} M",
            ", ".join(str(v.bits) for v in model.variants),
            f"{model.name}: {model.source}",
            f"mlperf:{model.mlperf}" if model.mlperf is not None else "",
        )
        for model in load_models().models
    ]
    return _Listed(("id", "kind", "parameters", "bits", "source", "refs"), rows)
