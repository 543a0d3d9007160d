"""Bytes on the link, by the kernel, against transfers of known size."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from nearhall.drivers.tcp_info import LinkMeter, link_bytes, shortest_round_trip_s

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        with near, far:
            yield near, far


def _send(source: socket.socket, sink: socket.socket, size: int) -> None:
    left = size
    while left:
        source.sendall(bytes(min(left, 16_384)))
        expected = min(left, 16_384)
        while expected:
            expected -= len(sink.recv(expected))
        left -= min(left, 16_384)


def test_both_ends_count_what_was_sent(pair: Pair):
    near, far = pair
    _send(near, far, 1_000_003)
    _send(far, near, 70_001)
    assert link_bytes(near) == (1_000_003, 70_001)
    assert link_bytes(far) == (70_001, 1_000_003)


def test_the_meter_tells_what_each_exchange_added(pair: Pair):
    near, far = pair
    meter = LinkMeter()
    _send(near, far, 500)
    assert meter.added(near) == (500, 0)
    _send(near, far, 20)
    _send(far, near, 7)
    assert meter.added(near) == (20, 7)
    assert meter.added(near) == (0, 0)
    assert LinkMeter().added(near) == (520, 7)


def test_a_closed_connection_adds_nothing(pair: Pair):
    near, _ = pair
    meter = LinkMeter()
    near.close()
    assert meter.added(near) == (0, 0)


def test_ports_used_again_are_a_new_connection():
    meter = LinkMeter()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = None
        for size in (500, 30):
            near = socket.socket()
            near.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address is not None:
                near.bind(address)
            near.connect(server.getsockname())
            far, _ = server.accept()
            address = near.getsockname()
            _send(near, far, size)
            assert meter.added(near) == (size, 0)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            far.close()
            near.close()


def test_the_round_trip_is_the_links_own(pair: Pair):
    near, far = pair
    _send(near, far, 500)
    trip = shortest_round_trip_s(near)
    assert trip is not None
    assert 0 <= trip < 0.05, "this machine's own loop, whatever the programs did meanwhile"
    near.close()
    assert shortest_round_trip_s(near) is None


def test_a_kernel_without_the_figure_says_none():
    class Old:
        def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
            return bytes(104)

        def getsockname(self) -> object:
            return None

        def getpeername(self) -> object:
            return None

    class Unknown(Old):
        def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
            return b"\xff" * size

    assert shortest_round_trip_s(Old()) is None
    assert shortest_round_trip_s(Unknown()) is None
