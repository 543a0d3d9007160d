"""`nearhall serve`: a data plane alone, on one model repository."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from nearhall.cli.commands.serve_front import FRONT_HELP, NODE_HELP, front_settings, run_front
from nearhall.cli.output import emit, notes
from nearhall.cli.roots.gateway import serve as serve_gateway
from nearhall.cli.roots.listening import Addresses, grpc_address, grpc_shown
from nearhall.cli.roots.program import LOG_FORMAT
from nearhall.core.errors import InputError
from nearhall.core.tensor import BYTES, TensorSpec
from nearhall.documents.serve import NODE_NAME, ServeDocument
from nearhall.documents.serve import Tls as WrittenTls
from nearhall.documents.yaml_file import read_document
from nearhall.gateway.models.model import Model
from nearhall.gateway.models.variants import State
from nearhall.gateway.plane import Plane
from nearhall.gateway.settings import Hub, Limits, Settings, Tls, Uds, Workload, check_settings, host_and_port

EPILOG = """
Examples:  nearhall serve --repository ~/.cache/nearhall/models --http 8080, then
curl -s http://127.0.0.1:8080/v2/models/inspection (what it takes),
curl -s http://127.0.0.1:8080/v2/models/inspection/infer
-d '{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64], "data": [0, ..., 0]}]}'.
Several nodes, one address: nearhall serve --front --node n1=http://127.0.0.1:8081 --node n2=http://127.0.0.1:8082 --http 8080
(with --grpc 8001, Triton's gRPC clients use it too).
Chat models answer OpenAI's clients at http://127.0.0.1:8080/v1. `nearhall models add FILE` puts a model into a repository.

With gRPC for Triton's clients, and a socket for callers on this machine:
nearhall serve --repository models --http 8080 --grpc 8001 --uds /run/user/1000/nearhall.sock, then
curl -s --unix-socket /run/user/1000/nearhall.sock http://localhost/v2.
For you who run it: --control-socket gateway.ctl, then curl -s --unix-socket gateway.ctl http://localhost/control/cap
-d '{"step_down": 0.5}' (also GET /control/stats, POST /control/drain, POST /v2/repository/models/NAME/unload).

With targets, priorities, residency, certificates or a hub: nearhall serve --config serve.yaml, where serve.yaml holds
schema: nearhall/serve/v1, repository: models, http: 8080, workloads: [{id: cams, model: faces, slo_p99_ms: 10, priority: 2}].
"""
SAMPLE_ELEMENTS_MAX = 64
"""A curl line is shown only for models whose inputs fit on the screen."""
CURL_LINES = 2

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog=EPILOG)
def serve(
    repository: Annotated[
        Path | None, typer.Option(help="Folder with one sub-folder per model (model.yaml, or Triton's config.pbtxt).")
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(help="[HOST:]PORT to listen on; 127.0.0.1 unless a host is named; port 0 takes a free one."),
    ] = None,
    grpc: Annotated[
        str | None,
        typer.Option(help="[HOST:]PORT for gRPC (Open Inference Protocol v2, Triton's clients), or unix:PATH."),
    ] = None,
    uds: Annotated[
        Path | None,
        typer.Option(help="Path of a Unix socket that answers as the HTTP port does, for callers of your own user."),
    ] = None,
    control_socket: Annotated[
        Path | None,
        typer.Option(
            help="Path of a Unix socket for who runs it, your own user alone: power cap, statistics, drain, load and unload."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML or JSON file (nearhall/serve/v1) with all of this and more; options given here win over it. "
            "With --front: a front.yaml, or the site.yaml of a site with several nodes."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What answers say they were served by. Default: serve/n1.")] = None,
    front: Annotated[bool, typer.Option("--front", help=FRONT_HELP)] = False,
    node: Annotated[list[str] | None, typer.Option(help=NODE_HELP, metavar="ID=URL")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object when it serves, instead of a summary.")] = False,
) -> None:
    """Serve models over the Open Inference Protocol v2 (REST and gRPC) and OpenAI's API, until Ctrl-C."""
    if not front and node:
        raise InputError("nodes are for a front", where="--node", right="add --front, or say who this one is with --name")
    if front and name is not None:
        raise InputError("a front passes on the names of its nodes", where="--name", right="give it to the nodes")
    if front and control_socket is not None:
        right = "give each node its own: nearhall serve --control-socket PATH without --front"
        raise InputError("a front has no control socket", where="--control-socket", right=right)
    level = logging.WARNING if as_json else logging.INFO
    watched = sys.stderr.isatty()  # a file is read later, and says when
    logging.basicConfig(stream=sys.stderr, level=level, format="%(message)s" if watched else LOG_FORMAT)
    if front:
        return run_front(front_settings(node or [], http, config, uds=uds, repository=repository, grpc=grpc), as_json=as_json)
    settings = settings_of(
        repository=repository, http=http, grpc=grpc, uds=uds, control_socket=control_socket, config=config, name=name
    )
    return uvloop.run(serve_gateway(settings, announce=_announcer(settings, as_json=as_json)))


def settings_of(
    *,
    repository: Path | None,
    http: str | None,
    grpc: str | None = None,
    uds: Path | None = None,
    control_socket: Path | None = None,
    config: Path | None = None,
    name: str | None = None,
) -> Settings:
    """The gateway's settings out of options and file; an option wins. Raises InputError."""
    if config is None:
        written, base = ServeDocument.model_validate({"schema": "nearhall/serve/v1"}), Path()
    else:
        written, base = read_document(config, ServeDocument), config.parent
    folder = repository.expanduser() if repository is not None else _beside(written.repository, base)
    control = control_socket.expanduser() if control_socket is not None else _beside(written.control_socket, base)
    address = http if http is not None else written.http
    if folder is None:
        raise InputError(
            "is missing", where="--repository", right="name a folder; `nearhall models add FILE` puts models into one"
        )
    if address is None:
        raise InputError("is missing", where="--http", right="for example --http 8080, or http: 8080 in the --config file")
    if name is not None and not re.fullmatch(NODE_NAME, name):
        raise InputError(
            f"{name!r} is no name", where="--name", right="at most 128 characters without spaces, such as shop-01/n1"
        )
    host, port = listen_at(address)
    settings = Settings(
        node=name or written.node,
        jurisdiction=written.jurisdiction or "ZZ",
        repository=str(folder),
        host=host,
        port=port,
        grpc=_grpc_of(grpc, written, base),
        uds=_uds_of(uds, written, base),
        tls=_tls_of(written.tls, base),
        control_socket=None if control is None else str(control),
        hub=None
        if written.hub is None
        else Hub(url=written.hub.url, jurisdiction=written.hub.jurisdiction, tls=_tls_of(written.hub.tls, base)),
        workloads=[
            Workload(
                id=workload.id,
                model=workload.model,
                slo_ms=workload.slo_p99_ms,
                slo_ttft_ms=workload.slo_ttft_ms,
                priority=workload.priority,
                residency=workload.residency,
                quality_min=workload.quality_min,
                chat=workload.slo_ttft_ms is not None,
            )
            for workload in written.workloads
        ],
        pinned=written.pinned,
        load_report=written.load_report,
        limits=Limits(**written.limits.model_dump(exclude_none=True)),
    )
    check_settings(settings, where="nearhall serve" if config is None else str(config))
    return settings


def listen_at(text: str) -> tuple[str, int]:
    """Host and port from `8080`, `0.0.0.0:8080` or `[::1]:8080`; raises InputError."""
    return host_and_port(text, where="--http")


def _beside(path: str | None, base: Path) -> Path | None:
    """A path of the file's, which is relative to it."""
    return None if path is None else base / Path(path).expanduser()


def _grpc_of(option: str | None, written: ServeDocument, base: Path) -> str | None:
    if option is not None:
        return grpc_address(option)
    return None if written.grpc is None else grpc_address(written.grpc, base=base)


def _uds_of(option: Path | None, written: ServeDocument, base: Path) -> Uds | None:
    if option is not None:
        return Uds(path=str(option.expanduser()))
    return None if written.uds is None else Uds(path=str(_beside(written.uds.path, base)), mode=written.uds.mode)


def _tls_of(written: WrittenTls | None, base: Path) -> Tls | None:
    if written is None:
        return None
    return Tls(ca=str(_beside(written.ca, base)), cert=str(_beside(written.cert, base)), key=str(_beside(written.key, base)))


def _announcer(settings: Settings, *, as_json: bool) -> Callable[[Addresses, Plane], None]:
    def announce(addresses: Addresses, plane: Plane) -> None:
        url, grpc = _url(settings, addresses), grpc_shown(settings.grpc, addresses)
        models = plane.models.all()
        data: dict[str, Any] = {
            "url": url,
            "grpc": grpc,
            "uds": None if settings.uds is None else settings.uds.path,
            "control_socket": settings.control_socket,
            "models": [
                {"name": m.entry.name, "state": m.state.value, "detail": m.detail, "runtime": m.entry.runtime} for m in models
            ],
        }
        emit(_summary(settings, url, grpc, models), data, as_json=as_json)
        sys.stdout.flush()
        if not models:
            folder = shlex.quote(settings.repository)
            right = f"`nearhall models add FILE --repository {folder}` puts one in, `nearhall models fetch` fills the default one"
            warning = f"warning: no model lies in {settings.repository}; {right}"
            notes().print(warning, style="yellow", markup=False, soft_wrap=True)

    return announce


def _standing(model: Model) -> str:
    """Its variants, where there are several, and why it is not loaded."""
    variants = ", ".join(f"{each.name} {each.state.value}" for each in model.variants.values()) if model.several else ""
    return "; ".join(part for part in (variants, model.detail) if part)


def _url(settings: Settings, addresses: Addresses) -> str:
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'http' if settings.tls is None else 'https'}://{shown}:{addresses.port}"


