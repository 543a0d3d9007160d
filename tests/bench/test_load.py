"""The load client against a server whose manners are known."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from nearhall.cli.roots.bench import grpc_load
from nearhall.cli.roots.bench.grpc_load import ask_grpc, grpc_clients, one_grpc_client
from nearhall.cli.roots.bench.load import Address, Kind, clients, connect, one_client, open_loop
from nearhall.core.errors import TemporaryError

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
NO = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"
GOOD, BAD, BYE, HUSH = (f"GET /{word} HTTP/1.1\r\n\r\n".encode() for word in ("good", "bad", "bye", "hush"))


class Manners:
    """Answers /good with 200, /bad with 503, /bye by closing, /hush never; one at a time, each after a pause."""

    def __init__(self, listening: socket.socket, pause_s: float) -> None:
        self.listening = listening
        self.pause_s = pause_s
        self.over = threading.Event()
        self.selector = selectors.DefaultSelector()
        self.selector.register(listening, selectors.EVENT_READ)

    def run(self) -> None:
        while not self.over.is_set():
            for key, _ in self.selector.select(0.01):
                if key.fileobj is self.listening:
                    self.selector.register(self.listening.accept()[0], selectors.EVENT_READ)
                else:
                    self.serve(key.fileobj)

    def serve(self, one: socket.socket) -> None:
        try:
            asked = one.recv(1 << 16)
            threading.Event().wait(self.pause_s)
            if asked and not asked.startswith(BYE):
                one.sendall({GOOD: OK, BAD: NO}.get(asked, b""))
                return
        except ConnectionError:
            pass
        self.selector.unregister(one)
        one.close()

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


@contextmanager
def manners(pause_s: float = 0.0, unix: str = "") -> Iterator[Address]:
    listening = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    listening.bind(unix or ("127.0.0.1", 0))
    listening.listen(512)
    server = Manners(listening, pause_s)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield unix or listening.getsockname()
    finally:
        server.over.set()
        thread.join(10)
        server.close()


def test_one_client_counts_answers_and_refusals_apart():
    with manners() as address:
        good = one_client(address, GOOD, 0.1)
        assert good.n > 10
        assert good.refused == 0
        assert good.latencies_ms == sorted(good.latencies_ms)
        bad = one_client(address, BAD, 0.05)
        assert bad.n == 0
        assert bad.refused > 5


def test_a_unix_socket_is_served_alike(short_folder):
    with manners(unix=str(short_folder / "s")) as address:
        assert one_client(address, GOOD, 0.05).n > 5
        assert clients(address, GOOD, 3, 0.05).n > 5


def test_several_clients_go_on_after_refusals_and_broken_connections():
    with manners() as address:
        assert clients(address, GOOD, 4, 0.1).n > 20
        assert clients(address, BAD, 4, 0.05).refused > 8
        broken = clients(address, BYE, 2, 0.05)
        assert broken.n == 0
        assert broken.refused > 2


def test_who_is_not_there_is_told(free_port, short_folder):
    for address in (("127.0.0.1", free_port()), str(short_folder / "nobody")):
        with pytest.raises(TemporaryError, match="cannot be reached"):
            connect(address)
    with manners() as address, pytest.raises(TemporaryError, match="closed"):
        one_client(address, BYE, 0.1)


def test_an_open_loop_counts_every_fate():
    kinds = [Kind(name=name, request=text, deadline_ms=1000.0) for name, text in (("a", GOOD), ("b", BAD), ("c", BYE))]
    arrivals = [index / 1000 for index in range(60)]
    with manners() as address:
        found = open_loop(address, kinds, arrivals, [index % 3 for index in range(60)], 0.06)
    good, bad, bye = found.outcomes
    assert (good.offered, good.answered, good.in_deadline, good.refused, good.lost) == (20, 20, 20, 0, 0)
    assert (bad.answered, bad.refused, bad.lost) == (0, 20, 0)
    assert (bye.answered, bye.refused, bye.lost) == (0, 0, 20)
    assert good.refusal_p50_ms is None
    assert bad.refusal_p50_ms is not None
    assert found.waited == 0


def test_time_runs_from_the_intended_moment():
    """A server of 10 ms that is asked every 2 ms keeps the last of twenty waiting for 160 ms and more, and cannot hide it."""
    arrivals = [index / 500 for index in range(20)]
    kind = Kind(name="all", request=GOOD, deadline_ms=100.0)
    with manners(pause_s=0.01) as address:
        outcome = open_loop(address, [kind], arrivals, [0] * 20, 0.04).outcomes[0]
    assert outcome.answered == 20
    assert outcome.latencies_ms[-1] >= 160
    assert outcome.latencies_ms[0] >= 10
    assert 0 < outcome.in_deadline < 20


def test_what_is_never_answered_is_lost(monkeypatch):
    monkeypatch.setattr("nearhall.cli.roots.bench.load.DRAIN_S", 0.1)
    with manners() as address:
        found = open_loop(address, [Kind(name="all", request=HUSH, deadline_ms=1.0)], [0.0, 0.001], [0, 0], 0.01)
    assert found.outcomes[0].lost == 2


@contextmanager
def grpc_manners() -> Iterator[str]:
    """Echoes every message; refuses an empty one."""

    def infer(message: bytes, context: grpc.ServicerContext) -> bytes:
        if not message:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "nothing is given")
        return message

    handler = grpc.unary_unary_rpc_method_handler(infer)
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler})
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((service,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait(10)


def test_grpc_clients_count_alike(free_port, monkeypatch):
    with grpc_manners() as target:
        assert ask_grpc(target, b"hello") == b"hello"
        assert one_grpc_client(target, b"x", 0.1).n > 5
        assert grpc_clients(target, b"x", 3, 0.1).n > 5
        refused = one_grpc_client(target, b"", 0.05)
        assert (refused.n, refused.refused > 2) == (0, True)
        with pytest.raises(TemporaryError, match="nothing is given"):
            ask_grpc(target, b"")
    monkeypatch.setattr(grpc_load, "ANSWER_S_MAX", 0.5)
    with pytest.raises(TemporaryError, match="gRPC at"):
        one_grpc_client(f"127.0.0.1:{free_port()}", b"x", 0.1)


def test_a_request_that_is_refused_by_its_head_is_sent_to_its_end_before_the_next():
    """The server answers after the head and reads the long body later; who begins the next within it breaks it."""
    body = bytes(3_000_000)
    request = b"POST /x HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    listening = socket.create_server(("127.0.0.1", 0))
    heads: list[bytes] = []

    def serve(one: socket.socket) -> None:
        with one, one.makefile("rb") as stream:
            while line := stream.readline():
                heads.append(line)
                while stream.readline() != b"\r\n":
                    pass
                one.sendall(NO)
                stream.read(len(body))

    def run() -> None:
        with ThreadPoolExecutor(300) as pool:
            try:
                while True:
                    pool.submit(serve, listening.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=run)
    thread.start()
    address = listening.getsockname()
    try:
        refused = clients(address, request, 2, 0.3)
        kind = Kind(name="all", request=request, deadline_ms=1e4)
        found = open_loop(address, [kind], [0.0, 0.01, 0.02, 0.03], [0] * 4, 0.05)
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)
    assert refused.refused > 2
    assert found.outcomes[0].refused == 4
    assert {line.split()[0] for line in heads} == {b"POST"}
