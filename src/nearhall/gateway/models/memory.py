"""The node's memory for models: who holds what, who has to leave for whom, and what a load was seen to take.

Main memory has one account, each device with memory of its own another. What a device has left is read in a thread (`refresh`),
since a driver may hang; main memory is read when it is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nearhall.core.evidence import Kind
from nearhall.gateway.models.placing import MAIN, Charge, choices, fits_by_default
from nearhall.gateway.models.variants import Variant
from nearhall.policy.memory import (
    DEVICE_RESERVE_MIB,
    NoRoom,
    Room,
    Shelf,
    device_budget_mib,
    load_worth,
    make_room,
    make_rooms,
    stays_until,
)
from nearhall.ports.clock import Clock
from nearhall.ports.devices import DeviceMemory, DeviceSpace
from nearhall.ports.node_memory import NodeMemory

KEPT_FREE_MIB = 64.0
"""Of the machine's memory that is never promised to a model: bodies of requests that come in meanwhile."""
DEVICE_KEPT_FREE_MIB = DEVICE_RESERVE_MIB / 2
"""The same of a device: what is left of its reserve once CUDA's context is there."""
UNCOUNTED_MIB = float("inf")
"""Free on a device that nobody can count: only the settings' budget holds there."""
MACHINE_RETRY_S = 60.0
"""When the machine itself is short, something else holds its memory, and nobody knows until when."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What was held when a load began."""

    resident_mib: float
    devices: Mapping[str, DeviceSpace]
    begun: Mapping[str, int]
    """How many loads had begun in each memory that it concerns."""
    alone: frozenset[str]
    """Of those, where no other one was under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """There is room for a charge once these have left."""

    charge: Charge
    leave: Sequence[Variant] = ()
    ages: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of the shelves, then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """Who leaves for want of memory itself, where, and how many MiB are missing there."""

    leave: Sequence[Variant]
    place: str
    short_mib: float


class ModelMemory:
    """Keeps the accounts. Only the event loop touches it, but for `refresh`."""

    def __init__(
        self,
        budget_mib: float,
        *,
        node: NodeMemory,
        clock: Clock,
        devices: DeviceMemory | None = None,
        device_mib: float | None = None,
    ) -> None:
        """`device_mib` is each device's budget; None: what it has, less what others hold of it now and a reserve."""
        self.budget_mib = budget_mib
        self.node = node
        self.ages: dict[str, float] = {}
        """Of each shelf: what the last one that left it was worth."""
        self._clock = clock
        self._devices = devices
        self._spaces: Mapping[str, DeviceSpace] = {}
        self._device_mib = device_mib
        self.device_budgets_mib: dict[str, float] = {}
        """By the device's name; a device that nobody can count is not among them."""
        self._held: dict[str, Variant] = {}
        self._begun: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        self._libraries: set[tuple[str, str]] = set()
        """Runtimes, and where: the first model of each brings its library, and on a device CUDA's context."""
        self.refresh()

    @property
    def counts_devices(self) -> bool:
        """Whether there is anything that `refresh` would read."""
        return self._devices is not None

    @property
    def held_mib(self) -> float:
        """What all of them are charged with, of main memory."""
        return sum(variant.held_mib for variant in self._held.values())

    def device_held_mib(self, device: str) -> float:
        """What all of them are charged with of a device's memory."""
        return sum(variant.mib_in(device) for variant in self._held.values())

    def device_beyond_mib(self, device: str) -> float:
        """What the driver counts as this process's of a device beyond what models are charged with; 0 where it does not tell.

        CUDA's own, once the model has left that brought it, and what runs took after their model was counted.
        """
        space = self._spaces.get(device)
        return 0.0 if space is None or space.ours_mib is None else max(0.0, space.ours_mib - self.device_held_mib(device))

    def devices_beyond_mib(self) -> dict[str, float]:
        """The same of each device that has a budget."""
        return {device: self.device_beyond_mib(device) for device in self.device_budgets_mib}

    def refresh(self) -> None:
        """Reads what the devices have left; blocks as long as the driver does. One that is silent is taken at its last word."""
        if self._devices is None:
            return
        spaces = self._devices.look()
        if not spaces:
            return
        self._spaces = spaces
        for name, space in spaces.items():
            if name not in self.device_budgets_mib:
                own = device_budget_mib(space.total_mib, space.total_mib - space.free_mib)
                self.device_budgets_mib[name] = own if self._device_mib is None else self._device_mib

    def room(self, variant: Variant, *, ordered: bool = False, beside: bool = False) -> Space | NoRoom:
        """Room for it: on the device that it wishes for, else where it may run instead.

        `beside`: an old one of it serves on meanwhile; where there is no room for both, the old one had better go first.
        """
        holders = list(self._held.values())
        charges = choices(variant.entry, self._budget_of)
        return self._first_that_fits(variant, charges[:1] if beside else charges, holders, ordered=ordered)

    def room_in_main(self, variant: Variant) -> Space | NoRoom:
        """Room in main memory alone; what it takes of a device is seen to when its turn comes (`place`)."""
        charge = replace(choices(variant.entry, self._budget_of)[0], device="", device_mib=0.0)
        return self._fit(variant, charge, list(self._held.values()), ordered=False)

    def place(self, variant: Variant) -> Space | NoRoom:
        """Where a variant that has room in main memory is loaded, now that those before it are there."""
        others = [each for each in self._held.values() if each is not variant]
        return self._first_that_fits(variant, choices(variant.entry, self._budget_of), others, ordered=False)

    def overrun(self, variant: Variant) -> Space | NoRoom:
        """Whether there is room for what it turned out to take, and who has to leave for it."""
        others = [each for each in self._held.values() if each is not variant]
        return self._fit(variant, variant.charge or Charge(), others, ordered=True)

    def relief(self) -> Relief | None:
        """Who has to leave for want of memory on the machine itself, or on a device of it; None while there is enough.

        What the models take together while they run (scratch for large batches, a growing cache) and what else starts on the
        machine is in no account of ours.
        """
        for place in (MAIN, *self._spaces):
            short_mib = self._kept_free_mib(place) / 2 - self._free_mib(place)
            if short_mib > 0 and (leave := self._relieving(place, short_mib)):
                return Relief(leave=leave, place=place, short_mib=short_mib)
        return None

    def take(self, variant: Variant, space: Space) -> None:
        """Charges a variant with what it is expected to take."""
        for place, age in space.ages.items():
            self.ages[place] = max(self.ages.get(place, 0.0), age)
        variant.coming = space.charge
        self._held[variant.key] = variant

    def free(self, variant: Variant) -> None:
        """Its memory is free again, or was never taken."""
        if self._held.pop(variant.key, None) is not None and variant.charge is not None:
            self._given_back(variant.charge)
        variant.charge = variant.coming = None

    def _given_back(self, charge: Charge) -> None:
        """Until the driver is asked again, what has just been freed is not taken for something beyond all charges."""
        space = self._spaces.get(charge.device)
        if space is not None and space.ours_mib is not None:
            ours_mib = max(0.0, space.ours_mib - charge.device_mib)
            self._spaces = {**self._spaces, charge.device: replace(space, ours_mib=ours_mib)}

    def touch(self, variant: Variant) -> None:
        """Notes that a request went to it."""
        variant.used_s = self._clock.monotonic()
        charge = variant.charge
        if charge is None:
            return
        variant.worths[MAIN] = self.ages.get(MAIN, 0.0) + load_worth(variant.load_s, charge.main_mib)
        if charge.device:
            variant.worths[charge.device] = self.ages.get(charge.device, 0.0) + load_worth(variant.load_s, charge.device_mib)

    def watch(self, variant: Variant) -> Watch:
        """Begins to watch a load."""
        places = (variant.coming or variant.charge or Charge()).places
        self._begun.update(places)
        self._under_way.update(places)
        return Watch(
            self.node.resident_mib(),
            self._spaces,
            begun={place: self._begun[place] for place in places},
            alone=frozenset(place for place in places if self._under_way[place] == 1),
        )

    def seen(self, watch: Watch, variant: Variant, *, pid: int | None, loaded: bool, device: str = "") -> None:
        """Ends watching; of a load that was alone, what it took is known. `device`: where the runtime says that it runs.

        A child's memory is its own. In this process the growth counts, unless it is less than the file: then the runtime reused
        what another model had left. The first model of a runtime brings its library as well, which no unloading gives back.
        """
        self._under_way.subtract(watch.begun.keys())
        charge, variant.coming = variant.coming or variant.charge, None
        if not loaded or charge is None:
            return
        if device == "cpu" and charge.device:
            charge = replace(charge, device="", device_mib=0.0)
        brings = (variant.entry.file.runtime, charge.device)
        first = brings not in self._libraries
        self._libraries.add(brings)
        alone = {place for place in watch.alone if watch.begun[place] == self._begun[place]}
        if pid is not None:
            charge = replace(charge, main_mib=max(self.node.resident_mib(pid), charge.main_mib))
        elif MAIN in alone:
            charge = self._of_main(charge, variant, self.node.resident_mib() - watch.resident_mib, first=first)
        if charge.device in alone - {MAIN}:
            charge = self._of_device(charge, variant, watch, first=first)
        variant.charge = charge

    def settled(self, variant: Variant, load_s: float) -> None:
        """It has been loaded, which took so long: it stays for a while."""
        variant.load_s = load_s
        variant.stays_until_s = stays_until(self._clock.monotonic(), load_s)
        self.touch(variant)

    def limited(self, variant: Variant) -> Mapping[str, str]:
        """Its options, with what the account decided: the CPU where a device had no room, a smaller arena on a small device."""
        charge = variant.coming or variant.charge
        options = variant.entry.file.options
        if charge is None:
            return options
        if charge.note:
            return {**options, "device": "cpu"}
        if charge.device and fits_by_default(options):
            return {**options, "gpu_memory_mib": str(int(charge.arena_mib))}
        return options

    def _of_main(self, charge: Charge, variant: Variant, grown_mib: float, *, first: bool) -> Charge:
        entry = variant.entry
        if first or not grown_mib >= entry.file_mib > 0:
            return charge
        # What was measured in a process of its own is never too little for what another model had left.
        before_mib = entry.memory_mib if entry.memory_kind is Kind.MEASURED else 0.0
        mib = max(grown_mib, before_mib)
        variant.entry = replace(entry, memory_mib=mib, memory_kind=Kind.MEASURED)
        return replace(charge, main_mib=mib, main_kind=Kind.MEASURED)

    def _of_device(self, charge: Charge, variant: Variant, watch: Watch, *, first: bool) -> Charge:
        """The growth of what the driver counts as this process's, where it tells that.

        With the first model on a device CUDA's context came as well: it is charged with both, and what it takes itself stays
        unknown.
        """
        now, before = self._spaces.get(charge.device), watch.devices.get(charge.device)
        if now is None or before is None or now.ours_mib is None:
            return charge
        grown_mib = now.ours_mib - (before.ours_mib or 0.0)
        if grown_mib < variant.entry.file_mib or grown_mib <= 0:
            return charge
        if not first:
            variant.entry = replace(variant.entry, device_mib=grown_mib)
        return replace(charge, device_mib=grown_mib, device_kind=Kind.MEASURED)

    def _first_that_fits(
        self, variant: Variant, charges: Sequence[Charge], holders: Sequence[Variant], *, ordered: bool
    ) -> Space | NoRoom:
        first, *others = charges
        found = self._fit(variant, first, holders, ordered=ordered)
        if isinstance(found, Space) or not others or found.place == MAIN:
            return found
        instead = self._fit(variant, replace(others[0], note=found.why), holders, ordered=ordered)
        if isinstance(instead, Space):
            return instead
        return replace(instead, why=f"{found.why}; on the CPU it {instead.why}")

    def _fit(self, variant: Variant, charge: Charge, holders: Sequence[Variant], *, ordered: bool) -> Space | NoRoom:
        own = [] if variant in holders else [variant]
        short: dict[str, float] = {}
        shelves: dict[str, Shelf] = {}
        for place in charge.places:
            budget_mib = self._budget_of(place)
            if budget_mib is None:
                continue
            budget_mib = max(0.0, budget_mib - self._beyond_mib(place))
            coming_mib = sum(each.coming_in(place) for each in holders)
            again_mib = sum(each.mib_in(place) - each.coming_in(place) for each in own)  # held by itself already
            free_mib = self._free_mib(place) - self._kept_free_mib(place) - coming_mib + again_mib
            held_mib = sum(each.mib_in(place) for each in holders)
            if held_mib + free_mib < budget_mib:
                short[place] = max(0.0, free_mib)
                budget_mib = max(0.0, held_mib + free_mib)
            residents = [each.resident(place) for each in holders if place in each.places]
            shelves[place] = Shelf(budget_mib=budget_mib, residents=residents, age=self.ages.get(place, 0.0))
        needed = {place: charge.mib_in(place) for place in shelves}
        found = make_rooms(needed, shelves, now_s=self._clock.monotonic(), ordered=ordered)
        if not isinstance(found, NoRoom):
            leave = [each for each in holders if each.key in found.leave]
            return Space(charge=charge, leave=leave, ages=found.ages)
        return self._explained(found, charge, short)

    def _explained(self, found: NoRoom, charge: Charge, short: Mapping[str, float]) -> NoRoom:
        place = found.place
        if (beyond_mib := self._beyond_mib(place)) >= 1:
            found = replace(found, why=f"{found.why}; CUDA itself and runs have taken {beyond_mib:.0f} MiB of it already")
        if place in short and charge.mib_in(place) <= (self._budget_of(place) or 0.0):
            of, where = (f"of {place}'s memory", "") if place else ("of memory", " on this machine")
            why = f"{found.why}; {short[place]:.0f} MiB {of} are free{where}"
            return replace(found, why=why, retry_s=MACHINE_RETRY_S if found.retry_s is None else found.retry_s)
        if place and found.retry_s is None and charge.device_kind is not Kind.MEASURED:
            return replace(found, why=f"{found.why}; options.gpu_memory_mib says how much it may take")
        return found

    def _relieving(self, place: str, short_mib: float) -> Sequence[Variant]:
        held = [each for each in self._held.values() if place in each.places]
        found = make_room(
            short_mib,
            [each.resident(place) for each in held],
            budget_mib=sum(each.mib_in(place) for each in held),
            age=self.ages.get(place, 0.0),
            now_s=self._clock.monotonic(),
            ordered=True,
        )
        if isinstance(found, Room):
            self.ages[place] = found.age
            return [each for each in held if each.key in found.leave]
        return [each for each in held if not each.pinned and not each.busy and each.mib_in(place)]

    def _budget_of(self, place: str) -> float | None:
        return self.budget_mib if place == MAIN else self.device_budgets_mib.get(place, self._device_mib)

    def _beyond_mib(self, place: str) -> float:
        """Of the budget: what is taken of a device without being any model's, more than was set aside for it."""
        if place == MAIN:
            return 0.0
        return max(0.0, self.device_beyond_mib(place) - (DEVICE_RESERVE_MIB if self._device_mib is None else 0.0))

    def _free_mib(self, place: str) -> float:
        """What is free there by now; of a device that nobody can count, as much as one may wish for."""
        if place == MAIN:
            return self.node.free_mib()
        space = self._spaces.get(place)
        return UNCOUNTED_MIB if space is None else space.free_mib

    def _kept_free_mib(self, place: str) -> float:
        return KEPT_FREE_MIB if place == MAIN else DEVICE_KEPT_FREE_MIB
