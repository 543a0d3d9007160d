"""From a pilot's document to the settings of every process: who listens where, who talks to whom, what is on whose disk.

Everything here is a value; nothing is started and nothing but the given paths is named.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearhall.core.errors import without_login
from nearhall.documents.up import Meter, Site, Up, Workload
from nearhall.drivers.meter_profiles import PROFILES

Json = dict[str, Any]

VIRTUAL_POSITIONS: tuple[tuple[int, str], ...] = ((1, "feed"), (2, "ups_in"), (3, "ups_out"), (4, "it"), (5, "cooling"))
"""Modbus unit and position of the virtual cabinet's meters (room `cabinet`)."""
ENVIRONMENT_UNIT = 10
VIRTUAL_UPS_RATING_W = 800.0
"""About twice the default server's busy power: small UPS are sized so, and their fixed loss is felt."""
PORTS_PER_SITE = 3
PORTS_SHARED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Three files: whom to trust, who one is, and the key to prove it."""

    ca: Path
    cert: Path
    key: Path

    def json(self) -> dict[str, str]:
        """As the programs' settings take it."""
        return {"ca": str(self.ca), "cert": str(self.cert), "key": str(self.key)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePlaces:
    """Where one site's things are."""

    folder: Path
    run: Path
    """Unix sockets: a short path, since the kernel takes at most 107 bytes."""
    models: Path
    tls: Tls
    service_port: int
    cabinet_port: int
    lane_port: int
    """The shaped way to the hub."""

    @property
    def gateway_pid(self) -> Path:
        """The gateway's pid file."""
        return self.folder / "gateway.json"

    @property
    def agent_socket(self) -> Path:
        """Where the agent says how it is."""
        return self.run / f"{self.folder.name}.agt"

    @property
    def agent_pid(self) -> Path:
        """The agent's pid file."""
        return self.folder / "agent.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlaces:
    """Where the hub's things are."""

    folder: Path
    run: Path
    repository: Path
    tls: Tls
    port: int
    """The one origin that sites dial."""
    page_port: int
    link_control_port: int
    token: str

    @property
    def control(self) -> Path:
        """The control API's Unix socket."""
        return self.run / "hub.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A pilot laid out on this machine."""

    up: Up
    sites: Mapping[str, SitePlaces]
    hub: HubPlaces | None
    """None when the hub is elsewhere."""
    clips: Mapping[str, Path]
    hardware: str
    """The catalogue id of the server whose power curve the virtual cabinets follow, where a site names none."""
    host: Json
    """This machine, for the sites' self-descriptions."""
    catalogue: Mapping[str, Json]
    """Catalogue entries by id: idle_w, busy_w, power_factor, source."""


def hub_api_settings(layout: Layout, started_s: float) -> Json:
    """Settings of the hub's control API and page."""
    hub = _hub(layout)
    return {
        "jurisdiction": layout.up.hub.jurisdiction,
        "store": str(hub.folder / "hub.db"),
        "api": {"socket": str(hub.control)},
        "page": {"host": "127.0.0.1", "port": hub.page_port, "token": hub.token},
        "run_started_s": started_s,
        "seed": layout.up.seed,
        "exit_with_stdin": True,
    }


def hub_gateway_settings(layout: Layout) -> Json:
    """Settings of the hub's gateway: the same program as a site's, with the control plane behind it instead of a hub."""
    hub = _hub(layout)
    return {
        "node": "hub",
        "jurisdiction": layout.up.hub.jurisdiction,
        "repository": str(hub.repository),
        "host": "127.0.0.1",
        "port": hub.port,
        "tls": hub.tls.json(),
        "control_socket": str(hub.run / "hub-gateway.sock"),
        "pid_file": str(hub.folder / "gateway.json"),
        "hub": None,
        "control_plane": str(hub.control),
        "workloads": [],
        "exit_with_stdin": True,
    }


def link_settings(layout: Layout) -> Json:
    """Settings of the shaper: one lane for every site."""
    hub = _hub(layout)
    lanes: list[Json] = [
        {"site": name, "name": "hub", "listen": f"127.0.0.1:{places.lane_port}", "to": f"127.0.0.1:{hub.port}"}
        for name, places in layout.sites.items()
    ]
    link = layout.up.link
    return {
        "lanes": lanes,
        "rtt_ms": link.rtt_ms,
        "jitter_ms": link.jitter_ms,
        "mbps": link.mbps,
        "seed": layout.up.seed,
        "control": f"127.0.0.1:{hub.link_control_port}",
        "exit_with_stdin": True,
    }


def gateway_settings(layout: Layout, site: Site) -> Json:
    """Settings of a site's gateway; the agent starts it."""
    places = layout.sites[site.id]
    return {
        "node": f"{site.id}/n1",
        "jurisdiction": site.jurisdiction,
        "repository": str(places.models),
        "host": "127.0.0.1",
        "port": places.service_port,
        "reuse_port": True,
        "grpc": site.grpc_at,
        "uds": None if site.uds is None else {"path": site.uds.path, "mode": site.uds.mode},
        "tls": None,
        "control_socket": str(places.run / f"{site.id}.ctl"),
        "pid_file": str(places.gateway_pid),
        "hub": {
            "url": _hub_url(layout, places),
            "jurisdiction": layout.up.hub.jurisdiction,
            "tls": places.tls.json(),
        },
        "workloads": [_workload(workload) for workload in site.workloads],
        "probe": {
            "share": layout.up.probe.share,
            "per_second_max": layout.up.probe.per_second_max,
            "seed": layout.up.seed + list(layout.sites).index(site.id),
        },
        "exit_with_stdin": True,
    }


def agent_settings(layout: Layout, site: Site, gateway_config: Path) -> Json:
    """Settings of a site's agent."""
    places = layout.sites[site.id]
    return {
        "site": site.id,
        "class": site.site_class,
        "jurisdiction": site.jurisdiction,
        "node": "n1",
        "host": "127.0.0.1",
        "port": places.service_port,
        "state_dir": str(places.folder),
        "models_dir": str(places.models),
        "gateway_command": [sys.executable, "-m", "nearhall.cli.roots.gateway", str(gateway_config)],
        "gateway_pid_file": str(places.gateway_pid),
        "gateway_control_socket": str(places.run / f"{site.id}.ctl"),
        "agent_pid_file": str(places.agent_pid),
        "agent_socket": str(places.agent_socket),
        "results_socket": str(places.run / f"{site.id}.res"),
        "hub": {"url": _hub_url(layout, places), "tls": places.tls.json()},
        "meters": meters(layout, site),
        "workloads": [_workload(workload) for workload in site.workloads],
        "about": about(layout, site),
        "exit_with_stdin": True,
    }


def cabinet_settings(layout: Layout, site: Site, *, scale_error: Mapping[int, float]) -> Json:
    """Settings of a site's virtual cabinet, which follows the CPU use of the site's agent and gateway."""
    places = layout.sites[site.id]
    hardware = site.hardware or layout.hardware
    return {
        "site": site.id,
        "host": "127.0.0.1",
        "port": places.cabinet_port,
        "follow": [str(places.agent_pid), str(places.gateway_pid)],
        "server": {"id": hardware, **layout.catalogue[hardware]},
        "host_cores": layout.host["cores"],
        "ups": {"rating_w": VIRTUAL_UPS_RATING_W},
        "state_file": str(places.folder / "cabinet.json"),
        "scale_error": {str(unit): factor for unit, factor in scale_error.items()},
        "exit_with_stdin": True,
    }


def players_settings(layout: Layout, site: Site) -> Json:
    """Settings of the players that bring a site's work."""
    places = layout.sites[site.id]
    return {
        "site": site.id,
        "gateway": f"http://127.0.0.1:{places.service_port}",
        "results_socket": str(places.run / f"{site.id}.res"),
        "workloads": [
            {
                "id": workload.id,
                "kind": workload.kind,
                "model": workload.model,
                "rate_per_s": workload.rate_per_s,
                "seed": layout.up.seed * 1000 + 10 * list(layout.sites).index(site.id) + index,
                "source": _source(layout, workload),
            }
            for index, workload in enumerate(site.workloads)
        ],
        "seconds": None,
        "exit_with_stdin": True,
    }


def meters(layout: Layout, site: Site) -> list[Json]:
    """The site's instruments: the virtual cabinet's, each replaced by a real one where the pilot names one at its position."""
    places = layout.sites[site.id]
    real = {meter.position: meter for meter in site.meters}
    found: list[Json] = []
    for unit, position in VIRTUAL_POSITIONS:
        if position in real:
            found.append(_real_meter(real[position]))
        else:
            url = f"modbus://127.0.0.1:{places.cabinet_port}/{unit}"
            found.append({"id": position.replace("_", "-"), "position": position, "url": url, "profile": "sdm630"})
    found.extend(_real_meter(meter) for position, meter in real.items() if position not in _virtual_positions())
    url = f"modbus://127.0.0.1:{places.cabinet_port}/{ENVIRONMENT_UNIT}"
    found.append({"id": "environment", "position": "other", "url": url, "profile": "nearhall-env"})
    return found


def _virtual_positions() -> set[str]:
    """The positions that the virtual cabinet has a meter at."""
    return {position for _, position in VIRTUAL_POSITIONS}


def about(layout: Layout, site: Site) -> Json:
    """What the site says of itself to the hub (`hub.pilot` reads it)."""
    hardware = site.hardware or layout.hardware
    entry = layout.catalogue[hardware]
    return {
        "class": site.site_class,
        "jurisdiction": site.jurisdiction,
        "host": layout.host,
        "link": _link_about(layout),
        "workloads": [_workload(workload) for workload in site.workloads],
        "meters": [
            {
                "id": meter["id"],
                "position": meter["position"],
                "protocol": "modbus",
                "url": without_login(meter["url"]),
                "profile": meter["profile"],
                "class_percent": PROFILES[meter["profile"]].class_percent if meter["profile"] in PROFILES else None,
                "virtual": meter["url"].startswith(f"modbus://127.0.0.1:{layout.sites[site.id].cabinet_port}/"),
            }
            for meter in meters(layout, site)
        ],
        "catalogue": {"id": hardware, **entry},
        "ups": {"rating_w": VIRTUAL_UPS_RATING_W},
    }


def _link_about(layout: Layout) -> Json:
    """The shaped link as it was set; a real one is what the exchanges over it say, and nothing else is known of it."""
    if layout.hub is None:
        return {"kind": "measured", "source": "the site's own link, by its exchanges with the hub"}
    link = layout.up.link
    measured = None if link.measured is None else link.measured.model_dump()
    played = {"rtt_ms": link.rtt_ms, "jitter_ms": link.jitter_ms, "mbps": link.mbps}
    return {**played, "kind": "simulated", "source": link.source, "measured": measured}


def _workload(workload: Workload) -> Json:
    return {
        "id": workload.id,
        "model": workload.model,
        "slo_ms": workload.slo_p99_ms,
        "slo_ttft_ms": workload.slo_ttft_ms,
        "priority": workload.priority,
        "residency": workload.residency,
        "chat": workload.chat,
        "raw_baseline": workload.raw_baseline,
    }


def _real_meter(meter: Meter) -> Json:
    return meter.model_dump()


def _source(layout: Layout, workload: Workload) -> str | None:
    if workload.source is None:
        return None
    clip = layout.clips.get(workload.source)
    return str(clip) if clip is not None else workload.source


def _hub(layout: Layout) -> HubPlaces:
    if layout.hub is None:
        message = "the hub of this pilot is elsewhere"
        raise ValueError(message)
    return layout.hub


def _hub_url(layout: Layout, places: SitePlaces) -> str:
    return layout.up.hub.url or f"https://127.0.0.1:{places.lane_port}"


def all_ports(site_ids: Sequence[str]) -> int:
    """How many ports a pilot with these sites and a hub of its own needs."""
    return PORTS_SHARED + PORTS_PER_SITE * len(site_ids)
