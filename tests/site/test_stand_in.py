"""The stand-in: every request gets its refusal, whatever the client does."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from nearhall.core.errors import TemporaryError
from nearhall.site.stand_in import StandIn
from waiting import until_async


@asynccontextmanager
async def _standing_in(port: int) -> AsyncIterator[StandIn]:
    stand_in = StandIn("127.0.0.1", port)
    await stand_in.listen()
    try:
        yield stand_in
    finally:
        await stand_in.close()


async def _gone(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 10)
    finally:
        await _gone(writer)
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.lower(), body


@pytest.mark.parametrize(
    ("path", "message"),
    [("/v2/models/faces/infer", lambda said: said["error"]), ("/v1/chat/completions", lambda said: said["error"]["message"])],
)
def test_each_protocol_gets_its_own_shape(free_port: Callable[[], int], path: str, message: Callable[[dict[str, str]], str]):
    async def story() -> None:
        port = free_port()
        async with _standing_in(port) as stand_in:
            head, body = await _ask(port, f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}".encode())
            assert head.startswith(b"http/1.1 503 ")
            for line in (b"x-nearhall-reason: restarting", b"retry-after: 1", b"retry-after-ms: 1000", b"connection: close"):
                assert line in head.split(b"\r\n")
            assert "starting" in message(json.loads(body))
            assert stand_in.answered == 1

    asyncio.run(story())


def test_a_client_that_sends_a_large_body_reads_its_refusal_and_is_not_reset(free_port: Callable[[], int]):
    async def story() -> None:
        port = free_port()
        async with _standing_in(port):
            size = 8 * 2**20
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v2/models/faces/infer HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size)
            for _ in range(size // 65_536):
                writer.write(bytes(65_536))
                await writer.drain()
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.startswith(b"HTTP/1.1 503 ")
            await _gone(writer)

    asyncio.run(story())


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00", b"GET", b"\r\n\r\n", b"x" * 100_000, b"GET /" + b"a" * 20_000])
def test_strange_clients_get_no_hold_on_it(free_port: Callable[[], int], said: bytes):
    async def story() -> None:
        port = free_port()
        async with _standing_in(port):
            _, stranger = await asyncio.open_connection("127.0.0.1", port)
            stranger.write(said)
            stranger.write_eof()
            head, _ = await _ask(port, b"GET /v2 HTTP/1.1\r\n\r\n")
            assert head.startswith(b"http/1.1 503 ")
            stranger.transport.abort()
            await _gone(stranger)

    asyncio.run(story())


def test_beyond_its_connections_it_resets_and_recovers(free_port: Callable[[], int]):
    async def story() -> None:
        port = free_port()
        stand_in = StandIn("127.0.0.1", port, connections_max=3)
        await stand_in.listen()
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        with pytest.raises(ConnectionResetError):
            await _ask(port, b"GET /v2 HTTP/1.1\r\n\r\n")
        for one in idle:
            one.close()

        async with asyncio.timeout(10):
            head = b""
            while not head:
                with suppress(ConnectionResetError):
                    head, _ = await _ask(port, b"GET /v2 HTTP/1.1\r\n\r\n")
        assert head.startswith(b"http/1.1 503 ")
        await stand_in.close()

    asyncio.run(story())


def test_it_listens_only_while_it_is_asked_to(free_port: Callable[[], int]):
    async def story() -> None:
        port = free_port()
        stand_in = StandIn("127.0.0.1", port)
        stand_in.prepare()
        with pytest.raises(ConnectionRefusedError):
            await _ask(port, b"GET / HTTP/1.1\r\n\r\n")
        await stand_in.withdraw()
        for _ in range(3):
            await stand_in.listen()
            await stand_in.listen()
            assert stand_in.listening
            assert (await _ask(port, b"GET / HTTP/1.1\r\n\r\n"))[0].startswith(b"http/1.1 503 ")
            await stand_in.withdraw()
            assert not stand_in.listening
            with pytest.raises(ConnectionRefusedError):
                await _ask(port, b"GET / HTTP/1.1\r\n\r\n")
        await stand_in.close()

    asyncio.run(story())


def test_what_waits_in_the_queue_is_answered_when_it_withdraws(free_port: Callable[[], int]):
    async def story() -> None:
        port = free_port()
        async with _standing_in(port) as stand_in:
            waiting = [asyncio.create_task(_ask(port, b"GET /v2 HTTP/1.1\r\n\r\n")) for _ in range(20)]
            await until_async(lambda: stand_in.answered >= 1)
            await stand_in.withdraw()
            heads = [head for head, _ in await asyncio.gather(*waiting)]
            assert all(head.startswith(b"http/1.1 503 ") for head in heads)

    asyncio.run(story())


def test_a_port_of_somebody_else_is_one_clear_error(free_port: Callable[[], int]):
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(TemporaryError, match=f"port {port} on 127.0.0.1 is taken"):
            StandIn("127.0.0.1", port).prepare()


def test_what_it_refused_is_told_once_by_workload(free_port: Callable[[], int]):
    async def story() -> None:
        port = free_port()
        stand_in = StandIn("127.0.0.1", port, counted_under=lambda head: "video" if head.startswith(b"POST ") else None)
        await stand_in.listen()
        for request in (b"POST /v2/models/faces/infer", b"POST /v2/models/faces/infer", b"GET /v2/health/ready"):
            await _ask(port, request + b" HTTP/1.1\r\n\r\n")
        assert stand_in.answered == 3
        assert stand_in.refused() == {"video": 2}
        assert stand_in.refused() == {}
        await stand_in.close()

    asyncio.run(story())
