"""A million requests that are almost right against the parsers of v2 (JSON, binary, gRPC) and of OpenAI's API.

A parser may refuse, with a reason that is the client's (4xx, or 501), and do nothing else: no other exception, no status of a
server's fault, no case that takes a second of CPU, no memory that is not given back. Most cases go to the parsers alone and at
full rate; a share goes through the whole gateway (ASGI), with a real model, where no 5xx may come for what a client did, and some
heads over connections to a gateway that runs. Seeded:
`--seed` and the case's number repeat it. A minute or two for the million on a core. With `--guided` as many cases again by
Atheris (installed into the cache), which is guided by the lines that a request reaches.

    python bench/fuzz.py [--cases 1000000] [--app-cases 60000] [--http-cases 3000] [--seed 1] [--only v2_json] [--guided] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import socket
import subprocess
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from nearhall.cli.roots.bench import mutations
from nearhall.cli.roots.bench.built_in import TINY
from nearhall.cli.roots.bench.environments import environment
from nearhall.cli.roots.bench.load import ask, connect
from nearhall.cli.roots.bench.mutations import Case
from nearhall.cli.roots.bench.requests import binary_request, json_request
from nearhall.cli.roots.bench.script import Script, main
from nearhall.cli.roots.bench.servers import Limit, gateway
from nearhall.cli.roots.gateway import compose
from nearhall.core.errors import PermanentError, Refusal
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.json_numbers import JsonNumbers
from nearhall.gateway.grpc import messages
from nearhall.gateway.settings import Settings
from nearhall.wire import headers as names
from nearhall.wire.headers import parse_ask
from nearhall.wire.oip import decode_request, encode_response
from nearhall.wire.oip_json import Numbers
from nearhall.wire.openai import decode_chat
from nearhall.wire.openai_params import TokensMax
from nearhall.wire.refusal import STATUS, refusal_response

HERE = Path(__file__).parent
CPU_S_MAX = 1.0
"""Of one case; the largest here has ten kilobytes."""
GROWTH_MIB_MAX = 24.0
"""Of resident memory from a fifth of the cases to the end; arenas of the allocator move by some MiB."""
NUMBERS = JsonNumbers().read
TRACED = 20_000
TRACED_KIB_MAX = 256.0
"""Of Python's own objects, over so many cases, after as many to warm up."""
SHOWN_BYTES = 4000
HTTP_WAIT_S = 0.02
"""For an answer to a head that is wrong; some never have one, since the server waits for a body."""
Try = Callable[[random.Random], tuple[Callable[[], None], Any]]
"""Draws a case: what to call, and the case to show if that fails."""

HEADERS: Mapping[bytes, tuple[bytes, ...]] = {
    names.DEADLINE: (b"10", b"0.5", b"nan", b"-1"),
    names.RESIDENCY: (b"site", b"jurisdiction:DE", b"any", b"moon"),
    names.PRIORITY: (b"0", b"9", b"10"),
    names.WORKLOAD: (b"cams", b""),
    names.RAW_BYTES: (b"1000",),
    names.PROBE: (b"1",),
    names.HEAD_LENGTH: (b"0", b"100", b"-5"),
    b"content-encoding": (b"gzip", b"deflate", b"br", b"identity"),
    b"content-length": (b"5", b"99999999999999"),
}


GRPC = mutations.grpc_corpus()
TINY_INPUT = {"name": "x", "datatype": "FP32", "shape": [1, 64]}
TINY_REQUESTS = (
    mutations.seeded({"inputs": [{**TINY_INPUT, "data": [0.5] * 64}]}),
    mutations.seeded({"inputs": [{**TINY_INPUT, "parameters": {"binary_data_size": 256}}]}, bytes(256)),
)
"""What the real model behind the whole gateway takes."""


@dataclass
class Tally:
    """What came of a target's cases."""

    cases: int = 0
    taken: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0
    seconds: float = 0.0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=int, default=1_000_000, help="for the parsers together")
    parser.add_argument("--app-cases", type=int, default=60_000, help="through the whole gateway")
    parser.add_argument("--http-cases", type=int, default=3_000, help="heads over a connection")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="one target by name")
    parser.add_argument("--guided", action="store_true", help="as many cases again by Atheris")


def v2_target(corpus: tuple[mutations.Seeded, ...]) -> Try:
    def draw_case(draw: random.Random) -> tuple[Callable[[], None], Case]:
        case = mutations.mutated(draw, corpus)

        def call() -> None:
            request = decode_request(case.body, case.head_bytes)
            outputs = [replace(one, name="y") for one in request.inputs]
            encode_response(model="m", version="1", request=request, outputs=outputs)

        return call, case

    return draw_case


