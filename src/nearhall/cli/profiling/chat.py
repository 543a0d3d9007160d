"""Measures language models: time to the first token, tokens a second alone and with several answers at once, memory, agreement.

One after the other, since two large ones may not fit into memory together: the reference first, whose answers the others are held
against.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import psutil

from nearhall.cli.profiling.energy import assumed, significant
from nearhall.cli.profiling.measure import Tell, Wish, now, this_host
from nearhall.cli.profiling.place import Place
from nearhall.cli.profiling.prompts import Prompts
from nearhall.cli.profiling.tokens import SECONDS_MAX, Answer, Held, OtherTokensError, Until, agreement, answered, held, score_of
from nearhall.core.errors import InputError, PermanentError
from nearhall.documents.profile import SCHEMA, Agreement, ChatStreams, Figure, Joules, Profile
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


Open = Callable[[ModelFile], ChatProcess]


@dataclass(slots=True)
class Comparison:
    """What the variants of one language model are compared by."""

    prompts: Prompts
    reference: str
    sha256: str
    """Of the reference's file."""
    seconds_max: float = SECONDS_MAX
    answers: list[Answer] = field(default_factory=list[Answer])
    """The reference's, once it was asked."""
    itself: float | None = None
    """Its score with itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was seen of one variant."""

    points: list[ChatStreams]
    memory_mib: float
    agreement: Agreement | None = None
    notes: tuple[str, ...] = ()


def measure_chats(
    place: Place, names: Sequence[str], wish: Wish, prompts: Prompts, tell: Tell, *, opened: Open | None = None
) -> list[Profile]:
    """Profiles of a model's variants that are language models, in any order; nothing is written.

    Raises PermanentError where one does not load or answer, InputError for a prompt that it does not take.
    """
    reference = place.reference(wish.reference)
    comparison, note = None, ""
    if any(name != reference for name in names):
        if place.variants[reference].runtime == "genai":
            digest = sha256_of(Path(place.file(reference).path))
            comparison = Comparison(prompts=prompts, reference=reference, sha256=digest)
        else:
            note = (
                f"not compared with {reference}, which runs elsewhere and tells text alone; its quality is what model.yaml says"
            )
    if comparison is not None and reference not in names:
        asyncio.run(_asked(_loaded(place, reference, tell, opened), comparison, lambda text: tell(f"{reference}: {text}")))
    found: list[Profile] = []
    for name in sorted(names, key=lambda name: name != reference):
        profile = measure_chat(place, name, wish.seconds, tell, comparison=comparison, opened=opened)
        found.append(profile.model_copy(update={"notes": [*profile.notes, note]}) if note and name != reference else profile)
    return found


def chat_steps(names: Sequence[str], reference: str, prompts: int) -> int:
    """How many times `Tell` will be called, at most."""
    speeds = len(names) * (1 + len(STREAMS))
    if all(name == reference for name in names):
        return speeds
    return speeds + (reference not in names) + (len({reference, *names}) + 1) * prompts


def measure_chat(
    place: Place,
    name: str,
    seconds: float,
    tell: Tell,
    *,
    comparison: Comparison | None = None,
    opened: Open | None = None,
) -> Profile:
    """The profile of a language model; nothing is written. Raises PermanentError where it does not load or answer.

    With a comparison, the reference leaves its answers in it, and any other variant is held against them.
    """
    file = place.file(name)
    began = time.perf_counter()
    runtime = _loaded(place, name, tell, opened)
    load_s = time.perf_counter() - began
    seen = asyncio.run(_measured(runtime, name, seconds, comparison, lambda text: tell(f"{name}: {text}")))
    per_token = seen.points[-1].cpu_ms_per_token
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
        samples=comparison.prompts.samples(seen.agreement.n) if comparison and seen.agreement else None,
        chat=seen.points,
        load_s=Figure(value=significant(load_s), kind="measured", source="clock, to the end of its warm-up"),
        memory_mib=Figure(
            value=significant(seen.memory_mib), kind="measured", source="resident memory of its process, the library counted"
        ),
        joules_per_item=Joules(cpu=None if per_token is None else assumed(per_token)),
        agreement=seen.agreement,
        notes=[f"joules are of one token of an answer, with {seen.points[-1].streams} answers at once", *seen.notes],
    )


def _loaded(place: Place, name: str, tell: Tell, opened: Open | None) -> ChatProcess:
    file = place.file(name)
    tell(f"{name}: loading")
    try:
        return (opened or _open)(file)
    except ImportError as error:
        raise InputError("a language model needs OpenVINO GenAI", where=file.path, right="pip install 'nearhall[llm]'") from error


async def _measured(runtime: ChatProcess, name: str, seconds: float, comparison: Comparison | None, tell: Tell) -> Measured:
    memory = 0.0
    points: list[ChatStreams] = []
    try:
        process = psutil.Process(runtime.pid)
        for streams in STREAMS:
            tell(f"{streams} answer{'s' if streams > 1 else ''} at once")
            points.append(await measured_streams(runtime, streams, seconds, lambda: _cpu_s(process)))
            memory = max(memory, process.memory_info().rss / MIB)
        if comparison is None:
            return Measured(points=points, memory_mib=memory)
        if name == comparison.reference:
            await _ask_reference(runtime, comparison, tell)
            return Measured(points=points, memory_mib=memory)
        agreed, notes = await _held_against(runtime, comparison, tell)
        return Measured(points=points, memory_mib=memory, agreement=agreed, notes=notes)
    except psutil.Error as error:
        raise PermanentError("the language model's process ended while it was measured") from error
    finally:
        await runtime.close()


async def _asked(runtime: ChatProcess, comparison: Comparison, tell: Tell) -> None:
    """The reference where it is not measured itself."""
    try:
        await _ask_reference(runtime, comparison, tell)
    finally:
        await runtime.close()


async def _ask_reference(runtime: ChatRuntime, comparison: Comparison, tell: Tell) -> None:
    prompts = comparison.prompts
    comparison.answers = await answered(runtime, prompts, _until(comparison, len(prompts.prompts), tell))
    until = _until(comparison, len(comparison.answers), lambda text: tell(f"{text} again"))
    again = await held(runtime, prompts, comparison.answers, until, halves=True)
    comparison.itself = score_of(again) if again else None


async def _held_against(runtime: ChatRuntime, comparison: Comparison, tell: Tell) -> tuple[Agreement | None, tuple[str, ...]]:
    """The agreement, and what must be known of it; none, and why, where the two cannot be compared."""
    prompts, wanted = comparison.prompts, len(comparison.prompts.prompts)
    compared: list[Held] = []
    try:
        compared = await held(runtime, prompts, comparison.answers, _until(comparison, len(comparison.answers), tell))
    except OtherTokensError:
        why = f"not compared: it makes other tokens of the same messages than {comparison.reference} (tokenizer or chat template)"
        return None, (f"{why}; its quality is what model.yaml says",)
    if not compared:
        return None, (f"not compared: no prompt was answered within {comparison.seconds_max:g} s",)
    short = (f"the time ({comparison.seconds_max:g} s) was over after {len(compared)} of {wanted} prompts",)
    notes = (*prompts.notes, *(short if len(compared) < wanted else ()))
    agreed = agreement(compared, prompts, name=comparison.reference, sha256=comparison.sha256, itself=comparison.itself)
    return agreed, notes


def _until(comparison: Comparison, of: int, tell: Tell) -> Until:
    ends_s = time.monotonic() + comparison.seconds_max
    return Until(clock=time.monotonic, ends_s=ends_s, tell=lambda done: tell(f"agreement, {done} of {of} prompts"))


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
