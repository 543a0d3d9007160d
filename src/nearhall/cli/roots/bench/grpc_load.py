"""The same loops over gRPC: the message is written once, and grpcio only carries it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import grpc

from nearhall.cli.roots.bench.load import ANSWER_S_MAX, undisturbed
from nearhall.cli.roots.bench.measured import Slice
from nearhall.cli.roots.bench.requests import GRPC_METHOD
from nearhall.core.errors import TemporaryError

_OPTIONS = [
    ("grpc.max_receive_message_length", 1 << 27),
    ("grpc.max_send_message_length", 1 << 27),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for each client
]


def ask_grpc(target: str, message: bytes, method: str = GRPC_METHOD) -> bytes:
    """One answer's message; raises TemporaryError with the server's words."""
    with grpc.insecure_channel(target, options=_OPTIONS) as channel:
        try:
            answer: bytes = _call(channel, method)(message, timeout=ANSWER_S_MAX)
        except grpc.RpcError as error:
            raise TemporaryError(f"gRPC at {target}: {_words(error)}") from error
    return answer


def one_grpc_client(target: str, message: bytes, seconds: float) -> Slice:
    """One client in a closed loop."""
    latencies: list[float] = []
    with undisturbed():
        refused, took = _loop(target, message, seconds, latencies)
    return Slice(latencies_ms=sorted(latencies), took_s=took, refused=refused)


def grpc_clients(target: str, message: bytes, count: int, seconds: float) -> Slice:
    """So many clients at once, a thread and a connection each."""
    found: list[list[float]] = [[] for _ in range(count)]
    refused = [0] * count

    def work(index: int) -> None:
        refused[index], _ = _loop(target, message, seconds, found[index])

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(count)]
    with undisturbed():
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + ANSWER_S_MAX)
        took = time.perf_counter() - begun
    return Slice(latencies_ms=sorted(ms for one in found for ms in one), took_s=took, refused=sum(refused))


def _loop(target: str, message: bytes, seconds: float, latencies: list[float]) -> tuple[int, float]:
    refused = 0
    with grpc.insecure_channel(target, options=_OPTIONS) as channel:
        call = _call(channel, GRPC_METHOD)
        try:
            call(message, timeout=ANSWER_S_MAX)  # the connection is made here, and not in the first latency
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise TemporaryError(f"gRPC at {target}: {_words(error)}") from error
        begun = now = time.perf_counter()
        while now - begun < seconds:
            sent = now
            try:
                call(message, timeout=ANSWER_S_MAX)
            except grpc.RpcError:
                refused += 1
                now = time.perf_counter()
                continue
            now = time.perf_counter()
            latencies.append((now - sent) * 1e3)
    return refused, now - begun


def _call(channel: grpc.Channel, method: str) -> Callable[..., bytes]:
    """The method with messages as bytes on both sides."""
    return channel.unary_unary(method)  # pyright: ignore[reportUnknownVariableType]


def _words(error: grpc.RpcError) -> str:
    code = error.code() if isinstance(error, grpc.Call) else "failed"
    details = error.details() if isinstance(error, grpc.Call) else ""
    return f"{code} {details}".strip()
