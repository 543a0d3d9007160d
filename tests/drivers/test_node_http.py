"""The way to a node: kept connections, answers whole or piece by piece, and how each of them may be lost."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from nearhall.core.errors import InputError
from nearhall.drivers.clock import ManualClock, SystemClock
from nearhall.drivers.node_http import AHEAD_BYTES_MAX, IDLE_S, Address, NodeHttp, parse_address
from nearhall.ports.node import NodeAnswer, NodeAsk, NodeLostError
from waiting import until_async

OK = b"HTTP/1.1 200 OK\r\nX-Thing: a\r\nKeep-Alive: 5\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[bool | None]]


def story(tell):
    """An asynchronous test as pytest runs it."""

    @functools.wraps(tell)
    def told(**given):
        asyncio.run(tell(**given))

    return told


class Peer:
    """A server that acts on each request; counts connections."""

    def __init__(self, act: Act) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.ended = 0
        self._act = act

    async def serve(self, reader, writer):
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                if await self._act(reader, writer, number) is False:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended += 1
            writer.transport.abort()


@asynccontextmanager
async def peer(act: Act, *, path: str | None = None, clock=None, **more):
    served = Peer(act)
    if path is None:
        server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
        address = Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    else:
        server = await asyncio.start_unix_server(served.serve, path)
        address = Address(path=path)
    link = NodeHttp(address, clock or SystemClock(), **more)
    try:
        yield served, link, server
    finally:
        link.close()
        await until_async(lambda: served.ended == served.connections, what="every connection ended")
        server.close()


def get(*, repeatable=True, body=b"", method="GET"):
    return NodeAsk(method, b"/x?y=1", [(b"a", b"b")], body, repeatable)


async def asked(link, ask=None):
    outcome = asyncio.get_running_loop().create_future()
    link.send(ask or get(), outcome.set_result)
    return await asyncio.wait_for(outcome, 5)


async def answers(_reader, writer, _number):
    writer.write(OK)


@story
async def test_an_answer_comes_whole_and_its_connection_is_kept():
    async with peer(answers) as (served, link, _):
        for _ in range(3):
            answer = await asked(link)
            assert isinstance(answer, NodeAnswer)
            assert (answer.status, answer.body) == (200, b"hi")
            assert list(answer.headers) == [(b"x-thing", b"a"), (b"content-length", b"2")]
        await asked(link, get(method="POST", body=b"abc"))
        assert served.connections == 1
        assert served.requests[0].startswith(b"GET /x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:")
        assert b"\r\na: b\r\n" in served.requests[0]
        assert served.requests[3].endswith(b"content-length: 3\r\n\r\nabc")
        assert link.heard_s > 0


@story
async def test_a_unix_socket_is_a_way_too(short_folder):
    async with peer(answers, path=str(short_folder / "s")) as (served, link, _):
        assert (await asked(link)).body == b"hi"
        assert b"host: node\r\n" in served.requests[0]


@story
async def test_requests_at_the_same_time_have_a_connection_each_and_give_them_back():
    async with peer(answers) as (served, link, _):
        await asyncio.gather(*(asked(link) for _ in range(5)))
        assert served.connections == len(link.idle) == 5


@story
async def test_a_connection_that_was_closed_meanwhile_is_replaced_where_that_is_right():
    async def once(_reader, writer, number):
        if number > 1 or not seen:
            writer.write(OK)
            seen.append(number)
            return None
        return False  # the second request on the first connection is dropped unread

    for repeatable in (True, False):
        seen: list[int] = []
        async with peer(once) as (served, link, _):
            assert (await asked(link)).body == b"hi"
            again = await asked(link, get(repeatable=repeatable))
            if repeatable:
                assert again.body == b"hi"
                assert served.connections == 2
            else:
                assert isinstance(again, NodeLostError)
                assert again.sent


@story
async def test_a_stream_comes_piece_by_piece_and_makes_its_node_wait():
    written = 0

    async def streams(_reader, writer, _number):
        nonlocal written
        writer.write(CHUNKED)
        for _ in range(200):
            writer.write(b"4000\r\n" + bytes(0x4000) + b"\r\n")
            await writer.drain()
            written += 0x4000
        writer.write(b"0\r\n\r\n")

    async with peer(streams) as (_, link, _):
        answer = await asked(link)
        assert not isinstance(answer.body, bytes)
        await until_async(lambda: written > AHEAD_BYTES_MAX, what="it has begun")
        got = len(await answer.body.next() or b"")
        assert got < 200 * 0x4000, "not all of it is read ahead"
        while (piece := await answer.body.next()) is not None:
            got += len(piece)
        assert got == 200 * 0x4000
        answer.body.close()
        assert (await asked(link)).status == 200, "the connection is free again"


@story
async def test_a_stream_that_breaks_off_says_so_and_one_that_is_given_up_ends():
    async def breaks(_reader, writer, number):
        writer.write(CHUNKED + b"2\r\nab\r\n")
        if number == 1:
            await writer.drain()
            return False
        return None

    async with peer(breaks) as (served, link, _):
        answer = await asked(link)
        assert await answer.body.next() == b"ab"
        with pytest.raises(NodeLostError):
            await answer.body.next()
        answer = await asked(link)
        assert await answer.body.next() == b"ab"
        answer.body.close()
        await until_async(lambda: served.ended == 2, what="the node sees it")


@story
async def test_what_is_no_answer_is_a_loss():
    async def says(_reader, writer, number):
        writer.write([b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + bytes([97]) * 70_000, b"HTTP/1.1 200 OK\r\n"][number - 1])
        await writer.drain()
        return None if number < 3 else False

    async with peer(says) as (_, link, _):
        for words in ("no HTTP", "does not end", "dropped the connection"):
            lost = await asked(link)
            assert isinstance(lost, NodeLostError)
            assert lost.sent
            assert words in str(lost)


@story
async def test_who_does_not_listen_cannot_be_reached():
    async with peer(answers) as (_, link, server):
        server.close()
        lost = await asked(link)
        assert isinstance(lost, NodeLostError)
        assert not lost.sent
        assert "cannot be reached" in str(lost)


@story
async def test_a_request_that_is_given_up_closes_its_connection_and_tells_nothing():
    async def holds(reader, _writer, _number):
        await reader.read(1)
        return False

    async with peer(holds) as (served, link, _):
        told = []
        sending = link.send(get(), told.append)
        await until_async(lambda: served.requests, what="the node has it")
        sending.cancel()
        sending.cancel()
        await until_async(lambda: served.ended == 1, what="the node sees it")
        assert told == []


@story
async def test_connections_are_bounded():
    async def holds(reader, _writer, _number):
        await reader.read(1)
        return False

    async with peer(holds, connections_max=1) as (served, link, _):
        first = link.send(get(), lambda _: None)
        await until_async(lambda: served.requests, what="the node has it")
        lost = await asked(link)
        assert isinstance(lost, NodeLostError)
        assert lost.busy
        first.cancel()


@story
async def test_a_name_that_is_none_is_told_as_any_other_failure():
    link = NodeHttp(Address(host="a" * 70, port=80), SystemClock())
    lost = await asked(link)
    assert isinstance(lost, NodeLostError)
    assert not lost.sent
    assert "cannot be reached" in str(lost)
    link.close()


def test_a_connection_that_is_given_up_while_it_is_made_holds_no_place():
    """uvloop ends one that was made in this very turn without a word to its protocol."""

    async def tell():
        for turns in range(12):
            async with peer(answers, connections_max=1) as (_, link, _):
                sending = link.send(get(), lambda _: None)
                for _ in range(turns):
                    await asyncio.sleep(0)
                sending.cancel()
                async with asyncio.timeout(2):
                    while isinstance(lost := await asked(link), NodeLostError):  # what was given up takes a turn to end
                        assert lost.busy

    uvloop.run(tell())


@story
async def test_a_request_does_not_wait_behind_a_body_that_its_node_has_refused():
    connections, over = 0, asyncio.Event()

    async def refuses(reader, writer):
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)  # by the head alone; the body is left where it is
        await over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(refuses, "127.0.0.1", 0)
    link = NodeHttp(Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1]), SystemClock())
    try:
        for body in (bytes(16_000_000), b""):
            assert (await asked(link, get(method="POST", body=body))).body == b"hi"
        assert connections == 2
    finally:
        over.set()
        link.close()
        server.close()


@story
async def test_connections_that_are_not_used_are_closed_before_the_node_does():
    clock = ManualClock()
    async with peer(answers, clock=clock) as (served, link, _):
        await asked(link)
        link.tidy()
        assert len(link.idle) == 1
        clock.pass_by(IDLE_S + 1)
        link.tidy()
        await until_async(lambda: served.ended == 1, what="it is closed")
        assert link.idle == []


def test_addresses():
    assert parse_address("http://10.0.0.1:80", where="n") == Address(host="10.0.0.1", port=80)
    assert parse_address("https://n1:443/", where="n") == Address(host="n1", port=443, encrypted=True)
    assert parse_address("http://[::1]:80", where="n").authority == b"[::1]:80"
    assert parse_address("unix:/run/n.sock", where="n") == Address(path="/run/n.sock")
    for wrong in ("", "unix:", "http://x", "http://x:0", "http://x:99999", "http://u@x:1", "ftp://x:1", "x:1", "http://a/b:1"):
        with pytest.raises(InputError):
            parse_address(wrong, where="n")
