"""`nearhall site`: a site's agent, from its site.yaml."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from nearhall.cli.output import emit, notes
from nearhall.cli.pilot.machine import describe
from nearhall.cli.roots.agent import state_lock
from nearhall.cli.roots.models import cache_folder
from nearhall.core.errors import InputError
from nearhall.documents.addresses import SOCKET_PATH_MAX, UNIX
from nearhall.documents.site import Node, SiteDocument
from nearhall.documents.whole_file import write_whole
from nearhall.documents.yaml_file import read_document
from nearhall.drivers.meter_profiles import PROFILES
from nearhall.drivers.modbus_meter import find_profile, parse_meter_url, read_commissioning
from nearhall.wire.session import session_of

CREDENTIALS = ("ca.pem", "cert.pem", "key.pem")
NODES_TOLD = 8
"""In a message of one line."""
Json = dict[str, Any]

app = typer.Typer(add_completion=False, help=__doc__)


@app.command(epilog="Example:  nearhall site shop-01.yaml --state state --models models --credentials credentials/shop-01")
def command(
    document: Annotated[Path, typer.Argument(help="The site's site.yaml.", metavar="SITE.yaml")],
    node: Annotated[
        str | None, typer.Option(help="Which of the site's nodes this machine is. Not needed where it has one.", metavar="ID")
    ] = None,
    state: Annotated[
        Path,
        typer.Option(help="Folder for the outbox, sockets, logs and pid files; every node after the first takes a folder in it."),
    ] = Path("site-state"),
    models: Annotated[
        Path | None, typer.Option(help="The model repository. Default: the cache's, ~/.cache/nearhall/models.")
    ] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="Folder with ca.pem, cert.pem and key.pem that the hub issued.")
    ] = None,
    check: Annotated[bool, typer.Option(help="Check the document and say what would run; start nothing.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output (with --check: the resolved settings).")
    ] = False,
) -> None:
    """Run a site: check its document, then hand over to the agent: it keeps the gateway alive, reads the meters, tells the hub.

    A site of several nodes is run on each of them with --node, from one document; its first node reads the meters.
    The agent starts from resolved settings and imports nothing large, so it stays under 64 MiB. Stop it with Ctrl-C or SIGTERM.
    """
    site = read_document(document, SiteDocument)
    nodes = list(site.nodes) if check and node is None else [_chosen(site, node)]
    repository, tls = _repository(models), _tls(site, credentials)
    settings = [resolve(site, each, document, node_state(site, each, state), repository=repository, tls=tls) for each in nodes]
    if check:
        _say_checked(site, document, nodes, settings, as_json=as_json)
        return
    (chosen,), ((gateway, agent),) = nodes, settings
    folder = node_state(site, chosen, state)
    folder.mkdir(parents=True, exist_ok=True)
    _check_folders(document, site.nodes.index(chosen), gateway)
    lock = state_lock(folder)
    lock.hold()  # until the agent takes it: a second one must not find its settings overwritten
    write_whole(folder / "gateway-settings.json", json.dumps(gateway, indent=1).encode())
    write_whole(folder / "agent-settings.json", json.dumps(agent, indent=1).encode())
    which = f"site {site.id}" if len(site.nodes) == 1 else f"site {site.id}, node {chosen.id}"
    notes().print(f"{which}: {_addresses(chosen, gateway)}, state in {folder}", markup=False)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "nearhall.cli.roots.agent", str(folder / "agent-settings.json")])  # noqa: S606


def node_state(site: SiteDocument, node: Node, state: Path) -> Path:
    """The folder of a node: the first has the site's, the others one each in it, so that two on one machine do not clash."""
    return state.resolve() if site.is_first(node) else state.resolve() / node.id


def _chosen(site: SiteDocument, node: str | None) -> Node:
    """The node to run; raises InputError where it is not said, or there is none of that name."""
    ids = [each.id for each in site.nodes]
    if node is None and len(ids) == 1:
        return site.nodes[0]
    known = ", ".join(ids if len(ids) <= NODES_TOLD else [*ids[:NODES_TOLD], f"... {ids[-1]}"])
    if node is None:
        raise InputError(
            f"{site.id} has {len(ids)} nodes ({known})", where="--node", right=f"say which runs here: --node {ids[0]}"
        )
    if node not in ids:
        raise InputError(f"{site.id} has no node {node!r}", where="--node", right=f"one of: {known}")
    return next(each for each in site.nodes if each.id == node)


