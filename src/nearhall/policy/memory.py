"""Which models stay in memory: a budget that is never passed, and who leaves when another one is asked for.

GreedyDual-Size (Cao and Irani, 1997): a resident is worth its load time per MiB on top of the shelf's age when it was last used;
the one worth least leaves, and the shelf's age rises to what it was worth. So what is unused leaves in the end however dear it
was, and of two that are used alike the one that comes back sooner, or gives back more room for it, leaves first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RESIDENCE_S_MIN = 10.0
RESIDENCE_LOADS = 20.0
"""A model stays at least so long, or so many times what loading it took: two that do not fit together and are asked for in turn
then cost the node at most a twentieth of its time in loading, whatever their size."""
SHARE_OF_FREE = 0.7
"""Of the memory that is free at start: the rest is for the runtimes' libraries (40 to 65 MiB each, measured) and scratch, for
requests and their answers, and for whatever else starts on the machine later."""
BUSY_RETRY_S = 1.0
"""Where only models at work are in the way: a request is over in a second, or its client has given up."""
RETRY_S_MAX = 600.0
SLACK_MIB = 1e-6
"""Sums of sizes are floating-point; a millionth of a MiB is no memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A loaded model (or one that is being loaded), as far as it matters who leaves."""

    id: str
    mib: float
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


def default_budget_mib(free_mib: float) -> float:
    """What loaded models may take together where nobody said it."""
    return SHARE_OF_FREE * free_mib


def load_worth(load_s: float, mib: float) -> float:
    """What a model is worth beside its recency: seconds of loading that each MiB it holds saves."""
    return max(0.0, load_s) / max(mib, 1.0)


def stays_until(loaded_s: float, load_s: float) -> float:
    """Until when a model that was loaded at `loaded_s` is not sent away for another one's sake."""
    return loaded_s + max(RESIDENCE_S_MIN, RESIDENCE_LOADS * load_s)


def make_room(
    needed_mib: float, residents: Sequence[Resident], *, budget_mib: float, age: float, now_s: float, ordered: bool = False
) -> Room | NoRoom:
    """Who leaves so that `needed_mib` fit beside the rest; nobody leaves unless that is enough.

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
    return _no_room(needed_mib, residents, budget_mib, now_s)


def _leaving(gone: Sequence[Resident], spare_mib: float, age: float) -> Room:
    """Lets those stay whose leaving is not needed after all: a small one that was worth least, before a large one."""
    leave: list[Resident] = []
    for each in sorted(gone, key=lambda r: (-r.worth, -r.used_s, r.id)):
        if each.mib <= spare_mib:
            spare_mib -= each.mib
        else:
            leave.append(each)
    return Room(leave=tuple(sorted(r.id for r in leave)), age=max([age, *(r.worth for r in leave)]))


def _no_room(needed_mib: float, residents: Sequence[Resident], budget_mib: float, now_s: float) -> NoRoom:
    pinned = sum(r.mib for r in residents if r.pinned)
    says = f"needs {needed_mib:.0f} MiB; the budget for models is {budget_mib:.0f} MiB"
    if needed_mib + pinned - budget_mib > SLACK_MIB:
        held = f", of which pinned models hold {pinned:.0f} MiB" if pinned else ""
        return NoRoom(why=f"{says}{held}", retry_s=None)
    waits = [BUSY_RETRY_S if r.busy else r.stays_until_s - now_s for r in residents if not r.pinned]
    retry_s = min(max(BUSY_RETRY_S, min((w for w in waits if w > 0), default=BUSY_RETRY_S)), RETRY_S_MAX)
    return NoRoom(why=f"{says}, and what else is loaded is at work or has only just been loaded", retry_s=retry_s)
