"""What a front is told when it starts: read once, from one JSON object."""

from __future__ import annotations

import msgspec

from nearhall.core.errors import InputError
from nearhall.gateway.settings import UNIX, Tls, host_and_port

NODES_MAX = 256
"""As many as a site may have; each is asked for its load up to twenty times a second."""


class NodeAt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node behind the front."""

    id: str
    url: str
    """`http://HOST:PORT`, `https://HOST:PORT` (with `tls`), or `unix:PATH` of its service socket (`nearhall serve --uds`)."""
    tls: Tls | None = None
    """Whom to trust, and what to show, where the node serves over mutual TLS."""


class FrontLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every bound of the front."""

    body_mib: float = 64.0
    """As of a node's, for gRPC too; a request is held until it is answered, so that it can be given to another node."""
    inflated_mib: float = 256.0
    """Only of requests that do not name their model in the path, and are compressed."""
    json_mib: float = 16.0
    held_mib: float = 512.0
    """Of requests under way, all bodies together: eight of the largest. One that came by gRPC takes twice its size."""
    connections: int = 1024
    """Half of a common limit of open files: each may need another one to a node. For gRPC: calls at a time."""
    deadline_ms: float = 25_000.0
    """For requests that state none: nobody waits for ever. Longer than the queue of any node that works, and shorter than
    the 30 s after which common clients give up, so that they are told which node was silent."""
    chat_deadline_ms: float = 120_000.0
    """For requests to language models that state none: to the whole answer, or a stream's first part."""
    quiet_s: float = 30.0
    """Between two parts of a stream."""
    drain_s: float = 5.0
    """How long a clean stop waits for work in progress."""


class FrontSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of it."""

    node: str = "front"
    """Goes to `x-nearhall-served-by` of what the front itself refuses; answers keep that of their node."""
    port: int
    host: str = "127.0.0.1"
    uds: str | None = None
    """A Unix socket beside the port, for callers on this machine."""
    grpc: str | None = None
    """Where gRPC is answered: `HOST:PORT` (port 0 takes a free one) or `unix:PATH`, a socket for the front's own user."""
    tls: Tls | None = None
    """With it, clients must show a certificate of this CA."""
    nodes: list[NodeAt]
    limits: FrontLimits = FrontLimits()
    exit_with_stdin: bool = False


def check_front(settings: FrontSettings, *, where: str) -> None:
    """Raises InputError for values that no front can run with; `where` is the file or the command."""
    if not 0 <= settings.port <= 65535:
        raise InputError(f"port is {settings.port}", where=where, right="0 to 65535; 0 takes a free one")
    if settings.grpc is not None and not settings.grpc.startswith(UNIX):
        host_and_port(settings.grpc, where=f"{where}: grpc")
    if not 1 <= len(settings.nodes) <= NODES_MAX:
        raise InputError(f"there are {len(settings.nodes)} nodes", where=where, right=f"1 to {NODES_MAX}")
    for what, values in (("id", [node.id for node in settings.nodes]), ("address", [node.url for node in settings.nodes])):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise InputError(f"two nodes have the {what} {twice[0]!r}", where=where, right="each its own")
    for name in FrontLimits.__struct_fields__:
        if getattr(settings.limits, name) <= 0:
            raise InputError(f"limits.{name} is {getattr(settings.limits, name)}", where=where, right="more than 0")
