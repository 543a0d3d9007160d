"""What is asked, checked and brought to one scale: one clear line for what cannot be computed with, before anything is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearhall.planner.placement.solver import Cancelled, Floats, Limits, Progress, towards

LARGEST = 1e100
"""Products and sums of such numbers are still numbers."""
TRACE = 1e-9
"""Of a demand: less is nothing, and less above a capacity is not above it."""
COSTS = 2.0**15
"""Instances are brought to about this much for serving each point where that is cheapest, with one place opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """Shapes: fixed and room (places,), cost (points, places) with infinity where forbidden, need (points,)."""

    fixed: Floats
    cost: Floats
    need: Floats
    room: Floats
    split: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A solution of the whole."""

    opened: NDArray[np.bool_]
    shares: Floats
    """Shape (points, places)."""
    objective: float
    bound: float


def fits(given: Instance, served: Served) -> bool:
    """No place serves more than it has room for."""
    return bool(np.all(served.shares.T @ given.need <= given.room * (1 + 1e-12)))


def numbers(name: str, given: ArrayLike, shape: tuple[int | None, ...], *, least: float, most: float = LARGEST) -> Floats:
    """The array, if it has that shape (None: any length but 0) and holds numbers from `least` to `most`; else ValueError.

    Where infinity is the most, numbers go up to `LARGEST`, and infinity is allowed beside them.
    """
    try:
        held = np.asarray(given)
        array = held.astype(np.float64) if held.dtype.kind in "buifO" else None
    except (TypeError, ValueError):
        array = None
    if array is None:
        message = f"{name} is no array of numbers"
        raise ValueError(message)
    if array.ndim != len(shape) or any(n == 0 or (m is not None and n != m) for n, m in zip(array.shape, shape, strict=True)):
        wanted = ", ".join("any" if m is None else str(m) for m in shape) + ("," if len(shape) == 1 else "")
        message = f"{name} has the shape {array.shape}; it must have ({wanted}), and none of it 0"
        raise ValueError(message)
    wrong = ~((array >= least) & ((array <= min(most, LARGEST)) | (array == most)))
    if wrong.any():
        at = tuple(int(k) for k in np.argwhere(wrong)[0])
        limit = f"at most {min(most, LARGEST):g}" + (", or infinite" if most == np.inf else "")
        message = f"{name}{list(at)} is {array[at]:g}; it must be a number of at least {least:g} and {limit}"
        raise ValueError(message)
    return array


def limits(gap: float, time_limit_s: float, progress: Progress | None, cancelled: Cancelled | None) -> Limits:
    """The limits, if they are numbers of at least 0; else ValueError."""
    if not (gap >= 0 and time_limit_s >= 0):
        message = f"gap is {gap} and time_limit_s is {time_limit_s}; both must be at least 0"
        raise ValueError(message)
    return Limits(gap=gap, time_limit_s=time_limit_s, progress=progress, cancelled=cancelled)


def instance(
    fixed_cost: ArrayLike, assign_cost: ArrayLike, demand: ArrayLike, capacity: ArrayLike, *, split: bool
) -> tuple[Instance, float]:
    """(the instance, by how much its costs are scaled). ValueError for what is wrong, or can be seen to have no solution."""
    cost = numbers("assign_cost", assign_cost, (None, None), least=-LARGEST, most=np.inf)
    points, places = cost.shape
    fixed = numbers("fixed_cost", fixed_cost, (places,), least=-LARGEST)
    need = numbers("demand", demand, (points,), least=0.0)
    room = np.minimum(numbers("capacity", capacity, (places,), least=0.0, most=np.inf), need.sum())
    if need.sum() > room.sum() * (1 + 1e-12):
        raise ValueError("no set of places can serve every point: all places together are too small")
    # A place that could take only a trace of a point is none for it, nor, where nobody is split, one too small for all of it.
    fits = need[:, None] <= room * (1 / TRACE if split else 1 + TRACE)
    cost = np.where(fits, cost, np.inf)
    alone = ~np.isfinite(cost).any(axis=1)
    if alone.any():
        which = int(alone.argmax())
        message = (
            f"no set of places can serve every point within their capacities: a point has no place with room for it, {which}"
        )
        raise ValueError(message)
    known = np.where(np.isfinite(cost), np.abs(cost), 0.0)
    cheapest = np.abs(cost.min(axis=1)).sum() + np.abs(fixed).mean()
    scale = towards(COSTS, float(cheapest) or float(known.max()))
    return Instance(fixed=fixed * scale, cost=cost * scale, need=need, room=room, split=split), scale
