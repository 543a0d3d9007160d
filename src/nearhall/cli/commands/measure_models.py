"""`nearhall models profile` and `quantise`: what variants take here, and smaller ones that keep their quality."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from nearhall.cli.output import emit, notes
from nearhall.cli.profiling.agreement import METRICS
from nearhall.cli.profiling.chat import chat_steps, measure_chats
from nearhall.cli.profiling.elsewhere import measure_elsewhere
from nearhall.cli.profiling.measure import Tell, Wish, check_meter, measure, plain, slices
from nearhall.cli.profiling.place import Place, find_model
from nearhall.cli.profiling.prompts import Prompts, find_prompts
from nearhall.cli.profiling.quantise import Ask, Way, check
from nearhall.cli.profiling.quantise import quantise as make_int8
from nearhall.cli.profiling.tables import details, quantised, variants_table
from nearhall.cli.roots.models import cache_folder
from nearhall.core.errors import InputError
from nearhall.documents.profile import BATCH_MAX, POINTS_MAX, Profile, write_profile
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.host import cpu_name
from nearhall.drivers.meter_profiles import PROFILES
from nearhall.drivers.modbus_meter import ModbusMeter, find_profile, parse_meter_url, read_commissioning
from nearhall.ports.meter import Meter

EXIT_FAILED = 1
SECONDS_MAX = 3600.0
"""For each batch size; a longer run is a mistyped one."""

Model = Annotated[str, typer.Argument(help="The model's name in the repository.", metavar="MODEL")]
Repository = Annotated[Path | None, typer.Option(help="The model repository. Default: the cache's, ~/.cache/nearhall/models.")]
Data = Annotated[
    Path | None,
    typer.Option(
        help="What to run it on: a .npz of inputs by name, samples along the first axis; a .npy for a model with one input; a "
        "folder of .npy, .npz or v2 .json requests; for a language model prompts: .txt, .jsonl, or .json chat requests. Default: "
        "what nearhall ships for models of that form, else random numbers; prompts.jsonl beside model.yaml, else nearhall's own."
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(help=f"How agreement is measured: {', '.join(METRICS)}. Default: by what the outputs look like, which is told."),
]
MeterUrl = Annotated[
    str | None, typer.Option(help="modbus://HOST[:PORT]/UNIT of a meter at this server's plug; idle power is taken off.")
]
MeterProfile = Annotated[str, typer.Option(help=f"The meter's register map: {', '.join(PROFILES)}.")]
Commissioning = Annotated[Path | None, typer.Option(help="The meter's commissioning record (JSON): without one it is `assumed`.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def profile(
    model: Model,
    variant: Annotated[str | None, typer.Option(help="Which variant. Default: the model's default one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every variant, side by side.")] = False,
    repository: Repository = None,
    data: Data = None,
    batches: Annotated[str, typer.Option(help="Batch sizes to measure, where the model takes them.")] = "1,2,4,8",
    seconds: Annotated[float, typer.Option(help="To spend on each batch size (chat: on each number of answers at once).")] = 2.0,
    metric: Metric = None,
    reference: Annotated[
        str | None, typer.Option(help="The variant that agreement is measured against. Default: the model's default one.")
    ] = None,
    meter: MeterUrl = None,
    meter_profile: MeterProfile = "sdm630",
    commissioning: Commissioning = None,
    as_json: Json = False,
) -> None:
    """Measure variants of a model here, and write profile.json beside each: latency, memory, joules, agreement.

    Each variant runs in a process of its own, in turn with the others. Batches are measured up to what the model takes;
    the gateway batches only what pays by such a curve, on the same device. For a language model: time to the first token and
    tokens a second with 1, 4 and 8 answers at once, and the share of the reference's tokens that it would have said too. Of a
    model on another server: its latency alone.
    """
    place = find_model(repository or cache_folder(os.environ) / "models", model)
    if every and variant is not None:
        raise InputError("a variant is named, and all are asked for", where="--all", right="give --variant or --all")
    names = sorted(place.variants) if every else [place.variant(variant)]
    opened, name = _meter(meter, meter_profile, commissioning)
    wish = Wish(
        cache=cache_folder(os.environ),
        data=data,
        batches=_sizes(batches),
        seconds=_seconds(seconds),
        metric=_metric(metric),
        reference=reference,
        meter=opened,
        meter_name=name,
    )
    if opened is not None and all(place.variants[each].runtime in {"genai", "upstream"} for each in names):
        raise InputError("a meter is read for tensor models alone", where="--meter", right="leave it out")
    prompts = _prompts(place, names, wish)
    check_meter(wish)
    with _progress(_steps(place, names, wish, prompts)) as tell:
        profiles = _measured(place, names, wish, prompts, tell)
    paths = [write_profile(place.folder(each.variant), each) for each in profiles]
    parts: list[Any] = [details(each) for each in profiles]
    written = Text("\n".join(f"written: {path}" for path in paths))
    if len(place.variants) > 1:
        parts += [Text(""), variants_table(place, cpu=cpu_name())]
    emit(
        Group(*parts, written),
        {"model": model, "profiles": [plain(each) for each in profiles], "files": [str(path) for path in paths]},
        as_json=as_json,
    )


def quantise(
    model: Model,
    source: Annotated[str | None, typer.Option("--from", help="The variant to make it from. Default: the default one.")] = None,
    to: Annotated[str, typer.Option(help="What to make: int8.")] = "int8",
    name: Annotated[str, typer.Option(help="The new variant's name.")] = "int8",
    repository: Repository = None,
    data: Data = None,
    quality_min: Annotated[
        float, typer.Option(help="The least agreement with the reference variant, 0 to 1; below it nothing is kept.")
    ] = 0.98,
    static: Annotated[
        bool, typer.Option("--static", help="Calibrate activations with samples. Default where there are any.")
    ] = False,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="No calibration. Default without samples, for products of matrices.")
    ] = False,
    metric: Metric = None,
    batches: Annotated[str, typer.Option(help="Batch sizes to compare, where the model takes them; 1 decides.")] = "1,8",
    seconds: Annotated[float, typer.Option(help="To spend on each batch size of each of the two.")] = 4.0,
    keep_slower: Annotated[bool, typer.Option(help="Keep it even where it is slower here, for its size.")] = False,
    make_default: Annotated[bool, typer.Option(help="Make it the variant that is served.")] = False,
    as_json: Json = False,
) -> None:
    """Make an int8 variant of an ONNX model, measure it beside what it was made from, and keep it only if it is worth it.

    A third of the samples calibrates it, the others judge it. It is refused (exit 1) where it agrees with the reference
    less than --quality-min, or is no faster here. Served as before until it is made the default.
    """
    place = find_model(repository or cache_folder(os.environ) / "models", model)
    if to != "int8":
        raise InputError(f"{to!r} cannot be made", where="--to", right="int8")
    if static and dynamic:
        raise InputError("both are asked for", where="--static", right="give --static, --dynamic, or neither")
    if not 0.0 < quality_min <= 1.0:
        raise InputError(f"{quality_min:g} is no share", where="--quality-min", right="above 0, at most 1, such as 0.98")
    way: Way | None = "static" if static else "dynamic" if dynamic else None
    ask = Ask(
        source=place.variant(source, option="--from"),
        name=_variant_name(name),
        quality_min=quality_min,
        way=way,
        keep_slower=keep_slower,
        make_default=make_default,
    )
    check(place, ask)
    wish = Wish(
        cache=cache_folder(os.environ), data=data, batches=_sizes(batches), seconds=_seconds(seconds), metric=_metric(metric)
    )
    with _progress(slices(2, wish)) as tell:
        made = make_int8(place, ask, wish, tell)
    shown = {
        "model": model,
        "kept": made.kept,
        "said": made.said,
        "way": made.way,
        "speedup": round(made.speedup, 3),
        "bytes": {"before": made.bytes_before, "after": made.bytes_after},
        "profiles": {"before": plain(made.before), "after": plain(made.after)},
        "folder": str(place.folder(ask.name)) if made.kept else None,
    }
    emit(quantised(made, place), shown, as_json=as_json)
    if not made.kept:
        raise SystemExit(EXIT_FAILED)


def _prompts(place: Place, names: Sequence[str], wish: Wish) -> Prompts | None:
    """What language models are asked; None where there is none. Raises InputError before anything is measured."""
    if not any(place.variants[name].runtime == "genai" for name in names):
        return None
    if wish.metric is not None:
        raise InputError("a language model is compared token by token", where="--metric", right="leave it out")
    return find_prompts(wish.data, place.path.parent)


def _measured(place: Place, names: Sequence[str], wish: Wish, prompts: Prompts | None, tell: Tell) -> list[Profile]:
    local, chats, remote = _parted(place, names)
    found = measure(place, local, wish, tell) if local else []
    if prompts is not None:
        found += measure_chats(place, chats, wish, prompts, tell)
    found += [measure_elsewhere(place, name, wish, tell) for name in remote]
    return sorted(found, key=lambda each: names.index(each.variant))


def _steps(place: Place, names: Sequence[str], wish: Wish, prompts: Prompts | None) -> int:
    local, chats, remote = _parted(place, names)
    asked = 0 if prompts is None else len(prompts.prompts)
    return slices(len(local), wish) + chat_steps(chats, place.reference(wish.reference), asked) + len(remote)


def _parted(place: Place, names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """(tensor models that run here, language models, those of another server)."""
    runtimes = {name: place.variants[name].runtime for name in names}
    chats = [name for name in names if runtimes[name] == "genai"]
    remote = [name for name in names if runtimes[name] == "upstream"]
    return [name for name in names if name not in {*chats, *remote}], chats, remote


@contextmanager
def _progress(steps: int) -> Generator[Tell]:
    """A bar on standard error, gone at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes(), transient=True) as bar:
        task = bar.add_task("starting", total=steps)

        def tell(text: str) -> None:
            bar.update(task, advance=1, description=text)

        try:
            yield tell
        except KeyboardInterrupt:
            notes().print("stopped; nothing was written", style="red", markup=False)
            raise