def _summary(settings: Settings, url: str, grpc: str | None, models: Sequence[Model]) -> RenderableType:
    parts: list[RenderableType] = [
        f"serving [bold]{url}[/bold] (v2 at /v2, OpenAI at /v1, Prometheus at /metrics); Ctrl-C ends",
    ]
    if grpc is not None:
        parts.append(f"gRPC at [bold]{escape(grpc)}[/bold] (Open Inference Protocol v2)")
    if settings.uds is not None:
        parts.append(f"HTTP at the Unix socket [bold]{escape(settings.uds.path)}[/bold] too (mode {settings.uds.mode})")
    if settings.control_socket is not None:
        where = escape(settings.control_socket)
        parts.append(f"control at the Unix socket [bold]{where}[/bold] (mode 0600): power cap, statistics, drain, load, unload")
    if settings.tls is not None:
        parts.append("on the ports, clients must show a certificate of the CA")
    table = Table(box=None, padding=(0, 2), show_header=False)
    for model in models:
        table.add_row(f"[bold]{model.entry.name}[/bold]", model.state.value, model.entry.runtime, escape(_standing(model)))
    parts.append(table)
    if lines := list(_ways_to_ask(settings, url, grpc, models)):
        parts += ["try:", *(escape(line) for line in lines)]
    return Group(*parts)