def long_target(draw: random.Random) -> tuple[Callable[[], None], Case]:
    """With a quick reader of numbers and without, requests and refusals are the same."""
    case = mutations.mutated(draw, mutations.V2_LONG)

    def call() -> None:
        (plain, refusal), (quick, _) = (outcome(case.body, numbers) for numbers in (None, NUMBERS))
        if plain != quick:
            raise AssertionError(f"{str(plain)[:300]} without a quick reader, and {str(quick)[:300]} with it")
        if refusal is not None:
            raise refusal

    return call, case


def outcome(body: bytes, numbers: Numbers | None) -> tuple[Any, Refusal | None]:
    """All that a request says, or the words it is refused with; and the refusal."""
    try:
        request = decode_request(body, None, numbers)
    except Refusal as refusal:
        return str(refusal), refusal
    inputs = [(one.name, one.dtype, one.shape, bytes(one.data), one.rows) for one in request.inputs]
    return (replace(request, inputs=()), inputs), None


def chat_target(draw: random.Random) -> tuple[Callable[[], None], Case]:
    case = mutations.mutated(draw, mutations.CHAT)
    return lambda: void(decode_chat(case.body, tokens_max=TokensMax(own=1024))), case


def grpc_target(draw: random.Random) -> tuple[Callable[[], None], bytes]:
    message = mutations.grpc_mutated(draw, GRPC)

    def call() -> None:
        request = messages.request_of(*messages.read(message))
        outputs = [replace(one, name="y") for one in request.inputs]
        messages.encode_response(model="m", version="1", request=request, outputs=outputs)

    return call, message


def text_targets() -> dict[str, Try]:
    """OpenAI's completions and embeddings, where this version has them."""
    found: dict[str, Try] = {}
    for name, module, call_name, more in (
        ("completions", "openai_completions", "decode_completion", {"tokens_max": TokensMax(own=1024)}),
        ("embeddings", "openai_embeddings", "decode_embeddings", {}),
    ):
        try:
            decode = getattr(import_module(f"nearhall.wire.{module}"), call_name)
        except ModuleNotFoundError:
            continue

        def draw_case(draw: random.Random, decode: Any = decode, more: Any = more) -> tuple[Callable[[], None], Case]:
            case = mutations.mutated(draw, mutations.TEXT)
            return lambda: void(decode(case.body, **more)), case

        found[name] = draw_case
    return found


def headers_target(draw: random.Random) -> tuple[Callable[[], None], Any]:
    given = mutations.headers_mutated(draw, HEADERS)
    return lambda: void(parse_ask(given)), given


def void(_: object) -> None:
    """Takes a result that nobody needs."""


def targets() -> dict[str, Try]:
    """Every parser that this version has."""
    return {
        "v2_json": v2_target(mutations.V2_JSON),
        "v2_long": long_target,
        "v2_binary": v2_target((*mutations.V2_BINARY, *mutations.V2_JSON[:2])),
        "grpc": grpc_target,
        "openai": chat_target,
        **text_targets(),
        "headers": headers_target,
    }


