"""`nearhall serve --front`: one address in front of several nodes. A part of `serve`, not a command of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from nearhall.cli.output import emit, wide_console
from nearhall.cli.roots.front import serve
from nearhall.cli.roots.listening import Addresses, grpc_address, grpc_shown
from nearhall.core.errors import InputError
from nearhall.documents.front import Certificates, FrontDocument
from nearhall.documents.site import SiteDocument
from nearhall.documents.yaml_file import parse_document, read_document
from nearhall.gateway.nodes.fleet import Fleet, Node
from nearhall.gateway.nodes.settings import FrontLimits, FrontSettings, NodeAt, check_front
from nearhall.gateway.settings import Tls, host_and_port

_SITE = re.compile(rb'^[\s{]*"?schema"?\s*:\s*"?nearhall/site/', re.MULTILINE)
_ID = re.compile(r"^[a-z0-9][a-z0-9-]{0,30}$")
NODE_HELP = "With --front: a node behind it, as ID=http://HOST:PORT or ID=unix:PATH; repeat it for each."
FRONT_HELP = "Hold no model: be the one address of several nodes, and send each request to the one expected to answer first."


def front_settings(
    nodes: Sequence[str],
    http: str | None,
    config: Path | None,
    *,
    uds: Path | None = None,
    repository: Path | None = None,
    grpc: str | None = None,
) -> FrontSettings:
    """The settings that options and document make together; options come first. Raises InputError."""
    if repository is not None:
        right = "leave --repository out, and name the nodes that hold the models with --node"
        raise InputError("a front holds no models", where="--repository", right=right)
    given = [_node_of(text) for text in nodes]
    documented = FrontSettings(port=0, nodes=[]) if config is None else _from_document(config)
    documented_http = None if config is None else _http_of(config)
    where = http or documented_http
    grpc_where = documented.grpc if grpc is None else grpc_address(grpc)
    if where is None:
        raise InputError("a front needs an address", where="--http", right="for example --http 8080")
    if not given and not documented.nodes:
        right = "name each node: --node n1=http://127.0.0.1:8081 --node n2=http://127.0.0.1:8082"
        raise InputError("a front needs nodes", where="--node", right=right)
    host, port = host_and_port(where, where="--http")
    settings = FrontSettings(
        node=documented.node,
        host=host,
        port=port,
        grpc=grpc_where,
        uds=None if uds is None else str(uds.expanduser()),
        tls=documented.tls,
        nodes=given or documented.nodes,
        limits=documented.limits,
    )
    check_front(settings, where="nearhall serve --front")
    return settings


def run_front(settings: FrontSettings, *, as_json: bool) -> None:
    """Runs the front until Ctrl-C."""
    uvloop.run(serve(settings, announce=_announcer(settings, as_json=as_json)))


def _node_of(text: str) -> NodeAt:
    name, mark, url = text.partition("=")
    if not mark or not _ID.fullmatch(name) or not url:
        right = "ID=http://HOST:PORT or ID=unix:PATH, the id of lower case letters, digits and dashes"
        raise InputError(f"{text!r} names no node", where="--node", right=right)
    return NodeAt(id=name, url=url)


def _document(config: Path) -> FrontDocument | SiteDocument:
    try:
        data = config.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(config), right="name a file that exists") from error
    if _SITE.search(data):
        return parse_document(data, SiteDocument, name=str(config))
    return read_document(config, FrontDocument)


def _http_of(config: Path) -> str | None:
    document = _document(config)
    if isinstance(document, FrontDocument):
        return document.http
    return None if document.front is None else document.front.http


def _from_document(config: Path) -> FrontSettings:
    document = _document(config)
    if isinstance(document, SiteDocument):
        nodes = [NodeAt(id=node.id, url=f"http://{node.http}") for node in document.nodes]
        grpc = None if document.front is None else document.front.grpc
        return FrontSettings(node=f"{document.id}/front", port=0, grpc=_grpc_of(grpc, config), nodes=nodes)
    folder = config.parent
    limits = FrontLimits(deadline_ms=document.limits.deadline_ms, chat_deadline_ms=document.limits.chat_deadline_ms)
    nodes = [NodeAt(id=node.id, url=node.url, tls=_tls(node.tls, folder)) for node in document.nodes]
    grpc, tls = _grpc_of(document.grpc, config), _tls(document.tls, folder)
    return FrontSettings(port=0, grpc=grpc, tls=tls, nodes=nodes, limits=limits)


def _grpc_of(address: str | None, config: Path) -> str | None:
    return None if address is None else grpc_address(address, where=f"{config}: grpc", base=config.parent)


def _tls(files: Certificates | None, folder: Path) -> Tls | None:
    if files is None:
        return None
    return Tls(ca=str(folder / files.ca), cert=str(folder / files.cert), key=str(folder / files.key))


def _announcer(settings: FrontSettings, *, as_json: bool) -> Callable[[Addresses, Fleet], None]:
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host

    def announce(addresses: Addresses, fleet: Fleet) -> None:
        url = f"{'http' if settings.tls is None else 'https'}://{shown}:{addresses.port}"
        grpc = grpc_shown(settings.grpc, addresses)
        data = {"url": url, "grpc": grpc, "uds": settings.uds, "nodes": [_told(node) for node in fleet.nodes]}
        screen = None if sys.stdout.isatty() else wide_console()  # no line of a log is folded, and no address cut
        emit(_summary(settings, url, grpc, fleet), data, as_json=as_json, screen=screen)
        sys.stdout.flush()

    return announce


def _told(node: Node) -> dict[str, Any]:
    lines = () if node.load is None else node.load.models
    models = [{"name": line.name, "version": line.version, "variant": line.variant, "state": line.state} for line in lines]
    return {"id": node.name, "url": node.url, "state": node.standing.value, "detail": node.detail, "models": models}


def _summary(settings: FrontSettings, url: str, grpc: str | None, fleet: Fleet) -> RenderableType:
    count = "1 node" if len(fleet.nodes) == 1 else f"{len(fleet.nodes)} nodes"
    head = f"one address for {count}: [bold]{url}[/bold] (v2 at /v2, OpenAI at /v1, Prometheus at /metrics)"
    parts: list[RenderableType] = [f"{head}; Ctrl-C ends"]
    if grpc is not None:
        parts.append(f"gRPC at [bold]{escape(grpc)}[/bold] (Open Inference Protocol v2)")
    if settings.uds is not None:
        parts.append(f"HTTP at the Unix socket [bold]{escape(settings.uds)}[/bold] too (mode 0600)")
    table = Table(box=None, padding=(0, 2), show_header=False)
    for _ in ("id", "url", "state"):
        table.add_column(no_wrap=True, overflow="fold")
    table.add_column(overflow="fold")
    for node in fleet.nodes:
        lines = () if node.load is None else node.load.models
        models = (
            ", ".join(line.name if line.ready or line.loadable else f"{line.name} ({line.state})" for line in lines)
            or "no models"
        )
        table.add_row(f"[bold]{escape(node.name)}[/bold]", escape(node.url), node.standing.value, escape(node.detail or models))
    return Group(*parts, table)
