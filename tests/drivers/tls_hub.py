"""A hub of a few lines behind real TLS with client certificates, for tests: it answers as told, by path, and counts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nearhall.drivers.authority import Authority, Bundle, issue, make_authority

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
HANG_UP, SAY_NOTHING = b"<hang up>", b"<say nothing>"


class TlsHub:
    """`script`: what the next requests get, in order (bytes, or HANG_UP before any answer, or SAY_NOTHING); then OK for ever."""

    def __init__(self, bundle: Bundle, trusted: Path) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(trusted))
        self.context.load_cert_chain(bundle.cert, bundle.key)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.script: list[bytes] = []
        self.close_after_answer = False
        self.asked: list[str] = []
        """Request lines without their version."""
        self.connections = 0
        self.url = ""
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[TlsHub]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self.hang_up()
            while self._writers:  # noqa: ASYNC110 (each ends within a turn of the loop)
                await asyncio.sleep(0)

    def hang_up(self) -> None:
        """Breaks every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            while await self._answered(reader, writer):
                pass
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._writers.discard(writer)

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.decode("latin-1").partition(" HTTP/")[0])
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0] or 0))
        answer = self.script.pop(0) if self.script else OK
        if answer is HANG_UP:
            return False
        if answer is SAY_NOTHING:
            await reader.read()
            return False
        writer.write(answer)
        await writer.drain()
        return not self.close_after_answer


def hub_bundle(authority: Authority, folder: Path, *, ip_addresses: Sequence[str] = ("127.0.0.1",)) -> Bundle:
    """A hub's certificate, for these addresses."""
    return issue(authority, "hub", folder, kind="hub", dns_names=[], ip_addresses=ip_addresses)


def site_bundle(authority: Authority, folder: Path) -> Bundle:
    """A site's certificate."""
    return issue(authority, "shop-01", folder, kind="site", dns_names=[], ip_addresses=[])


def expired(authority: Authority, bundle: Bundle, path: Path) -> Bundle:
    """The same certificate, as it was valid until yesterday."""
    found = x509.load_pem_x509_certificate(bundle.cert.read_bytes())
    key = serialization.load_pem_private_key(authority.key.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)  # noqa: TID251 (a certificate is dated)
    builder = (
        x509.CertificateBuilder()
        .subject_name(found.subject)
        .issuer_name(found.issuer)
        .public_key(found.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now - timedelta(days=1))
    )
    for extension in found.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return replace(bundle, cert=path)


__all__ = ["HANG_UP", "OK", "SAY_NOTHING", "TlsHub", "expired", "hub_bundle", "make_authority", "site_bundle"]
