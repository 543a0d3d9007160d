"""`nearhall models`: add, list and fetch models; measure and shrink them; show their licences."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from nearhall.cli.commands.measure_models import profile, quantise
from nearhall.cli.output import emit, notes
from nearhall.cli.profiling.measure import plain
from nearhall.cli.profiling.place import Place, find_model
from nearhall.cli.profiling.tables import models_table, shown
from nearhall.cli.roots.add_model import Added
from nearhall.cli.roots.add_model import add_model as put_in
from nearhall.cli.roots.models import (
    CHAT,
    CLIP_PACKAGES,
    DIGITS_SOURCE,
    MODEL_PACKAGES,
    as_json,
    cache_folder,
    ensure_clips,
    ensure_default_models,
)
from nearhall.core.errors import InputError
from nearhall.documents.model import ModelDocument
from nearhall.documents.yaml_file import read_document
from nearhall.drivers.host import cpu_name

RUNTIMES = (
    "onnxruntime",
    "openvino",
    "openvino-genai",
    "openvino-tokenizers",
    "numpy",
    "scikit-learn",
    "tokenizers",
    "onnx",
    "av",
    "bokeh",
    "uvicorn",
)

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)
app.command(
    epilog="Examples:  nearhall models profile inspection --all  ·  nearhall models profile door --data frames.npz --batches 1,4"
)(profile)
app.command(epilog="Examples:  nearhall models quantise inspection  ·  nearhall models quantise door --data frames.npz")(quantise)

Repository = Annotated[Path | None, typer.Option(help="The model repository. Default: the cache's, ~/.cache/nearhall/models.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.command(
    epilog="Examples:  nearhall models add detector.onnx  ·  nearhall models add chat.gguf --name helper  ·  "
    "nearhall models add http://127.0.0.1:8000/v1 --remote-model org/big --name big"
)
def add(
    source: Annotated[str, typer.Argument(help="A .onnx, .tflite or .gguf file, or the URL of any v2 or OpenAI server.")],
    name: Annotated[str | None, typer.Option(help="What clients call it. Default: the file's name.")] = None,
    repository: Repository = None,
    remote_model: Annotated[
        str | None, typer.Option(help="For a URL: the model's name there. Default: --name, or the only model it has.")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="For a URL: a file whose first line is sent as the bearer token.")
    ] = None,
    example: Annotated[
        list[str] | None,
        typer.Option(help="What an input is tried with, where zeros with free lengths of 1 do not run: NAME=1x576, NAME=:16000."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="For a model of embeddings: its tokenizer.json; the file is an ONNX text model.")
    ] = None,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="For a URL: that model makes embeddings.")] = False,
    as_json_: Json = False,
) -> None:
    """Add a model: infers inputs and outputs, writes model.yaml, warms it up, measures it, and says how to ask it.

    The file is copied into the repository. A URL becomes an `upstream` model: requests pass through to that
    server, under this gateway's admission, residency and counting.
    """
    place = repository or _default_repository()
    added = put_in(
        source,
        place,
        name=name,
        remote_model=remote_model,
        api_key_file=api_key_file,
        examples=example or (),
        tokenizer=tokenizer,
        embeddings=embeddings,
    )
    data = {**as_json(added.document), "repository": str(added.repository), "commands": list(added.commands)}
    emit(_added(added), data, as_json=as_json_)


@app.command("list")
def list_models(repository: Repository = None, as_json_: Json = False) -> None:
    """List the models of a repository and their variants: what each takes, and how that is known.

    One whose model.yaml has a mistake is named beside the others, with the mistake; the exit code is 2 then.
    """
    folder = repository or _default_repository()
    documents, broken = _documents(folder)
    places = [Place(repository=folder, document=document) for document in documents]
    models = [_with_profiles(place) for place in places]
    data = {"repository": str(folder), "models": models, "broken": {name: str(fault) for name, fault in broken.items()}}
    table = models_table(places, cpu=cpu_name(), broken=broken)
    emit(Group(Text(str(folder)), table), data, as_json=as_json_)
    if broken:
        raise InputError("\n       ".join(map(str, broken.values())))


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="The model's name in the repository.", metavar="MODEL")],
    repository: Repository = None,
    as_json_: Json = False,
) -> None:
    """Show one model: what it takes and gives, its variants, and every figure that was measured of them with its source."""
    place = find_model(repository or _default_repository(), model)
    emit(shown(place, cpu=cpu_name()), _with_profiles(place), as_json=as_json_)


@app.command()
def fetch(
    light: Annotated[bool, typer.Option(help="Leave the chat model out.")] = False,
    as_json_: Json = False,
) -> None:
    """Fetch the default models and clips by package name and SHA-256 into the cache; what is there is not fetched again."""
    cache = cache_folder(os.environ)
    repository = ensure_default_models(cache, light=light, progress=notes())
    clips = ensure_clips(cache, progress=notes())
    documents, _ = _documents(repository)
    names = [document.name for document in documents]
    data = {"repository": str(repository), "models": names, "clips": {name: str(path) for name, path in clips.items()}}
    emit(f"{len(names)} models in {repository}: {', '.join(names)}; {len(clips)} clips", data, as_json=as_json_)


@app.command()
def licences(as_json_: Json = False) -> None:
    """Name the licence and the source of everything that set-up fetches: models, clips, training data, runtimes."""
    rows = _licences()
    table = Table("what", "licence", Column("source", overflow="fold"), box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["what"], row["licence"], row["source"])
    emit(table, {"licences": rows}, as_json=as_json_)


SOURCES: dict[str, str] = {
    "openvino-genai": "https://github.com/openvinotoolkit/openvino.genai",
    "openvino-tokenizers": "https://github.com/openvinotoolkit/openvino_tokenizers",
}
"""Of packages that name no home themselves."""


def _licences() -> list[dict[str, str]]:
    fetched = [
        {
            "what": f"{package.name} {package.version}: {', '.join(file.key for file in package.files)}"
            + (" (not with --light)" if package is CHAT else ""),
            "licence": package.licence,
            "source": package.source,
        }
        for package in (*MODEL_PACKAGES, *CLIP_PACKAGES)
    ]
    trained = {
        "what": "inspection (trained at set-up)",
        "licence": "Apache-2.0 (model); CC-BY 4.0 (data)",
        "source": DIGITS_SOURCE,
    }
    return [*fetched, trained, *filter(None, map(_installed, RUNTIMES))]


def _installed(name: str) -> dict[str, str] | None:
    try:
        about: Any = metadata(name)  # an email.message.Message, whose `get` the protocol leaves out
    except PackageNotFoundError:
        return None
    licence = str(about.get("License-Expression") or about.get("License") or "").strip()
    classifiers: list[str] = about.get_all("Classifier") or []
    classified = [value.rpartition(" :: ")[2] for value in classifiers if value.startswith("License ::")]
    short = licence.splitlines()[0][:60] if licence else ", ".join(classified)
    project_urls: list[str] = about.get_all("Project-URL") or []
    links = [value.partition(", ")[2] for value in project_urls]
    source = str(about.get("Home-page") or next(iter(links), SOURCES.get(name, "see its package")))
    return {"what": f"{name} {about['Version']}", "licence": short or "see its package", "source": source}


def _default_repository() -> Path:
    return cache_folder(os.environ) / "models"


def _documents(folder: Path) -> tuple[list[ModelDocument], dict[str, InputError]]:
    """Those that can be read, and what is wrong with the others, by name."""
    if not folder.is_dir():
        raise InputError(f"there is no model repository {folder}", right="nearhall models fetch, or nearhall models add FILE")
    documents: list[ModelDocument] = []
    broken: dict[str, InputError] = {}
    for path in sorted(folder.glob("*/model.yaml")):
        try:
            documents.append(read_document(path, ModelDocument))
        except InputError as error:
            broken[path.parent.name] = error
    return documents, broken


def _with_profiles(place: Place) -> dict[str, Any]:
    """model.yaml, and the profiles of its variants by name."""
    profiles = {name: found for name in place.variants if (found := place.profile(name)) is not None}
    return {**as_json(place.document), "profiles": {name: plain(found) for name, found in profiles.items()}}


def _added(added: Added) -> RenderableType:
    document = added.document
    variant: Any = document.versions[document.default_version].variants[document.default_variant]
    lines = [f"{document.name} is in {added.repository / document.name} ({variant.runtime})"]
    for title, shapes in (("takes", document.inputs), ("gives", document.outputs)):
        lines.extend(f"  {title} {shape.name}: {shape.dtype} {list(shape.shape)}" for shape in shapes)
    if variant.measured is not None:
        measured = variant.measured
        lines.append(f"  measured here: {measured.latency_p50_ms:g} ms (median of {measured.runs}), {measured.memory_mib:g} MiB")
    lines += ["", "Serve it, then ask it:", *(f"  {command}" for command in added.commands)]
    return Text("\n".join(lines), no_wrap=True, overflow="ignore")
