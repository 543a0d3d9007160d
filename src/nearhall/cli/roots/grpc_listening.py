"""Where a gateway or a front answers gRPC. Imported only where it is asked for: the library takes 50 ms and some MiB."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes source lines to standard error; what a person needs, we say

import grpc
import grpc.aio

from nearhall.cli.roots.listening import number_of, remove_socket
from nearhall.core.errors import InputError
from nearhall.gateway.body import MIB
from nearhall.gateway.grpc.here import CallsHere, ToldHere
from nearhall.gateway.grpc.service import Service
from nearhall.gateway.nodes.calls import FrontCalls, FrontTold
from nearhall.gateway.nodes.relay import Relay
from nearhall.gateway.nodes.settings import FrontSettings
from nearhall.gateway.plane import Plane
from nearhall.gateway.settings import UNIX, Settings, Tls, host_and_port

ENVELOPE_BYTES = 64 * 1024
"""Beside the tensors: names, shapes and parameters."""
METADATA_BYTES_MAX = 16 * 1024
ARRIVED_S = 0.1
"""At the end, calls that have arrived are given this long to be taken on, and so be told that the server is being stopped:
gRPC's core cancels what nobody has taken on, and a client cannot tell that from its own doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a server answers, and its bounds."""

    address: str
    """`[HOST:]PORT` or `unix:PATH`."""
    tls: Tls | None
    body_mib: float
    connections: int
    """Calls at a time."""
    drain_s: float


def _where(settings: Settings | FrontSettings) -> Listening:
    limits = settings.limits
    return Listening(
        address=settings.grpc or "",
        tls=settings.tls,
        body_mib=limits.body_mib,
        connections=limits.connections,
        drain_s=limits.drain_s,
    )


def gateway_server(settings: Settings, plane: Plane, *, may_load: bool) -> GrpcServer:
    """A gateway's; `may_load`: whether models may be loaded and unloaded through this port."""
    return GrpcServer(_where(settings), Service(CallsHere(plane), ToldHere(plane, may_load=may_load)))


def front_server(settings: FrontSettings, relay: Relay) -> GrpcServer:
    """That of a front of several nodes."""
    return GrpcServer(_where(settings), Service(FrontCalls(relay, name=settings.node.encode()), FrontTold(relay)))


class GrpcServer:
    """Answers gRPC at one address."""

    def __init__(self, where: Listening, service: grpc.GenericRpcHandler) -> None:
        self._where = where
        self._server = grpc.aio.server(options=_options(where), maximum_concurrent_rpcs=where.connections)
        self._server.add_generic_rpc_handlers((service,))
        self._made: tuple[str, int] | None = None

    async def start(self) -> int | None:
        """Listens; gives the port, None for a Unix socket. Raises InputError."""
        address, port = self._where.address, None
        if address.startswith(UNIX):
            self._made = _bind_unix(self._server, address)
        else:
            host, wanted = host_and_port(address, where="grpc")
            port = _bind(self._server, f"[{host}]:{wanted}" if ":" in host else f"{host}:{wanted}", self._where.tls)
        await self._server.start()
        return port

    async def close(self) -> None:
        """No new calls; those in progress may end, within the time that the settings give them."""
        await asyncio.sleep(ARRIVED_S)
        await self._server.stop(self._where.drain_s)
        if self._made is not None:
            remove_socket(*self._made)


def _bind_unix(server: grpc.aio.Server, address: str) -> tuple[str, int]:
    """Binds a socket for the gateway's own user alone; its path, and its number in the file system."""
    path = address.removeprefix(UNIX)
    mask = os.umask(0o177)
    try:
        _bind(server, address, None)
    finally:
        os.umask(mask)
    return path, number_of(path)


def _options(where: Listening) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", int(where.body_mib * MIB) + ENVELOPE_BYTES),
        ("grpc.max_send_message_length", -1),  # what a model gives is its own business, here as over HTTP
        ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", where.connections),
        ("grpc.so_reuseport", 0),  # on by default: two programs would share a port and nobody would say so
    ]


def _bind(server: grpc.aio.Server, address: str, tls: Tls | None) -> int:
    try:
        if tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(tls))
    except RuntimeError as error:
        if address.startswith(UNIX):
            raise InputError(f"{address} cannot be made", where="grpc", right="name a short path in a folder of yours") from error
        right = "choose another port, or end what listens there"
        raise InputError(
            f"cannot listen at {address} (in use, or no address of this machine)", where="grpc", right=right
        ) from error


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """With which both ends show a certificate."""
    try:
        ca, certificate, key = (Path(name).read_bytes() for name in (tls.ca, tls.cert, tls.key))
    except OSError as error:
        right = "name a CA, a certificate and its key"
        raise InputError(f"the files cannot be used ({error})", where="tls", right=right) from error
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=True)
