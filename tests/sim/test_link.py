"""The shaper over real sockets: round trip, bandwidth, counts, cut and restore."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from nearhall.core.errors import InputError, TemporaryError
from nearhall.sim.lane import CONNECTIONS_MAX
from nearhall.sim.link import LaneSettings, Link, Settings, address, new_loop
from nearhall.sim.link_control import LinkControl
from waiting import until_async

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _run(story: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(story(), 30))  # type: ignore[arg-type]


class _Hub:
    """Echoes by default; keeps what it heard."""

    def __init__(self, *, echo: bool = True) -> None:
        self.heard = bytearray()
        self.heard_by_connection: list[bytearray] = []
        self.ends = 0
        self.resets = 0
        self.writers: list[asyncio.StreamWriter] = []
        self._echo = echo

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        own = bytearray()
        self.heard_by_connection.append(own)
        try:
            while data := await reader.read(1 << 16):
                self.heard += data
                own += data
                if self._echo:
                    writer.write(data)
                    await writer.drain()
            self.ends += 1
            if self._echo:
                writer.close()
        except OSError:
            self.resets += 1
            writer.close()


@asynccontextmanager
async def _linked(hub: _Hub, **numbers: float) -> AsyncIterator[tuple[Link, Callable[[str], Awaitable[Streams]]]]:
    server = await asyncio.start_server(hub, "127.0.0.1", 0)
    to = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    lanes = [LaneSettings(site=site, name=name, listen="127.0.0.1:0", to=to) for site in "ab" for name in ("api", "gateway")]
    link = Link(settings=Settings(lanes=lanes, **{"rtt_ms": 0.0, "jitter_ms": 0.0, "mbps": 0.0, **numbers}))
    await link.start()
    opened: list[asyncio.StreamWriter] = []

    async def connect(site: str = "a", lane: str = "gateway") -> Streams:
        host, port = address(link.addresses[site][lane], where="")
        reader, writer = await asyncio.open_connection(host, port)
        opened.append(writer)
        return reader, writer

    try:
        yield link, connect
    finally:
        await link.close()
        server.close()
        await server.wait_closed()
        for writer in (*opened, *hub.writers):
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


async def _round_trips(streams: Streams, count: int, size: int = 100) -> list[float]:
    reader, writer = streams
    taken: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        writer.write(b"x" * size)
        await reader.readexactly(size)
        taken.append((time.perf_counter() - began) * 1000.0)
    return taken


def test_a_warm_round_trip_takes_the_round_trip_and_little_more():
    async def story() -> None:
        async with _linked(_Hub(), rtt_ms=40.0) as (_, connect):
            streams = await connect()
            first, *warm = await _round_trips(streams, 11)
            assert min(warm) >= 40.0 - 0.5
            assert statistics.median(warm) < 46.0
            assert first >= 80.0 - 1.0, "setting a connection up costs one round trip more"

    _run(story)


def test_without_delay_and_bandwidth_only_a_hop_is_added():
    async def story() -> None:
        async with _linked(_Hub()) as (_, connect):
            warm = (await _round_trips(await connect(), 60))[10:]
            assert statistics.median(warm) < 5.0

    _run(story)


def test_jitter_lengthens_a_round_trip_by_no_more_than_it_says():
    async def story() -> None:
        async with _linked(_Hub(), rtt_ms=10.0, jitter_ms=20.0) as (_, connect):
            warm = (await _round_trips(await connect(), 31))[1:]
            assert min(warm) >= 10.0 - 0.5
            assert max(warm) - min(warm) > 4.0
            assert statistics.median(warm) < 30.0 + 6.0

    _run(story)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_bandwidth_is_shared_by_a_sites_connections_each_way(direction: str):
    size = 1_000_000

    async def story() -> None:
        hub = _Hub(echo=False)
        async with _linked(hub, mbps=16.0) as (_, connect):
            streams = [await connect("a", "api"), await connect("a", "gateway")]
            await until_async(lambda: len(hub.writers) == 2)
            began = time.perf_counter()
            if direction == "up":
                for _, writer in streams:
                    writer.write(bytes(size))
                await until_async(lambda: len(hub.heard) == 2 * size, 20)
            else:
                for writer in hub.writers:
                    writer.write(bytes(size))
                await asyncio.gather(*(reader.readexactly(size) for reader, _ in streams))
            took = time.perf_counter() - began
            assert 2 * size * 8 / 16e6 * 0.98 <= took < 1.25

    _run(story)


def test_another_site_has_a_link_of_its_own():
    async def story() -> None:
        hub = _Hub(echo=False)
        async with _linked(hub, mbps=8.0) as (link, connect):
            _, busy = await connect("a")
            busy.write(bytes(1_000_000))
            _, quiet = await connect("b")
            quiet.write(bytes(1000))
            await until_async(lambda: link.stats()["b"]["gateway"]["up_bytes"] == 1000)
            assert link.stats()["a"]["gateway"]["up_bytes"] < 1_000_000

    _run(story)


def test_every_byte_is_counted_once_by_lane_and_direction():
    async def story() -> None:
        hub = _Hub(echo=False)
        async with _linked(hub, rtt_ms=4.0, mbps=200.0) as (link, connect):
            reader, writer = await connect("a", "api")
            writer.write(bytes(123_457))
            writer.write_eof()
            await until_async(lambda: hub.ends == 1)
            hub.writers[0].write(bytes(7_919))
            hub.writers[0].close()
            assert len(await reader.read()) == 7_919
            assert link.stats()["a"] == {
                "api": {"up_bytes": 123_457, "down_bytes": 7_919, "connections": 1},
                "gateway": {"up_bytes": 0, "down_bytes": 0, "connections": 0},
            }

    _run(story)


def test_a_cut_stalls_both_ways_and_restoring_it_delivers_in_order():
    up, down = Random(1).randbytes(300_000), Random(2).randbytes(200_000)

    async def story() -> None:
        hub = _Hub(echo=False)
        async with _linked(hub, rtt_ms=4.0) as (link, connect):
            reader, writer = await connect("a")
            writer.write(up[:1000])
            await until_async(lambda: len(hub.heard) == 1000)
            link.cut("a")
            writer.write(up[1000:])
            hub.writers[0].write(down)
            _, other = await connect("b")
            other.write(b"b")
            await until_async(lambda: len(hub.writers) == 2, what="the other site's connection")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.3)
            assert len(hub.heard) <= 1001, "nothing of the cut-off site crosses"
            assert hub.ends == hub.resets == 0, "nothing is reset"
            link.restore("a")
            began = time.perf_counter()
            assert await reader.readexactly(len(down)) == down
            await until_async(lambda: len(hub.heard) == len(up) + 1)
            assert time.perf_counter() - began < 1.0
            assert hub.heard_by_connection == [up, b"b"]
            assert link.stats()["a"]["gateway"] == {"up_bytes": len(up), "down_bytes": len(down), "connections": 1}

    _run(story)


def test_a_connection_made_during_a_cut_is_taken_and_stalls():
    async def story() -> None:
        hub = _Hub()
        async with _linked(hub, rtt_ms=4.0) as (link, connect):
            link.cut(None)
            reader, writer = await connect()
            writer.write(b"hello")
            given_up = await connect()
            given_up[1].write(b"never")
            given_up[1].close()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(5), 0.2)
            assert hub.writers == []
            link.restore(None)
            assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
            assert bytes(hub.heard) == b"hello", "who gave up during the cut never reached the hub"

    _run(story)


def test_what_cannot_be_delivered_waits_at_its_sender():
    size = 40 << 20

    async def story() -> None:
        hub = _Hub(echo=False)
        async with _linked(hub) as (link, connect):
            _, writer = await connect()
            link.cut("a")
            writer.write(bytes(size))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.5)
            assert writer.transport.get_write_buffer_size() > size // 2, "the shaper holds little of it"
            link.restore("a")
            await until_async(lambda: len(hub.heard) == size, 20)

    _run(story)


def test_a_hub_that_is_down_closes_the_connection_and_one_that_dies_too():
    async def story() -> None:
        hub = _Hub()
        async with _linked(hub, rtt_ms=2.0) as (link, connect):
            streams = await connect()
            await _round_trips(streams, 1)
            hub.writers[0].transport.abort()
            assert await asyncio.wait_for(streams[0].read(), 5) == b""
        lanes = [LaneSettings(site="a", name="api", listen="127.0.0.1:0", to="127.0.0.1:1")]
        link = Link(settings=Settings(lanes=lanes, rtt_ms=2.0))
        await link.start()
        reader, writer = await asyncio.open_connection(*address(link.addresses["a"]["api"], where=""))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await link.close()

    _run(story)


def test_a_site_that_goes_away_ends_at_the_hub_after_what_it_said():
    async def story() -> None:
        hub = _Hub(echo=False)
        async with _linked(hub, rtt_ms=20.0) as (_, connect):
            _, writer = await connect()
            writer.write(bytes(10_000))
            await writer.drain()
            writer.close()
            await until_async(lambda: hub.ends + hub.resets == 1)
            assert len(hub.heard) == 10_000

    _run(story)


def test_the_link_says_what_is_wrong_with_its_settings():
    lane = LaneSettings(site="a", name="api", listen="127.0.0.1:0", to="127.0.0.1:1")
    with pytest.raises(InputError, match="between 0 and"):
        Link(settings=Settings(lanes=[lane], rtt_ms=-1.0))
    with pytest.raises(InputError, match="two lanes"):
        Link(settings=Settings(lanes=[lane, lane]))
    for wrong in ("127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ""):
        with pytest.raises(InputError, match="HOST:PORT"):
            address(wrong, where="listen")
    assert address("[::1]:80", where="listen") == ("::1", 80)


def test_a_taken_address_is_told_in_one_line():
    async def story() -> None:
        async with _linked(_Hub()) as (link, _):
            taken = link.addresses["a"]["api"]
            lane = LaneSettings(site="a", name="api", listen=taken, to="127.0.0.1:1")
            second = Link(settings=Settings(lanes=[lane]))
            with pytest.raises(TemporaryError, match="cannot listen"):
                await second.start()
            await second.close()
            control = LinkControl(link)
            with pytest.raises(TemporaryError, match="cannot listen"):
                await control.start(taken)

    _run(story)


def test_too_many_connections_are_turned_away():
    async def story() -> None:
        async with _linked(_Hub()) as (link, connect):
            link._open.update(object() for _ in range(CONNECTIONS_MAX))  # type: ignore[misc]
            reader, _ = await connect()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(1), 5)
            link._open.clear()
            await _round_trips(await connect(), 1)

    _run(story)


async def _asked(control: LinkControl, request: bytes) -> tuple[int, dict]:
    reader, writer = await asyncio.open_connection(*address(control.address, where=""))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    ("request_line", "status", "expected"),
    [
        (b"GET /state", 200, {"rtt_ms": 0.0, "jitter_ms": 0.0, "mbps": 0.0, "cut": []}),
        (b"POST /cut?site=a", 200, {"rtt_ms": 0.0, "jitter_ms": 0.0, "mbps": 0.0, "cut": ["a"]}),
        (b"POST /cut", 200, {"rtt_ms": 0.0, "jitter_ms": 0.0, "mbps": 0.0, "cut": ["a", "b"]}),
        (b"POST /restore?site=b", 200, {"rtt_ms": 0.0, "jitter_ms": 0.0, "mbps": 0.0, "cut": []}),
        (b"POST /set?rtt_ms=80&mbps=10", 200, {"rtt_ms": 80.0, "jitter_ms": 0.0, "mbps": 10.0, "cut": []}),
        (b"POST /set?rtt_ms=fast", 400, None),
        (b"POST /set?rtt_ms=nan", 400, None),
        (b"POST /set?loss=1", 400, None),
        (b"POST /cut?site=c", 400, None),
        (b"GET /cut?site=a", 404, None),
        (b"GET /", 404, None),
    ],
)
def test_the_control_address(request_line: bytes, status: int, expected: dict | None):
    async def story() -> None:
        async with _linked(_Hub()) as (link, _):
            control = LinkControl(link)
            await control.start("127.0.0.1:0")
            try:
                got, body = await _asked(control, request_line + b" HTTP/1.1\r\nhost: here\r\n\r\n")
                assert got == status
                assert "error" in body if expected is None else body == expected
                got, body = await _asked(control, b"GET /stats HTTP/1.1\r\n\r\n")
                assert got == 200
                assert body["b"]["gateway"] == {"up_bytes": 0, "down_bytes": 0, "connections": 0}
            finally:
                await control.close()

    _run(story)


def test_the_control_address_refuses_web_pages_and_noise():
    async def story() -> None:
        async with _linked(_Hub()) as (link, _):
            control = LinkControl(link)
            await control.start("127.0.0.1:0")
            try:
                page = b"POST /cut HTTP/1.1\r\nOrigin: http://elsewhere.example\r\n\r\n"
                assert (await _asked(control, page))[0] == 403
                assert (await _asked(control, b"hello\r\n\r\n"))[0] == 400
                assert (await _asked(control, b"x" * 20_000 + b"\r\n\r\n"))[0] == 400
                assert link.state()["cut"] == []
            finally:
                await control.close()

    _run(story)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_slow_reader_slows_its_writer_and_loses_nothing(direction: str):
    size = 60 << 20

    async def story() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as hub:
            hub.setblocking(False)
            lane = LaneSettings(site="a", name="api", listen="127.0.0.1:0", to=f"127.0.0.1:{hub.getsockname()[1]}")
            link = Link(settings=Settings(lanes=[lane], rtt_ms=0.0, jitter_ms=0.0, mbps=0.0))
            await link.start()
            with socket.socket() as near:
                near.setblocking(False)
                await loop.sock_connect(near, address(link.addresses["a"]["api"], where=""))
                far, _ = await loop.sock_accept(hub)
                with far:
                    far.setblocking(False)
                    writer, reader = (near, far) if direction == "up" else (far, near)
                    sending = asyncio.create_task(loop.sock_sendall(writer, bytes(size)))
                    count = link.stats()["a"]["api"]
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(asyncio.shield(sending), 0.5)
                    held = link.stats()["a"]["api"][f"{direction}_bytes"]
                    assert held < size // 2, "what nobody reads is not taken in"
                    got = 0
                    while got < size:
                        got += len(await loop.sock_recv(reader, 1 << 20))
                    await sending
                    assert link.stats()["a"]["api"][f"{direction}_bytes"] == size > count[f"{direction}_bytes"]
            await link.close()

    _run(story)


def test_a_cut_outlives_both_ends_of_a_connection():
    async def story() -> None:
        hub = _Hub(echo=False)
        async with _linked(hub, rtt_ms=2.0) as (link, connect):
            _, writer = await connect()
            writer.write(b"before")
            await until_async(lambda: len(hub.heard) == 6)
            link.cut("a")
            writer.write(b"during")
            writer.close()
            hub.writers[0].transport.abort()
            await until_async(hub.writers[0].transport.is_closing)
            link.restore("a")
            await until_async(lambda: not link._open, what="the end of the connection")
            assert bytes(hub.heard) == b"before"

    _run(story)


def test_a_shape_set_while_it_runs_holds_for_what_comes_after():
    async def story() -> None:
        async with _linked(_Hub()) as (link, connect):
            streams = await connect()
            assert min(await _round_trips(streams, 10)) < 20.0
            link.set(rtt_ms=30.0)
            assert min(await _round_trips(streams, 5)) >= 29.5
            link.set(rtt_ms=0.0)
            assert min(await _round_trips(streams, 10)) < 20.0

    _run(story)
