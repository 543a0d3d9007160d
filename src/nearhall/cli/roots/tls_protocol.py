"""uvicorn's HTTP/1.1 protocol with two things added to ASGI's scope: who the TLS client is, and when the first byte came.

uvicorn shows an application no peer certificate; ASGI's TLS extension says where one would be.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Extension = dict[str, Any]


class TlsProtocol(HttpToolsProtocol):
    """Fills `scope["extensions"]`: `tls` (ASGI TLS extension) and `nearhall` (see `gateway.exchange.EXTENSION`)."""

    _tls: Extension | None = None
    _notes: Extension

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remembers the client's certificate; it was verified by OpenSSL during the handshake."""
        super().connection_made(transport)
        self._tls = tls_extension(transport)
        self._notes = {}

    def on_message_begin(self) -> None:
        """Called by the parser with the first byte of each request."""
        super().on_message_begin()
        ours: Extension = {
            "first_byte_s": time.monotonic(),
            "transport": self.transport,
            "connection": self._notes,
            "connections": self.connections,
        }
        extensions: dict[str, Extension] = {"nearhall": ours}
        if self._tls is not None:
            extensions["tls"] = self._tls
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item]  # pyright: ignore[reportGeneralTypeIssues]


def tls_extension(transport: asyncio.Transport) -> Extension | None:
    """ASGI's `tls` extension for a connection; None without TLS. `client_cert_name` is the subject's common name."""
    if transport.get_extra_info("ssl_object") is None:
        return None
    certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
    subject: dict[str, str] = {key: value for names in certificate.get("subject", ()) for key, value in names}
    return {
        "client_cert_name": subject.get("commonName"),
        "client_cert_uris": [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"],
        "client_cert_error": None,
    }
