"""Where the gateway listens: its service port, and Unix sockets at paths that a person names.

Addresses are held from the start, before anything is loaded: who starts second on one of them is told at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from errno import EADDRINUSE
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from nearhall.cli.roots.program import make_way, no_socket
from nearhall.core.errors import InputError
from nearhall.gateway.http.server import Server
from nearhall.gateway.settings import UNIX, Tls, Uds, host_and_port

ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 (compared, not bound)
"""Hosts that stand for all addresses of the machine."""


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


def bind(host: str, port: int, *, what: str = "http", reuse_port: bool = False) -> socket.socket:
    """A port, bound and not yet listening; raises InputError, naming the setting `what`, when it is taken.

    It is held: SO_REUSEADDR lets two sockets bind one port while neither listens, but only while both have it set. So it is set
    while it is bound, to pass over connections that have ended lately (TIME_WAIT), and again from `may_listen` on, since those
    that are accepted inherit it. With `reuse_port` other programs of the same user may bind it as well.
    """
    bound: socket.socket | None = None
    try:
        bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse_port))
    except (OSError, OverflowError) as error:
        if bound is not None:
            bound.close()
        raise _taken(what, host, port, error) from error
    return bound


def may_listen(bound: socket.socket) -> socket.socket:
    """The same socket, about to listen: the next program may bind its port as soon as this one has closed it."""
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return bound


def _taken(what: str, host: str, port: int, error: OSError | OverflowError) -> InputError:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    reason = error.strerror if isinstance(error, OSError) else str(error)
    right = "choose another port, or end what listens there"
    return InputError(f"cannot listen at {shown} ({reason})", where=what, right=right)


def tls_context(tls: Tls | None) -> ssl.SSLContext | None:
    """Who connects must show a certificate of our CA; raises InputError for files that are none."""
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_certificates(context, tls, where="tls")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_certificates(context: ssl.SSLContext, tls: Tls, *, where: str) -> None:
    """Lets a connection trust and show what the files hold; raises InputError that names the file which cannot be used."""
    for key, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            right = "name a PEM file that is there and that you may read"
            raise InputError(f"{path} cannot be read ({error.strerror})", where=f"{where}.{key}", right=right) from error
    for key, path, trusting in (("ca", tls.ca, context), ("cert", tls.cert, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))):
        try:
            trusting.load_verify_locations(path)
        except ssl.SSLError as error:
            raise InputError(f"{path} holds no certificate", where=f"{where}.{key}", right="name a PEM file with one") from error
    try:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except (ssl.SSLError, _EncryptedError) as error:
        right = "name its key, as a PEM file without a password"
        raise InputError(f"{tls.key} is not the key of {tls.cert}", where=f"{where}.key", right=right) from error


class _EncryptedError(Exception):
    """A key asks for a password."""


def _no_password() -> str:
    raise _EncryptedError  # or OpenSSL would ask at the terminal


@dataclass(slots=True, kw_only=True)
class Held:
    """The addresses of a program: its own from before anything is loaded."""

    http: socket.socket
    """Bound, and not yet listening."""
    grpc: socket.socket | None = None
    """The same for gRPC's port, whose server binds it anew. None: a Unix socket, a port that the kernel chooses, or no gRPC."""
    paths: list[socket.socket] = field(default_factory=list[socket.socket])
    """Hold the paths of Unix sockets until those listen."""

    def let_go_of_grpc(self) -> None:
        """Just before gRPC's server binds its port."""
        if self.grpc is not None:
            self.grpc.close()

    def let_go_of_paths(self) -> None:
        """Once there are sockets that listen at them, which say so themselves."""
        for guard in self.paths:
            guard.close()

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go_of_grpc()
        self.let_go_of_paths()
        self.http.close()


def hold(
    host: str,
    port: int,
    *,
    reuse_port: bool = False,
    uds: str | None = None,
    grpc: str | None = None,
    control_socket: str | None = None,
    tls: Tls | None = None,
) -> Held:
    """Takes every address, before anything is loaded, and makes sure that every certificate can be used; raises InputError.

    `grpc` is a socket or a port. Nothing is removed but a socket that nobody listens at any more. The control socket is only
    looked at: it listens from the start.
    """
    tls_context(tls)
    local = grpc is not None and grpc.startswith(UNIX)
    wanted = {"control_socket": control_socket, "uds": uds, "grpc": grpc.removeprefix(UNIX) if grpc and local else None}
    with ExitStack() as taken:
        held = taken.enter_context(Held(http=bind(host, port, reuse_port=reuse_port)))
        if grpc is not None and not local:
            held.grpc = _bind_grpc(grpc, (host, port))
        seen: dict[Path, str] = {}
        for where, path in wanted.items():
            if path is None:
                continue
            other = seen.setdefault(Path(path).absolute(), where)
            if other != where:
                raise InputError(f"{path} is the path of {other} already", where=where, right="name another path")
            if where != "control_socket":
                held.paths.append(guard_path(Path(path), where=where))
            make_way(Path(path), where=where)
        taken.pop_all()
        return held


def _bind_grpc(grpc: str, http: tuple[str, int]) -> socket.socket | None:
    host, port = host_and_port(grpc, where="grpc")
    if not port:
        return None
    if port == http[1] and (host == http[0] or {host, http[0]} & ANYWHERE):
        raise InputError(f"port {port} is that of http already", where="grpc", right="choose another port")
    return bind(host, port, what="grpc")


def guard_path(path: Path, *, where: str) -> socket.socket:
    """Holds the path of a Unix socket that is made later; raises InputError where another program holds it.

    A socket that is bound but does not listen looks like one that was left behind, and would be removed. So the path is held by a
    name of the kernel's own (an abstract socket, unix(7)), which is gone with its process; it holds within one network namespace.
    """
    guard = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        folder = path.absolute().parent.stat()
        told = f"{folder.st_dev}:{folder.st_ino}:{path.name}".encode("utf-8", "surrogateescape")
        guard.bind(b"\0nearhall/" + sha256(told).hexdigest().encode())
    except FileNotFoundError:
        return guard  # `make_way` says that there is no such folder
    except OSError as error:
        guard.close()
        if error.errno != EADDRINUSE:
            raise no_socket(path, where, error) from error
        raise InputError(
            f"another program is about to listen at {path}", where=where, right="end it, or name another path"
        ) from error
    return guard


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
    held: Held,
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
        try:
            await service.start(may_listen(held.http), tls=tls_context(tls))
        except OSError as error:  # another program that shares the port (SO_REUSEPORT) does not let it
            host, port = held.http.getsockname()[:2]
            raise _taken("http", host, port, error) from error
        grpc_port = None
        if grpc is not None:
            ends.append(grpc.close)
            held.let_go_of_grpc()
            grpc_port = await grpc.start()
        with ExitStack() as files:
            if local is not None:
                server, uds = local
                here = files.enter_context(socket_at(uds))
                files.callback(remove_socket, uds.path, number_of(uds.path))
                ends.append(partial(server.close, drain_s))
                await server.start(here)
            held.let_go_of_paths()
            yield Addresses(port=held.http.getsockname()[1], grpc_port=grpc_port)
    finally:
        await asyncio.gather(*(end() for end in ends))
