"""What the servers of a site draw: at their mean, through the day, in the busiest hour, in its bursts, and from nameplates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nearhall.core.evidence import Evidence, Kind
from nearhall.core.quantity import Exact, Quantity
from nearhall.physics.power import server_power_w
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.day import Day, day_of
from nearhall.planner.serving.pool import Pool
from nearhall.planner.serving.server import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Rack:
    """A pool and the kind of server it runs on."""

    server: Server
    pool: Pool

    @property
    def servers(self) -> int:
        """How many stand there."""
        return self.pool.servers

    @property
    def busy_w(self) -> Samples:
        """Of one busy server: the mean of its lanes' models, weighted by the work they bring; never below idle."""
        if not self.pool.lanes:
            return self.server.busy_w
        busy = np.average([lane.service.busy_w for lane in self.pool.lanes], axis=0, weights=_work(self.pool))
        return np.maximum(busy, self.server.idle_w)


@dataclass(frozen=True, kw_only=True)
class SiteLoad:
    """IT power of one site, each of shape (samples,) unless said."""

    racks: tuple[Rack, ...]
    by_hour_w: NDArray[np.float64]
    """Shape (24, samples): mean of each hour of the day."""
    busiest_w: Samples
    """Mean of the busiest hour."""
    burst_w: Samples
    """Highest seconds of its bursts."""
    burst_va: Samples
    excursion: Samples
    """Factor of what is shorter than a second; checked apart, never in the heat or the bill."""
    nameplate_w: Samples
    own_w: Samples
    """Switch, meters and control: in all of the above."""

    @property
    def flat(self) -> bool:
        """Whether every hour is alike."""
        return self.by_hour_w.strides[0] == 0 or bool(np.ptp(self.by_hour_w, axis=0).max() < 1e-9)

    @property
    def mean_w(self) -> Samples:
        """Over the day."""
        return self.by_hour_w[0] if self.flat else self.by_hour_w.mean(axis=0)

    def work_share(self, workload: str) -> float:
        """A workload's part of the site's server time: what energy and cost are shared by."""
        own, whole = 0.0, 0.0
        for rack in self.racks:
            for lane in rack.pool.lanes:
                work = float(np.median(lane.rate_per_s * lane.server_s * lane.service.busy_w))
                whole += work
                if lane.workload.id == workload:
                    own += work
        return own / whole if whole > 0 else 0.0

    @cached_property
    def server_va(self) -> tuple[float, ...]:
        """By rack: median volt-amperes of one busy server."""
        return tuple(float(np.median(rack.busy_w / rack.server.power_factor)) for rack in self.racks)

    @property
    def installed_w(self) -> Samples:
        """What stands there would draw with every server busy: by how much hardware there is, not by how much it has to do."""
        return self.own_w + np.sum([rack.servers * rack.busy_w for rack in self.racks], axis=0)

    @property
    def servers(self) -> int:
        """All of them."""
        return sum(rack.servers for rack in self.racks)


def site_load(site: str, racks: Sequence[Rack], ledger: Ledger) -> SiteLoad:
    """The sum over the racks of a site."""
    own_w = ledger.take(f"sites.{site}.own_power_w", None, "site.own_power_w")
    exponent = ledger.take("power.exponent", None, "power.exponent")
    scale = ledger.take(f"sites.{site}.it_scale", None, "site.it_scale")
    draws = [_Draw(rack, exponent) for rack in racks]
    busiest, burst, nameplate = own_w.copy(), own_w.copy(), own_w.copy()
    burst_va = own_w / 0.9
    for rack, drawn in zip(racks, draws, strict=True):
        busiest += drawn.at(1.0)
        peak = drawn.at(_burst(rack.pool)) * _within(rack.server, ledger)
        burst += peak
        burst_va += peak / rack.server.power_factor
        nameplate += rack.servers * rack.server.nameplate_w
    return SiteLoad(
        racks=tuple(racks),
        by_hour_w=_by_hour_w(racks, draws, own_w, scale),
        busiest_w=busiest * scale,
        burst_w=np.maximum(burst, busiest) * scale,
        burst_va=burst_va * scale,
        excursion=ledger.take("power.sub_second", None, "power.sub_second"),
        nameplate_w=nameplate,
        own_w=own_w,
    )


def _within(server: Server, ledger: Ledger) -> Samples:
    """Highest 1 % of seconds over the mean under steady load: as the system's own runs had it at most, else as any may have."""
    system = server.system
    runs = [row.p99_w / row.mean_w for row in system.benchmarks]
    runs += [system.p99_w / system.busy_w] if system.p99_w is not None else []
    own = None
    if runs:
        source = Evidence(kind=Kind(system.kind), source=f"highest of its runs' p99 over mean: {system.name}", date=system.date)
        own = Quantity(p50=max(*runs, 1.0), unit="1", evidence=source, spread=Exact())
    return ledger.take(f"hardware.{server.id}.within_run", own, "power.within_run")


class _Draw:
    """What the servers of a rack draw."""

    def __init__(self, rack: Rack, exponent: Samples) -> None:
        self._idle_w, self._busy_w = rack.server.idle_w, rack.busy_w
        self._load, self._exponent, self._servers = rack.pool.load, exponent, rack.servers

    def at(self, share: float) -> Samples:
        """At so many times the busiest hour's load."""
        held = np.clip(self._load * share, 0.0, 1.0) ** self._exponent
        return self._servers * np.asarray(server_power_w(idle_w=self._idle_w, busy_w=self._busy_w, load=held))


def _by_hour_w(racks: Sequence[Rack], draws: Sequence[_Draw], own_w: Samples, scale: Samples) -> NDArray[np.float64]:
    """Shape (24, samples); hours of the same load are reckoned once, and where all are alike they share their memory."""
    days = np.array([_day_of_pool(rack.pool) for rack in racks]).reshape(len(racks), 24)
    found: dict[tuple[float, ...], Samples] = {}
    for shares in zip(*days, strict=True) if racks else [()]:
        if shares not in found:
            found[shares] = np.asarray(own_w + sum(drawn.at(share) for drawn, share in zip(draws, shares, strict=True))) * scale
    if len(found) == 1:
        return np.broadcast_to(next(iter(found.values())), (24, len(own_w)))
    return np.array([found[shares] for shares in zip(*days, strict=True)])


def _day_of_pool(pool: Pool) -> Day:
    """The pool's day: its lanes' days, weighted by the work they bring."""
    days = np.array([day_of(lane.workload.arrivals) for lane in pool.lanes])
    return np.average(days, axis=0, weights=_work(pool))


def _burst(pool: Pool) -> float:
    return float(np.average([lane.workload.arrivals.burst.factor for lane in pool.lanes], weights=_work(pool)))


def _work(pool: Pool) -> list[float]:
    return [lane.middle.work for lane in pool.lanes]
