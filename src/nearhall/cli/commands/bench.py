"""`nearhall bench`: measure a data plane on this machine, as ratios of one run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from nearhall.cli.output import console, emit, notes, wide_console
from nearhall.cli.roots.bench import built_in
from nearhall.cli.roots.bench.compare import CLIENTS, Footprint, Measured, footprint, limits_ms, measure
from nearhall.cli.roots.bench.machine import (
    Cores,
    Tree,
    available_cores,
    describe_machine,
    listener_of,
    on_cores,
    split_cores,
    warnings,
)
from nearhall.cli.roots.bench.screen import footprint_lines, legend, measured_table, warned
from nearhall.cli.roots.bench.servers import (
    FORMS,
    Against,
    Limit,
    Subject,
    against,
    check,
    gateway,
    limit_of,
    parse_against,
    subjects_of,
    unreachable,
)
from nearhall.core.errors import InputError, PermanentError

ROUNDS_MAX = 1000
SECONDS_MAX = 600.0
IDLE_S = 5.0
NO_JSON = "JSON has no form of its FP16, NaN or infinities"
EPILOG = """
What is compared: session.run in this process, with the gateway's own session options, is the limit; this gateway is started
with its defaults (metrics, validation, logging). Each slice of a server lies between two slices of the limit, and only ratios
of one run mean anything: a busy machine slows both.

Examples:  nearhall bench serve (the two test models, every form that the gateway serves)  ·
nearhall bench serve --repository ~/.cache/nearhall/models --model voice  ·
nearhall bench serve --form json --against triton=http://127.0.0.1:8000  (it must serve a model `conv` of the same kind, or
name its own: http://127.0.0.1:8000/MODEL).

A full run with every goal and its verdict: make bench.
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None, help=__doc__, no_args_is_help=True)


@app.callback()
def group() -> None:
    """Measure a data plane on this machine, as ratios of one run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a run was asked to do."""

    repository: Path | None
    models: Sequence[str]
    forms: Sequence[str]
    others: Sequence[Against]
    rounds: int
    seconds: float
    cores: Cores


