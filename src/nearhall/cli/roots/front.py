"""PROGRAM serve --front: puts the front of several nodes together from its settings and runs it until it is told to stop.

    python -m nearhall.cli.roots.front CONFIG.json

Prints `READY {"port": ..., "nodes": {...}}` once it listens and every node has reported, or could not be reached.
"""

from __future__ import annotations

import gc
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from nearhall.cli.roots.listening import tls_context
from nearhall.cli.roots.program import listen_unix, read_settings, run_program, say_ready, stop_event
from nearhall.cli.roots.tls_protocol import tls_extension
from nearhall.core.errors import InputError
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.mutual_tls import client_context
from nearhall.drivers.node_http import NodeHttp, parse_address
from nearhall.drivers.own_cpu import own_cpu_seconds
from nearhall.gateway.body import MIB
from nearhall.gateway.http_server import Server, listening
from nearhall.gateway.nodes.app import FrontApp
from nearhall.gateway.nodes.fleet import Fleet, Node
from nearhall.gateway.nodes.metrics import FrontMetrics, FrontStats
from nearhall.gateway.nodes.settings import FrontSettings, NodeAt, check_front
from nearhall.ports.clock import Clock

FIRST_REPORTS_S = 1.5
"""Listening begins after this at the latest, even if a node has neither reported nor refused: it is told as away meanwhile."""
Announce = Callable[[int, Fleet], None]


def compose(settings: FrontSettings, *, clock: Clock) -> tuple[FrontApp, Fleet]:
    """Puts the parts together; raises InputError for an address or a certificate that is none."""
    fleet = Fleet([Node(at.id, at.url, _link(at, clock), clock) for at in settings.nodes])
    stats = FrontStats()
    metrics = FrontMetrics(fleet, stats, own_cpu_seconds)
    app = FrontApp(fleet, name=settings.node.encode(), limits=settings.limits, clock=clock, stats=stats, metrics=metrics)
    return app, fleet


def _link(at: NodeAt, clock: Clock) -> NodeHttp:
    address = parse_address(at.url, where=f"node {at.id}")
    if address.encrypted and at.tls is None:
        right = "name in the settings whom to trust and what to show, as tls: {ca, cert, key} of the node"
        raise InputError(f"{at.url} is encrypted, but no certificate is named", where=f"node {at.id}", right=right)
    return NodeHttp(address, clock, tls=_context(at) if address.encrypted else None)


def _context(at: NodeAt) -> ssl.SSLContext | None:
    if at.tls is None:
        return None
    try:
        return client_context(ca=at.tls.ca, cert=at.tls.cert, key=at.tls.key)
    except OSError as error:  # ssl.SSLError is one
        right = "name a CA, a certificate and its key"
        raise InputError(f"the files cannot be used ({error})", where=f"node {at.id}: tls", right=right) from error


def bind(settings: FrontSettings) -> socket.socket:
    """The service port, bound and not yet listening; raises InputError when it is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        right = "choose another port, or end what listens there"
        raise InputError(f"cannot listen ({reason})", where=f"{settings.host}:{settings.port}", right=right) from error
    return bound


async def serve(settings: FrontSettings, *, announce: Announce) -> None:
    """Runs the front until SIGTERM, SIGINT, or (if asked) the end of standard input."""
    app, fleet = compose(settings, clock=SystemClock())
    bound = bind(settings)
    port: int = bound.getsockname()[1]
    stop = stop_event(with_stdin=settings.exit_with_stdin)
    most = int(settings.limits.body_mib * MIB)
    try:
        with bound:
            fleet.start()
            await fleet.until_known(FIRST_REPORTS_S)
            async with AsyncExitStack() as sockets:
                service = Server(app, body_bytes_max=most, tls_of=tls_extension)
                tls, drain_s = tls_context(settings.tls), settings.limits.drain_s
                await sockets.enter_async_context(listening(service, bound, drain_s=drain_s, tls=tls))
                if settings.uds is not None:
                    local = listen_unix(Path(settings.uds), where="uds")
                    here = Server(app, body_bytes_max=most)
                    await sockets.enter_async_context(listening(here, local, drain_s=drain_s))
                gc.freeze()  # what start-up made stays for good
                announce(port, fleet)
                await stop.wait()
                app.draining = True
    finally:
        await fleet.close()


def announce_ready(port: int, fleet: Fleet) -> None:
    """Tells the parent that the front serves, and how its nodes stand."""
    say_ready(port=port, nodes={node.name: node.standing.value for node in fleet.nodes})


async def main(path: str) -> None:
    """Runs the front on the settings in the file at `path`."""
    settings = read_settings(path, FrontSettings)
    check_front(settings, where=path)
    await serve(settings, announce=announce_ready)


if __name__ == "__main__":
    run_program(main, runner=uvloop.run)
