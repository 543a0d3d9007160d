"""What the hub's control plane is told when it starts; one JSON object."""

from __future__ import annotations

import msgspec


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of the hub's end; sites must show a certificate of this CA."""

    ca: str
    cert: str
    key: str


class Api(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where sites dial."""

    host: str = "127.0.0.1"
    port: int
    tls: Tls | None = None
    """None only for tests on 127.0.0.1."""


class Page(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where people look."""

    host: str = "127.0.0.1"
    port: int
    token: str


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of it."""

    jurisdiction: str
    store: str
    """The SQLite file."""
    api: Api
    page: Page
    run_started_s: float
    """Live totals count from here."""
    seed: int = 0
    exit_with_stdin: bool = False
