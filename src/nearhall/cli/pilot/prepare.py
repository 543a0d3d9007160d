"""Lays a pilot out on this machine: folders, ports, certificates, model folders, settings files."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nearhall.cli.pilot import layout as places_of
from nearhall.cli.pilot.free_ports import free_ports
from nearhall.cli.pilot.layout import HubPlaces, Json, Layout, SitePlaces, Tls
from nearhall.cli.pilot.machine import describe
from nearhall.cli.pilot.processes import Program
from nearhall.core.errors import InputError
from nearhall.documents.defaults import default_named
from nearhall.documents.hardware import load_catalogue
from nearhall.documents.up import Site, Up
from nearhall.documents.whole_file import write_whole
from nearhall.drivers.authority import issue, make_authority

OURS = frozenset({"pilot.json", "pilot.yaml", "report.html", "state"})
"""What an earlier pilot leaves in its folder; a new one replaces exactly this."""
SOCKET_PATH_MAX = 107
"""sun_path holds 108 bytes, one for the end (unix(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Every program of a pilot, by the order in which they are needed."""

    hub: list[Program]
    """Gateway and control API; empty when the hub is elsewhere."""
    link: list[Program]
    cabinets: list[Program]
    agents: list[Program]
    players: list[Program]


def claim_folder(out: Path) -> None:
    """Makes `out` ready for a pilot; refuses a folder that holds anything but an earlier pilot."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file", where="--out", right="name a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        foreign = sorted(entry.name for entry in out.iterdir() if entry.name not in OURS)
        if foreign:
            raise InputError(
                f"{out} holds {foreign[0]!r}, which no pilot wrote",
                where="--out",
                right="name an empty folder, a new one, or an earlier pilot's",
            )
        if (out / "state").exists():
            shutil.rmtree(out / "state")
        (out / "state").mkdir(mode=0o700)  # keys, the page's token, what the sites keep: for its owner alone
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror})", where="--out", right="name a folder that you may write"
        ) from error


def next_folder(base: Path) -> Path:
    """`pilot`, or `pilot-2`, `pilot-3`, ... : the first name that is not taken, so that no earlier result is lost."""
    number = 1
    while True:
        candidate = base / ("pilot" if number == 1 else f"pilot-{number}")
        if not candidate.exists():
            return candidate
        number += 1


def held_model(site: Site, repository: Path, model: str) -> Path:
    """The folder of a model that is at a site; raises InputError, naming those there are, where it is not held."""
    held = repository / model
    if not (held / "model.yaml").exists():
        known = ", ".join(sorted(path.parent.name for path in repository.glob("*/model.yaml")))
        right = f"add it (nearhall models add FILE --name {model}), or name one of: {known}"
        raise InputError(f"site {site.id} names the model {model!r}, which is not in {repository}", right=right)
    return held


