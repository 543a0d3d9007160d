"""The gateway's own HTTP server, over real sockets: what comes in, what goes out, and what is cut off."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager, suppress

import pytest

from nearhall.gateway.http import server as http_server
from nearhall.gateway.http.connection import PIPELINED_MAX, Turned
from nearhall.gateway.http.server import Server, listening
from waiting import until_async


class Echo:
    """An ASGI application that says what it was asked."""

    def __init__(self):
        self.asked = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.disconnected = 0

    async def __call__(self, scope, receive, send):
        message = await receive()
        self.asked.append((scope["method"], scope["path"], scope["query_string"], message["body"], message["more_body"]))
        if scope["path"] == "/fails":
            raise RuntimeError("on purpose")
        if scope["path"] == "/says-nothing":
            return
        if scope["path"] == "/waits":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.disconnected += 1
            return
        await self.hold.wait()
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for part in (b"one ", b"", b"two"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if scope["path"] == "/flood":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(64):
                await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        status = 413 if message["more_body"] else 204 if scope["path"] == "/nothing" else 200
        body = b"" if status == 204 else message["body"][:20_000] or scope["path"].encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-said", b"yes")]})
        await send({"type": "http.response.body", "body": body})


class Talk:
    """One connection, spoken to in bytes."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def say(self, *lines, body=b""):
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def hear(self, *, bodyless=False):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split()[1])
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        if bodyless or status in {100, 204}:
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while (size := int(await self.reader.readline(), 16)) > 0:
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
            return status, headers, body
        if "content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))
        return status, headers, await self.reader.read()

    async def ended(self):
        with suppress(ConnectionResetError):
            return await self.reader.read() == b""
        return True


@asynccontextmanager
async def served(*, turn_away=None, most=1_000_000, drain_s=2.0, **more):
    app = Echo()
    server = Server(app, body_bytes_max=most, **({} if turn_away is None else {"turn_away": turn_away}), **more)
    writers = []
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]

        async def connect():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            return Talk(reader, writer)

        async with listening(server, bound, drain_s=drain_s):
            yield app, server, connect
            for writer in writers:
                writer.close()


def run(story):
    async def bounded():
        async with asyncio.timeout(20):
            await story

    asyncio.run(bounded())


GET = "GET /a%20b?c=d HTTP/1.1"
POST = "POST /p HTTP/1.1"
HOST = "host: h"


def test_requests_one_after_the_other_on_one_connection():
    async def tell():
        async with served() as (app, _, connect):
            talk = await connect()
            talk.say(GET, HOST)
            assert (await talk.hear())[::2] == (200, b"/a b")
            talk.say(POST, HOST, "content-length: 3", body=b"abc")
            status, headers, body = await talk.hear()
            assert (status, headers["x-said"], headers["content-length"], body) == (200, "yes", "3", b"abc")
            talk.say("GET http://other/x HTTP/1.1", HOST)
            assert (await talk.hear())[2] == b"/x"
            assert app.asked[0] == ("GET", "/a b", b"c=d", b"", False)
            assert [one[1] for one in app.asked] == ["/a b", "/p", "/x"]

    run(tell())


