"""Measures a language model: time to the first token, tokens a second with one and with several answers at once, and memory."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import psutil

from nearhall.cli.profiling.energy import assumed, significant
from nearhall.cli.profiling.measure import Tell, now, this_host
from nearhall.cli.profiling.place import Place
from nearhall.core.errors import InputError, PermanentError
from nearhall.documents.profile import SCHEMA, ChatStreams, Figure, Joules, Profile
from nearhall.drivers.packages import sha256_of
from nearhall.ports.runtime import ChatAsk, ChatMessage, ChatRuntime, ModelFile

STREAMS = (1, 4, 8)
ANSWERS_MIN = 4
"""For each number of streams; more of them where the seconds allow it."""
TOKENS = 48
ASKED = (
    "Why does a server need air that moves, and what happens when a fan fails?",
    "Explain to a new colleague what a circuit breaker does, and when it opens.",
    "Write a short story of a lighthouse keeper who counts the ships of a night.",
    "What should be checked before a battery is put into a cabinet? Name some things.",
)
"""Some twenty tokens each; they ask for more than `TOKENS` of answer, so that all answers are as long."""
MIB = 2**20


class ChatProcess(ChatRuntime, Protocol):
    """A language model in a process that can be looked at."""

    @property
    def pid(self) -> int:
        """Its process."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One answer."""

    ttft_ms: float
    tokens: int


def measure_chat(
    place: Place, name: str, seconds: float, tell: Tell, *, opened: Callable[[ModelFile], ChatProcess] | None = None
) -> Profile:
    """The profile of a language model; nothing is written. Raises PermanentError where it does not load or answer."""
    file = place.file(name)
    tell(f"{name}: loading")
    began = time.perf_counter()
    try:
        runtime = (opened or _open)(file)
    except ImportError as error:
        raise InputError("a language model needs OpenVINO GenAI", where=file.path, right="pip install 'nearhall[llm]'") from error
    load_s = time.perf_counter() - began
    points, memory_mib = asyncio.run(_all_streams(runtime, seconds, lambda text: tell(f"{name}: {text}")))
    per_token = points[-1].cpu_ms_per_token
    return Profile(
        schema=SCHEMA,
        model=file.model,
        version=file.version,
        variant=name,
        runtime=place.variants[name].runtime,
        sha256=sha256_of(Path(file.path)),
        device="cpu",
        threads=file.threads,
        host=this_host(_software()),
        date=now(),
        chat=points,
        load_s=Figure(value=significant(load_s), kind="measured", source="clock, to the end of its warm-up"),
        memory_mib=Figure(
            value=significant(memory_mib), kind="measured", source="resident memory of its process, the library counted"
        ),
        joules_per_item=Joules(cpu=None if per_token is None else assumed(per_token)),
        notes=[f"joules are of one token of an answer, with {points[-1].streams} answers at once"],
    )


async def _all_streams(runtime: ChatProcess, seconds: float, tell: Tell) -> tuple[list[ChatStreams], float]:
    memory = 0.0
    points: list[ChatStreams] = []
    try:
        process = psutil.Process(runtime.pid)
        for streams in STREAMS:
            tell(f"{streams} answer{'s' if streams > 1 else ''} at once")
            points.append(await measured_streams(runtime, streams, seconds, lambda: _cpu_s(process)))
            memory = max(memory, process.memory_info().rss / MIB)
    except psutil.Error as error:
        raise PermanentError("the language model's process ended while it was measured") from error
    finally:
        await runtime.close()
    return points, memory


async def measured_streams(runtime: ChatRuntime, streams: int, seconds: float, cpu_s: Callable[[], float]) -> ChatStreams:
    """So many askers, each of whom asks again when it is answered, until the seconds are over and each was answered once."""
    began, cpu_before = time.perf_counter(), cpu_s()
    answers = max(1, ANSWERS_MIN // streams)

    async def asker(number: int) -> list[Said]:
        said: list[Said] = []
        while len(said) < answers or time.perf_counter() - began < seconds:
            said.append(await _ask(runtime, ASKED[(number + len(said)) % len(ASKED)]))
        return said

    every = [said for one in await asyncio.gather(*map(asker, range(streams))) for said in one]
    took = time.perf_counter() - began
    tokens = sum(said.tokens for said in every)
    return ChatStreams(
        streams=streams,
        n=len(every),
        tokens_per_s=significant(tokens / took),
        ttft_p50_ms=significant(statistics.median(said.ttft_ms for said in every)),
        cpu_ms_per_token=significant((cpu_s() - cpu_before) * 1e3 / tokens),
        kind="measured",
    )


async def _ask(runtime: ChatRuntime, text: str) -> Said:
    began = time.perf_counter()
    first: float | None = None
    tokens = 0
    async for piece in runtime.generate(ChatAsk(messages=[ChatMessage(role="user", content=text)], max_tokens=TOKENS)):
        if first is None:
            first = (time.perf_counter() - began) * 1e3
        tokens = max(tokens, piece.completion_tokens)
    if first is None or tokens == 0:
        raise PermanentError("the language model gave no token")
    return Said(ttft_ms=first, tokens=tokens)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _software() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in ("openvino-genai", "openvino"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _open(file: ModelFile) -> ChatProcess:
    from nearhall.drivers.genai import GenaiRuntime

    return GenaiRuntime(file)


def chat_speeds(points: Sequence[ChatStreams]) -> str:
    """Tokens a second by answers at once, in short."""
    return " / ".join(f"{point.tokens_per_s:.3g}" for point in points)
