"""Another server behind our gateway: asked by its own address, its own names and its own key."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.drivers.upstream import HttpUpstream, read_key
from nearhall.drivers.upstream_models import Offered, base_of, described, offered
from nearhall.ports.runtime import ForwardRequest, ForwardResponse, ModelFile

SPEC = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}


class _Handler(BaseHTTPRequestHandler):
    """Lists models, describes `neg`, says back what it was asked; `/v1/chat/completions?` breaks off when told to."""

    protocol_version = "HTTP/1.1"
    key: str | None = None
    breaks = False
    lists = 200
    loads = False

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""

    def _reply(self, status: int, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body) + (10 if self.breaks else 0)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.breaks

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.key is not None and self.headers.get("authorization") != f"Bearer {self.key}":
            return self._reply(401, {"error": "no key"})
        if self.loads:
            return self._reply(503, {"error": {"message": "Loading model"}})
        if self.lists != 200:
            return self._reply(self.lists if self.path == "/root/v1/models" else 404, {})
        if self.path == "/root/v1/models":
            return self._reply(200, {"data": [{"id": "org/big"}]})
        if self.path == "/root/v2/repository/index":
            return self._reply(200, [{"name": "neg"}, {"name": "org/big"}])
        if self.path == "/root/v2/models/neg" and self.command == "GET":
            return self._reply(200, {"name": "neg", "inputs": [SPEC], "outputs": [SPEC]})
        if self.path == "/root/v2/models/odd" and self.command == "GET":
            return self._reply(200, {"inputs": [{**SPEC, "datatype": "FP7"}], "outputs": []})
        return self._reply(200, {"path": self.path, "body": body.decode(), "key": self.headers.get("authorization")})

    do_GET = do_POST = _answer  # noqa: N815 (http.server's names)


@pytest.fixture
def handler() -> type[_Handler]:
    return type("Handler", (_Handler,), {})


@pytest.fixture
def url(handler: type[_Handler]) -> Iterator[str]:
    with _serving(handler, 0) as port:
        yield f"http://127.0.0.1:{port}/root"


@contextmanager
def _serving(handler: type[_Handler], port: int) -> Generator[int]:
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def _asked(url: str, path: str, body: bytes = b"", **options: str) -> tuple[int, Any]:
    async def ask() -> tuple[int, Any]:
        upstream = HttpUpstream(_file(url, **options))
        try:
            response = await _forward(upstream, path, body)
            return response.status, json.loads(b"".join([part async for part in response.body]))
        finally:
            await upstream.close()

    return asyncio.run(ask())


def _file(url: str, **options: str) -> ModelFile:
    return ModelFile(model="ours", version="1", variant="remote", runtime="upstream", path=url, options=options)


async def _forward(upstream: HttpUpstream, path: str, body: bytes = b"") -> ForwardResponse:
    headers = [(b"authorization", b"Bearer of-the-client")]
    return await upstream.forward(ForwardRequest(method="POST", path=path, headers=headers, body=body, timeout_s=10))


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/v2"])
def test_the_address_is_taken_with_or_without_the_version(url: str, end: str):
    assert base_of(url + end) == url
    status, answer = _asked(url + end, "/v1/chat/completions", b'{"model":"ours"}')
    assert (status, answer["path"]) == (200, "/root/v1/chat/completions")


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/v2/models/ours/infer", "/root/v2/models/org%2Fbig/infer"),
        ("/v2/models/ours/versions/1/infer", "/root/v2/models/org%2Fbig/infer"),
        ("/v2/health/live", "/root/v2/health/live"),
    ],
)
def test_tensors_are_asked_for_by_the_name_that_the_server_knows(url: str, path: str, there: str):
    assert _asked(url, path, b"\0binary", model="org/big")[1]["path"] == there


def test_a_chat_is_asked_for_by_the_name_that_the_server_knows_and_else_unchanged(url: str):
    body = b'{"model": "ours", "seed": 1.50, "messages": [{"role": "user", "content": "gr\\u00fcn"}]}'
    renamed = json.loads(_asked(url, "/v1/chat/completions", body, model="org/big")[1]["body"])
    assert renamed == {**json.loads(body), "model": "org/big"}
    assert _asked(url, "/v1/chat/completions", body)[1]["body"] == body.decode()


def test_our_key_goes_there_and_never_the_clients(url: str, tmp_path: Path):
    (tmp_path / "key").write_text("secret \nmore\n")
    assert _asked(url, "/v1/x", api_key_file=str(tmp_path / "key"))[1]["key"] == "Bearer secret"
    assert _asked(url, "/v1/x")[1]["key"] == "Bearer of-the-client"


def test_a_key_file_without_a_key_is_told(tmp_path: Path):
    (tmp_path / "empty").write_text("\n")
    for path, expected in ((tmp_path / "empty", "empty first line"), (tmp_path / "absent", "cannot be read")):
        with pytest.raises(PermanentError, match=expected):
            read_key(path)


def test_a_server_that_is_away_is_not_alive_until_it_answers(url: str, free_port: Callable[[], int]):
    async def tell() -> None:
        away = HttpUpstream(_file(f"http://127.0.0.1:{free_port()}"))
        assert away.alive
        with pytest.raises(TemporaryError, match="does not answer"):
            await _forward(away, "/v1/x")
        assert not away.alive
        await away.close()
        there = HttpUpstream(_file(url))
        await (await _forward(there, "/v1/x")).body.aclose()  # pyright: ignore[reportAttributeAccessIssue]
        assert there.alive
        await there.close()

    asyncio.run(tell())


def test_a_server_that_is_away_stays_away_while_it_loads(handler: type[_Handler], free_port: Callable[[], int]):
    port = free_port()

    async def tell() -> None:
        upstream = HttpUpstream(_file(f"http://127.0.0.1:{port}"))
        with pytest.raises(TemporaryError, match="does not answer"):
            await _forward(upstream, "/v1/x")
        with _serving(handler, port):
            for loads, alive in ((True, False), (False, True), (True, True)):
                handler.loads = loads
                await _forward(upstream, "/v1/x")
                assert upstream.alive is alive, "one that was there is full, perhaps"
            await upstream.close()

    asyncio.run(tell())


def test_an_answer_that_breaks_off_is_no_answer(url: str, handler: type[_Handler]):
    handler.breaks = True
    with pytest.raises(TemporaryError, match="broke off"):
        _asked(url, "/v1/x")


def test_what_a_server_offers(url: str):
    assert offered(url, None) == Offered(chats=("org/big",), tensors=("neg",))
    assert offered(f"{url}/v1", None) == Offered(chats=("org/big",))
    assert offered(f"{url}/v2", None) == Offered(tensors=("neg", "org/big"))
    found = described(url, "neg", None)
    assert found is not None
    assert [(spec.name, spec.dtype, spec.shape) for spec in found.inputs] == [("x", "FP32", (-1, 4))]
    assert described(url, "odd", None) is None
    assert described(url, "absent", None) is None


def test_a_server_that_does_not_list_its_models_says_how(url: str, handler: type[_Handler]):
    handler.lists = 500
    assert offered(url, None) == Offered(silent="status 500 to GET /v1/models")
    assert offered(f"{url}/v1", None) == Offered(silent="status 500 to GET /v1/models")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        found = offered(f"http://127.0.0.1:{mute.getsockname()[1]}", None, answer_s=0.05)
    assert found == Offered(silent="no answer to GET /v1/models in 0.05 s")


def test_a_server_that_wants_a_key_says_so(url: str, handler: type[_Handler], free_port: Callable[[], int]):
    handler.key = "k"
    assert offered(url, None) == Offered(refused=True, silent="status 401 to GET /v1/models")
    assert offered(url, b"k").chats == ("org/big",)
    with pytest.raises(TemporaryError, match="does not answer"):
        offered(f"http://127.0.0.1:{free_port()}", None)
