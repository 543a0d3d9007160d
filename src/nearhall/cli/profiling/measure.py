"""Measures variants of a tensor model side by side.

Each has its own process and they run in turn, slice by slice, so that what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nearhall import __version__
from nearhall.cli.profiling.agreement import agree, choose
from nearhall.cli.profiling.energy import (
    METER_S_MIN,
    POLL_S,
    RAPL_OMITS,
    Burst,
    Counter,
    assumed,
    counted,
    counters,
    metered,
    read_power,
    significant,
)
from nearhall.cli.profiling.feeds import Feed, Feeds, at_random, from_files
from nearhall.cli.profiling.place import Place
from nearhall.cli.profiling.shipped import shipped
from nearhall.cli.profiling.worker import Worker
from nearhall.cli.roots.profiled import Command
from nearhall.core.errors import InputError, NearhallError, PermanentError
from nearhall.core.evidence import Kind
from nearhall.core.histogram import SAMPLES_NEEDED
from nearhall.core.tensor import TensorSpec
from nearhall.documents.profile import SCHEMA, Agreement, Figure, Host, Joules, LatencyPoint, Profile, Samples
from nearhall.drivers.arrays import Array
from nearhall.drivers.cpu_quota import cpus_allowed
from nearhall.drivers.host import cores, cpu_name
from nearhall.drivers.packages import sha256_of
from nearhall.ports.meter import Meter

ROUNDS = 4
"""Each batch size of each variant is measured in so many slices, in turn with the others."""
RUNS_MAX = 20_000
"""Of one batch size: p99 is known within a few percent."""
BUSY = 1.5
"""Times its CPU time that a run may take before it is told that somebody else had the cores."""
RUNS_MIN = 3
"""Of one slice, however long they take."""
ENERGY_S = 4.0

Tell = Callable[[str], None]
"""Called before each slice with what is measured now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be measured, as the command line says."""

    cache: Path
    """Where fetched clips lie."""
    data: Path | None = None
    batches: tuple[int, ...] = (1, 2, 4, 8)
    seconds: float = 2.0
    """For each batch size of each variant."""
    metric: str | None = None
    reference: str | None = None
    meter: Callable[[], Meter] | None = None
    """Opens the IT meter; it is closed here."""
    meter_name: str = ""
    with_energy: bool = True
    energy_s: float = ENERGY_S
    meter_s: float = METER_S_MIN
    counters: Callable[[str], tuple[list[Counter], list[str]]] = counters
    """What counts joules for a model on that device, and why something does not."""
    rest: Callable[[float], None] = time.sleep
    poll_s: float = POLL_S


@dataclass(slots=True)
class Timed:
    """What one variant took so far."""

    worker: Worker
    load_s: float
    took_ms: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    cpu_ms: dict[int, float] = field(default_factory=dict[int, float])
    memory_mib: float = 0.0
    notes: list[str] = field(default_factory=list[str])


def slices(variants: int, wish: Wish) -> int:
    """How many times `Tell` will be called, at most."""
    return ROUNDS * len(wish.batches) * variants + 3 * variants


def measure(place: Place, names: Sequence[str], wish: Wish, tell: Tell, *, feeds: Feeds | None = None) -> list[Profile]:
    """Profiles of the named variants, in their order; nothing is written. `feeds` takes the place of what `wish` says.

    Raises InputError for data or a metric that does not fit, PermanentError where a variant does not load or run.
    """
    reference = place.reference(wish.reference)
    with ExitStack() as opened:
        workers: dict[str, Worker] = {}
        for name in dict.fromkeys([reference, *names]):
            tell(f"{name}: loading")
            workers[name] = opened.enter_context(Worker(place.file(name)))
        specs = workers[reference].inputs
        for name, worker in workers.items():
            if [(s.name, s.dtype, s.shape) for s in worker.inputs] != [(s.name, s.dtype, s.shape) for s in specs]:
                raise InputError(
                    f"{name} does not take the inputs that {reference} takes", where=str(place.path), right="give --reference"
                )
        feeds = feeds or found_feeds(place, specs, wish, workers[reference])
        timed = {name: _started(worker, feeds, reference) for name, worker in workers.items()}
        batches, note = _batches(specs, wish.batches)
        _time({name: timed[name] for name in names}, batches, wish.seconds, tell)
        outputs = {name: worker.run_all() for name, worker in workers.items()} if len(workers) > 1 else {}
        digest = sha256_of(Path(place.file(reference).path)) if outputs else ""
        states = _states(workers[reference])
        return [
            _profile(
                place,
                timed[name],
                feeds,
                wish,
                agreement=None
                if name == reference
                else agreement(
                    outputs[reference], outputs[name], name=reference, sha256=digest, feeds=feeds, wish=wish, states=states
                ),
                notes=[*feeds.notes, *([note] if note else []), *timed[name].notes],
                tell=tell,
            )
            for name in names
        ]


def found_feeds(place: Place, specs: Sequence[TensorSpec], wish: Wish, reference: Worker) -> Feeds:
    """The user's data, else what nearhall has for such models, else random numbers."""
    if wish.data is not None:
        return from_files(wish.data, specs, place.examples)
    return shipped(specs, place.document.source, wish.cache, _runner(reference)) or at_random(specs, place.examples)


