"""The players' own connections: all bytes arrive, in both directions and at any size; faults are httpcore's; stamps ascend."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpcore
import pytest
import uvloop

from nearhall.drivers.clock import SystemClock
from nearhall.sim.players.client import GatewayClient
from nearhall.sim.players.seen import Seen
from nearhall.sim.players.stamps import WAITING_BYTES_MAX, StampedBackend, StampedStream
from nearhall.sim.players.work import Request
from sim.scripted_server import scripted_server
from waiting import until_async

CLOCK = SystemClock()


@asynccontextmanager
async def connected(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]],
) -> AsyncIterator[StampedStream]:
    """A connection to a server that does `serve` and closes."""
    serving: set[asyncio.Task[None]] = set()

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())  # type: ignore[arg-type]
        await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(whole, "127.0.0.1", 0)
    stream = await StampedBackend(CLOCK).connect_tcp("127.0.0.1", server.sockets[0].getsockname()[1], 5.0)
    assert isinstance(stream, StampedStream)
    try:
        yield stream
    finally:
        await stream.aclose()
        server.close()
        await asyncio.gather(*serving)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_more_than_may_wait_arrives_whole_in_both_directions(run: Callable[[Any], Any]):
    size = 5 * WAITING_BYTES_MAX
    sent = bytes(range(256)) * (size // 256)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(size))
        await writer.drain()

    async def story() -> tuple[bytes, list[float]]:
        async with connected(echo) as stream:
            await stream.write(sent, 10.0)
            got, stamps = b"", [stream.asked_s]
            while piece := await stream.read(65_536, 10.0):
                assert len(piece) <= 65_536
                got += piece
                stamps.append(stream.got_s)
            return got, stamps

    got, stamps = run(story())
    assert got == sent
    assert stamps == sorted(stamps)
    assert stamps[0] > 0


def test_who_waits_too_long_or_speaks_to_nobody_hears_of_it_as_httpcore_says_it():
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async def deaf(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await let_go.wait()

    async def story() -> None:
        async with connected(silent) as stream:
            with pytest.raises(httpcore.ReadTimeout):
                await stream.read(10, 0.05)
            assert not stream.get_extra_info("is_readable")
            await stream.aclose()
            with pytest.raises(httpcore.WriteError):
                await stream.write(b"x", 1.0)
        async with connected(deaf) as stream:
            with pytest.raises(httpcore.WriteTimeout):
                await stream.write(bytes(50_000_000), 0.05)
            let_go.set()

    let_go = asyncio.Event()
    asyncio.run(story())


def test_a_reset_is_a_fault_and_a_goodbye_is_none():
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)  # close with a reset
        writer.transport.abort()

    async def goodbye(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)

    async def story() -> None:
        async with connected(reset) as stream:
            await stream.write(b"xx", 1.0)
            with pytest.raises(httpcore.ReadError):
                await stream.read(10, 5.0)
        async with connected(goodbye) as stream:
            await stream.write(b"xx", 1.0)
            assert await stream.read(10, 5.0) == b""
            assert stream.get_extra_info("is_readable"), "httpcore asks on no connection that says so"

    asyncio.run(story())


def test_a_connection_closed_while_idle_is_not_asked_on():
    async def story() -> tuple[Seen, int]:
        async with scripted_server() as server:
            client, seen = GatewayClient(server.origin, CLOCK), Seen()
            for number in range(3):
                await client.ask(Request(path="/last", headers=[], body=b""), seen, intended_s=CLOCK.monotonic())
                await until_async(lambda want=number + 1: server.at_once == 0 and server.closed == want, what="the goodbye")
                await asyncio.sleep(0)
            await client.close()
            return seen, server.connections

    seen, connections = asyncio.run(story())
    assert (seen.answered, seen.broken, connections) == (3, 0, 3)
