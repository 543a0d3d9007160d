"""The node's memory for models: who holds what, who has to leave for whom, and what a load was seen to take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nearhall.core.evidence import Kind
from nearhall.gateway.variants import State, Variant
from nearhall.policy.memory import NoRoom, Room, load_worth, make_room, stays_until
from nearhall.ports.clock import Clock
from nearhall.ports.node_memory import NodeMemory

KEPT_FREE_MIB = 64.0
"""Of the machine's memory that is never promised to a model: bodies of requests that come in meanwhile."""
MACHINE_RETRY_S = 60.0
"""When the machine itself is short, something else holds its memory, and nobody knows until when."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What was held when a load began."""

    resident_mib: float
    begun: int
    alone: bool


class ModelMemory:
    """Keeps the account. Only the event loop touches it."""

    def __init__(self, budget_mib: float, *, node: NodeMemory, clock: Clock) -> None:
        self.budget_mib = budget_mib
        self.node = node
        self.age = 0.0
        """Of the shelf: what the last one that left was worth."""
        self._clock = clock
        self._held: dict[str, Variant] = {}
        self._begun = 0
        self._under_way = 0
        self._libraries: set[str] = set()
        """Runtimes that this process has loaded a model with: the first one of each brings its library."""

    @property
    def held_mib(self) -> float:
        """What all of them are charged with."""
        return sum(variant.held_mib for variant in self._held.values())

    def room(self, variant: Variant, needed_mib: float, *, ordered: bool = False) -> tuple[list[Variant], float] | NoRoom:
        """Who has to leave so that the variant may hold `needed_mib`, and the shelf's age then; or why that cannot be."""
        others = [each for each in self._held.values() if each is not variant]
        held_mib = sum(each.held_mib for each in others)
        coming_mib = sum(each.held_mib for each in others if each.state is State.LOADING)
        free_mib = self.node.free_mib() - KEPT_FREE_MIB - coming_mib + variant.held_mib
        short = held_mib + free_mib < self.budget_mib
        found = make_room(
            needed_mib,
            [each.resident() for each in others],
            budget_mib=max(0.0, held_mib + free_mib) if short else self.budget_mib,
            age=self.age,
            now_s=self._clock.monotonic(),
            ordered=ordered,
        )
        if isinstance(found, Room):
            return [each for each in others if each.key in found.leave], found.age
        if short and needed_mib <= self.budget_mib:
            why = f"{found.why}; {max(0.0, free_mib):.0f} MiB of memory are free on this machine"
            return replace(found, why=why, retry_s=MACHINE_RETRY_S if found.retry_s is None else found.retry_s)
        return found

    def relief(self) -> tuple[list[Variant], float]:
        """Who has to leave for want of memory on the machine itself, and how many MiB are missing; nobody while there is enough.

        What the models take together while they run (scratch for large batches, a growing cache) and what else starts on the
        machine is in no account of ours.
        """
        short_mib = KEPT_FREE_MIB / 2 - self.node.free_mib()
        if short_mib <= 0:
            return [], 0.0
        held = list(self._held.values())
        found = make_room(
            short_mib,
            [each.resident() for each in held],
            budget_mib=self.held_mib,
            age=self.age,
            now_s=self._clock.monotonic(),
            ordered=True,
        )
        if isinstance(found, Room):
            self.age = found.age
            return [each for each in held if each.key in found.leave], short_mib
        idle = [each for each in held if not each.pinned and not each.busy and each.held_mib]
        return idle, short_mib

    def take(self, variant: Variant, *, age: float = 0.0) -> None:
        """Charges a variant with what it is expected to take."""
        self.age = max(self.age, age)
        variant.held_mib, variant.held_kind = variant.entry.memory_mib, variant.entry.memory_kind
        self._held[variant.key] = variant

    def free(self, variant: Variant) -> None:
        """Its memory is free again, or was never taken."""
        self._held.pop(variant.key, None)
        variant.held_mib = 0.0

    def touch(self, variant: Variant) -> None:
        """Notes that a request went to it."""
        variant.used_s = self._clock.monotonic()
        variant.worth = self.age + load_worth(variant.load_s, variant.held_mib)

    def watch(self) -> Watch:
        """Begins to watch a load."""
        self._begun += 1
        self._under_way += 1
        return Watch(self.node.resident_mib(), self._begun, alone=self._under_way == 1)

    def seen(self, watch: Watch, variant: Variant, *, pid: int | None, loaded: bool) -> None:
        """Ends watching; of a load that was alone, what it took is known.

        A child's memory is its own. In this process the growth counts, unless it is less than the file: then the runtime reused
        what another model had left. The first model of a runtime brings its library as well, which no unloading gives back.
        """
        self._under_way -= 1
        runtime = variant.entry.file.runtime
        first = runtime not in self._libraries
        if not loaded:
            return
        self._libraries.add(runtime)
        if pid is not None:
            variant.held_mib = max(self.node.resident_mib(pid), variant.held_mib)
            return
        grown = self.node.resident_mib() - watch.resident_mib
        if watch.alone and watch.begun == self._begun and not first and grown >= variant.entry.file_mib > 0:
            # What was measured in a process of its own is never too little for what another model had left.
            before_mib = variant.entry.memory_mib if variant.entry.memory_kind is Kind.MEASURED else 0.0
            variant.held_mib, variant.held_kind = max(grown, before_mib), Kind.MEASURED
            variant.entry = replace(variant.entry, memory_mib=variant.held_mib, memory_kind=Kind.MEASURED)

    def settled(self, variant: Variant, load_s: float) -> None:
        """It has been loaded, which took so long: it stays for a while."""
        variant.load_s = load_s
        variant.stays_until_s = stays_until(self._clock.monotonic(), load_s)
        self.touch(variant)
