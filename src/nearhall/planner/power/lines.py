"""Which line of a feed carries what: single-phase equipment one line each, larger equipment all three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from nearhall.documents.plan_place import Site, Supply
from nearhall.physics.breakers import delta_line_currents_a
from nearhall.planner.samples.draws import Samples
from nearhall.planner.serving.load import Rack, SiteLoad

PLUG_A = 16.0
"""What a plug carries for hours: 16 A in Europe, 80 % of 20 A in North America. A UPS or cooling that takes more is wired to all
three lines; one that takes less stands on one of them. Assumed."""
COOLING_VA_PER_W: dict[str, float] = {"dx": 0.37, "free": 0.37, "liquid": 0.37, "fans": 0.1}
"""Volt-amperes that a unit is built for, over the heat it is rated to move: a COP of 3 at a power factor of 0.9. Assumed."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Currents of the lines, and how the equipment is spread over them."""

    currents_a: tuple[Samples, ...]
    supplies: tuple[int, ...]
    """Power supplies of servers whose current each line carries."""

    @cached_property
    def worst_a(self) -> Samples:
        """Of the line that carries most, sample by sample."""
        return np.maximum.reduce(self.currents_a)

    @cached_property
    def p99_a(self) -> float:
        """Of the line that carries most."""
        return float(np.quantile(self.worst_a, 0.99))

    def worst_line(self) -> int:
        """Number of the line with the highest P99, from 1."""
        return 1 + int(np.argmax([np.quantile(line, 0.99) for line in self.currents_a]))


def balance(units_va: Sequence[float], lines: int = 3) -> tuple[list[list[int]], list[float]]:
    """Puts single-phase units on lines: the largest first, each on the line that carries least (Graham 1969).

    (indices by line, sums by line); units of the same size are the same, so that their order does not matter.
    """
    placed: list[list[int]] = [[] for _ in range(lines)]
    sums = [0.0] * lines
    for index in sorted(range(len(units_va)), key=lambda i: (-units_va[i], i)):
        line = min(range(lines), key=lambda k: (sums[k], k))
        placed[line].append(index)
        sums[line] += units_va[index]
    return placed, sums


def unit_volts(supply: Supply) -> float:
    """What a single-phase unit stands between: line and neutral, or two lines; on one phase what there is."""
    return supply.volts / 3.0**0.5 if supply.to_neutral else supply.volts


def supplies_of(rack: Rack) -> int:
    """Power supplies of all its servers: several of each, or one of several modules."""
    return ceil(rack.servers * rack.server.supplies - 1e-9)


def all_supplies(load: SiteLoad) -> int:
    """Power supplies of a site's servers."""
    return sum(supplies_of(rack) for rack in load.racks)


def on_one_line(supply: Supply, va: float) -> bool:
    """Whether equipment of so many volt-amperes is plugged in rather than wired to three lines."""
    return supply.phases == 1 or va <= PLUG_A * unit_volts(supply)


def lines_of(site: Site, load: SiteLoad, *, it_va: Samples, cooling_va: Samples) -> Lines:
    """`it_va` at the UPS's input, or without one at the servers, of shape (samples,) as `cooling_va`.

    Whole units are balanced by their medians: the UPS if it is small, without one every supply, and the cooling if it is small.
    What is built small is small, however much of it is used. A server's supplies share what it draws.
    """
    supply, parts = site.supply, _supply_parts(load)
    if supply.phases == 1:
        return Lines(currents_a=((it_va + cooling_va) / supply.volts,), supplies=(len(parts),))
    units: list[tuple[float, float, int]] = []  # shares of it_va and of cooling_va, supplies in it
    even, everywhere = np.zeros_like(it_va), 0
    if site.ups is None and parts:
        units += [(share, 0.0, 1) for share in parts]
    elif site.ups is not None and on_one_line(supply, site.ups.kva * 1e3):
        units.append((1.0, 0.0, len(parts)))
    else:
        even, everywhere = even + it_va, len(parts)
    if on_one_line(supply, site.cooling.capacity_kw.p50 * 1e3 * COOLING_VA_PER_W[site.cooling.kind]):
        units.append((0.0, 1.0, 0))
    else:
        even = even + cooling_va
    it, cooling = float(np.median(it_va)), float(np.median(cooling_va))
    placed, _ = balance([of_it * it + of_cooling * cooling for of_it, of_cooling, _ in units])
    at = [sum(units[i][0] for i in group) * it_va + sum(units[i][1] for i in group) * cooling_va for group in placed]
    counts = [sum(units[i][2] for i in group) + -(-everywhere // 3) for group in placed]
    return _currents(supply, at, even, counts, len(parts))


def _currents(supply: Supply, at: Sequence[Samples], even: Samples, counts: Sequence[int], supplies: int) -> Lines:
    each = even / (supply.volts * 3.0**0.5)
    if supply.to_neutral:
        currents = tuple(np.asarray(va / unit_volts(supply) + each) for va in at)
        return Lines(currents_a=currents, supplies=tuple(counts))
    ab, bc, ca = (va / supply.volts for va in at)
    currents = tuple(np.asarray(line) + each for line in delta_line_currents_a(ab_a=ab, bc_a=bc, ca_a=ca))
    of_two = (counts[0] + counts[2], counts[0] + counts[1], counts[1] + counts[2])
    return Lines(currents_a=currents, supplies=tuple(min(count, supplies) for count in of_two))


def _supply_parts(load: SiteLoad) -> list[float]:
    """Each power supply's share of the IT volt-amperes."""
    units: list[float] = []
    for rack, va in zip(load.racks, load.server_va, strict=True):
        supplies = supplies_of(rack)
        units += [va * rack.servers / supplies] * supplies
    total = sum(units)
    return [unit / total for unit in units]
