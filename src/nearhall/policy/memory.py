"""Which models stay in memory: budgets that are never passed, and who leaves when another one is asked for.

Main memory has one, and so has each device with memory of its own; a model on a device holds some of both.

GreedyDual-Size (Cao and Irani, 1997): a resident is worth its load time per MiB on top of the shelf's age when it was last used;
the one worth least leaves, and the shelf's age rises to what it was worth. So what is unused leaves in the end however dear it
was, and of two that are used alike the one that comes back sooner, or gives back more room for it, leaves first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

RESIDENCE_S_MIN = 10.0
RESIDENCE_LOADS = 20.0
"""A model stays at least so long, or so many times what loading it took: two that do not fit together and are asked for in turn
then cost the node at most a twentieth of its time in loading, whatever their size."""
SHARE_OF_FREE = 0.7
"""Of the memory that is free at start: the rest is for the runtimes' libraries (40 to 65 MiB each, measured) and scratch, for
requests and their answers, and for whatever else starts on the machine later."""
ARENA_MIB = 8192.0
"""A model's share of device memory unless `gpu_memory_mib` says otherwise: half of a 16 GiB card, so that one that grows without
end fails alone. Half of that was too little for batches of 16 through six wide convolutions (measured: cuDNN asks for more than a
gigabyte of workspace at once)."""
DEVICE_RESERVE_MIB = 1024.0
"""Of a device's memory that no model is promised: CUDA's context (about half a gigabyte, once for a process), what libraries take
outside of the models' arenas, and what else may come onto the device later."""
BUSY_RETRY_S = 1.0
"""Where only models at work are in the way: a request is over in a second, or its client has given up."""
RETRY_S_MAX = 600.0
SLACK_MIB = 1e-6
"""Sums of sizes are floating-point; a millionth of a MiB is no memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A loaded model (or one that is being loaded), as far as it matters who leaves one memory."""

    id: str
    mib: float
    """Of this memory."""
    worth: float
    """Age of the shelf when it was last used, plus `load_worth`."""
    used_s: float = 0.0
    """When; monotonic. Decides between equals: the least recently used leaves."""
    stays_until_s: float = 0.0
    pinned: bool = False
    busy: bool = False
    """Requests wait for it or run on it, or it is just being loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """There is room once these have left."""

    leave: tuple[str, ...]
    age: float
    """Of the shelf, afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """It does not fit, now or ever."""

    why: str
    retry_s: float | None
    """When it may fit; None: never with this budget and these pinned models."""
    place: str = ""
    """The memory that is too small: empty for main memory, else the device's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """One memory, and who holds some of it."""

    budget_mib: float
    residents: Sequence[Resident] = ()
    age: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """There is room in every memory once these have left."""

    leave: tuple[str, ...] = ()
    ages: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of each shelf that was asked, afterwards."""


def default_budget_mib(free_mib: float) -> float:
    """What loaded models may take together where nobody said it."""
    return SHARE_OF_FREE * free_mib


def device_budget_mib(total_mib: float, used_mib: float) -> float:
    """What models may take of a device together where nobody said it; `used_mib` is what others hold of it at start."""
    return max(0.0, total_mib - used_mib - DEVICE_RESERVE_MIB)


def load_worth(load_s: float, mib: float) -> float:
    """What a model is worth beside its recency: seconds of loading that each MiB it holds saves."""
    return max(0.0, load_s) / max(mib, 1.0)


def stays_until(loaded_s: float, load_s: float) -> float:
    """Until when a model that was loaded at `loaded_s` is not sent away for another one's sake."""
    return loaded_s + max(RESIDENCE_S_MIN, RESIDENCE_LOADS * load_s)


