"""`--hub-probe`: the round trip of a real server on this machine, through a link of a known round trip."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.tls_hub import hub_bundle, make_authority
from nearhall.core.errors import InputError
from nearhall.sim.link import LaneSettings, Link, Settings, address, new_loop
from nearhall.sim.probe import GETS_MIN, measure_round_trip, summary

RTT_MS = 30.0


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = b"x" * 100
    while await reader.readline():
        while (await reader.readline()).strip():
            pass
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + body)
    writer.close()


async def _long(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + bytes(500_000))
    await reader.read()
    writer.close()


async def _mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 not a web server\r\n")
    await reader.read()
    writer.close()


@contextmanager
def _served(handler: object = _answer, *, context: ssl.SSLContext | None = None) -> Generator[str]:
    """A server behind a link, in a thread of its own; gives the link's address."""
    ready = threading.Event()
    found: list[str] = []
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)  # type: ignore[arg-type]
        to = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        lane = LaneSettings(site="a", name="api", listen="127.0.0.1:0", to=to)
        link = Link(settings=Settings(lanes=[lane], rtt_ms=RTT_MS, jitter_ms=0.0))
        await link.start()
        found.append(link.addresses["a"]["api"])
        stop = asyncio.Event()
        ends.append((asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        await link.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)

    def run() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    try:
        yield found[0]
    finally:
        loop, stop = ends[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def test_the_round_trip_is_that_of_a_warm_connection():
    with _served() as at:
        trip = measure_round_trip(f"http://{at}/")
    assert (trip.n, trip.warm) == (20, True)
    assert RTT_MS - 1 <= trip.p50_ms < RTT_MS + 15
    assert trip.connect_p50_ms < 20, "loopback's kernel answers connects by itself"
    assert trip.jitter_ms >= 0


async def _redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readline():
        while (await reader.readline()).strip():
            pass
        writer.write(b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n")
    writer.close()


def test_a_redirect_is_an_answer_and_is_not_followed():
    with _served(_redirect) as at:
        trip = measure_round_trip(f"http://{at}/")
    assert (trip.n, trip.warm) == (20, True)


@pytest.mark.parametrize("handler", [_mute, _long], ids=["no web server", "an endless page"])
def test_a_server_of_another_kind_is_measured_by_its_connects(handler: object):
    with _served(handler) as at:
        trip = measure_round_trip(f"http://{at}/")
    assert (trip.n, trip.warm) == (10, False)


def test_a_certificate_of_anybody_does_for_a_measurement(tmp_path: Path):
    bundle = hub_bundle(make_authority(tmp_path / "ca"), tmp_path / "hub", ip_addresses=["192.0.2.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(bundle.cert, bundle.key)
    with _served(context=context) as at:
        trip = measure_round_trip(f"https://{at}/")
    assert trip.warm
    assert trip.p50_ms >= RTT_MS - 1


def test_nobody_there_is_told_in_one_line():
    with pytest.raises(InputError, match=r"--hub-probe: http://127\.0\.0\.1:1/ cannot be reached \(Connection refused\)"):
        measure_round_trip("http://127.0.0.1:1/")


@pytest.mark.parametrize("url", ["hub.example", "ftp://hub.example", "https://", "https://h:99999", "http://[::1"])
def test_an_address_that_cannot_be_right_is_the_users_to_mend(url: str):
    with pytest.raises(InputError, match="--hub-probe"):
        measure_round_trip(url)


def test_a_host_without_an_address_is_named():
    with pytest.raises(InputError, match="no-such-host"):
        measure_round_trip("https://no-such-host.invalid/")


def test_quantiles_are_by_nearest_rank():
    trip = summary([5.0, 1.0, 3.0, 2.0, 4.0], [9.0] * (GETS_MIN - 1))
    assert (trip.n, trip.p50_ms, trip.p95_ms, trip.warm, trip.jitter_ms) == (5, 3.0, 5.0, False, 2.0)
    one_slow = summary([1.0], [10.0] * 19 + [900.0])
    assert (one_slow.n, one_slow.p50_ms, one_slow.jitter_ms, one_slow.connect_p50_ms) == (20, 10.0, 0.0, 1.0)
    assert address("127.0.0.1:1", where="") == ("127.0.0.1", 1)
