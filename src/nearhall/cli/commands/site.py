"""`nearhall site`: a site's agent, from its site.yaml."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nearhall.cli.output import emit, notes
from nearhall.cli.pilot.machine import describe
from nearhall.cli.roots.models import cache_folder
from nearhall.core.errors import InputError
from nearhall.documents.site import SiteDocument
from nearhall.documents.whole_file import write_whole
from nearhall.documents.yaml_file import read_document
from nearhall.drivers.meter_profiles import PROFILES
from nearhall.drivers.modbus_meter import find_profile, parse_meter_url, read_commissioning

SOCKET_PATH_MAX = 107
"""sun_path holds 108 bytes, one for the end (unix(7))."""
CREDENTIALS = ("ca.pem", "cert.pem", "key.pem")

app = typer.Typer(add_completion=False, help=__doc__)


@app.command(epilog="Example:  nearhall site shop-01.yaml --state state --models models --credentials credentials/shop-01")
def command(
    document: Annotated[Path, typer.Argument(help="The site's site.yaml.", metavar="SITE.yaml")],
    state: Annotated[Path, typer.Option(help="Folder for the outbox, sockets, logs and pid files.")] = Path("site-state"),
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

    The agent starts from resolved settings and imports nothing large, so it stays under 64 MiB. Stop it with Ctrl-C or SIGTERM.
    """
    site = read_document(document, SiteDocument)
    folder = state.resolve()
    gateway, agent = resolve(site, document, folder, repository=_repository(models), tls=_tls(site, credentials))
    if check:
        counts = f"{len(site.workloads)} workloads, {len(site.meters)} meters, hub {site.hub or 'none'}"
        summary = f"{document} is right: site {site.id}, {counts}"
        emit(summary, {"agent": agent, "gateway": gateway}, as_json=as_json)
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "gateway-settings.json", json.dumps(gateway, indent=1).encode())
    write_whole(folder / "agent-settings.json", json.dumps(agent, indent=1).encode())
    notes().print(f"site {site.id}: http://{site.nodes[0].http}, state in {folder}", markup=False)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "nearhall.cli.roots.agent", str(folder / "agent-settings.json")])  # noqa: S606


def resolve(
    site: SiteDocument, document: Path, state: Path, *, repository: Path, tls: dict[str, str] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The gateway's and the agent's settings for a site's document."""
    node = site.nodes[0]
    sockets = {name: state / f"{name}.sock" for name in ("control", "agent", "results")}
    longest = max(len(str(path).encode()) for path in sockets.values())
    if longest > SOCKET_PATH_MAX:
        right = f"name a folder whose path is {longest - SOCKET_PATH_MAX} bytes shorter"
        raise InputError(f"{state} is too long for a Unix socket", where="--state", right=right)
    workloads = [_workload(site, index) for index in range(len(site.workloads))]
    hub = None
    if site.hub is not None:
        hub = {"url": site.hub.rstrip("/"), "jurisdiction": site.hub_jurisdiction or "", "tls": tls}
    gateway: dict[str, Any] = {
        "node": f"{site.id}/{node.id}",
        "jurisdiction": site.jurisdiction,
        "repository": str(repository),
        "host": node.host,
        "port": node.port,
        "reuse_port": True,
        "tls": None,
        "control_socket": str(sockets["control"]),
        "pid_file": str(state / "gateway.json"),
        "hub": hub,
        "workloads": workloads,
    }
    agent: dict[str, Any] = {
        "site": site.id,
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
        "meters": _meters(site, document),
        "workloads": workloads,
        "about": _about(site, workloads),
        "outbox_mib": site.limits.outbox_mib,
        "stop_gateway": True,
    }
    return gateway, agent


def _workload(site: SiteDocument, index: int) -> dict[str, Any]:
    workload = site.workloads[index]
    return {
        "id": workload.id,
        "model": workload.model,
        "slo_ms": workload.slo_p99_ms,
        "slo_ttft_ms": workload.slo_ttft_ms,
        "priority": workload.priority,
        "residency": workload.residency,
        "chat": workload.slo_ttft_ms is not None,
    }


def _meters(site: SiteDocument, document: Path) -> list[dict[str, Any]]:
    """The instruments with absolute paths; what is wrong with one is told before anything starts."""
    found: list[dict[str, Any]] = []
    for meter in site.meters:
        find_profile(meter.profile)
        parse_meter_url(meter.url)
        record = None
        if meter.commissioning is not None:
            record = (document.parent / meter.commissioning).resolve()
            read_commissioning(record)
        found.append({**meter.model_dump(), "commissioning": None if record is None else str(record)})
    return found


def _about(site: SiteDocument, workloads: list[dict[str, Any]]) -> dict[str, Any]:
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
    return {
        "class": site.site_class,
        "jurisdiction": site.jurisdiction,
        "host": describe(),
        "link": {"kind": "measured", "source": "the site's own link, by its exchanges with the hub"},
        "workloads": workloads,
        "meters": meters,
        "envelope": site.envelope.model_dump(mode="json", by_alias=True),
        "ups": {"rating_w": site.envelope.ups.kw * 1000.0} if site.envelope.ups is not None else {},
    }


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