def _runner(worker: Worker) -> Callable[[Feed], Feed]:
    def run(feed: Feed) -> Feed:
        worker.give([feed])
        return worker.run_all()[0]

    return run


def _started(worker: Worker, feeds: Feeds, reference: str) -> Timed:
    """Runs the first sample. The reference comes first: what it does not run on are wrong samples; else the variant errs."""
    try:
        answer = worker.give(feeds.feeds)
    except PermanentError as error:
        if worker.variant != reference:
            raise PermanentError(f"{worker.variant} does not run on what {reference} runs on ({error})") from error
        right = "say in model.yaml what it runs on (example_shape, example_value), or give data that it takes"
        raise InputError(f"{worker.variant} does not run on {feeds.source} ({error})", where="--data", right=right) from error
    notes = [worker.about.note] if worker.about.note else []
    return Timed(worker, answer.load_s, memory_mib=answer.memory_mib, notes=notes)


def _batches(specs: Sequence[TensorSpec], wished: Sequence[int]) -> tuple[tuple[int, ...], str]:
    """The batch sizes that the inputs allow, and why not more: requests are put together along the first axis of every input."""
    fixed = next((spec for spec in specs if not spec.optional and (not spec.shape or spec.shape[0] != -1)), None)
    if fixed is None or max(wished) == 1:
        return tuple(wished), ""
    return (1,), f"batch 1 alone: the first axis of {fixed.name} {list(fixed.shape)} is not free"


