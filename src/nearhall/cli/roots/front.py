"""PROGRAM serve --front: puts the front of several nodes together from its settings and runs it until it is told to stop.

    python -m nearhall.cli.roots.front CONFIG.json

Prints `READY {"port": ..., "nodes": {...}}` once it listens and every node has reported, or could not be reached.
"""

from __future__ import annotations

import gc
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from nearhall.cli.roots.listening import Addresses, Held, answering, hold, load_certificates
from nearhall.cli.roots.program import read_settings, run_program, say_ready, stop_event
from nearhall.cli.roots.tls_protocol import tls_extension
from nearhall.core.errors import InputError
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.mutual_tls import client_context
from nearhall.drivers.node_http import NodeHttp, parse_address
from nearhall.drivers.own_cpu import own_cpu_seconds
from nearhall.gateway.body import MIB
from nearhall.gateway.http.server import Server
from nearhall.gateway.nodes.app import FrontApp
from nearhall.gateway.nodes.fleet import Fleet, Node
from nearhall.gateway.nodes.metrics import FrontMetrics, FrontStats
from nearhall.gateway.nodes.relay import Relay
from nearhall.gateway.nodes.settings import FrontSettings, NodeAt, check_front
from nearhall.gateway.settings import Uds
from nearhall.ports.clock import Clock

if TYPE_CHECKING:
    from nearhall.cli.roots.grpc_listening import GrpcServer

FIRST_REPORTS_S = 1.5
"""Listening begins after this at the latest, even if a node has neither reported nor refused: it is told as away meanwhile."""
Announce = Callable[[Addresses, Fleet], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A front, put together and not yet listening."""

    app: FrontApp
    relay: Relay
    fleet: Fleet


def compose(settings: FrontSettings, *, clock: Clock) -> Composed:
    """Puts the parts together; raises InputError for an address or a certificate that is none."""
    fleet = Fleet([Node(at.id, at.url, _link(at, clock), clock) for at in settings.nodes])
    stats = FrontStats()
    relay = Relay(fleet, limits=settings.limits, clock=clock, stats=stats)
    app = FrontApp(relay, name=settings.node.encode(), metrics=FrontMetrics(fleet, stats, own_cpu_seconds))
    return Composed(app=app, relay=relay, fleet=fleet)


def _link(at: NodeAt, clock: Clock) -> NodeHttp:
    address = parse_address(at.url, where=f"node {at.id}")
    if address.encrypted and at.tls is None:
        right = "name in the settings whom to trust and what to show, as tls: {ca, cert, key} of the node"
        raise InputError(f"{at.url} is encrypted, but no certificate is named", where=f"node {at.id}", right=right)
    return NodeHttp(address, clock, tls=_context(at) if address.encrypted else None)


def _context(at: NodeAt) -> ssl.SSLContext | None:
    if at.tls is None:
        return None
    load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), at.tls, where=f"node {at.id}: tls")
    return client_context(ca=at.tls.ca, cert=at.tls.cert, key=at.tls.key)


async def serve(settings: FrontSettings, *, announce: Announce) -> None:
    """Runs the front until SIGTERM, SIGINT, or (if asked) the end of standard input."""
    front = compose(settings, clock=SystemClock())
    held = hold(settings.host, settings.port, uds=settings.uds, grpc=settings.grpc, tls=settings.tls)
    stop = stop_event(with_stdin=settings.exit_with_stdin)
    try:
        with held:
            front.fleet.start()
            await front.fleet.until_known(FIRST_REPORTS_S)
            async with _listening(settings, front, held) as addresses:
                gc.freeze()  # what start-up made stays for good
                announce(addresses, front.fleet)
                await stop.wait()
                front.relay.draining = True
    finally:
        await front.fleet.close()


@asynccontextmanager
async def _listening(settings: FrontSettings, front: Composed, held: Held) -> AsyncGenerator[Addresses]:
    """Answers at every address of the settings; at the end what is in progress may end, at all of them at a time."""
    most = int(settings.limits.body_mib * MIB)
    everywhere = answering(
        Server(front.app, body_bytes_max=most, tls_of=tls_extension),
        held,
        tls=settings.tls,
        drain_s=settings.limits.drain_s,
        grpc=None if settings.grpc is None else _grpc_server(settings, front.relay),
        local=None if settings.uds is None else (Server(front.app, body_bytes_max=most), Uds(path=settings.uds)),
    )
    async with everywhere as addresses:
        yield addresses


def _grpc_server(settings: FrontSettings, relay: Relay) -> GrpcServer:
    """Its library is imported only where it is asked for."""
    from nearhall.cli.roots.grpc_listening import front_server

    return front_server(settings, relay)


def announce_ready(addresses: Addresses, fleet: Fleet) -> None:
    """Tells the parent that the front serves, and how its nodes stand."""
    grpc = {} if addresses.grpc_port is None else {"grpc_port": addresses.grpc_port}
    say_ready(port=addresses.port, **grpc, nodes={node.name: node.standing.value for node in fleet.nodes})


async def main(path: str) -> None:
    """Runs the front on the settings in the file at `path`."""
    settings = read_settings(path, FrontSettings)
    check_front(settings, where=path)
    await serve(settings, announce=announce_ready)


if __name__ == "__main__":
    run_program(main, runner=uvloop.run)
