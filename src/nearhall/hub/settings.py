"""What the hub's control plane is told when it starts; one JSON object."""

from __future__ import annotations

import msgspec

from nearhall.core.errors import InputError

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
TOKEN_LENGTH_MIN = 16
"""96 bits in base64: beyond guessing."""


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of the hub's end; sites must show a certificate of this CA."""

    ca: str
    cert: str
    key: str


class Api(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the control API listens: on a Unix socket behind the hub's gateway, or on a port of its own."""

    socket: str | None = None
    """Made with mode 0600; who speaks through it is believed about whose certificate it has seen."""
    host: str = "127.0.0.1"
    port: int | None = None
    tls: Tls | None = None
    """Of the port; None only for tests on 127.0.0.1."""


class Page(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where people look."""

    host: str = "127.0.0.1"
    port: int
    token: str
    names: list[str] = []
    """Further names under which a browser may ask for it, where it listens beyond this machine."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of it."""

    jurisdiction: str
    store: str
    """The SQLite file."""
    api: Api
    page: Page
    run_started_s: float
    """Live totals count from here."""
    retention_days: float = 400.0
    """Telemetry older than this is forgotten: a year, which PUE is defined over, and a month to write the report in."""
    seed: int = 0
    exit_with_stdin: bool = False


def check_settings(settings: Settings, *, where: str) -> None:
    """Raises InputError for values that no hub can run with; `where` is the file."""
    if (settings.api.socket is None) == (settings.api.port is None):
        raise InputError("api has to listen in one place", where=where, right="api.socket or api.port")
    for name, port in (("api.port", settings.api.port), ("page.port", settings.page.port)):
        if port is not None and not 0 <= port <= 65535:
            raise InputError(f"{name} is {port}", where=where, right="0 to 65535; 0 takes a free one")
    if settings.api.port is not None and settings.api.tls is None and settings.api.host not in LOOPBACK:
        right = "name ca, cert and key, or listen on 127.0.0.1"
        raise InputError(
            "api listens beyond this machine without TLS: any caller could speak for any site", where=where, right=right
        )
    if len(settings.page.token) < TOKEN_LENGTH_MIN:
        right = f"at least {TOKEN_LENGTH_MIN} random characters"
        raise InputError("page.token is short enough to be guessed", where=where, right=right)
    if settings.retention_days <= 0:
        raise InputError(f"retention_days is {settings.retention_days}", where=where, right="more than 0")