def work(script: Script) -> None:
    options = script.options
    logging.getLogger("nearhall.gateway").setLevel(logging.CRITICAL)
    chosen = {name: target for name, target in targets().items() if options.only in {"", name}}
    if not chosen and options.only not in {"app", "http"}:
        raise PermanentError(f"there is no target {options.only!r}; there are {', '.join([*targets(), 'app', 'http'])}")
    tallies: dict[str, Tally] = {}
    grown: dict[str, float] = {}
    for name, target in chosen.items():
        script.tell(f"{name}, seed {options.seed}")
        grown[name] = traced_kib(name, target, options.seed)
        tallies[name] = fuzz(name, target, options.cases // len(chosen), options.seed)
    if options.only in {"", "app"}:
        script.tell(f"the whole gateway, seed {options.seed}")
        tallies["app"] = asyncio.run(through_app(script.models, options.app_cases, options.seed))
    if options.only in {"", "http"}:
        script.tell(f"heads over HTTP, seed {options.seed}")
        tallies["http"] = over_http(script, options.http_cases, options.seed)
    if options.guided:
        tallies["guided"] = guided(script, options.cases, options.seed)
    show(script, tallies, grown)
    script.data |= {
        "seed": options.seed,
        "compared_with": "nothing: any exception but a refusal, any 5xx for a client's fault, fails",
        "targets": {
            name: {
                "cases": one.cases,
                "taken": one.taken,
                "refused": dict(one.refused),
                "cases_per_s": round(one.cases / max(one.seconds, 1e-9)),
                "slowest_cpu_ms": round(one.slowest_ms, 1),
                "python_kib_grown": None if name not in grown else round(grown[name], 1),
            }
            for name, one in tallies.items()
        },
    }


def fuzz(name: str, target: Try, cases: int, seed: int) -> Tally:
    """All cases of one target; raises PermanentError with the case at the first fault."""
    tally, draw, begun = Tally(), random.Random(f"{seed}/{name}"), time.perf_counter()
    settled = 0.0
    for index in range(cases):
        if index == cases // 5:
            settled = resident_mib()
        call, case = target(draw)
        attempt(tally, call, case, where=(name, seed, index))
    tally.seconds = time.perf_counter() - begun
    growth = resident_mib() - settled
    if growth > GROWTH_MIB_MAX:
        raise PermanentError(f"{name}: resident memory grew by {growth:.0f} MiB over {cases} cases (seed {seed})")
    return tally


def attempt(tally: Tally, call: Callable[[], None], case: Any, *, where: tuple[str, int, int]) -> None:
    """One case; `where` is what repeats it: target, seed, number."""
    cpu = time.thread_time()
    try:
        call()
        tally.taken += 1
    except Refusal as refusal:
        status = STATUS[refusal.reason]
        if status >= 500 and status != 501:
            raise failed(*where, case, f"refused with {status} ({refusal.reason.value})") from refusal
        refusal_response(refusal, "/v2/models/m/infer")
        tally.refused[refusal.reason.value] += 1
    except Exception as error:
        raise failed(*where, case, f"{type(error).__name__}: {str(error)[:300]}") from error
    took_ms = (time.thread_time() - cpu) * 1e3
    tally.cases += 1
    tally.slowest_ms = max(tally.slowest_ms, took_ms)
    if took_ms > CPU_S_MAX * 1e3:
        raise failed(*where, case, f"took {took_ms / 1e3:.1f} s of CPU")


def failed(name: str, seed: int, index: int, case: Any, why: str) -> PermanentError:
    return PermanentError(f"{name}, seed {seed}, case {index}: {why}\ncase: {repr(case)[:SHOWN_BYTES]}")


def traced_kib(name: str, target: Try, seed: int) -> float:
    """How much Python's own memory grows over many cases, after as many."""
    draw, tally = random.Random(f"{seed}/traced/{name}"), Tally()
    for index in range(TRACED // 4):
        attempt(tally, *target(draw), where=(f"{name} traced", seed, index))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for index in range(TRACED // 4):
        attempt(tally, *target(draw), where=(f"{name} traced", seed, index))
    gc.collect()
    grown = (tracemalloc.get_traced_memory()[0] - before) / 1024
    tracemalloc.stop()
    if grown > TRACED_KIB_MAX:
        raise PermanentError(f"{name}: Python's objects grew by {grown:.0f} KiB over {TRACED // 4} cases (seed {seed})")
    return grown


def resident_mib() -> float:
    return psutil.Process().memory_info().rss / 2**20


async def through_app(repository: Path, cases: int, seed: int) -> Tally:
    """Through the gateway as it is, with a real model: headers, bodies, paths."""
    settings = Settings(node="fuzz/n1", jurisdiction="ZZ", repository=str(repository), port=0)
    composed = compose(settings, clock=SystemClock())
    models = composed.plane.models
    models.start()
    await models.until_settled()
    tally, draw, begun = Tally(), random.Random(f"{seed}/app"), time.perf_counter()
    infer = (*TINY_REQUESTS * 4, *mutations.V2_JSON, *mutations.V2_BINARY)
    corpora = {"infer": infer, "chat": mutations.CHAT, "text": mutations.TEXT}
    paths = {
        "infer": (f"/v2/models/{TINY}/infer", f"/v2/models/{TINY}/versions/1/infer", "/v2/models/nobody/infer"),
        "chat": ("/v1/chat/completions",),
        "text": ("/v1/completions", "/v1/embeddings", "/v2/repository/index", f"/v2/repository/models/{TINY}/load"),
    }
    settled = 0.0
    try:
        for index in range(cases):
            if index == cases // 5:
                settled = resident_mib()
            kind = draw.choice(("infer", "infer", "infer", "chat", "text"))
            case = mutations.mutated(draw, corpora[kind])
            given = mutations.headers_mutated(draw, HEADERS) if draw.random() < 0.3 else []
            if case.head_bytes is not None:
                given.append((names.HEAD_LENGTH, str(case.head_bytes).encode()))
            path = draw.choice(paths[kind])
            status, body = await one_request(composed.app, path, given, case.body)
            tally.cases += 1
            tally.taken += status == 200
            tally.refused[str(status)] += status != 200
            if fault_of_ours(status, body):
                raise failed("app", seed, index, (path, given, case), f"answered {status}: {body[:300]!r}")
    finally:
        await composed.plane.probes.close()
        await models.close()
    tally.seconds = time.perf_counter() - begun
    growth = resident_mib() - settled
    if growth > GROWTH_MIB_MAX:
        raise PermanentError(f"app: resident memory grew by {growth:.0f} MiB over {cases} cases (seed {seed})")
    return tally


def over_http(script: Script, cases: int, seed: int) -> Tally:
    """Heads that are almost right, to a gateway that runs: it answers the last request as it did the first, and logs no fault."""
    limit = Limit(script.file_of(TINY))
    right = binary_request(TINY, limit.inputs, limit.names)
    every = (right, json_request(TINY, limit.inputs), b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n")
    tally, draw, begun = Tally(), random.Random(f"{seed}/http"), time.perf_counter()
    with gateway(script.models, script.folder, cores=script.cores.server) as running:
        for index in range(cases):
            case = mutations.http_mutated(draw, every)
            status = first_status(running.address, case)
            tally.cases += 1
            tally.taken += status == 200
            tally.refused[str(status or "closed")] += status != 200
            if status >= 500 and status not in {501, 503, 504, 505}:
                raise failed("http", seed, index, case[:SHOWN_BYTES], f"answered {status}")
        tally.seconds = time.perf_counter() - begun
        with connect(running.address) as connection:
            status, _, body = ask(connection, right)
        if status != 200:
            raise PermanentError(f"http, seed {seed}: a right request is answered with {status} afterwards: {body[:300]!r}")
    log = (script.folder / "gateway.log").read_text(errors="replace")
    if "Traceback" in log:
        raise PermanentError(
            f"http, seed {seed}: the gateway's log has a traceback:\n{log[log.index('Traceback') :][:SHOWN_BYTES]}"
        )
    return tally


def first_status(address: tuple[str, int], case: bytes) -> int:
    """The status of the first answer; 0 where the server closes, or waits for what never comes."""
    with socket.create_connection(address) as connection:
        connection.settimeout(HTTP_WAIT_S)
        try:
            connection.sendall(case)
            line = connection.recv(4096).partition(b"\r\n")[0].split()
        except OSError:
            return 0
        return int(line[1]) if len(line) > 1 and line[1].isdigit() else 0


def guided(script: Script, cases: int, seed: int) -> Tally:
    """By Atheris, in its own environment; raises PermanentError with the end of what it says, the input among it."""
    python = environment("atheris", HERE / "peers" / "locks" / "atheris.txt", script.tell) / "bin" / "python"
    corpus = script.folder / "corpus"
    corpus.mkdir()
    limits = [f"-runs={cases}", f"-seed={seed}", "-max_len=4000", "-timeout=5", "-rss_limit_mb=1024"]
    command = [str(python), str(HERE / "guided" / "parsers.py"), *limits, f"-artifact_prefix={script.folder}/", str(corpus)]
    script.tell("guided by coverage")
    begun = time.perf_counter()
    source = str(HERE.parent / "src")
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": source}, check=False)
    if done.returncode:
        raise PermanentError(f"guided, seed {seed}:\n{(done.stdout + done.stderr)[-SHOWN_BYTES:]}")
    return Tally(cases=cases, seconds=time.perf_counter() - begun)


def fault_of_ours(status: int, body: bytes) -> bool:
    """Whether a status says that the server failed: 503 and 504 may say that a deadline of the request's own was too short."""
    return status not in {501, 503, 504} and status >= 500


async def one_request(app: Any, path: str, given: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, bytes]:
    """Status and body of one exchange."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": path, "headers": given}, receive, send)
    return (sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])) if sent else (0, b"")


def show(script: Script, tallies: Mapping[str, Tally], grown: Mapping[str, float]) -> None:
    table = Table(box=None, padding=(0, 1))
    for head in ("target", "cases", "cases/s", "taken", "refused", "slowest", "grown"):
        table.add_column(head, justify="left" if head in {"target", "refused"} else "right")
    for name, one in tallies.items():
        refused = ", ".join(f"{reason} {count}" for reason, count in sorted(one.refused.items()) if count)
        table.add_row(
            name,
            f"{one.cases:,}",
            f"{one.cases / max(one.seconds, 1e-9):,.0f}",
            f"{one.taken:,}",
            refused,
            f"{one.slowest_ms:.1f} ms" if one.slowest_ms else "",
            f"{grown[name]:.0f} KiB" if name in grown else "",
        )
    total = sum(one.cases for one in tallies.values())
    script.show(table)
    script.show(f"{total:,} cases, seed {script.options.seed}: no crash, no leak, no 5xx for a client's fault\n")


if __name__ == "__main__":
    main("fuzz", __doc__ or "", work, options)
