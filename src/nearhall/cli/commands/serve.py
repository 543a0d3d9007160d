"""`nearhall serve`: a data plane alone, on one model repository."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from nearhall.cli.output import emit
from nearhall.cli.roots.gateway import serve as serve_gateway
from nearhall.core.errors import InputError
from nearhall.core.tensor import BYTES, TensorSpec
from nearhall.gateway.models import Model
from nearhall.gateway.plane import Plane
from nearhall.gateway.settings import Settings, check_settings

EPILOG = """
Example:  nearhall serve --repository ~/.cache/nearhall/models --http 8080, then
curl -s http://127.0.0.1:8080/v2/models/inspection (what it takes),
curl -s http://127.0.0.1:8080/v2/models/inspection/infer
-d '{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [0, ..., 0]}]}'.
Chat models answer OpenAI's clients at http://127.0.0.1:8080/v1. `nearhall models add FILE` puts a model into a repository.
"""
SAMPLE_ELEMENTS_MAX = 64
"""A curl line is shown only for models whose inputs fit on the screen."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog=EPILOG)
def serve(
    repository: Annotated[
        Path, typer.Option(help="Folder with one sub-folder per model (model.yaml, or Triton's config.pbtxt).")
    ],
    http: Annotated[
        str, typer.Option(help="[HOST:]PORT to listen on; 127.0.0.1 unless a host is named; port 0 takes a free one.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object when it serves, instead of a summary.")] = False,
) -> None:
    """Serve models over the Open Inference Protocol v2 and OpenAI's chat API, until Ctrl-C."""
    host, port = listen_at(http)
    settings = Settings(node="serve/n1", jurisdiction="ZZ", repository=str(repository.expanduser()), host=host, port=port)
    check_settings(settings, where="nearhall serve")
    level = logging.WARNING if as_json else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format="%(message)s")
    uvloop.run(serve_gateway(settings, announce=_announcer(host, as_json=as_json)))


def listen_at(text: str) -> tuple[str, int]:
    """Host and port from `8080`, `0.0.0.0:8080` or `[::1]:8080`; raises InputError."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise InputError(f"{text!r} is no address", where="--http", right="[HOST:]PORT, for example 8080 or 0.0.0.0:8080")
    return host.strip("[]") or "127.0.0.1", int(port)


def _announcer(host: str, *, as_json: bool) -> Callable[[int, Plane], None]:
    shown = f"[{host}]" if ":" in host else host

    def announce(port: int, plane: Plane) -> None:
        url = f"http://{shown}:{port}"
        models = plane.models.all()
        data: dict[str, Any] = {
            "url": url,
            "models": [
                {"name": m.entry.name, "state": m.state.value, "detail": m.detail, "runtime": m.entry.runtime} for m in models
            ],
        }
        emit(_summary(url, models), data, as_json=as_json)
        sys.stdout.flush()

    return announce


def _summary(url: str, models: Sequence[Model]) -> RenderableType:
    table = Table(box=None, padding=(0, 2), show_header=False)
    for model in models:
        table.add_row(f"[bold]{model.entry.name}[/bold]", model.state.value, model.entry.runtime, escape(model.detail))
    parts: list[RenderableType] = [
        f"serving [bold]{url}[/bold] (v2 at /v2, OpenAI at /v1, Prometheus at /metrics); Ctrl-C ends",
        table,
    ]
    lines = [line for model in models if (line := curl_line(url, model)) is not None]
    if lines:
        parts += ["try:", *(escape(line) for line in lines[:2])]
    return Group(*parts)


def curl_line(url: str, model: Model) -> str | None:
    """A command that the model answers; None where its input is too large to show."""
    name = model.entry.name
    if model.entry.chat:
        ask = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "Say hello"}}], "max_completion_tokens": 24}}'
        return f"  curl -s {url}/v1/chat/completions -d '{ask}'"
    inputs = [_example(spec) for spec in model.inputs]
    if not inputs or None in inputs:
        return None
    return f"  curl -s {url}/v2/models/{name}/infer -d '{{\"inputs\": [{', '.join(str(i) for i in inputs)}]}}'"


def _example(spec: TensorSpec) -> str | None:
    shape = [1 if length < 0 else length for length in spec.shape]
    count = 1
    for length in shape:
        count *= length
    if count > SAMPLE_ELEMENTS_MAX or spec.dtype == "FP16":
        return None
    value = {BYTES: '"text"', "BOOL": "false"}.get(spec.dtype, "0")
    data = ", ".join([value] * count)
    return f'{{"name": "{spec.name}", "datatype": "{spec.dtype}", "shape": {shape}, "data": [{data}]}}'