def test_chunks_come_in_and_go_out():
    async def tell():
        async with served() as (app, _, connect):
            talk = await connect()
            talk.say(POST, HOST, "transfer-encoding: chunked", body=b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
            assert (await talk.hear())[2] == b"abcdefg"
            talk.say("GET /stream HTTP/1.1", HOST)
            status, headers, body = await talk.hear()
            assert (status, headers["transfer-encoding"], body) == (200, "chunked", b"one two")
            talk.say("GET /stream HTTP/1.0", HOST)
            _, headers, body = await talk.hear()
            assert (headers["connection"], body) == ("close", b"one two")
            assert len(app.asked) == 3

    run(tell())


def test_head_and_no_content_have_no_body():
    async def tell():
        async with served() as (_, _, connect):
            talk = await connect()
            talk.say("HEAD /h HTTP/1.1", HOST)
            assert (await talk.hear(bodyless=True))[1]["content-length"] == "2"
            talk.say("GET /nothing HTTP/1.1", HOST)
            assert (await talk.hear())[0] == 204
            talk.say("HEAD /stream HTTP/1.1", HOST)
            await talk.hear(bodyless=True)
            talk.say("GET /x HTTP/1.1", HOST)
            assert (await talk.hear())[2] == b"/x"

    run(tell())


def test_the_connection_ends_when_asked_to_and_http_1_0_does_not_keep_it():
    async def tell():
        async with served() as (_, _, connect):
            talk = await connect()
            talk.say(GET, HOST, "connection: close")
            assert (await talk.hear())[1]["connection"] == "close"
            assert await talk.ended()
            old = await connect()
            old.say("GET /x HTTP/1.0", HOST, "connection: keep-alive")
            assert (await old.hear())[1]["connection"] == "keep-alive"
            old.say("GET /x HTTP/1.0", HOST)
            await old.hear()
            assert await old.ended()
            upgrade = await connect()
            upgrade.say("GET /x HTTP/1.1", HOST, "connection: upgrade", "upgrade: websocket")
            assert (await upgrade.hear())[2] == b"/x"
            assert await upgrade.ended()

    run(tell())


def test_pipelined_requests_are_answered_in_their_order_and_read_no_further_than_that():
    async def tell():
        async with served() as (app, _, connect):
            app.hold.clear()
            talk = await connect()
            for number in range(PIPELINED_MAX + 4):
                talk.say(f"GET /{number} HTTP/1.1", HOST)
            await until_async(lambda: len(app.asked) == 1)
            app.hold.set()
            answers = [(await talk.hear())[2] for _ in range(PIPELINED_MAX + 4)]
            assert answers == [f"/{number}".encode() for number in range(PIPELINED_MAX + 4)]

    run(tell())


def test_who_waits_for_a_word_gets_it_in_turn():
    async def tell():
        async with served() as (_, _, connect):
            talk = await connect()
            talk.say("GET /first HTTP/1.1", HOST)
            talk.say(POST, HOST, "expect: 100-continue", "content-length: 3")
            assert (await talk.hear())[2] == b"/first"
            assert (await talk.hear())[0] == 100
            talk.writer.write(b"abc")
            assert (await talk.hear())[2] == b"abc"
            talk.say(POST, HOST, "expect: 100-continue", "content-length: 2")
            assert (await talk.hear())[0] == 100
            talk.writer.write(b"de")
            assert (await talk.hear())[2] == b"de"

    run(tell())


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "sized"])
def test_a_body_that_is_too_large_is_refused_in_words_before_it_has_all_come(chunked):
    async def tell():
        async with served(most=1000) as (app, _, connect):
            talk = await connect()
            talk.say(POST, HOST, "transfer-encoding: chunked" if chunked else "content-length: 3000")
            talk.writer.write(b"7d0\r\n" + b"x" * 2000 if chunked else b"x" * 2000)
            status, headers, _ = await talk.hear()
            assert (status, headers["connection"]) == (413, "close")
            talk.writer.write(b"\r\n3\r\nabc\r\n0\r\n\r\n" if chunked else b"x" * 1000)
            assert await talk.ended()
            assert app.asked[0][4] is True
            good = await connect()
            good.say(POST, HOST, "content-length: 1000", body=b"x" * 1000)
            assert (await good.hear())[0] == 200

    run(tell())


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "sized"])
def test_a_body_that_is_too_large_is_refused_in_its_turn_and_never_taken_for_whole(chunked):
    async def tell():
        async with served(most=1000) as (app, _, connect):
            app.hold.clear()
            talk = await connect()
            talk.say("GET /first HTTP/1.1", HOST)
            talk.say(POST, HOST, "transfer-encoding: chunked" if chunked else "content-length: 2000")
            talk.writer.write(b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n" if chunked else b"x" * 2000)
            talk.say("GET /last HTTP/1.1", HOST)
            await until_async(lambda: app.asked)
            app.hold.set()
            answers = [await talk.hear() for _ in range(3)]
            assert [(status, body) for status, _, body in answers][::2] == [(200, b"/first"), (200, b"/last")]
            assert answers[1][0] == 413
            assert app.asked[1][4] is True, "what is left of it is not said to be all"

    run(tell())


def test_who_reads_on_of_a_body_that_is_too_large_finds_no_end_of_it():
    async def tell():
        async with served(most=1000) as (app, _, connect):
            talk = await connect()
            talk.say("POST /waits HTTP/1.1", HOST, "content-length: 2000", body=b"x" * 2000)
            assert await talk.ended()
            assert app.disconnected == 1

    run(tell())


def test_bodies_together_hold_no_more_than_they_may():
    async def tell():
        async with served(held_bytes_max=1500) as (app, server, connect):
            first, second = await connect(), await connect()
            first.say(POST, HOST, "content-length: 1200", body=b"x" * 1000)
            await until_async(lambda: server._held == 1000)
            second.say(POST, HOST, "content-length: 1200", body=b"x" * 1000)
            assert (await second.hear())[0] == 413
            first.writer.write(b"x" * 200)
            assert (await first.hear())[0] == 200
            assert server._held == 0
            assert len(app.asked) == 2

    run(tell())


@pytest.mark.parametrize(
    "sent", [b"NONSENSE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET h:ttp/ HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_http_is_told_so(sent):
    async def tell():
        async with served() as (app, _, connect):
            talk = await connect()
            talk.writer.write(sent)
            assert (await talk.hear())[0] == 400
            assert await talk.ended()
            assert app.asked == []
            good = await connect()
            good.say(GET, HOST)
            assert (await good.hear())[0] == 200

    run(tell())


def test_a_head_without_end_is_cut_off():
    async def tell():
        async with served() as (app, _, connect):
            talk = await connect()
            talk.writer.write(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 40_000)
            assert (await talk.hear())[0] == 431
            assert await talk.ended()
            assert app.asked == []

    run(tell())


def test_a_request_may_be_turned_away_by_its_head_and_the_connection_goes_on():
    async def tell():
        late = {"/later": 0.01, "/now": 0.0}

        def turn_away(scope):
            wait_s = late.get(scope["path"])
            return None if wait_s is None else Turned(503, [(b"x-why", b"full")], b"no", wait_s)

        async with served(turn_away=turn_away) as (app, _, connect):
            talk = await connect()
            for path in late:
                talk.say(f"POST {path} HTTP/1.1", HOST, "content-length: 5")
                if path == "/now":
                    assert (await talk.hear())[::2] == (503, b"no")
                talk.writer.write(b"abcde")
                if path == "/later":
                    assert (await talk.hear())[1]["x-why"] == "full"
            talk.say(GET, HOST)
            assert (await talk.hear())[2] == b"/a b"
            assert len(app.asked) == 1

    run(tell())


def test_a_client_that_leaves_is_noticed():
    async def tell():
        async with served() as (app, server, connect):
            talk = await connect()
            talk.say("GET /waits HTTP/1.1", HOST)
            await until_async(lambda: len(app.asked) == 1)
            talk.writer.close()
            await until_async(lambda: app.disconnected == 1)
            half = await connect()
            half.say(POST, HOST, "content-length: 100", body=b"x" * 50)
            await until_async(lambda: server._held == 50)
            half.writer.close()
            await until_async(lambda: server._held == 0 and not server.connections)

    run(tell())


def test_a_client_that_does_not_read_holds_its_own_answer_up_and_no_other():
    async def tell():
        async with served() as (app, server, connect):
            slow = await connect()
            slow.say("GET /flood HTTP/1.1", HOST)
            await until_async(lambda: any(one.waiting for one in server.connections))
            other = await connect()
            other.say(GET, HOST)
            assert (await other.hear())[0] == 200
            assert len((await slow.hear())[2]) == 6_400_000
            again = await connect()
            again.say("GET /flood HTTP/1.1", HOST)
            await until_async(lambda: any(one.waiting for one in server.connections))
            again.writer.transport.abort()
            await until_async(lambda: len(server.connections) == 2)
            assert len(app.asked) == 3

    run(tell())


def test_who_says_nothing_is_cut_off(monkeypatch):
    async def tell():
        async with served() as (_, server, connect):
            idle, half, good = await connect(), await connect(), await connect()
            half.say(POST, HOST, "content-length: 100", body=b"x")
            good.say(GET, HOST)
            await good.hear()
            await until_async(lambda: len(server.connections) == 3)
            for one in server.connections:
                one.active_s -= http_server.KEEP_ALIVE_S + 1 if one.idle else http_server.SILENT_S + 1
            assert await idle.ended()
            assert await half.ended()

    run(tell())


def test_a_server_that_was_held_up_itself_cuts_nobody_off_before_it_has_read_what_they_said():
    async def tell():
        async with served() as (_, server, connect):
            talk = await connect()
            talk.say(GET, HOST)
            await talk.hear()
            (one,) = server.connections
            talk.say(GET, HOST)  # not read yet
            one.active_s -= http_server.KEEP_ALIVE_S + 1
            server.look_after_clients(time.monotonic() - http_server.SWEEP_S - 2 * http_server.HELD_UP_S)
            assert (await talk.hear())[0] == 200
            one.active_s -= http_server.KEEP_ALIVE_S + 1
            server.look_after_clients(time.monotonic())
            assert await talk.ended()

    run(tell())


@pytest.mark.parametrize("path", ["/fails", "/says-nothing"])
def test_a_request_that_the_application_leaves_without_an_answer_ends_its_connection(path, caplog):
    async def tell():
        async with served() as (_, _, connect):
            talk = await connect()
            talk.say(f"GET {path} HTTP/1.1", HOST)
            assert await talk.ended()
            assert ("the application failed" in caplog.text) is (path == "/fails")
            other = await connect()
            other.say(GET, HOST)
            assert (await other.hear())[0] == 200

    run(tell())


def test_a_stop_lets_answers_end_and_takes_nothing_more():
    async def tell():
        app = Echo()
        app.hold.clear()
        server = Server(app, body_bytes_max=1000)
        with socket.create_server(("127.0.0.1", 0)) as bound:
            port = bound.getsockname()[1]
            await server.start(bound)
            talks = [Talk(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(2)]
            talks[0].say(GET, HOST)
            await until_async(lambda: len(app.asked) == 1 and len(server.connections) == 2)
            closing = asyncio.create_task(server.close(5.0))
            assert await talks[1].ended()
            app.hold.set()
            status, headers, _ = await talks[0].hear()
            assert (status, headers["connection"]) == (200, "close")
            await closing
            for talk in talks:
                talk.writer.close()

    run(tell())


def test_a_stop_does_not_wait_for_ever():
    async def tell():
        app = Echo()
        app.hold.clear()
        server = Server(app, body_bytes_max=1000)
        with socket.create_server(("127.0.0.1", 0)) as bound:
            await server.start(bound)
            talk = Talk(*await asyncio.open_connection("127.0.0.1", bound.getsockname()[1]))
            talk.say(GET, HOST)
            await until_async(lambda: len(app.asked) == 1)
            await server.close(0.05)
            assert await talk.ended()
            talk.writer.close()

    run(tell())
