"""Measures a model of another server: its latency alone, for its memory and joules are not ours to see."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from nearhall.cli.profiling.feeds import Feed, Feeds, at_random, from_files
from nearhall.cli.profiling.measure import Tell, Wish, now, point, this_host
from nearhall.cli.profiling.place import Place
from nearhall.core.errors import InputError, PermanentError, TemporaryError
from nearhall.core.tensor import BYTES, TensorSpec
from nearhall.documents.profile import SCHEMA, ChatStreams, LatencyPoint, Profile, Samples
from nearhall.drivers.arrays import NAMES
from nearhall.drivers.upstream import HttpUpstream
from nearhall.ports.runtime import ForwardRequest, UpstreamRuntime

TIMEOUT_S = 60.0
RUNS_MAX = 2_000
TOLD_MAX = 200
"""Of another server's answer, in a message."""
UNCOMPARED = (
    "not compared with the other variants: a server elsewhere tells text and no tokens; its quality is what model.yaml says"
)
NOTE = "another server's model: round trips as this machine sees them; its memory and joules are not seen from here"


def measure_elsewhere(place: Place, name: str, wish: Wish, tell: Tell) -> Profile:
    """The profile of an `upstream` variant. Raises PermanentError where the server does not answer as it should."""
    try:
        return asyncio.run(_measured(place, name, wish, tell))
    except TemporaryError as error:
        raise PermanentError(str(error)) from error


async def _measured(place: Place, name: str, wish: Wish, tell: Tell) -> Profile:
    file = place.file(name)
    document = place.document
    latency: list[LatencyPoint] = []
    chat: list[ChatStreams] = []
    feeds: Feeds | None = None
    server = HttpUpstream(file)
    try:
        tell(f"{name}: asking {file.path}")
        if document.task == "chat":
            chat = [await first_tokens(server, document.name, wish.seconds)]
        else:
            specs = [TensorSpec(s.name, s.dtype, tuple(s.shape), s.optional) for s in document.inputs]
            if not specs:
                right = "write the inputs into it, as that server's /v2/models/NAME tells them"
                raise InputError("does not say what the model takes", where=str(place.path), right=right)
            feeds = from_files(wish.data, specs, place.examples) if wish.data is not None else at_random(specs, place.examples)
            latency = [await round_trips(server, document.name, feeds.feeds, wish.seconds)]
    finally:
        await server.close()
    return Profile(
        schema=SCHEMA,
        model=document.name,
        version=file.version,
        variant=name,
        runtime="upstream",
        device="elsewhere",
        threads=file.threads,
        host=this_host({}),
        date=now(),
        samples=None
        if feeds is None
        else Samples(source=feeds.source, n=len(feeds.feeds), sha256=feeds.sha256(), kind=feeds.kind.value),
        latency_ms=latency,
        chat=chat,
        notes=[NOTE, *(["only batch 1 is asked of another server"] if latency else []), *_uncompared(place)],
    )


def _uncompared(place: Place) -> list[str]:
    return [UNCOMPARED] if place.document.task == "chat" and len(place.variants) > 1 else []


async def round_trips(server: UpstreamRuntime, model: str, feeds: Sequence[Feed], seconds: float) -> LatencyPoint:
    """One request after the other, each sample in turn; raises PermanentError where the server answers anything but 200."""
    bodies = [request_body(feed) for feed in feeds]
    path = f"/v2/models/{model}/infer"
    await _whole(server, path, bodies[0])
    took: list[float] = []
    began = time.perf_counter()
    while len(took) < RUNS_MAX and (time.perf_counter() - began < seconds or len(took) < len(bodies[:3])):
        start = time.perf_counter()
        await _whole(server, path, bodies[len(took) % len(bodies)])
        took.append((time.perf_counter() - start) * 1e3)
    return point(1, took, None)


async def first_tokens(server: UpstreamRuntime, model: str, seconds: float) -> ChatStreams:
    """One answer after the other: time to the first piece, and pieces a second, which are tokens with most servers."""
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "Explain what a circuit breaker does, and when it opens."}],
            "max_tokens": 48,
            "stream": True,
        }
    ).encode()
    firsts: list[float] = []
    pieces = 0
    began = time.perf_counter()
    while not firsts or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        answer = await server.forward(_request("/v1/chat/completions", body))
        first: float | None = None
        head = b""
        async for part in answer.body:
            head += part[: TOLD_MAX - len(head)]
            count = part.count(b"data: {")
            if count and first is None:
                first = (time.perf_counter() - start) * 1e3
            pieces += count
        if answer.status != 200 or first is None:
            raise PermanentError(f"the server answered {answer.status}: {head.decode(errors='replace')}")
        firsts.append(first)
    took = time.perf_counter() - began
    return ChatStreams(streams=1, n=len(firsts), tokens_per_s=pieces / took, ttft_p50_ms=float(np.median(firsts)), kind="assumed")


async def _whole(server: UpstreamRuntime, path: str, body: bytes) -> None:
    answer = await server.forward(_request(path, body))
    parts = [part async for part in answer.body]
    if answer.status != 200:
        raise PermanentError(f"the server answered {answer.status}: {b''.join(parts)[:TOLD_MAX].decode(errors='replace')}")


def _request(path: str, body: bytes) -> ForwardRequest:
    return ForwardRequest(
        method="POST", path=path, headers=[(b"content-type", b"application/json")], body=body, timeout_s=TIMEOUT_S
    )


def request_body(feed: Feed) -> bytes:
    """A v2 infer request, as JSON."""
    inputs: list[dict[str, Any]] = [
        {
            "name": name,
            "datatype": BYTES if array.dtype.kind == "O" else NAMES[array.dtype],
            "shape": list(array.shape),
            "data": array.ravel().tolist(),
        }
        for name, array in feed.items()
    ]
    return json.dumps({"inputs": inputs}).encode()