def _say_checked(
    site: SiteDocument, document: Path, nodes: list[Node], settings: list[tuple[Json, Json]], *, as_json: bool
) -> None:
    """Says what would run: of one node its settings, of several each one's by its id."""
    counts = f"{len(site.workloads)} workloads, {len(site.meters)} meters, hub {site.hub or 'none'}"
    lines = [f"{document} is right: site {site.id}, {counts}"]
    told: Json = {}
    for node, (gateway, agent) in zip(nodes, settings, strict=True):
        told[node.id] = {"agent": agent, "gateway": gateway}
        if len(site.nodes) > 1:
            words = [_addresses(node, gateway), *([node.hardware] if node.hardware else []), f"state in {agent['state_dir']}"]
            lines.append(f"--node {node.id}: {', '.join([*words, *(['reads the meters'] if agent['meters'] else [])])}")
    emit(escape("\n".join(lines)), {"nodes": told} if len(nodes) > 1 else told[nodes[0].id], as_json=as_json)


def resolve(
    site: SiteDocument, node: Node, document: Path, state: Path, *, repository: Path, tls: dict[str, str] | None
) -> tuple[Json, Json]:
    """The gateway's and the agent's settings for a node of a site's document; `state` is the node's folder."""
    sockets = {name: state / f"{name}.sock" for name in ("control", "agent", "results")}
    longest = max(len(str(path).encode()) for path in sockets.values())
    if longest > SOCKET_PATH_MAX:
        right = f"name a folder whose path is {longest - SOCKET_PATH_MAX} bytes shorter"
        raise InputError(f"{state} is too long for a Unix socket", where="--state", right=right)
    workloads = [_workload(site, index) for index in range(len(site.workloads))]
    hub = None
    if site.hub is not None:
        hub = {"url": site.hub.rstrip("/"), "jurisdiction": site.hub_jurisdiction or "", "tls": tls}
    gateway: Json = {
        "node": f"{site.id}/{node.id}",
        "jurisdiction": site.jurisdiction,
        "repository": str(repository),
        "host": node.host,
        "port": node.port,
        "reuse_port": True,
        "grpc": _grpc(site, node, document),
        "uds": None if node.uds is None else {"path": _socket(site, node, document, "uds", node.uds.path), "mode": node.uds.mode},
        "tls": None,
        "control_socket": str(sockets["control"]),
        "load_report": site.front is not None,
        "pid_file": str(state / "gateway.json"),
        "hub": hub,
        "workloads": workloads,
        "limits": _limits(site),
    }
    agent: Json = {
        "site": session_of(site.id, node.id, first=site.is_first(node)),
        "class": site.site_class,
        "jurisdiction": site.jurisdiction,
        "node": node.id,
        "host": node.host,
        "port": node.port,
        "state_dir": str(state),
        "models_dir": str(repository),
        "gateway_command": [sys.executable, "-m", "nearhall.cli.roots.gateway", str(state / "gateway-settings.json")],
        "gateway_pid_file": str(state / "gateway.json"),
        "gateway_control_socket": str(sockets["control"]),
        "agent_pid_file": str(state / "agent.json"),
        "agent_socket": str(sockets["agent"]),
        "results_socket": str(sockets["results"]),
        "hub": None if site.hub is None else {"url": site.hub.rstrip("/"), "tls": tls},
        "meters": _meters(site, document) if site.is_first(node) else [],
        "workloads": workloads,
        "about": _about(site, node, workloads),
        "outbox_mib": site.limits.outbox_mib,
        "stop_gateway": True,
    }
    return gateway, agent


def _limits(site: SiteDocument) -> Json:
    said = {"models_mib": site.limits.models_memory_mib, "models_gpu_mib": site.limits.models_gpu_memory_mib}
    return {name: mib for name, mib in said.items() if mib is not None}


def _grpc(site: SiteDocument, node: Node, document: Path) -> str | None:
    """Where the node answers gRPC, as the gateway's settings have it."""
    at = node.grpc_at
    if at is None or not at.startswith(UNIX):
        return at
    return f"{UNIX}{_socket(site, node, document, 'grpc', at.removeprefix(UNIX))}"