@app.command(epilog=EPILOG)
def serve(
    repository: Annotated[
        Path | None,
        typer.Option(help="A model repository. Default: two test models, a 1 ms conv net (48 KB input) and a tiny one."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model of it; may be given again. Only ONNX models have a limit.")
    ] = None,
    against_: Annotated[
        list[str] | None,
        typer.Option("--against", help="NAME=http://HOST:PORT[/MODEL] or NAME=grpc://...: any v2 server with the same model."),
    ] = None,
    form: Annotated[
        list[str] | None, typer.Option(help="binary, json, grpc or unix; may be given again. Default: all that are served.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=ROUNDS_MAX, help="How often each is measured; intervals need six.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.05, max=SECONDS_MAX, help="Of each slice of a server.")] = 0.7,
    pin: Annotated[bool, typer.Option(help="Keep client and server on cores of their own.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Compare this gateway with the limit of this machine, and with any v2 server, side by side in one run.

    Answers are checked before anything is timed. Slices in which the machine was disturbed, or whose spread nothing explains,
    stay out of the figures and are counted. Where a server that was named could not be measured, the exit code is 1 after the
    others' figures.
    """
    plan = _Plan(
        repository=None if repository is None else repository.expanduser(),
        models=_models(repository, model),
        forms=_forms(form),
        others=[parse_against(text) for text in against_ or ()],
        rounds=rounds,
        seconds=seconds,
        cores=split_cores(available_cores(), pinned=pin),
    )
    screen = notes()
    doubts = warnings(plan.cores)
    if not as_json:
        screen.print(warned(doubts))
    silent = {other.name: why for other in plan.others if (why := unreachable(other)) is not None}
    told = [f"{name} is left out: {why}; the others are measured" for name, why in silent.items()]
    screen.print(warned(told), soft_wrap=True)
    plan = replace(plan, others=[other for other in plan.others if other.name not in silent])
    with on_cores(plan.cores.client), tempfile.TemporaryDirectory(prefix="nh-bench-") as folder:
        found, cost, left_out = _run(plan, Path(folder), screen)
    data = _data(plan, found, cost, [*doubts, *told, *left_out])
    paper = console() if sys.stdout.isatty() else wide_console()
    emit(_summary(found, cost, left_out, paper.width), data, as_json=as_json, screen=paper)
    if not found:
        raise PermanentError("nothing was measured")
    measured = {one.subject.server for one in found if one.one is not None}
    absent = [*silent, *(other.name for other in plan.others if other.name not in measured)]
    if absent:
        raise PermanentError(f"not measured: {', '.join(absent)}")


def _models(repository: Path | None, named: Sequence[str] | None) -> list[str]:
    if repository is None:
        unknown = [name for name in named or () if name not in built_in.SHAPES]
        if unknown:
            right = f"name its repository with --repository, or one of {', '.join(built_in.SHAPES)}"
            raise InputError(f"there is no test model {unknown[0]!r}", where="--model", right=right)
        return list(named or built_in.SHAPES)
    if not named:
        raise InputError("a repository without a model", where="--repository", right="say which with --model NAME")
    return list(dict.fromkeys(named))


def _forms(named: Sequence[str] | None) -> list[str]:
    for name in named or ():
        if name not in FORMS:
            raise InputError(f"{name!r} is no form", where="--form", right=", ".join(FORMS))
    return list(named or FORMS)


def _run(plan: _Plan, folder: Path, screen: Console) -> tuple[list[Measured], Footprint, list[str]]:
    repository = folder / "models"
    if plan.repository is None:
        built_in.write_models(repository)
    # No refreshing by itself: a thread that draws would take the client's time.
    with Live(console=screen, auto_refresh=False, transient=True) as line:
        tell = partial(_tell, line)
        limits = {name: limit_of(plan.repository or repository, name, plan.cores.server) for name in plan.models}
        forms = {name: _forms_for(name, limits[name], plan.forms) for name in plan.models}
        if plan.repository is not None:
            _only(plan.repository, plan.models, repository)
        tell("starting the gateway")
        with gateway(repository, folder, cores=plan.cores.server) as running:
            tell(f"watching it idle for {IDLE_S:g} s")
            cost = footprint(running, repository, seconds=IDLE_S)
            ours = [subject for name in plan.models for subject in subjects_of(running, name, limits[name], forms[name])]
            for subject in ours:
                check(subject, limits[subject.model])
            others, left_out = _others(plan, limits, forms)
            found = measure([*ours, *others], limits, rounds=plan.rounds, seconds=plan.seconds, tell=tell)
    bare = [f"{name} json is left out: {NO_JSON}" for name in plan.models if len(forms[name]) < len(plan.forms)]
    return found, cost, [*bare, *left_out]


def _forms_for(name: str, limit: Limit, forms: Sequence[str]) -> list[str]:
    """The forms that the model's tensors have; raises InputError where that is none of them."""
    kept = list(forms) if limit.in_json else [form for form in forms if form != "json"]
    if not kept:
        raise InputError(f"model {name!r} cannot be asked in JSON: {NO_JSON}", where="--form", right="binary, grpc or unix")
    return kept


def _only(repository: Path, models: Sequence[str], place: Path) -> None:
    """A repository of those models alone: others would take memory, and time while they load."""
    place.mkdir()
    for name in models:
        (place / name).symlink_to((repository / name).resolve())


def _tell(line: Live, text: str) -> None:
    line.update(Text(text, style="dim"), refresh=True)


def _others(plan: _Plan, limits: Mapping[str, Limit], forms: Mapping[str, Sequence[str]]) -> tuple[list[Subject], list[str]]:
    subjects: list[Subject] = []
    left_out: list[str] = []
    for other in plan.others:
        pid = listener_of(other.host, other.port)
        for name in plan.models:
            good, bad = against(other, name, limits[name], forms[name], None if pid is None else Tree(pid))
            subjects += good
            left_out += bad
        if pid is not None and plan.cores.disjoint:
            cores = ",".join(map(str, sorted(plan.cores.server)))
            left_out.append(
                f"{other.name} runs on the cores it was given: start it with `taskset -c {cores}` to compare like with like"
            )
    return subjects, left_out


def _data(plan: _Plan, found: Sequence[Measured], cost: Footprint, told: Sequence[str]) -> dict[str, Any]:
    return {
        "machine": describe_machine(),
        "compared_with": "session.run in the client's process, one thread, the gateway's own session options",
        "evidence": "measured",
        "cores": {"client": sorted(plan.cores.client), "server": sorted(plan.cores.server)},
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "clients": CLIENTS,
        "warnings": list(told),
        "limits_p50_ms": {model: round(ms, 4) for model, ms in limits_ms(found).items()},
        "rows": [one.plain() for one in found],
        "footprint": cost.plain(),
    }


def _summary(found: Sequence[Measured], cost: Footprint, left_out: Sequence[str], columns: int) -> RenderableType:
    return Group(measured_table(found, columns=columns), "", legend(), "", footprint_lines(cost), warned(left_out))
