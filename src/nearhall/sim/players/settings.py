"""What the players of one site are told when they start; one JSON object."""

from __future__ import annotations

import msgspec


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stream of requests."""

    id: str
    kind: str
    """`video`, `speech`, `inspection`, `chat`, `camera`."""
    model: str
    rate_per_s: float
    seed: int = 0
    source: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of it."""

    site: str
    gateway: str
    """http://HOST:PORT of the site's gateway."""
    results_socket: str | None = None
    workloads: list[Workload] = []
    seconds: float | None = None
    in_flight_max: int = 64
    """Per workload: an arrival beyond it is counted as dropped, so that a dead gateway cannot fill this process."""
    exit_with_stdin: bool = False