def lay_out(up: Up, out: Path, *, repository: Path, clips: Mapping[str, Path]) -> Layout:
    """Folders, ports and certificates for every process; nothing is started."""
    state = out / "state"
    run = Path(tempfile.mkdtemp(prefix="nearhall-"))
    (state / "logs").mkdir()
    (state / "settings").mkdir()
    elsewhere = up.hub.url is not None
    named = {int(at.rpartition(":")[2]) for site in up.sites if (at := site.grpc_at) is not None and "grpc" not in site.sockets}
    ports = iter(free_ports(places_of.all_ports([site.id for site in up.sites]), without=named))
    catalogue = load_catalogue()
    authority = None if elsewhere else make_authority(state / "authority")
    hub = None
    if authority is not None:
        folder = state / "hub"
        folder.mkdir()
        bundle = issue(authority, "hub", folder / "tls", kind="hub", dns_names=["localhost"], ip_addresses=["127.0.0.1"])
        hub = HubPlaces(
            folder=folder,
            run=run,
            repository=repository,
            tls=Tls(ca=bundle.ca, cert=bundle.cert, key=bundle.key),
            port=next(ports),
            page_port=next(ports),
            link_control_port=next(ports),
            token=secrets.token_urlsafe(24),
        )
    sites: dict[str, SitePlaces] = {}
    for site in up.sites:
        folder = state / "sites" / site.id
        folder.mkdir(parents=True)
        if authority is not None:
            bundle = issue(authority, site.id, folder / "tls", kind="site", dns_names=[], ip_addresses=[])
            tls = Tls(ca=bundle.ca, cert=bundle.cert, key=bundle.key)
        else:
            tls = _brought(Path(up.hub.credentials or "."), site)
        sites[site.id] = SitePlaces(
            folder=folder,
            run=run,
            models=_models_of(site, repository, folder / "models"),
            tls=tls,
            service_port=next(ports),
            cabinet_port=next(ports),
            lane_port=next(ports),
        )
    return Layout(
        up=up,
        sites=sites,
        hub=hub,
        clips=clips,
        hardware=catalogue.default,
        host=describe(),
        catalogue={
            entry.id: {
                "idle_w": entry.idle_w,
                "busy_w": entry.busy_w,
                "power_factor": entry.power_factor or default_named(f"power_factor.{entry.supply}").amount.p50,
                "source": entry.source,
            }
            for entry in catalogue.systems
        },
    )


def write_settings(
    layout: Layout,
    out: Path,
    *,
    started_s: float,
    scale_errors: Mapping[str, Mapping[int, float]],
    secrets: Mapping[str, str] | None = None,
) -> Programs:
    """Writes every program's settings file and says which programs there are; `secrets` are for the players' environment."""
    programs = Programs(hub=[], link=[], cabinets=[], agents=[], players=[])

    def program(name: str, module: str, settings: Json, *, restart: bool = True, of: Mapping[str, str] | None = None) -> Program:
        slug = name.replace(" ", "-")
        config = out / "state" / "settings" / f"{slug}.json"
        write_whole(config, json.dumps(settings, indent=1).encode())
        log = out / "state" / "logs" / f"{slug}.log"
        command = (sys.executable, "-m", f"nearhall.cli.roots.{module}", str(config))
        return Program(name=name, command=command, log=log, restart=restart, secrets=of or {})

    if layout.hub is not None:
        programs.hub.append(program("hub gateway", "gateway", places_of.hub_gateway_settings(layout)))
        programs.hub.append(program("hub", "hub", places_of.hub_api_settings(layout, started_s)))
        programs.link.append(program("link", "link", places_of.link_settings(layout)))
    for site in layout.up.sites:
        planted = scale_errors.get(site.id, {})
        programs.cabinets.append(
            program(f"cabinet {site.id}", "cabinet", places_of.cabinet_settings(layout, site, scale_error=planted))
        )
        gateway_config = out / "state" / "settings" / f"gateway-{site.id}.json"
        write_whole(gateway_config, json.dumps(places_of.gateway_settings(layout, site), indent=1).encode())
        programs.agents.append(program(f"agent {site.id}", "agent", places_of.agent_settings(layout, site, gateway_config)))
        played = places_of.players_settings(layout, site)
        programs.players.append(program(f"players {site.id}", "players", played, restart=False, of=secrets))
    return programs


def _models_of(site: Site, repository: Path, folder: Path) -> Path:
    """The site's own model repository: links to what the cache holds, for the models that are at this site."""
    folder.mkdir()
    for model in site.models:
        (folder / model).symlink_to(held_model(site, repository, model).resolve(), target_is_directory=True)
    return folder


def _brought(credentials: Path, site: Site) -> Tls:
    folder = credentials / site.id
    tls = Tls(ca=folder / "ca.pem", cert=folder / "cert.pem", key=folder / "key.pem")
    for path in (tls.ca, tls.cert, tls.key):
        if not path.is_file():
            raise InputError(
                f"{path} is missing",
                where="--credentials",
                right=f"let the hub write it: nearhall hub credentials --site {site.id} --out {credentials}",
            )
    return tls
