"""TLS contexts in which both ends show a certificate of one private CA; and pools of connections over them."""

from __future__ import annotations

import ipaddress
import socket
import ssl
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


def socket_of(response: httpcore.Response) -> socket.socket | None:
    """The socket under a response's connection, for the kernel's counts; None where the transport shows none."""
    untyped: Any = response
    return untyped.extensions["network_stream"].get_extra_info("socket")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
