"""The models of this gateway: what the repository holds, what is loaded, and how it got there, while requests go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import cast

from nearhall.core.errors import NearhallError, Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.gateway.forward import close_body
from nearhall.gateway.models.memory import ModelMemory
from nearhall.gateway.models.model import Model
from nearhall.gateway.models.opening import Cores, opened
from nearhall.gateway.models.placing import Charge
from nearhall.gateway.models.repository import Entry, VariantEntry, read_entry, scan
from nearhall.gateway.models.variants import Chat, Served, State, Tensors, Upstream, Variant
from nearhall.gateway.queues.lanes import Lane
from nearhall.gateway.queues.loop_watch import LoopWatch
from nearhall.gateway.queues.slots import Slots
from nearhall.gateway.queues.turns import LanguageUse, Turns
from nearhall.policy.admit import Estimate
from nearhall.policy.memory import NoRoom
from nearhall.ports.clock import Clock
from nearhall.ports.runtime import ChatAsk, ChatMessage, ChatRuntime, ForwardRequest, ModelFile, TensorRuntime, UpstreamRuntime
from nearhall.wire.telemetry import Event, ModelState

log = logging.getLogger("nearhall.gateway")

Runtime = TensorRuntime | ChatRuntime | UpstreamRuntime
Opener = Callable[[ModelFile], Runtime]
"""Opens the runtime that a file names, blocking, in a thread; raises PermanentError or InputError."""

ONE_CORE = Cores()
LOOK_S = 1.0
"""Between looks for an upstream server that is away: it is only asked while nobody else may ask it."""
CHAT_WARM_UP_S_MAX = 120.0
REOPEN_S = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Waits before a broken runtime is opened again; the last one repeats. A broken file must not keep a core busy."""


_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
MEMORY_LOOK_S = 2.0
"""Between looks at the machine's free memory: three small files are read, a tenth of a millisecond."""
LOOK_AGAIN_S = 0.25
"""Between looks for room for the same variant: a look reads the machine's free memory, which no request should pay for."""
Loading = tuple["Model", Variant]
UPSTREAM_SLOTS = 64
"""Requests in flight to one upstream server; it queues for itself, we only bound what we hold open."""


