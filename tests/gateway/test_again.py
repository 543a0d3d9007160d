"""A request that says the last one's head again is taken for what the parser would have taken it for, and for nothing else."""

from __future__ import annotations

import asyncio

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.gateway.http.again import KEPT_BYTES_MAX, KEPT_MAX, KnownHeads, plain_head
from nearhall.gateway.http.connection import Connection, Turned

HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\n"
NAMED = ((b"host", b"h"), (b"content-length", b"4"))


def read(*parts, room=100_000):
    raw = b"".join(parts)
    return bytearray(raw + b"?" * (room - len(raw))), len(raw)


def test_a_whole_request_has_a_plain_head():
    assert plain_head(*read(HEAD, b"body"), NAMED) == HEAD
    assert plain_head(*read(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"), [(b"host", b"h")]) == b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        (HEAD + b"bo", NAMED),
        (HEAD + b"body\r\n", NAMED),
        (HEAD + b"\r\n\r\n\r\n", NAMED),
        (b"\r\n" + HEAD + b"body", NAMED),
        (HEAD.replace(b"host: h\r\n", b"host: h\n") + b"body", NAMED),
        (HEAD.replace(b"content-length: 4", b"expect: 100-continue\r\ncontent-length: 4") + b"body", (*NAMED, (b"expect", b""))),
        (b"GET / HTTP/1.1\r\nupgrade: h2c\r\n\r\n", [(b"upgrade", b"h2c")]),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", [(b"transfer-encoding", b"chunked")]),
        (HEAD.replace(b"host: h", b"host: " + b"h" * KEPT_BYTES_MAX) + b"body", NAMED),
    ],
    ids=[
        "cut short",
        "more behind",
        "a body of empty lines, and more",
        "empty line before",
        "bare LF",
        "expects",
        "upgrade",
        "chunked",
        "long",
    ],
)
def test_others_are_parsed_each_time(raw, headers):
    assert plain_head(*read(raw), headers) is None


def test_it_is_known_with_another_body_and_not_with_another_head_or_length():
    known = KnownHeads()
    assert known.find(*read(HEAD, b"body")) is None
    known.keep(*read(HEAD, b"body"), {"headers": NAMED})
    found = known.find(*read(HEAD, b"else"))
    assert found is not None
    assert (found.head_bytes, found.body_bytes) == (len(HEAD), 4)
    assert known.find(*read(HEAD, b"bodyX")) is None
    assert known.find(*read(HEAD, b"bod")) is None
    assert known.find(*read(HEAD.replace(b"/m/", b"/n/"), b"body")) is None
    assert known.find(bytearray(HEAD + b"body"), 20) is None


def test_it_does_not_remember_for_ever():
    known = KnownHeads()
    heads = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(KEPT_MAX + 1)]
    for head in heads:
        known.keep(*read(head, room=100), {"headers": []})
    assert known.find(*read(heads[0], room=100)) is None
    assert known.find(*read(heads[-1], room=100)) is not None


class Wire:
    """What a transport does, noted."""

    def __init__(self):
        self.written = b""
        self.closed = False

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    abort = close

    def pause_reading(self):
        """Reads are the test's."""

    resume_reading = pause_reading


class Asked:
    """A server that notes what was asked, and answers at once."""

    body_bytes_max = 100_000

    def __init__(self, away=b""):
        self.buffer = bytearray(100_000)
        self.known = KnownHeads()
        self.connections = set()
        self.asked = []
        self._away = away

    def begin(self, turn):
        scope = turn.scope
        self.asked.append((scope["method"].encode(), scope["raw_path"], list(scope["headers"]), turn.take()))
        turn.respond(200, [], b"")

    def turn_away(self, scope):
        if self._away and scope["raw_path"].startswith(self._away):
            self.asked.append((scope["method"].encode(), scope["raw_path"], list(scope["headers"]), None))
            return Turned(503, [], b"")
        return None

    def tls_of(self, transport):
        return None

    def stirred(self):
        """Nobody watches."""

    def hold(self, size):
        return True

    def gone(self, connection):
        """Nobody waits."""


class Counted(Connection):
    """One that says how often it had to parse."""

    parsed = 0

    def _parse(self, nbytes):
        self.parsed += 1
        super()._parse(nbytes)