def _socket(site: SiteDocument, node: Node, document: Path, key: str, path: str) -> str:
    """A socket's path, which is relative to the document; raises InputError where the system cannot hold it."""
    whole = str((document.parent / Path(path).expanduser()).resolve())
    longer = len(whole.encode()) - SOCKET_PATH_MAX
    if longer > 0:
        where = f"{document}: nodes[{site.nodes.index(node)}].{key}"
        raise InputError(
            f"{whole} is too long for a Unix socket", where=where, right=f"name a path that is {longer} bytes shorter"
        )
    return whole


def _check_folders(document: Path, index: int, gateway: Json) -> None:
    """Raises InputError for a socket in a folder that is not there: the gateway could only fail again and again."""
    grpc: str | None = gateway["grpc"]
    uds: dict[str, str] | None = gateway["uds"]
    paths = {"grpc": grpc.removeprefix(UNIX)} if grpc is not None and grpc.startswith(UNIX) else {}
    if uds is not None:
        paths["uds"] = uds["path"]
    for key, path in paths.items():
        folder = Path(path).parent
        if not folder.is_dir():
            right = "make it, or name another path"
            raise InputError(f"there is no folder {folder}", where=f"{document}: nodes[{index}].{key}", right=right)


def _addresses(node: Node, gateway: Json) -> str:
    """Where clients find a node."""
    grpc: str | None = gateway["grpc"]
    uds: dict[str, str] | None = gateway["uds"]
    told = [f"http://{node.http}", *([] if grpc is None else [f"gRPC at {grpc}"])]
    return ", ".join([*told, *([] if uds is None else [f"HTTP at the Unix socket {uds['path']}"])])


def _workload(site: SiteDocument, index: int) -> Json:
    workload = site.workloads[index]
    return {
        "id": workload.id,
        "model": workload.model,
        "slo_ms": workload.slo_p99_ms,
        "slo_ttft_ms": workload.slo_ttft_ms,
        "priority": workload.priority,
        "residency": workload.residency,
        "chat": workload.slo_ttft_ms is not None,
        **({} if workload.quality_min is None else {"quality_min": workload.quality_min}),
    }


def _meters(site: SiteDocument, document: Path) -> list[Json]:
    """The instruments with absolute paths; what is wrong with one is told before anything starts."""
    found: list[Json] = []
    for meter in site.meters:
        find_profile(meter.profile)
        parse_meter_url(meter.url)
        record = None
        if meter.commissioning is not None:
            record = (document.parent / meter.commissioning).resolve()
            read_commissioning(record)
        found.append({**meter.model_dump(), "commissioning": None if record is None else str(record)})
    return found


def _about(site: SiteDocument, node: Node, workloads: list[Json]) -> Json:
    """What a node says of itself and of its site. Meters, envelope and UPS are the site's: the first node alone tells of them."""
    about: Json = {
        "site": site.id,
        "node": node.id,
        "nodes": [{"id": each.id, "hardware": each.hardware} for each in site.nodes],
        "class": site.site_class,
        "jurisdiction": site.jurisdiction,
        "host": describe(),
        "link": {"kind": "measured", "source": "the site's own link, by its exchanges with the hub"},
        "workloads": workloads,
    }
    if not site.is_first(node):
        return about
    meters = [
        {
            "id": meter.id,
            "position": meter.position,
            "protocol": "modbus",
            "profile": meter.profile,
            "class_percent": PROFILES[meter.profile].class_percent,
        }
        for meter in site.meters
    ]
    ups = {"rating_w": site.envelope.ups.kw * 1000.0} if site.envelope.ups is not None else {}
    return {**about, "meters": meters, "envelope": site.envelope.model_dump(mode="json", by_alias=True), "ups": ups}


def _repository(models: Path | None) -> Path:
    folder = (models or cache_folder(os.environ) / "models").resolve()
    if not folder.is_dir():
        raise InputError(
            f"there is no model repository {folder}", where="--models", right="nearhall models fetch, or nearhall models add FILE"
        )
    return folder


def _tls(site: SiteDocument, credentials: Path | None) -> dict[str, str] | None:
    if site.hub is None:
        return None
    if credentials is None:
        right = f"let the hub write them: nearhall hub credentials --site {site.id} --out DIR"
        raise InputError("the hub knows its sites by certificate", where="--credentials", right=right)
    files = [credentials.resolve() / name for name in CREDENTIALS]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file} is missing", where="--credentials", right=f"a folder with {', '.join(CREDENTIALS)}")
    ca, cert, key = (str(file) for file in files)
    return {"ca": ca, "cert": cert, "key": key}
