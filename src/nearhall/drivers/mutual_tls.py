"""TLS contexts in which both ends show a certificate of one private CA; and pools of connections over them."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import httpcore

from nearhall.core.errors import InputError


def client_context(*, ca: str, cert: str, key: str) -> ssl.SSLContext:
    """For the end that dials: checks the hub's certificate and name against `ca`, shows its own."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    context.load_cert_chain(cert, key)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def checked_origin(url: str, *, encrypted: bool) -> str:
    """The origin of `url`; raises InputError for plain http to anything but this machine, or https without certificates."""
    parts = urlsplit(url)
    if parts.scheme == "https" and encrypted and parts.hostname:
        return url.rstrip("/")
    if parts.scheme == "http" and not encrypted and parts.hostname and _is_loopback(parts.hostname):
        return url.rstrip("/")
    raise InputError(f"{url!r} is no address of a hub", right="https://HOST:PORT with certificates (http:// only on 127.0.0.1)")


def pool(tls: tuple[str, str, str] | None, *, connections: int, idle_s: float) -> httpcore.AsyncConnectionPool:
    """A pool that keeps connections warm for `idle_s`. `tls` is (ca, cert, key)."""
    context = None if tls is None else client_context(ca=tls[0], cert=tls[1], key=tls[2])
    return httpcore.AsyncConnectionPool(
        ssl_context=context,
        max_connections=connections,
        max_keepalive_connections=connections,
        keepalive_expiry=idle_s,
        retries=0,
    )


FAULTS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, ssl.SSLError, OSError)
"""What the other end, or the way to it, may do to an exchange."""
_GONE = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Methods that may be asked twice (RFC 9110, 9.2.2)."""


class _Dialled:
    """Whether a request made a connection of its own."""

    def __init__(self) -> None:
        self.new = False

    async def note(self, name: str, _: object) -> None:
        """As httpcore's `trace` extension calls it."""
        self.new = self.new or name == "connection.connect_tcp.started"


async def opened(
    connections: httpcore.AsyncConnectionPool,
    method: str,
    url: str,
    *,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    seconds: dict[str, float],
    repeatable: bool,
) -> tuple[httpcore.Response, AbstractAsyncContextManager[httpcore.Response]]:
    """Sends a request; gives the answer as soon as its head is there, and what must be left (`__aexit__`) in the end.

    A server may close an idle connection just as a request goes out on it, and nobody can say whether it read the request. Where
    that may be sent twice (`repeatable`), it is, once, and never after a fault on a connection of its own.
    """
    while True:
        dialled = _Dialled()
        extensions: dict[str, Any] = {"timeout": seconds, "trace": dialled.note}
        stream = connections.stream(method, url, headers=headers, content=body, extensions=extensions)
        try:
            return await stream.__aenter__(), stream
        except _GONE as error:
            if dialled.new:  # with TLS 1.3 a refused certificate shows only now, and its alert is often lost with the connection
                error.add_note("it hung up on a new connection; does it trust this site's certificate?")
            if dialled.new or not repeatable:
                raise


def said(error: Exception) -> str:
    """A fault in words: whose certificate was refused and why, or that nothing answered."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the hub's certificate is refused: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError) and "ALERT" in str(cause.reason):
        return f"the hub refuses this site's certificate: {str(cause.reason).lower().replace('_', ' ')}"
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return f"the hub does not answer: {type(error).__name__} {error}".strip() + notes


def socket_of(response: httpcore.Response) -> socket.socket | None:
    """The socket under a response's connection, for the kernel's counts; None where the transport shows none."""
    untyped: Any = response
    return untyped.extensions["network_stream"].get_extra_info("socket")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
