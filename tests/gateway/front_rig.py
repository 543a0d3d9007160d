"""A front in this process, and nodes that do what a test says: real sockets between them, no gateway behind."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.plane_rig import Answer
from nearhall.cli.roots.front import compose
from nearhall.core.tensor import Tensor
from nearhall.drivers.clock import SystemClock
from nearhall.gateway.http.connection import GONE
from nearhall.gateway.nodes.app import FrontApp
from nearhall.gateway.nodes.fleet import Fleet, Node
from nearhall.gateway.nodes.relay import Relay
from nearhall.gateway.nodes.settings import FrontLimits, FrontSettings, NodeAt
from nearhall.wire.load import ModelLoad, NodeLoad
from nearhall.wire.oip import decode_request, encode_response
from waiting import until_async

EVENTS = "text/event-stream"


def model(name: str = "m", **more: Any) -> ModelLoad:
    return ModelLoad(**{"name": name, "version": "1", "ready": True, "own_ms": 10.0, "hold_ms": 10.0, **more})


@dataclass
class Got:
    """A request as a node saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class ScriptedNode:
    """A node on a port of its own."""

    def __init__(self, name: str, *models: ModelLoad) -> None:
        self.name = name
        self.load = NodeLoad(node=f"s/{name}", models=models)
        self.does = "answers"
        """`answers`, `doubles` (the binary tensors of a v2 request), `holds`, `drops`, `refuses`, `streams` (piece by piece from
        `pieces`), `breaks` (a stream after two)."""
        self.frozen = asyncio.Event()
        self.frozen.set()
        """Cleared: it takes connections and requests, and does nothing more."""
        self.says: bytes | None = None
        """What it answers where it does; None: its name."""
        self.reason = "queue_full"
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.got: list[Got] = []
        self.gone = 0
        """Requests whose connection was closed before they were answered."""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As a kill: the port is closed and every connection reset."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (got := await _request(reader)) is not None:
                await self.frozen.wait()
                if got.path == "/control/load":
                    _write(writer, 200, msgspec.json.encode(self.load), {})
                    continue
                self.got.append(got)
                await self._do(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, EOFError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _do(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = {"x-nearhall-served-by": f"s/{self.name}", "x-nearhall-reason": "local_first"}
        if self.does == "drops":
            raise EOFError
        if self.does == "holds":
            if not await reader.read(1):
                self.gone += 1
            raise EOFError
        if self.does == "refuses":
            _write(writer, 503, b'{"error":"no"}', {**own, "x-nearhall-reason": self.reason, "retry-after": "1"})
        elif self.does == "doubles":
            body, length = _doubled(self.got[-1])
            _write(writer, 200, body, {**own, "inference-header-content-length": length})
        elif self.does == "answers":
            _write(writer, 200, self.name.encode() if self.says is None else self.says, own)
        else:
            await self._stream(reader, writer, own)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, own: dict[str, str]) -> None:
        head = {**own, "content-type": EVENTS, "transfer-encoding": "chunked"}
        writer.write(b"HTTP/1.1 200 OK\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in head.items()) + b"\r\n")
        count = 0
        while (piece := await self.pieces.get()) is not None:
            if reader.at_eof():
                self.gone += 1
                raise EOFError
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            count += 1
            if self.does == "breaks" and count == 2:
                await writer.drain()
                raise EOFError
        writer.write(b"0\r\n\r\n")


async def _request(reader: asyncio.StreamReader) -> Got | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    method, path, _ = first.split(" ")
    return Got(method, path, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def _doubled(got: Got) -> tuple[bytes, str]:
    request = decode_request(got.body, int(got.headers["inference-header-content-length"]))
    (given,) = request.inputs
    values = [2 * value for value in given.data.cast("f").tolist()]
    outputs = [Tensor("y", "FP32", given.shape, memoryview(struct.pack(f"<{len(values)}f", *values)))]
    body, length = encode_response(model="m", version="1", request=request, outputs=outputs)
    return body, str(length)


def _write(writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {status} X\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body)


@dataclass
class FrontRig:
    """A front and its nodes."""

    app: FrontApp
    relay: Relay
    fleet: Fleet
    nodes: dict[str, ScriptedNode]
    notes: dict[str, Any] = field(default_factory=dict)
    """Of the client's connection."""

    def node(self, name: str) -> Node:
        return next(node for node in self.fleet.nodes if node.name == name)

    async def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        sent: list[dict[str, Any]] = []
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        pairs = [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
        extensions = {"nearhall": {"connection": self.notes}}
        await self.app(
            {"type": "http", "method": method, "path": path, "headers": pairs, "extensions": extensions}, receive, send
        )
        return Answer(sent)

    async def infer(self, name: str = "m", *, body: bytes = b'{"inputs": []}', **headers: str) -> Answer:
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.ask("POST", f"/v2/models/{name}/infer", body, given)

    async def chat(self, *, stream: bool = True, **headers: str) -> Answer:
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        body = json.dumps({"model": "llm", "messages": [], "stream": stream}).encode()
        return await self.ask("POST", "/v1/chat/completions", body, given)

    def client_leaves(self) -> None:
        self.notes[GONE]()


@asynccontextmanager
async def front_of(*nodes: ScriptedNode, limits: FrontLimits | None = None) -> AsyncIterator[FrontRig]:
    """A front whose nodes have reported."""
    for node in nodes:
        await node.start()
    at = [NodeAt(id=node.name, url=f"http://127.0.0.1:{node.port}") for node in nodes]
    settings = FrontSettings(node="s/front", port=0, nodes=at, limits=limits or FrontLimits())
    front = compose(settings, clock=SystemClock())
    front.fleet.start()
    try:
        await front.fleet.until_known(5.0)
        yield FrontRig(front.app, front.relay, front.fleet, {node.name: node for node in nodes})
    finally:
        await front.fleet.close()
        for node in nodes:
            await node.stop()


async def until_standing(rig: FrontRig, name: str, *standing: str) -> None:
    await until_async(lambda: rig.node(name).standing.value in standing, what=f"{name} is {standing}")