def _meter(url: str | None, profile_name: str, commissioning: Path | None) -> tuple[Callable[[], Meter] | None, str]:
    """How the meter is opened, and what it is called in sources; raises InputError before anything is measured."""
    if url is None:
        if commissioning is not None:
            raise InputError("there is no meter", where="--commissioning", right="give --meter too")
        return None, ""
    address, registers = parse_meter_url(url), find_profile(profile_name)
    record = None if commissioning is None else read_commissioning(commissioning)

    def opened() -> Meter:
        return ModbusMeter(address, registers, clock=SystemClock(), commissioning=record)

    return opened, f"{registers.name} at {address.host}:{address.port}/{address.unit}"


def _sizes(text: str) -> tuple[int, ...]:
    right = "whole numbers with commas, such as 1,2,4,8"
    try:
        sizes = sorted({int(part) for part in text.split(",")} | {1})
    except ValueError as error:
        raise InputError(f"{text!r} are no batch sizes", where="--batches", right=right) from error
    if sizes[0] < 1 or sizes[-1] > BATCH_MAX or len(sizes) > POINTS_MAX:
        raise InputError(
            f"{text!r} are no batch sizes", where="--batches", right=f"at most {POINTS_MAX} of them, from 1 to {BATCH_MAX}"
        )
    return tuple(sizes)


def _seconds(seconds: float) -> float:
    if not 0 < seconds <= SECONDS_MAX:
        raise InputError(f"{seconds:g} cannot be", where="--seconds", right=f"above 0, at most {SECONDS_MAX:g}")
    return seconds


def _metric(metric: str | None) -> str | None:
    if metric is not None and metric not in METRICS:
        raise InputError(f"{metric!r} is no metric", where="--metric", right=f"one of {', '.join(METRICS)}")
    return metric


def _variant_name(name: str) -> str:
    if not name or len(name) > 64 or not name[0].isalnum() or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
        raise InputError(f"{name!r} is no name of a variant", where="--name", right="letters, digits, dots, dashes; at most 64")
    return name
