"""Of another server's model the latency is measured, and what it answers wrongly is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from nearhall.cli.profiling.elsewhere import UNCOMPARED, first_tokens, measure_elsewhere, round_trips
from nearhall.cli.profiling.measure import Wish
from nearhall.cli.profiling.place import find_model
from nearhall.core.errors import InputError, PermanentError
from nearhall.documents.model import TensorShape
from nearhall.ports.runtime import ForwardRequest, ForwardResponse
from profiling_rig import chat_model, elsewhere


class Server:
    """Answers every request alike."""

    def __init__(self, status: int, *parts: bytes) -> None:
        self.alive = True
        self.asked: list[ForwardRequest] = []
        self._status, self._parts = status, parts

    async def forward(self, request: ForwardRequest) -> ForwardResponse:
        self.asked.append(request)
        return ForwardResponse(status=self._status, headers=[], body=self._body())

    async def _body(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            await asyncio.sleep(0)
            yield part

    async def close(self) -> None:
        """Nothing is open."""


FEEDS = [{"x": np.full((1, 2), value, np.float32)} for value in (1, 2, 3)]


def test_every_sample_is_sent_and_the_first_not_counted():
    server = Server(200, b"{}")
    point = asyncio.run(round_trips(server, "door", FEEDS, 0.0))
    assert (point.batch, point.n, point.cpu_ms, point.p90) == (1, 3, None, None)
    assert len(server.asked) == 4
    assert {request.path for request in server.asked} == {"/v2/models/door/infer"}


def test_what_a_server_refuses_is_told_in_its_words():
    with pytest.raises(PermanentError, match="the server answered 404: no such model"):
        asyncio.run(round_trips(Server(404, b"no such ", b"model"), "door", FEEDS, 0.0))
    with pytest.raises(PermanentError, match="the server answered 401: no key"):
        asyncio.run(first_tokens(Server(401, b"no key"), "talk", 0.0))
    with pytest.raises(PermanentError, match="the server answered 200"):
        asyncio.run(first_tokens(Server(200, b"data: [DONE]\n\n"), "talk", 0.0))


def test_pieces_of_a_stream_are_counted_as_tokens_and_so_assumed():
    server = Server(200, b'data: {"a": 1}\n\n', b'data: {"b": 2}\n\ndata: {"c": 3}\n\ndata: [DONE]\n\n')
    streams = asyncio.run(first_tokens(server, "talk", 0.0))
    assert (streams.streams, streams.n, streams.kind) == (1, 1, "assumed")
    assert streams.tokens_per_s > 0


class _Chat(BaseHTTPRequestHandler):
    """Says one word to everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b'data: {"a": 1}\n\ndata: [DONE]\n\n'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def chat_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Chat) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_tells_text_alone_leaves_the_quality_as_it_was_told(tmp_path: Path, chat_server: str):
    chat_model(tmp_path, "both", "q8", "remote", remote=chat_server)
    chat_model(tmp_path, "alone", "remote", remote=chat_server)
    notes = {
        name: measure_elsewhere(find_model(tmp_path, name), "remote", Wish(cache=tmp_path, seconds=0.0), lambda _: None).notes
        for name in ("both", "alone")
    }
    assert (UNCOMPARED in notes["both"], UNCOMPARED in notes["alone"]) == (True, False)


def test_a_server_that_is_not_there_and_inputs_that_nobody_knows_are_one_line(tmp_path: Path, free_port: Callable[[], int]):
    url = f"http://127.0.0.1:{free_port()}"
    elsewhere(tmp_path, "door", url, inputs=[TensorShape(name="x", dtype="FP32", shape=[1, 2])])
    elsewhere(tmp_path, "blind", url)
    elsewhere(tmp_path, "talk", url, task="chat")
    wish = Wish(cache=tmp_path, seconds=0.01)
    for name in ("door", "talk"):
        with pytest.raises(PermanentError, match="does not answer"):
            measure_elsewhere(find_model(tmp_path, name), "remote", wish, lambda _: None)
    with pytest.raises(InputError, match="does not say what the model takes"):
        measure_elsewhere(find_model(tmp_path, "blind"), "remote", wish, lambda _: None)
