"""Where the gateway listens: its service port, and Unix sockets at paths that a person names."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from nearhall.cli.roots.program import make_way, no_socket
from nearhall.core.errors import InputError
from nearhall.gateway.http.server import Server
from nearhall.gateway.settings import UNIX, Settings, Tls, Uds, host_and_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the gateway answers, with the ports that the kernel chose."""

    port: int
    grpc_port: int | None = None
    """None without gRPC, or with gRPC on a Unix socket."""


def grpc_address(text: str, *, where: str = "--grpc", base: Path = Path()) -> str:
    """`[HOST:]PORT`, or `unix:PATH` relative to `base`, as settings hold it; raises InputError."""
    if text.startswith(UNIX):
        return f"{UNIX}{base / Path(text.removeprefix(UNIX)).expanduser()}"
    host_and_port(text, where=where)
    return text


def grpc_shown(grpc: str | None, addresses: Addresses) -> str | None:
    """Where gRPC is answered, as a client is told it; None where it is not."""
    if grpc is None or grpc.startswith(UNIX):
        return grpc
    host, _ = host_and_port(grpc, where="grpc")
    return f"[{host}]:{addresses.grpc_port}" if ":" in host else f"{host}:{addresses.grpc_port}"


def bind(settings: Settings) -> socket.socket:
    """The service port, bound and not yet listening; raises InputError when it is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        bound.close()
        where = f"{settings.host}:{settings.port}"
        reason = error.strerror if isinstance(error, OSError) else str(error)
        right = "choose another port, or end what listens there"
        raise InputError(f"cannot listen ({reason})", where=where, right=right) from error
    return bound


def tls_context(tls: Tls | None) -> ssl.SSLContext | None:
    """Who connects must show a certificate of our CA; raises InputError for files that are none."""
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.cert, tls.key)
        context.load_verify_locations(tls.ca)
    except (OSError, ssl.SSLError) as error:
        right = "name a CA, a certificate and its key"
        raise InputError(f"the files cannot be used ({error})", where="tls", right=right) from error
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def check_free(*, uds: str | None, grpc: str | None, control_socket: str | None = None) -> None:
    """Makes sure, before anything is loaded, that sockets may be made where a person wants them; raises InputError.

    `grpc` may be a port as well. Nothing is removed but a socket that nobody listens at any more.
    """
    if control_socket is not None:
        make_way(Path(control_socket), where="control_socket")
    if uds is not None:
        make_way(Path(uds), where="uds")
    if grpc is not None and grpc.startswith(UNIX):
        make_way(Path(grpc.removeprefix(UNIX)), where="grpc")


def socket_at(uds: Uds) -> socket.socket:
    """A Unix socket, bound and not yet listening, that nobody beyond its mode can ever open; raises InputError."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~int(uds.mode, 8))
    try:
        bound.bind(uds.path)
    except OSError as error:
        bound.close()
        raise no_socket(Path(uds.path), "uds", error) from error
    finally:
        os.umask(mask)
    return bound


def number_of(path: str) -> int:
    """The number by which the file system knows a socket."""
    return Path(path).lstat().st_ino


def remove_socket(path: str, made: int) -> None:
    """Removes a socket's file, unless another has taken its place meanwhile; `made` is its number in the file system."""
    with suppress(OSError):
        if number_of(path) == made:
            Path(path).unlink()


class GrpcServing(Protocol):
    """A gRPC server that is not started yet."""

    async def start(self) -> int | None:
        """Listens; returns the port, None on a Unix socket."""
        ...

    async def close(self) -> None:
        """What is in progress may end."""
        ...


@asynccontextmanager
async def answering(
    service: Server,
    bound: socket.socket,
    *,
    tls: Tls | None,
    drain_s: float,
    grpc: GrpcServing | None,
    local: tuple[Server, Uds] | None,
) -> AsyncGenerator[Addresses]:
    """Answers at every address; at the end what is in progress may end, at all of them at a time, within `drain_s`.

    `local` is a server and the Unix socket that it answers at.
    """
    ends: list[Callable[[], Awaitable[None]]] = [partial(service.close, drain_s)]
    try:
        await service.start(bound, tls=tls_context(tls))
        grpc_port = None
        if grpc is not None:
            ends.append(grpc.close)
            grpc_port = await grpc.start()
        with ExitStack() as files:
            if local is not None:
                server, uds = local
                here = files.enter_context(socket_at(uds))
                files.callback(remove_socket, uds.path, number_of(uds.path))
                ends.append(partial(server.close, drain_s))
                await server.start(here)
            yield Addresses(port=bound.getsockname()[1], grpc_port=grpc_port)
    finally:
        await asyncio.gather(*(end() for end in ends))
