"""How little a p-median can cost: the relaxation of "each point is served once", and what reduced costs settle.

With a price for each point, what is left to choose is the p places that gain most at these prices (Cornuejols, Fisher and
Nemhauser 1977). Prices rise along the subgradient. Places that are open for good need no term of their own: they put a cap on
each point's price, since nobody pays more than the nearest of them costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.placement.interchange import Places
from nearhall.planner.placement.solver import Floats

MEMORY = 0.9
"""Of how often a place was among the p; the rest is the round's."""
ROUNDOFF = 1e-13
"""Of all prices together: what adding them up may be wrong by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long prices are raised, and by how much."""

    rounds: int
    scale: float
    """Of Polyak's step, at first."""
    stale: int
    """Rounds without a better bound after which the step is halved."""
    scale_min: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """The best prices found, and what they say of each place."""

    bound: float
    price: Floats
    """Shape (points,)."""
    value: Floats
    """Of opening each place, at most 0; shape (places,)."""
    among: NDArray[np.bool_]
    """Those p that gain most."""
    often: Floats
    """How often each was among them lately, 0 to 1."""

    def dearer(self) -> Floats:
        """What the bound rises by, at least, if a place is decided the other way; shape (places,)."""
        inside, outside = self.value[self.among], self.value[~self.among]
        kept_out, kept_in = float(outside.min(initial=np.inf)), float(inside.max(initial=-np.inf))
        return np.asarray(np.where(self.among, kept_out - self.value, self.value - kept_in), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which `p` of some places to open where others are open already."""

    cost: Floats
    """Shape (places, points): a place is a row."""
    cap: Floats
    """What a point costs at the nearest of the places that are open; infinite without any; shape (points,)."""
    p: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Whoever asked."""

    aims: Callable[[], tuple[float, float]]
    """(best known objective, what costs as much is not looked for)."""
    seen: Callable[[Places], None]
    """Told the p places of a round with a better bound, as indices of the question's."""
    stop: Callable[[], bool]


def raised(asked: Question, price: Floats, pace: Pace, *, watch: Watch) -> Priced:
    """Raises prices until nothing costing less than the watch's second number is left, the pace ends, or it says stop.

    Needs 0 < p < places. Polyak's step aims at the watch's first number, the best known.
    """
    cost, cap, p = asked.cost, asked.cap, asked.p
    held, often = np.empty_like(cost), np.zeros(len(cost))
    price = np.minimum(price, cap)
    bound, kept, scale, since, done = -np.inf, (price, often, np.zeros(0, np.int64)), pace.scale, 0, 0
    best, worth = watch.aims()
    while done < pace.rounds and not (done and watch.stop()):
        done += 1
        np.minimum(cost, price, out=held)
        all_prices = float(price.sum())
        value = held.sum(axis=1) - all_prices
        among = value.argpartition(p - 1)[:p]
        reached = all_prices + float(value[among].sum())
        often *= MEMORY
        often[among] += 1.0 - MEMORY
        since = 0 if reached > bound + 1e-8 * abs(bound) else since + 1
        if reached > bound:
            bound, kept = reached, (price, value, among)
        if since == 0:
            watch.seen(among)
            best, worth = watch.aims()
        if bound >= worth:
            break
        if since > pace.stale:
            scale, since, price = scale / 2.0, 0, kept[0]
            if scale < pace.scale_min:
                break
            continue
        slope = 1.0 - (cost[among] < price).sum(axis=0)
        slope[(price >= cap) & (slope > 0)] = 0.0
        norm = float(slope @ slope)
        if norm == 0:
            break
        price = np.minimum(price + scale * (best - reached) / norm * slope, cap)
    price, value, at = kept
    among = np.zeros(len(cost), bool)
    among[at] = True
    bound -= ROUNDOFF * float(np.abs(price).sum())
    return Priced(bound=bound, price=price, value=value, among=among, often=often)