def _time(timed: Mapping[str, Timed], batches: Sequence[int], seconds: float, tell: Tell) -> None:
    refused: set[tuple[str, int]] = set()
    for turn in range(ROUNDS):
        for batch in batches:
            for name, one in _in_turn(timed, turn):
                if (name, batch) in refused:
                    continue
                tell(f"{name}: batch {batch}")
                command = Command(do="run", batch=batch, seconds=seconds / ROUNDS, runs_min=RUNS_MIN, runs_max=RUNS_MAX // ROUNDS)
                try:
                    answer = one.worker.do(command)
                except PermanentError as error:
                    if batch == 1:
                        raise
                    refused.add((name, batch))
                    one.notes.append(f"batch {batch} does not run: {error}")
                    continue
                one.took_ms.setdefault(batch, []).extend(answer.took_ms)
                one.cpu_ms[batch] = one.cpu_ms.get(batch, 0.0) + answer.cpu_ms
                one.memory_mib = max(one.memory_mib, answer.memory_mib)


def _in_turn(timed: Mapping[str, Timed], turn: int) -> Iterator[tuple[str, Timed]]:
    """Every other round the other way round: what follows on a slice of its own kind is not always the same one."""
    items = list(timed.items())
    yield from items if turn % 2 == 0 else reversed(items)


def _states(worker: Worker) -> frozenset[str]:
    """Outputs that go into the next request: named like an input (`state`, `stateN`) of the same rank."""
    ranks = {spec.name: len(spec.shape) for spec in worker.inputs}
    return frozenset(
        out.name
        for out in worker.outputs
        for name, rank in ranks.items()
        if out.name != name and out.name.lower().startswith(name.lower()) and rank == len(out.shape) and rank > 1
    )


def agreement(
    reference: Sequence[Mapping[str, Array]],
    other: Sequence[Mapping[str, Array]],
    *,
    name: str,
    sha256: str,
    feeds: Feeds,
    wish: Wish,
    states: frozenset[str],
) -> Agreement:
    """How far the other variant agrees with the reference of that name, whose file has that hash."""
    agreed = agree(reference, other, choose(reference, states, wish.metric))
    kind = feeds.kind if agreed.telling else Kind.ASSUMED
    how = agreed.how if agreed.telling else f"{agreed.how}; nothing was found in any sample, so this tells nothing"
    return Agreement(
        reference=name,
        reference_sha256=sha256,
        score=round(agreed.score, 5),
        how=how,
        n=agreed.n,
        worst=round(agreed.worst, 5),
        kind=kind.value,
    )


def _profile(
    place: Place,
    timed: Timed,
    feeds: Feeds,
    wish: Wish,
    *,
    agreement: Agreement | None,
    notes: Sequence[str],
    tell: Tell,
) -> Profile:
    name = timed.worker.variant
    about = timed.worker.about
    file = place.file(name)
    digest = sha256_of(Path(file.path))
    energy, energy_notes = Joules(), list[str]()
    if wish.with_energy:
        tell(f"{name}: energy")
        energy, energy_notes = joules(timed, wish)
    return Profile(
        schema=SCHEMA,
        model=file.model,
        version=file.version,
        variant=name,
        runtime=place.variants[name].runtime,
        sha256=digest,
        device=device_name(about.device),
        threads=file.threads,
        host=this_host(about.software),
        date=now(),
        samples=Samples(source=feeds.source, n=len(feeds.feeds), sha256=feeds.sha256(), kind=feeds.kind.value),
        latency_ms=[point(batch, took, timed.cpu_ms[batch]) for batch, took in sorted(timed.took_ms.items())],
        load_s=Figure(value=significant(timed.load_s), kind="measured", source="clock, to the end of the first run"),
        memory_mib=Figure(
            value=significant(max(0.0, timed.memory_mib)),
            kind="measured",
            source="resident memory that it added to a process of its own; the runtime's library and the samples not counted",
        ),
        joules_per_item=energy,
        agreement=agreement,
        notes=[*notes, *_busy(timed, file.threads), *energy_notes, *_unnamed(place, name, digest)],
    )


def _busy(timed: Timed, threads: int) -> list[str]:
    """With one thread a run takes as long as it computes, unless others have the cores."""
    took_ms, cpu_ms = float(np.median(timed.took_ms[1])), timed.cpu_ms[1] / len(timed.took_ms[1])
    if threads > 1 or timed.worker.about.device != "cpu" or took_ms <= BUSY * cpu_ms:
        return []
    return [f"the machine was busy: a run took {took_ms:.3g} ms and computed {cpu_ms:.3g} ms of it; measure on a quiet one"]


def _unnamed(place: Place, name: str, digest: str) -> list[str]:
    """A gateway uses a profile only of the file that model.yaml names."""
    if place.variants[name].sha256 in {digest, None}:
        return []
    return [f"model.yaml names another file, so no gateway uses this profile: write sha256: {digest}"]


def point(batch: int, took_ms: Sequence[float], cpu_ms: float | None) -> LatencyPoint:
    """One point of a curve; a quantile only where enough runs lie behind it."""
    n = len(took_ms)
    p50, p90, p99 = (float(np.quantile(took_ms, q)) for q in (0.5, 0.9, 0.99))
    return LatencyPoint(
        batch=batch,
        n=n,
        p50=significant(p50),
        p90=significant(p90) if n >= SAMPLES_NEEDED[0.9] else None,
        p99=significant(p99) if n >= SAMPLES_NEEDED[0.99] else None,
        cpu_ms=None if cpu_ms is None else significant(cpu_ms / n),
        kind="measured",
    )


def joules(timed: Timed, wish: Wish) -> tuple[Joules, list[str]]:
    """By a meter where there is one, by counters where they can be read, by CPU time where neither."""
    found: dict[str, Figure] = {}
    notes: list[str] = []
    seconds = max(wish.energy_s, wish.seconds)
    if wish.meter is not None:
        try:
            seconds_it = max(seconds, wish.meter_s)
            found["it"] = asyncio.run(_by_meter(wish, wish.meter, lambda: _burst(timed.worker, seconds_it)))
        except PermanentError as error:
            notes.append(f"no joules by the meter: {error}")
    open_now, why = wish.counters(timed.worker.about.device)
    for counter in open_now:
        try:
            key, figure = _by_counter(counter, lambda: _burst(timed.worker, seconds), wish.rest)
            found[key] = figure
        except NearhallError as error:
            why.append(str(error))
        finally:
            counter.close()
    if "cpu" not in found and 1 in timed.took_ms:
        found["cpu"] = assumed(timed.cpu_ms[1] / len(timed.took_ms[1]))
    return Joules(**found), [*notes, *(f"no counter of energy: {reason}" for reason in why)]


def _by_counter(counter: Counter, work: Callable[[], Burst], rest: Callable[[float], None]) -> tuple[str, Figure]:
    if counter.source == "nvml":
        source = "NVML's counter, which is of the whole device, whoever uses it"
        return "gpu", counted(counter, work, kind=Kind.ASSUMED, source=source, rest=rest)
    return "cpu", counted(counter, work, kind=Kind.ASSUMED, source=f"RAPL: {RAPL_OMITS}", rest=rest)


def check_meter(wish: Wish) -> None:
    """Reads the meter once, before minutes are spent; raises PermanentError where it does not answer or tells no power."""

    async def read(opened: Callable[[], Meter]) -> None:
        meter = opened()
        try:
            await read_power(meter)
        finally:
            await meter.close()

    if wish.meter is not None:
        asyncio.run(read(wish.meter))


async def _by_meter(wish: Wish, opened: Callable[[], Meter], work: Callable[[], Burst]) -> Figure:
    meter = opened()
    try:
        return await metered(meter, work, name=wish.meter_name, rest=lambda: wish.rest(wish.meter_s), poll_s=wish.poll_s)
    finally:
        await meter.close()


def _burst(worker: Worker, seconds: float) -> Burst:
    answer = worker.do(Command(do="run", batch=1, seconds=seconds, runs_max=10_000_000))
    return Burst(items=len(answer.took_ms), seconds=sum(answer.took_ms) / 1e3)


def device_name(device: str) -> str:
    """`cpu`, or `cuda:` and the device's name, as the runtime has it; by its number where it only tells that."""
    if not device.startswith("cuda"):
        return "cpu"
    name = device.partition(":")[2] or "0"
    return f"cuda:device {name}" if name.isdigit() else f"cuda:{name}"


def this_host(software: Mapping[str, str]) -> Host:
    """The machine, and what it ran with."""
    import platform

    versions = {"nearhall": __version__, "python": platform.python_version(), **software}
    granted = cpus_allowed()
    return Host(cpu=cpu_name(), cores=cores(), quota=granted if granted < cores() else None, software=versions)


def now() -> str:
    """UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")  # noqa: TID251 (cli dates its files)


def plain(profile: Profile) -> dict[str, Any]:
    """As profile.json has it."""
    return profile.model_dump(mode="json", by_alias=True)
