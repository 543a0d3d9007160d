"""What a site's agent is told when it starts; one JSON object, resolved from site.yaml or written by `nearhall up`."""

from __future__ import annotations

from typing import Any

import msgspec


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of the site's end of the connection to the hub."""

    ca: str
    cert: str
    key: str


class Hub(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hub's control API."""

    url: str
    tls: Tls | None = None


class Meter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instrument."""

    id: str
    position: str
    url: str
    profile: str
    commissioning: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"site_class": "class"}):
    """The whole of it."""

    site: str
    """The name of its session with the hub: the site's id, or `SITE.NODE` for a node after the first."""
    site_class: str
    jurisdiction: str
    node: str = "n1"
    host: str = "127.0.0.1"
    port: int
    """The service port, which agent and gateway share."""
    state_dir: str
    models_dir: str
    gateway_command: list[str]
    gateway_pid_file: str
    gateway_control_socket: str
    agent_pid_file: str
    agent_socket: str
    """Unix socket: GET /state says how the agent is."""
    results_socket: str
    """Unix datagram socket on which the site's applications report numbers."""
    hub: Hub | None = None
    meters: list[Meter] = []
    workloads: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    window_s: float = 2.0
    """Of one telemetry record: fresh enough for a live page, few enough to be small on the link."""
    meter_poll_s: float = 1.0
    outbox_mib: float = 256.0
    """At 1 kB a record, six days without a link."""
    stop_gateway: bool = True
    """Whether a clean stop of the agent stops the gateway too; in the field systemd keeps it."""
    stop_seconds_max: float = 10.0
    exit_with_stdin: bool = False
