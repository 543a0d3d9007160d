"""What is bought whole for several points together, learnt set by set while a program places them.

Such sets have no price for each point. The program begins with what any set takes at least; the price of every set that it
proposes becomes a cut, and it is asked again (logic-based Benders decomposition; Hooker and Ottosson 2003).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.placement.solver import Floats, Rows

SAME_USD = 0.01
"""Less than this a year is nothing."""

Set = frozenset[int]
"""Of points, by their numbers."""


class Bought(Protocol):
    """What is bought whole for the points that are served at a place; US dollars a year."""

    def usd(self, place: int, points: Set) -> float:
        """For those points together, never less for more of them; 0 for none, without end where nothing does."""
        ...

    def least_usd(self) -> Floats:
        """Shape (points, places): no set of points takes less than the sum of these."""
        ...

    def likely_usd(self) -> Floats:
        """Shape (points, places): what each is likely to take of it among others; a guess to begin with."""
        ...


class Cuts:
    """The prices that are known, and what follows from them for every other set."""

    def __init__(self, allowed: NDArray[np.bool_], bought: Bought) -> None:
        self._bought = bought
        self._least = bought.least_usd()
        self._usd: dict[tuple[int, Set], float] = {}
        for point, place in zip(*np.nonzero(allowed), strict=True):
            self.usd(int(place), frozenset([int(point)]))

    def usd(self, place: int, points: Set) -> float:
        """What a set takes; known from now on."""
        if (place, points) not in self._usd:
            self._usd[place, points] = self._bought.usd(place, points) if points else 0.0
        return self._usd[place, points]

    @property
    def dearest_usd(self) -> float:
        """The sum of all that is known and has an end: more than any placement of single points takes."""
        return sum(usd for usd in self._usd.values() if np.isfinite(usd))

    def learn(self, at: NDArray[np.int64], believed_usd: Floats) -> bool:
        """Prices what a placement puts together; whether any place takes more than the program believed."""
        news = False
        for place, believed in enumerate(believed_usd):
            points = frozenset(int(point) for point in np.flatnonzero(at == place))
            known = (place, points) in self._usd
            news |= self.usd(place, points) > believed + SAME_USD and not known
        return news

    def add_to(self, rows: Rows, i: NDArray[np.int64], j: NDArray[np.int64], *, pairs_at: int, bought_at: int) -> None:
        """The rows: pair k of (i, j) is column `pairs_at + k`, what place p buys is column `bought_at + p`."""
        column = {(int(point), int(place)): pairs_at + k for k, (point, place) in enumerate(zip(i, j, strict=True))}
        for place in range(self._least.shape[1]):
            mine = np.flatnonzero(j == place)
            if len(mine):
                values = np.append(self._least[i[mine], place], -1.0)
                rows.add(np.append(pairs_at + mine, bought_at + place), values, -np.inf, 0.0)
        for place, points, usd in self.prices():
            inside = [column[point, place] for point in sorted(points)]
            if np.isfinite(usd):  # all of them cost so much; with one of them missing, nothing is said
                values = np.append(np.full(len(inside), usd), -1.0)
                rows.add(np.append(inside, bought_at + place), values, -np.inf, usd * (len(inside) - 1))
            else:
                rows.add(np.array(inside), np.ones(len(inside)), -np.inf, len(inside) - 1.0)

    def prices(self) -> Iterator[tuple[int, Set, float]]:
        """Of every known set; what does for more points does for fewer too."""
        for (place, points), usd in self._usd.items():
            more = (price for (where, others), price in self._usd.items() if where == place and others > points)
            least = min([usd, *more])
            if points and least > 0.0:
                yield place, points, least
