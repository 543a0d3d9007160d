"""`nearhall decide`: what pilots measured in place of what the plan assumed, and SCALE, HOLD or STOP for each kind of site."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from nearhall import __version__
from nearhall.cli.output import emit, libraries_aside, notes
from nearhall.core.errors import InputError
from nearhall.documents.catalogue_models import load_models
from nearhall.documents.defaults import all_defaults
from nearhall.documents.hardware import load_catalogue
from nearhall.documents.pilot_returns import read_pilots
from nearhall.documents.plan import Plan
from nearhall.documents.plan_beside import with_files
from nearhall.documents.plan_names import mistakes_with
from nearhall.documents.site_returns import SiteReturns
from nearhall.documents.whole_file import write_whole
from nearhall.documents.yaml_file import read_document

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    epilog="Example:  nearhall plan --example-named pilot > plan.yaml; nearhall up --light --seconds 60 --out pilot; "
    "nearhall decide plan.yaml --pilot pilot/pilot.json --out decision"
)
def decide(
    document: Annotated[Path | None, typer.Argument(help="The plan that the pilots were made for.", metavar="PLAN.yaml")] = None,
    pilot: Annotated[list[Path] | None, typer.Option(help="A pilot.json; several times for several pilots.")] = None,
    prometheus: Annotated[
        str | None, typer.Option(help="A Prometheus server of sites that run something else; with --mapping, --from and --to.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="A folder of CSV files of such sites; with --mapping.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="Which query or column is which quantity (nearhall/mapping/v1).")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Start, ISO 8601 (UTC), for --prometheus.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, ISO 8601 (UTC), for --prometheus.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for decision.json and report.html. Default: ./decision.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="decision.json on standard output.")] = False,
    example_mapping: Annotated[bool, typer.Option(help="Print a commented mapping.yaml, and stop.")] = False,
) -> None:
    """Replace a plan's assumptions by what pilots measured, and say SCALE, HOLD or STOP for each kind of site.

    A pilot file counts only if it lasted a day, and its coverage, clocks and energy balance hold. On simulated meters the verdict
    is REHEARSED: HOLD.
    """
    if example_mapping:
        sys.stdout.write(files("nearhall.documents").joinpath("data/examples/mapping.yaml").read_text(encoding="utf-8"))
        return
    if document is None:
        right = "the plan.yaml that the pilots were made for, and --pilot pilot.json"
        raise InputError("no plan is named", where="nearhall decide", right=right)
    if prometheus is None and (start is not None or end is not None):
        raise InputError("a period is for --prometheus", where="--from, --to", right="leave it out: a pilot file has its own")
    read = read_document(document, Plan, across=mistakes_with(load_catalogue(), load_models()))
    plan = with_files(read, document.parent)
    returns: list[SiteReturns] = [*read_pilots(pilot)] if pilot else []
    if prometheus is not None or csv is not None or mapping is not None:
        from nearhall.cli.other_returns import other_returns

        returns += other_returns(prometheus=prometheus, csv=csv, mapping=mapping, start=start, end=end)
    if not returns:
        right = "--pilot pilot.json, or --prometheus URL or --csv DIR with --mapping FILE"
        raise InputError("no pilot file is named", where="nearhall decide", right=right)
    decided = _decided(plan, returns)
    from nearhall.report.decision.page import decision_words, render_decision

    folder = out or Path("decision")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "decision.json", json.dumps(decided, indent=1, ensure_ascii=False).encode())
        write_whole(folder / "report.html", render_decision(decided).encode())
    except OSError as error:
        right = "name a folder that you may write"
        raise InputError(f"{folder} cannot be written ({error.strerror})", where="--out", right=right) from error
    closing = f"\nReport: {folder / 'report.html'}\nFigures: {folder / 'decision.json'}"
    emit(escape(decision_words(decided) + closing), decided, as_json=as_json)


def _decided(plan: Plan, returns: list[SiteReturns]) -> dict[str, Any]:
    try:
        from nearhall.planner.learning.cases import cases, kinds
        from nearhall.planner.learning.decide import decide as judge
        from nearhall.planner.learning.join import check_distinct, joined
        from nearhall.planner.plan import make_plan
        from nearhall.planner.results.decision import decision_document
        from nearhall.planner.samples.draws import Draws
    except ModuleNotFoundError as error:
        right = "make plan installs it, or pip install 'nearhall[plan]'"
        raise InputError(f"the planner needs {error.name}", where="nearhall decide", right=right) from error
    check_distinct(returns)
    with libraries_aside(), notes().status("planning again") as status:
        planned = make_plan(plan, catalogue=load_catalogue(), models=load_models(), defaults=all_defaults(), tell=status.update)
        found = cases(planned)
        if not found:
            right = "let it build some, or lower what the hub is preferred for"
            raise InputError("the plan builds no site: everything stays with the hub", where="plan", right=right)
        status.update("judging the pilots")
        draws = Draws(seed=plan.seed, samples=plan.samples)
        belong = joined(kinds(planned), returns)
        verdicts = [judge(case, belong.by_kind[case.kind], draws) for case in found]
        return decision_document(
            plan.name or "a plan",
            verdicts,
            software=f"nearhall {__version__}",
            horizon_years=plan.horizon_years,
            discount_rate=plan.discount_rate,
            joined=belong,
            choices=plan.decision.model_dump() | {"said": sorted(plan.decision.model_fields_set)},
        )