def make_rooms(
    needed_mib: Mapping[str, float], shelves: Mapping[str, Shelf], *, now_s: float, ordered: bool = False
) -> Rooms | NoRoom:
    """Who leaves so that what is needed of each memory fits there; by name, main memory's is empty.

    Each memory is asked for itself, those that are asked for most of what they have first: who leaves one leaves them all, and
    whoever has left in vain by then stays. NoRoom of the first that has none. A memory without a shelf is not counted.
    """
    asked = [place for place in needed_mib if place in shelves]
    asked.sort(key=lambda place: (-needed_mib[place] / max(shelves[place].budget_mib, 1.0), place))
    gone: set[str] = set()
    for place in asked:
        shelf = shelves[place]
        stay = [each for each in shelf.residents if each.id not in gone]
        found = make_room(
            needed_mib[place], stay, budget_mib=shelf.budget_mib, age=shelf.age, now_s=now_s, ordered=ordered, place=place
        )
        if isinstance(found, NoRoom):
            return found
        gone.update(found.leave)
    leave = _not_in_vain(gone, {place: (needed_mib[place], shelves[place]) for place in asked})
    worths = {place: [each.worth for each in shelves[place].residents if each.id in leave] for place in asked}
    return Rooms(leave=tuple(sorted(leave)), ages={place: max([shelves[place].age, *worths[place]]) for place in asked})


def _not_in_vain(gone: set[str], asked: Mapping[str, tuple[float, Shelf]]) -> set[str]:
    """Who has to leave in truth: one that left a small memory may have made the room that another one was to make."""
    held = {place: {each.id: each for each in shelf.residents} for place, (_, shelf) in asked.items()}
    spare = {
        place: shelf.budget_mib - needed - sum(each.mib for each in shelf.residents if each.id not in gone)
        for place, (needed, shelf) in asked.items()
    }
    leave: set[str] = set()

    def dearest(name: str) -> tuple[float, str]:
        return -max(held[place][name].worth for place in asked if name in held[place]), name

    for name in sorted(gone, key=dearest):
        takes = {place: held[place][name].mib for place in asked if name in held[place]}
        if all(mib <= spare[place] for place, mib in takes.items()):
            spare = {place: left - takes.get(place, 0.0) for place, left in spare.items()}
        else:
            leave.add(name)
    return leave


def make_room(
    needed_mib: float,
    residents: Sequence[Resident],
    *,
    budget_mib: float,
    age: float,
    now_s: float,
    ordered: bool = False,
    place: str = "",
) -> Room | NoRoom:
    """Who leaves one memory so that `needed_mib` fit beside the rest; nobody leaves unless that is enough.

    `ordered`: an operator asks for it, and models that came only just now may leave as well.
    """
    held = sum(each.mib for each in residents)
    excess = held + needed_mib - budget_mib
    if excess <= SLACK_MIB:
        return Room(leave=(), age=age)
    free = [r for r in residents if not r.pinned and not r.busy and (ordered or r.stays_until_s <= now_s)]
    gone: list[Resident] = []
    for each in sorted(free, key=lambda r: (r.worth, r.used_s, r.id)):
        gone.append(each)
        excess -= each.mib
        if excess <= SLACK_MIB:
            return _leaving(gone, -excess, age)
    return _no_room(needed_mib, residents, budget_mib, now_s, place)


def _leaving(gone: Sequence[Resident], spare_mib: float, age: float) -> Room:
    """Lets those stay whose leaving is not needed after all: a small one that was worth least, before a large one."""
    leave: list[Resident] = []
    for each in sorted(gone, key=lambda r: (-r.worth, -r.used_s, r.id)):
        if each.mib <= spare_mib:
            spare_mib -= each.mib
        else:
            leave.append(each)
    return Room(leave=tuple(sorted(r.id for r in leave)), age=max([age, *(r.worth for r in leave)]))


def _no_room(needed_mib: float, residents: Sequence[Resident], budget_mib: float, now_s: float, place: str) -> NoRoom:
    pinned = sum(r.mib for r in residents if r.pinned)
    of, there = (f" of {place}", " there") if place else ("", "")
    says = f"needs {needed_mib:.0f} MiB{of}; the budget for models{there} is {budget_mib:.0f} MiB"
    if needed_mib + pinned - budget_mib > SLACK_MIB:
        held = f", of which pinned models hold {pinned:.0f} MiB" if pinned else ""
        return NoRoom(why=f"{says}{held}", retry_s=None, place=place)
    waits = [BUSY_RETRY_S if r.busy else r.stays_until_s - now_s for r in residents if not r.pinned]
    retry_s = min(max(BUSY_RETRY_S, min((w for w in waits if w > 0), default=BUSY_RETRY_S)), RETRY_S_MAX)
    why = f"{says}, and what else is loaded{there} is at work or has only just been loaded"
    return NoRoom(why=why, retry_s=retry_s, place=place)