def heard(reads, away=b""):
    """What a server was asked by one connection that says these pieces, how often it had to parse, and whether it hung up."""

    async def tell():
        server = Asked(away)
        connection = Counted(server)
        wire = Wire()
        connection.connection_made(wire)
        for piece in reads:
            if not wire.closed:
                server.buffer[: len(piece)] = piece
                connection.buffer_updated(len(piece))
        return server.asked, connection.parsed, wire.closed

    return asyncio.run(tell())


class Plain:
    """The parser alone."""

    def __init__(self):
        self.asked = []

    def on_message_begin(self):
        self.url, self.headers, self.body = b"", [], b""

    def on_url(self, url):
        self.url += url

    def on_header(self, name, value):
        self.headers.append((name.lower(), value))

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.asked.append((self.parser.get_method(), self.url, self.headers, self.body))


def parsed(reads):
    """What httptools says of them."""
    plain = Plain()
    plain.parser = httptools.HttpRequestParser(plain)
    for piece in reads:
        try:
            plain.parser.feed_data(piece)
        except httptools.HttpParserError:
            return plain.asked, True
    return plain.asked, False


def test_what_is_said_again_is_not_parsed_again():
    asked, parsings, hung_up = heard([HEAD + body for body in (b"one.", b"two.", b"\r\n\r\n")])
    assert [body for *_, body in asked] == [b"one.", b"two.", b"\r\n\r\n"]
    assert all(each[:3] == (b"POST", b"/v2/models/m/infer", list(NAMED)) for each in asked)
    assert (parsings, hung_up) == (1, False)


def test_what_one_connection_said_is_known_on_all():
    async def tell():
        server = Asked()
        both = [Counted(server), Counted(server)]
        for connection, body in zip(both, (b"one.", b"two."), strict=True):
            connection.connection_made(Wire())
            server.buffer[: len(HEAD) + 4] = HEAD + body
            connection.buffer_updated(len(HEAD) + 4)
        return [body for *_, body in server.asked], [connection.parsed for connection in both]

    assert asyncio.run(tell()) == ([b"one.", b"two."], [1, 0])


def test_it_may_be_turned_away_each_time():
    asked, parsings, _ = heard([HEAD + b"one.", HEAD + b"two."], away=b"/v2")
    assert [body for *_, body in asked] == [None, None]
    assert parsings == 1


def test_after_something_else_the_parser_goes_on_where_it_was():
    other = HEAD.replace(b"content-length: 4", b"content-length: 2")
    reads = [HEAD + b"one.", HEAD + b"two.", other + b"3", b".", HEAD + b"four", HEAD[:9], HEAD[9:] + b"five", HEAD + b"6..."]
    asked, parsings, _ = heard(reads)
    assert [body for *_, body in asked] == [b"one.", b"two.", b"3.", b"four", b"five", b"6..."]
    assert parsings == 5


FIELDS = [b"host: h", b"x: y", b"content-length: 4", b"content-length: 0", b"content-length: 6", b"transfer-encoding: chunked"]
FIELDS += [b"connection: close", b"expect: 100-continue", b"connection: upgrade"]
LINES = st.lists(st.sampled_from(FIELDS), max_size=3, unique=True)
BODIES = st.sampled_from([b"", b"\r\n", b"\r\n\r\n", b"body", b"\r\n\r\n\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])


@st.composite
def pieces(draw):
    """What one client says, right or wrong, several times over."""
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]))
    first = draw(st.sampled_from([b"POST /p HTTP/1.1", b"GET / HTTP/1.1", b"HEAD / HTTP/1.1", b"POST /p HTTP/1.0"]))
    head = draw(st.sampled_from([b"", b"", b"\r\n"])) + end.join([first, *draw(LINES), b"", b""])
    return [head + body for body in draw(st.lists(BODIES, min_size=1, max_size=4))]


@given(st.lists(pieces(), min_size=1, max_size=3).map(lambda each: [piece for some in each for piece in some]))
def test_it_hears_what_the_parser_alone_would_hear(reads):
    asked, _, hung_up = heard(reads)
    right, wrong = parsed(reads)
    if hung_up and not wrong:
        right = right[: len(asked)]  # it has closed after a request that asked for it
    assert asked == right
