"""The uplink over mutual TLS: bytes by the kernel, gzip both ways, faults that are temporary."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nearhall.core.errors import InputError, TemporaryError
from nearhall.drivers.authority import Bundle, issue, make_authority
from nearhall.drivers.tcp_info import link_bytes
from nearhall.drivers.uplink_https import HttpsUplink
from nearhall.wire.session import BODY_BYTES_MAX


def _bundle(folder: Path, authority: str, name: str, kind: str) -> Bundle:
    own = make_authority(folder / authority)
    return issue(own, name, folder / authority / name, kind=kind, dns_names=[], ip_addresses=["127.0.0.1"])


class Hub:
    """Answers every POST with `answer`; keeps what it read, and the kernel's count of it."""

    def __init__(self, folder: Path) -> None:
        own = _bundle(folder, "ours", "hub", "hub")
        self.site = _bundle(folder, "ours", "shop-01", "site")
        self.stranger = _bundle(folder, "theirs", "shop-01", "site")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(own.ca))
        self.context.load_cert_chain(own.cert, own.key)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.counted: list[tuple[int, int]] = []
        self.url = ""

    def uplink(self, own: Bundle | None = None) -> HttpsUplink:
        own = own or self.site
        return HttpsUplink(self.url, (str(self.site.ca), str(own.cert), str(own.key)))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Hub]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0] or 0)
                self.heads.append(head.lower())
                self.bodies.append(await reader.readexactly(size))
                writer.write(self.answer)
                await writer.drain()
                self.counted.append(link_bytes(writer.get_extra_info("socket")))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


def _run(story: object, folder: Path) -> None:
    async def whole() -> None:
        async with Hub(folder).serving() as hub:
            await story(hub)  # type: ignore[operator]

    asyncio.run(whole())


def test_both_ends_agree_on_the_bytes_and_the_handshake_is_in(tmp_path: Path):
    async def story(hub: Hub) -> None:
        uplink = hub.uplink()
        replies = [await uplink.exchange("POST", "/x", b"y" * 100, timeout_s=5) for _ in range(3)]
        sent, received = sum(r.sent_bytes for r in replies), sum(r.received_bytes for r in replies)
        assert (received, sent) == hub.counted[-1]
        assert replies[0].sent_bytes > 1000 > replies[1].sent_bytes > 100
        assert replies[1].sent_bytes == replies[2].sent_bytes
        await uplink.close()

    _run(story, tmp_path)


def test_large_bodies_are_zipped_and_small_ones_are_not(tmp_path: Path):
    async def story(hub: Hub) -> None:
        uplink = hub.uplink()
        for body in (b"small", b"large" * 10_000):
            await uplink.exchange("POST", "/x", body, timeout_s=5)
        assert hub.bodies[0] == b"small"
        assert b"content-encoding: gzip" not in hub.heads[0]
        assert b"content-encoding: gzip" in hub.heads[1]
        assert zlib.decompress(hub.bodies[1], wbits=31) == b"large" * 10_000
        await uplink.close()

    _run(story, tmp_path)


def test_a_zipped_answer_is_opened_up_to_its_bound(tmp_path: Path):
    async def story(hub: Hub) -> None:
        uplink = hub.uplink()
        for size, status in ((1000, b"200 OK"), (50, b"503 Busy")):
            body = gzip.compress(b"a" * size)
            hub.answer = b"HTTP/1.1 %s\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)
            reply = await uplink.exchange("POST", "/x", b"", timeout_s=5)
            assert (reply.status, reply.body) == (int(status[:3]), b"a" * size)
        for body in (gzip.compress(bytes(BODY_BYTES_MAX + 1)), b"no gzip"):
            hub.answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            with pytest.raises(TemporaryError):
                await uplink.exchange("POST", "/x", b"", timeout_s=5)
        await uplink.close()

    _run(story, tmp_path)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"])
def test_a_hub_that_does_not_answer_in_time_or_in_http_is_temporary(tmp_path: Path, answer: bytes):
    async def story(hub: Hub) -> None:
        uplink = hub.uplink()
        await uplink.exchange("POST", "/x", b"", timeout_s=5)
        hub.answer = answer
        with pytest.raises(TemporaryError, match="the hub does not answer"):
            await uplink.exchange("POST", "/x", b"", timeout_s=0.2)
        hub.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        assert (await uplink.exchange("POST", "/x", b"", timeout_s=5)).status == 200
        await uplink.close()

    _run(story, tmp_path)


def test_a_certificate_of_another_authority_is_not_let_in(tmp_path: Path):
    async def story(hub: Hub) -> None:
        ours, theirs = hub.uplink(), hub.uplink(hub.stranger)
        assert (await ours.exchange("POST", "/x", b"", timeout_s=5)).status == 200
        with pytest.raises(TemporaryError):
            await theirs.exchange("POST", "/x", b"", timeout_s=5)
        await ours.close()
        await theirs.close()
        assert len(hub.bodies) == 1

    _run(story, tmp_path)


def test_nobody_listening_is_temporary(tmp_path: Path):
    async def story(hub: Hub) -> None:
        hub.url = "https://127.0.0.1:9"
        with pytest.raises(TemporaryError):
            await hub.uplink().exchange("GET", "/x", b"", timeout_s=1)

    _run(story, tmp_path)


@pytest.mark.parametrize("url", ["http://192.0.2.1:80", "http://hub.example", "ftp://127.0.0.1", "127.0.0.1:80", ""])
def test_plain_http_goes_to_this_machine_only(url: str):
    HttpsUplink("http://127.0.0.1:80", None)
    with pytest.raises(InputError, match="is no address of a hub"):
        HttpsUplink(url, None)


def test_https_without_certificates_is_refused():
    with pytest.raises(InputError):
        HttpsUplink("https://hub.example:8443", None)