def _ways_to_ask(settings: Settings, url: str, grpc: str | None, models: Sequence[Model]) -> Iterator[str]:
    """A command for each address that answers as it stands."""
    models = [model for model in models if model.state is State.READY]
    shown = [line for model in models if (line := curl_line(url, model, settings.tls)) is not None]
    yield from shown[:CURL_LINES]
    if settings.uds is not None:
        yield f"  curl -s --unix-socket {shlex.quote(settings.uds.path)} http://localhost/v2"
    if settings.control_socket is not None:
        yield f"  curl -s --unix-socket {shlex.quote(settings.control_socket)} http://localhost/control/cap"
    asked = next((model.entry.name for model in models if not model.entry.chat), None)
    if grpc is not None and asked is not None and settings.tls is None:
        code = f'import tritonclient.grpc as t; print(t.InferenceServerClient("{grpc}").get_model_metadata("{asked}"))'
        yield f"  python -c {shlex.quote(code)}"


def curl_line(url: str, model: Model, tls: Tls | None = None) -> str | None:
    """A command that the model answers; None where its input is too large to show."""
    name = model.entry.name
    curl = "curl -s" if tls is None else f"curl -s --cacert {shlex.quote(tls.ca)} --cert CLIENT.crt --key CLIENT.key"
    if model.entry.chat:
        ask = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "Say hello"}}], "max_completion_tokens": 24}}'
        return f"  {curl} {url}/v1/chat/completions -d '{ask}'"
    if model.entry.embeds:
        return f'  {curl} {url}/v1/embeddings -d \'{{"model": "{name}", "input": "Hello"}}\''
    inputs = [_example(spec) for spec in model.inputs]
    if not inputs or None in inputs or any(spec.dtype == "FP16" for spec in model.outputs):
        return None  # FP16 has no JSON form
    return f"  {curl} {url}/v2/models/{name}/infer -d '{{\"inputs\": [{', '.join(str(i) for i in inputs)}]}}'"


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