class Models:
    """Loads, unloads and finds models."""

    def __init__(
        self,
        folder: Path,
        opener: Opener,
        *,
        queue_length: int,
        clock: Clock,
        tell: Callable[[Event], None],
        memory: ModelMemory,
        pinned: Collection[str] = (),
        cores: Cores = ONE_CORE,
        loop: LoopWatch,
        begins: Callable[[], object] | None = None,
        spare: Callable[[], bool] = lambda: True,
    ) -> None:
        """`begins` is called first in each thread that runs models; `spare`: whether one of several may give way."""
        self.memory = memory
        self._cores = cores
        self._loop = loop
        self._begins = begins
        self._spare = spare
        self._folder = folder
        self._opener = opener
        self._queue_length = queue_length
        self._clock = clock
        self._tell = tell
        self._pinned = frozenset(pinned)
        self._models = {name: Model(entry, pinned=name in self._pinned) for name, entry in scan(folder).items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._small: list[asyncio.Task[None]] = []
        self._busy: dict[str, asyncio.Lock] = {}

    def all(self) -> Sequence[Model]:
        """Every model of the repository, by name."""
        return [self._models[name] for name in sorted(self._models)]

    def find(self, name: str, version: str | None = None) -> Model | None:
        """The model, None if it is not here; raises Refusal(MODEL_UNKNOWN) for a version that is not served."""
        model = self._models.get(name)
        if model is not None and version is not None and version != model.entry.version:
            served = model.entry.version or "none"
            raise Refusal(Reason.MODEL_UNKNOWN, f"version {version[:64]!r} of model {name!r} is not served; served: {served}")
        return model

    def start(self) -> None:
        """Begins to load in the background what the budget holds, pinned models first.

        A runtime's models come one after the other, since they share its library. What there is no room for is loaded when it is
        asked for.
        """
        for name in sorted(self._pinned - set(self._models)):
            self.say("model_failed", f"pinned names model {name[:64]!r}, which is not in the repository", "warning")
        small: dict[str, list[Loading]] = {}
        for loading in self._at_start():
            model, variant = loading
            if model.entry.chat:
                self._spawn(self._load_in_turn([loading]))
            else:
                small.setdefault(variant.entry.file.runtime, []).append(loading)
        self._small = [self._spawn(self._load_in_turn(each)) for each in small.values()]
        _ignore(self._spawn(self._watch_memory()))
        if self.memory.counts_devices:
            _ignore(self._spawn(self._watch_devices()))

    def _at_start(self) -> Sequence[Loading]:
        """What is loaded at start, in order, its memory taken."""
        wanted = [(model, each) for model in self.all() for each in model.variants.values()]
        wanted = [(m, v) for m, v in wanted if v is m.default or (v.entry.preload and not v.entry.fault)]
        chosen: list[Loading] = []
        for model, variant in sorted(wanted, key=lambda pair: (not pair[1].pinned, pair[1] is not pair[0].default)):
            room = self.memory.room_in_main(variant)
            if isinstance(room, NoRoom):
                self._not_at_start(model, variant, room)
            else:
                self.memory.take(variant, room)
                variant.state = State.LOADING
                chosen.append((model, variant))
        return chosen

    def _not_at_start(self, model: Model, variant: Variant, room: NoRoom) -> None:
        again = "; loads when it is asked for and there is room" if room.retry_s is not None else ""
        variant.detail = f"not loaded at start: {room.why}{again}"
        if variant.pinned:
            self.say("model_failed", f"pinned model {model.entry.name} does not fit: {room.why}", "error")

    async def until_settled(self) -> None:
        """Returns once every model but the language models is ready or has failed."""
        if self._small:
            await asyncio.wait(self._small)

    @property
    def settled(self) -> bool:
        """Whether all that is loaded at start, but the language models, is ready or has failed: what `/v2/health/ready` says."""
        return all(task.done() for task in self._small)

    async def load(self, name: str, variant: str | None = None) -> None:
        """Reads the model's folder again and loads it, or the variant that is named. Raises Refusal.

        An old one serves until the new one is ready, where there is room for both.
        """
        entry = await asyncio.to_thread(read_entry, self._folder / name) if _plain(name) else None
        if entry is None:
            raise Refusal(Reason.MODEL_UNKNOWN, f"there is no model {name[:64]!r} in the repository")
        if variant is not None and variant not in {each.name for each in entry.variants}:
            raise _no_variant(name, variant, [each.name for each in entry.variants])
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = Model(entry, pinned=name in self._pinned)
        for gone in model.follow(entry, pinned=name in self._pinned):
            await self._unload(gone, "no longer in the repository", on_demand=False)
        also = [each for each in model.variants.values() if each is not model.default and each.served is not None]
        for chosen in [model.default, *also] if variant is None else [model.variants[variant]]:
            chosen.on_demand = True
            if fault := await self._load(model, chosen, ordered=True):
                raise Refusal(Reason.BAD_REQUEST, f"model {name!r} did not load: {fault}")

    async def unload(self, name: str, variant: str | None = None) -> None:
        """Takes a model, or one variant of it, out of service until somebody loads it. Raises Refusal(MODEL_UNKNOWN).

        What waits for it is sent to the hub or refused.
        """
        model = self._models.get(name)
        if model is None:
            raise Refusal(Reason.MODEL_UNKNOWN, f"there is no model {name[:64]!r} in the repository")
        if variant is not None and variant not in model.variants:
            raise _no_variant(name, variant, model.variants)
        async with self._lock(name):
            for each in model.variants.values():
                if variant in {None, each.name}:
                    await self._unload(each, "unloaded on request", on_demand=False)

    def want(self, model: Model, variant: Variant) -> float | NoRoom | None:
        """Begins to load a variant that a request asks for; returns how many milliseconds that should take from now.

        NoRoom where it does not fit now, None where it is not to be loaded by a request.
        """
        if variant.state is State.LOADING:
            return None if variant.loading_until_s == inf else max(1.0, (variant.loading_until_s - self._clock.monotonic()) * 1e3)
        if not variant.loadable:
            return None
        now_s = self._clock.monotonic()
        if variant.refused is not None and now_s < variant.refused_until_s:
            return variant.refused
        room = self.memory.room(variant)
        if isinstance(room, NoRoom):
            variant.refused, variant.refused_until_s = room, now_s + LOOK_AGAIN_S
            return room
        variant.refused = None
        variant.state, variant.detail = State.LOADING, "loading: a request asked for it"
        self.memory.take(variant, room)
        for each in room.leave:
            each.leaving = True
        self._due(variant)
        self._spawn(self._load_for_request(model, variant, room.leave))
        return max(1.0, variant.load_s * 1e3)

    async def until_loaded(self, variant: Variant, timeout_s: float) -> None:
        """Waits until a load that a request asked for has ended, well or not; raises Refusal(QUEUE_FULL), TimeoutError."""
        if variant.waiters >= self._queue_length:
            raise Refusal(Reason.QUEUE_FULL, f"{variant.waiters} requests wait for {variant.key} already", retry_after_ms=1000)
        variant.waiters += 1
        try:
            async with asyncio.timeout(timeout_s):
                while variant.state is State.LOADING:
                    variant.settled.clear()
                    await variant.settled.wait()
        finally:
            variant.waiters -= 1

    async def close(self) -> None:
        """Ends loading and frees every runtime."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self._models.values():
            for variant in model.variants.values():
                served, variant.served = variant.served, None
                variant.state = State.UNLOADED
                self.memory.free(variant)
                await _close(served)

    def states(self) -> list[ModelState]:
        """For telemetry: every model by its default variant, and the other variants that have been loaded.

        The variant that stands for the model comes last: a reader that keeps one state for each name keeps that one.
        """
        return [
            ModelState(
                name=model.entry.name,
                version=model.entry.version,
                variant=variant.name,
                runtime=variant.entry.file.runtime,
                state=(State.LOADING if variant.state is State.READY and not variant.ready else variant.state).value,
                detail=variant.detail,
                memory_mib=variant.memory_mib,
                memory_kind=variant.memory_kind.value,
                held_mib=variant.held_mib,
                device_id=variant.on_device.device,
                device_held_mib=variant.on_device.device_mib,
                device_held_kind=variant.on_device.device_kind.value if variant.on_device.device else "",
                p50_ms=variant.served.lane.estimate.service_ms if isinstance(variant.served, Tensors) else None,
                quality=variant.entry.quality,
                loads=variant.loads,
                evictions=variant.evictions,
                device=variant.served.device if isinstance(variant.served, Tensors) else "",
            )
            for model in self.all()
            for variant in sorted(model.variants.values(), key=lambda each, front=model.front: each is front)
            if variant in {model.default, model.front} or variant.loads or variant.state is not State.UNLOADED
        ]

    def languages(self) -> list[tuple[tuple[str, str], LanguageUse]]:
        """What each loaded language model does, by model and variant, for metrics."""
        return [
            ((model.entry.name, variant.name), variant.served.slots.use)
            for model in self.all()
            for variant in model.variants.values()
            if isinstance(variant.served, Chat)
        ]

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _lock(self, name: str) -> asyncio.Lock:
        return self._busy.setdefault(name, asyncio.Lock())

    def _due(self, variant: Variant) -> None:
        variant.loading_until_s = self._clock.monotonic() + variant.load_s

    async def _load_in_turn(self, wanted: Sequence[Loading]) -> None:
        """Each is placed when those before it are there: what they take of a device is known only then."""
        for model, variant in wanted:
            if variant.state is not State.LOADING:
                continue  # somebody has unloaded it while it waited for its turn
            room = self.memory.place(variant)
            if isinstance(room, NoRoom):
                self.memory.free(variant)
                variant.state = State.UNLOADED
                self._not_at_start(model, variant, room)
                variant.settled.set()
            else:
                self.memory.take(variant, room)
                await self._let_leave(room.leave, variant)
                await self._load(model, variant)

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(MEMORY_LOOK_S)
            await self.relieve()

    async def _watch_devices(self) -> None:
        """Apart from main memory's watch, which a driver that hangs must not end."""
        while True:
            await asyncio.sleep(MEMORY_LOOK_S)
            await asyncio.to_thread(self.memory.refresh)

    async def relieve(self) -> None:
        """Lets models leave while the machine is short of memory, whatever the budget: better they than the whole process."""
        relief = self.memory.relief()
        if relief is None:
            return
        where = relief.place or "the machine"
        for each in relief.leave:
            each.evictions += 1
            mib = each.mib_in(relief.place)
            await self._unload(each, f"{where} is short of memory; loads again when it is asked for", on_demand=True)
            text = f"{each.key} left memory ({mib:.0f} MiB): {where} is short of {relief.short_mib:.0f} MiB"
            self.say("model_left", text, "warning")

    async def _load_for_request(self, model: Model, variant: Variant, leave: Sequence[Variant]) -> None:
        await self._let_leave(leave, variant)
        self._due(variant)
        await self._load(model, variant)

    async def _let_leave(self, leave: Sequence[Variant], newcomer: Variant) -> None:
        """Unloads what has to make room."""
        for each in leave:
            each.leaving = True
        for each in leave:
            each.evictions += 1
            self.say("model_left", f"{each.key} left memory ({_amounts(each.charges)}) to make room for {newcomer.key}", "info")
            await self._unload(each, f"made room for {newcomer.key}; loads again when it is asked for", on_demand=True)

    async def _unload(self, variant: Variant, detail: str, *, on_demand: bool) -> None:
        served, variant.served = variant.served, None
        variant.state, variant.detail, variant.on_demand = State.UNLOADED, detail, on_demand
        variant.leaving = True
        was_on_device = bool(variant.on_device.device)
        try:
            await _close(served)
        finally:
            variant.leaving = False
            self.memory.free(variant)
            variant.settled.set()
        if was_on_device:
            await asyncio.to_thread(self.memory.refresh)

    async def _load(self, model: Model, variant: Variant, *, ordered: bool = False) -> str:
        """Loads a variant whose memory is taken already, or with `ordered` makes room for it; returns why it failed, or ""."""
        async with self._lock(model.entry.name):
            if not ordered and variant.state is not State.LOADING:
                return ""  # somebody has unloaded it while it waited for its turn
            if variant.served is None:
                variant.state, variant.detail = State.LOADING, ""
            variant.opening = True
            try:
                fault = await self._make_way(variant) if ordered else ""
                if fault:
                    self._not_loaded(variant, State.UNLOADED, fault)
                elif fault := await self._open_and_keep(model, variant):
                    gone = variant.state is State.UNLOADED  # it took more than there was room for: known now, it may come again
                    self._not_loaded(variant, State.UNLOADED if gone else State.FAILED, fault)
            finally:
                variant.opening = False
                variant.loading_until_s = inf
                variant.settled.set()
            return fault

    def _not_loaded(self, variant: Variant, state: State, fault: str) -> None:
        variant.detail = fault
        if variant.served is None:
            variant.state = state
            self.memory.free(variant)
            self.say("model_failed", f"model {_named(variant)} does not load: {fault}", "error")

    async def _make_way(self, variant: Variant) -> str:
        """Room for a load that an operator asked for; returns why there is none, or "".

        Where there is none for old and new beside each other, the old one is closed first.
        """
        if self.memory.counts_devices:
            await asyncio.to_thread(self.memory.refresh)
        room = self.memory.room(variant, ordered=True, beside=variant.served is not None)
        if isinstance(room, NoRoom) and variant.served is not None:
            await self._unload(variant, "is being loaded anew", on_demand=True)
            variant.state = State.LOADING
            room = self.memory.room(variant, ordered=True)
        if isinstance(room, NoRoom):
            return room.why
        self.memory.take(variant, room)
        await self._let_leave(room.leave, variant)
        return ""

    async def _open_and_keep(self, model: Model, variant: Variant) -> str:
        entry = variant.entry
        expected = variant.coming or variant.charge or Charge()
        watch = self.memory.watch(variant)
        begun = self._clock.monotonic()
        served: Served | None = None
        try:
            file = replace(entry.file, options=self.memory.limited(variant))
            served = await self._open(model.entry, replace(entry, file=file))
            if expected.device:
                await asyncio.to_thread(self.memory.refresh)
        except (NearhallError, OSError, ImportError, TimeoutError) as error:
            return str(error) or type(error).__name__
        finally:
            pid = getattr(served.runtime, "pid", None) if isinstance(served, Chat) else None
            device = served.device if isinstance(served, Tensors) else ""
            self.memory.seen(watch, variant, pid=pid, loaded=served is not None, device=device)
        old, variant.served = variant.served, served
        variant.state, variant.detail, variant.loaded_s = State.READY, "", self._clock.utc()
        variant.loads += 1
        if isinstance(served, Tensors):
            variant.entry = replace(variant.entry, latency_ms=served.lane.estimate.service_ms)
        self.memory.settled(variant, self._clock.monotonic() - begun)
        if expected.note:
            self.say("device", f"model {_named(variant)} runs on the CPU: on the device it {expected.note}", "warning")
        self.say("model_ready", f"model {_named(variant)} is ready ({entry.file.runtime}{_on(served)})", "info")
        await _close(old)
        if old is not None and expected.device:
            await asyncio.to_thread(self.memory.refresh)
        return await self._overrun(variant, expected)

    async def _overrun(self, variant: Variant, expected: Charge) -> str:
        """Where it took more than it was expected to, others leave, or it does itself; returns why, or ""."""
        room = self.memory.overrun(variant)
        if not isinstance(room, NoRoom):
            await self._let_leave(room.leave, variant)
            return ""
        took = f"it took {_amounts(variant.charges)}, where {_amounts([expected])} were expected: {room.why}"
        await self._unload(variant, took, on_demand=True)
        return took

    async def _open(self, entry: Entry, variant: VariantEntry) -> Served:
        if variant.fault:
            raise Refusal(Reason.BAD_REQUEST, variant.fault)
        runtime = await asyncio.to_thread(self._opener, variant.file)
        if variant.file.runtime == "upstream":
            slots = Slots(count=UPSTREAM_SLOTS, limit=self._queue_length, clock=self._clock)
            upstream = cast("UpstreamRuntime", runtime)
            _ignore(self._spawn(_look_for(upstream)))
            return Upstream(upstream, slots)
        if entry.chat:
            return await self._open_chat(cast("ChatRuntime", runtime))
        return await self._open_tensors(entry, variant, cast("TensorRuntime", runtime))

    async def _open_chat(self, runtime: ChatRuntime) -> Chat:
        """Generates once: the first answer after loading takes ten times as long as the second."""
        turns = Turns(runtime.capacity, limit=self._queue_length, clock=self._clock)
        ask = ChatAsk(messages=[ChatMessage(role="user", content="Hello")], max_tokens=4)
        try:
            for watched in (False, True):
                if watched:
                    runtime.watch(turns.heard)
                async with asyncio.timeout(CHAT_WARM_UP_S_MAX):
                    async for _ in runtime.generate(ask):
                        pass
        except BaseException:
            await runtime.close()
            raise
        return Chat(runtime, turns)

    async def _open_tensors(self, entry: Entry, variant: VariantEntry, runtime: TensorRuntime) -> Tensors:
        found = await asyncio.to_thread(opened, runtime, variant.file, entry.examples, self._cores, self._clock)
        model = entry.name
        lane = Lane(
            runtime,
            sample=found.sample,
            first=Estimate(found.first_ms),
            limit=self._queue_length,
            clock=self._clock,
            broken=lambda why: _ignore(self._spawn(self._reopen(model, variant.name, why))),
            name=model,
            batch_rows_max=found.batch_rows_max,
            shapes=found.shapes,
            workers_max=found.workers,
            loop=self._loop,
            begins=self._begins,
            spare=(lambda: False) if entry.stateful else self._spare,
        )
        if note := str(getattr(runtime, "note", "")):
            self.say("device", f"model {model} {note}", "warning")
        return Tensors(lane, runtime.inputs, runtime.outputs, str(getattr(runtime, "device", "cpu")))

    async def _reopen(self, name: str, variant_name: str, why: str) -> None:
        """Opens a broken runtime anew, again and again with growing waits, until it loads or is unloaded.

        Its memory stays taken meanwhile: nobody is to move in where it will be needed again in a moment.
        """
        model = self._models[name]
        variant = model.variants.get(variant_name)
        if variant is None or variant.state is not State.READY:
            return
        served, variant.served = variant.served, None
        variant.state, variant.detail = State.LOADING, f"its runtime broke: {why}"
        self.say("model_failed", f"the runtime of model {name} broke and is opened anew: {why}", "error")
        await _close(served)
        for attempt in range(1_000_000):
            await asyncio.sleep(REOPEN_S[min(attempt, len(REOPEN_S) - 1)])
            if self._settled_meanwhile(variant):
                return
            await self._load(model, variant, ordered=not variant.charges)

    def _settled_meanwhile(self, variant: Variant) -> bool:
        """Whether somebody loaded or unloaded the variant while its reopening waited."""
        return variant.state is State.UNLOADED or variant.served is not None

    def say(self, kind: str, text: str, level: str = "info") -> None:
        """Logs a line and keeps it as an event."""
        log.log(_LEVELS[level], "%s", text)
        self._tell(Event(at_s=self._clock.utc(), kind=kind, text=text, level=level))


async def _look_for(upstream: UpstreamRuntime) -> None:
    """Asks a server that is away every `LOOK_S` whether it is back; any answer at all means yes."""
    ask = ForwardRequest(method="GET", path="/v2/health/live", headers=(), body=b"", timeout_s=LOOK_S)
    while True:
        await asyncio.sleep(LOOK_S)
        if upstream.alive:
            continue
        with suppress(TemporaryError, TimeoutError):
            await close_body((await upstream.forward(ask)).body)


def _on(served: Served | None) -> str:
    """What to say of the device, where it is not the CPU."""
    return f", on {served.device}" if isinstance(served, Tensors) and served.device != "cpu" else ""


def _amounts(charges: Sequence[Charge]) -> str:
    """What is taken of main memory, and of a device's."""
    on_device = [f"{each.device_mib:.0f} MiB of {each.device}" for each in charges if each.device]
    return " and ".join([f"{sum(each.main_mib for each in charges):.0f} MiB", *on_device])


def _ignore(_: object) -> None:
    """The task is kept in `_tasks`; nobody waits for it."""


def _named(variant: Variant) -> str:
    return f"{variant.entry.file.model}, variant {variant.name}" if variant.name else variant.entry.file.model


def _no_variant(name: str, variant: str, known: Iterable[str]) -> Refusal:
    return Refusal(Reason.MODEL_UNKNOWN, f"model {name!r} has no variant {variant[:64]!r}; it has: {', '.join(known) or 'none'}")


def _plain(name: str) -> bool:
    """Whether a name from a client is one folder's name and no path."""
    return bool(name) and "/" not in name and "\\" not in name and not name.startswith(".") and "\0" not in name


async def _close(served: Served | None) -> None:
    match served:
        case None:
            return
        case Tensors(lane=lane):
            await asyncio.to_thread(lane.close)
        case Chat(runtime=runtime) | Upstream(runtime=runtime):
            await runtime.close()
