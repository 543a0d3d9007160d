"""What the sites on one feeder draw together, over all draws: their days, how they stray from them, their bursts, their restart.

Everything is in volt-amperes as the feeder sees them, at the design temperature: with the supplies' own power factor, the losses,
the fans and what a site draws for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nearhall.documents.plan_place import Feeder, Site
from nearhall.planner.grid.feeder import HOURS, FeederDay, feeder_day, shown_kva
from nearhall.planner.grid.fleet import Floats, Likeness, LoadKind, quarters_over_mean
from nearhall.planner.grid.restart import Restart, backlog_s, pickup
from nearhall.planner.grid.shaving import Battery
from nearhall.planner.power.battery import habits_of
from nearhall.planner.power.cooling import Plant, facility_w
from nearhall.planner.power.feed import Feed
from nearhall.planner.power.hold import Hold
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.load import SiteLoad
from nearhall.planner.serving.pool import BUSY_MAX

RUNS = 30
"""Weeks that are drawn of the sites' deviations from their day."""
HIGH = 0.99
"""What is held against a feeder's headroom."""
CHARGER_EFFICIENCY = 0.85
"""From the mains into the battery and out of it again. Assumed."""


class Sized(Protocol):
    """One kind of site, sized: what a feeder has to know of it."""

    @property
    def site(self) -> Site:
        """As the plan has it."""
        ...

    @property
    def load(self) -> SiteLoad:
        """Its servers."""
        ...

    @property
    def plant(self) -> Plant:
        """Its losses and cooling."""
        ...

    @property
    def feed(self) -> Feed:
        """What its feed carries."""
        ...

    @property
    def hold(self) -> Hold | None:
        """Its battery's time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What a restart is reckoned with."""

    minutes: float
    boot_s: float
    power_share: float
    """Power while starting over busy power."""
    kept_share: float
    """Of the requests of the outage, what waits and is answered afterwards."""
    spread_min: float
    """Over which a spread restart brings the sites back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederRestart:
    """The sites of a feeder as the mains come back, kVA, P99 of what each part takes."""

    at_once_kva: float
    spread_kva: float
    spread_min: float
    outage_min: float
    room_kva: float
    """The headroom: what is left in the hour in which most is on the feeder already."""

    @property
    def words(self) -> str:
        """Held against the headroom."""
        after = f"after {self.outage_min:g} minutes without mains its sites draw {shown_kva(self.at_once_kva)} kVA at once (P99)"
        if self.at_once_kva <= self.room_kva:
            return f"{after}, within the headroom of {self.room_kva:g} kVA"
        spread = f"brought back over {self.spread_min:g} minutes {shown_kva(self.spread_kva)} kVA"
        kept = "within it" if self.spread_kva <= self.room_kva else "still more"
        return f"{after}, more than the headroom of {self.room_kva:g} kVA; {spread}, {kept}"


def kind_of(sized: Sized, ledger: Ledger, *, count: int) -> LoadKind:
    """Such sites at the design temperature, medians: what they draw without any request, and what the day adds."""
    scale = _scale(sized, ledger)
    it_idle_w = (sized.load.own_w + sum(rack.servers * rack.server.idle_w for rack in sized.load.racks)) * scale
    hours = np.median(by_hour_w(sized), axis=1)
    idle = min(float(np.median(_at_feed_w(sized, it_idle_w))), float(hours.min()))
    swing = hours - idle
    day = tuple(float(v) for v in swing) if swing.max() > 1e-6 * max(idle, 1e-9) else (1.0,) * HOURS
    return LoadKind(count=count, idle_w=idle, swing_w=float(swing.mean()), day=day)


def by_hour_w(sized: Sized) -> Floats:
    """One site at its feed by hour of a mean day, shape (24, samples)."""
    if sized.load.flat:
        return np.broadcast_to(_at_feed_w(sized, sized.load.by_hour_w[0]), (HOURS, len(sized.plant.cop)))
    return np.array([_at_feed_w(sized, hour) for hour in sized.load.by_hour_w])


def day_on(feeder: Feeder, sites: Sequence[Sized], *, common: float, regional: float, seed: int, ledger: Ledger) -> FeederDay:
    """A day on one such feeder, with as many sites of each kind as hang on it."""
    likeness = Likeness(common=common, regional=min(regional, 1.0 - common), regions=1)  # of one feeder, so of one region
    return feeder_day(
        headroom_kva=feeder.headroom_kva,
        fleet_kva=demand_kva(feeder, sites, likeness=likeness, seed=seed, ledger=ledger),
        existing_kva=feeder.existing_hours_kva,
        battery=_battery(feeder, sites, ledger),
        quantile=HIGH,
    )


def demand_kva(feeder: Feeder, sites: Sequence[Sized], *, likeness: Likeness, seed: int, ledger: Ledger) -> Floats:
    """The highest of each hour, all sites on one such feeder, shape (24, samples).

    Each draw of what is not known of the sites meets one of the days on which they stray from their mean. Bursts come on top: a
    site's own in full, of many sites what they have in common and the root of the rest. Busier than busy no server is.
    """
    kinds = [kind_of(sized, ledger, count=_count(feeder, sized.site)) for sized in sites]
    together = sum(kind.count for kind in kinds)
    days = quarters_over_mean(
        kinds, likeness=likeness, seed=seed, runs=RUNS, volatility=ledger.fixed("fleet", "fleet.volatility")
    )
    alike = likeness.loadings[0] ** 2 + likeness.loadings[1] ** 2
    at_once = (alike + (1.0 - alike) / together) ** 0.5
    samples = ledger.draws.samples
    mean, bursts, most = np.zeros((HOURS, samples)), np.zeros((HOURS, samples)), np.zeros(samples)
    for sized, kind in zip(sites, kinds, strict=True):
        va_per_w = _va_per_w(sized) * kind.count / 1e3
        mean += by_hour_w(sized) * va_per_w
        burst_w = sized.load.burst_w
        shape = np.asarray(kind.day) / max(kind.day)
        bursts += shape[:, None] * ((_at_feed_w(sized, burst_w) - _at_feed_w(sized, sized.load.busiest_w)) * va_per_w)
        busy_w = (sized.load.own_w + _busy_w(sized)) * _scale(sized, ledger)
        most += _at_feed_w(sized, np.maximum(busy_w, burst_w)) * va_per_w
    met = days[np.arange(samples) % len(days)].T
    return np.minimum(mean * met + bursts * at_once, most)


def outage_of(ledger: Ledger) -> Outage:
    """As the ledger has it."""
    return Outage(
        minutes=ledger.fixed("fleet.outage", "outage.minutes"),
        boot_s=float(np.median(ledger.take("boot.seconds", None, "boot.seconds"))),
        power_share=float(np.median(ledger.take("boot.power_share", None, "boot.power_share"))),
        kept_share=ledger.fixed("fleet.outage", "outage.kept_share"),
        spread_min=ledger.fixed("fleet.outage", "outage.spread_minutes"),
    )


def restarting(sized: Sized, outage: Outage, *, count: int, ledger: Ledger, quantile: float = 0.5) -> Restart:
    """Such sites as the mains come back, watts at the feed, each part at a quantile over the draws.

    A site whose battery carries it through the outage does not start again; it recharges. Of a longer outage the requests that
    came without power and waited are answered at full load.
    """

    def at(samples: Samples) -> float:
        return float(np.quantile(samples, quantile))

    hold, load, outage_s = sized.hold, sized.load, outage.minutes * 60.0
    held_s = float(np.quantile(hold.hold_s, 1.0 - quantile)) if hold is not None else 0.0
    down_s = max(outage_s - held_s, 0.0)
    used_wh = hold.carried_w * min(hold.required_s, outage_s) / 3600.0 if hold is not None else 0.0
    scale, servers = _scale(sized, ledger), [rack.servers for rack in load.racks]
    busy_share = float(np.median(np.average([rack.pool.load for rack in load.racks], axis=0, weights=servers)))
    return Restart(
        count=count,
        normal_w=at(_at_feed_w(sized, load.burst_w)),
        boot_w=at(_at_feed_w(sized, (load.own_w + _busy_w(sized) * outage.power_share) * scale)),
        boot_s=outage.boot_s if down_s > 0 else 0.0,
        busy_w=at(_at_feed_w(sized, np.maximum((load.own_w + _busy_w(sized)) * scale, load.burst_w))),
        backlog_s=backlog_s(outage_s=down_s, load=min(busy_share, BUSY_MAX), kept_share=outage.kept_share),
        recharge_w=at(hold.recharge_w) if hold is not None else 0.0,
        recharge_wh=used_wh / CHARGER_EFFICIENCY,
    )


def restart_on(feeder: Feeder, sites: Sequence[Sized], outage: Outage, ledger: Ledger) -> FeederRestart:
    """All sites of one such feeder as the mains come back, at once and spread."""
    kinds = [
        _in_kva(sized, restarting(sized, outage, count=_count(feeder, sized.site), ledger=ledger, quantile=HIGH))
        for sized in sites
    ]
    at_once, spread = pickup(kinds), pickup(kinds, spread_min=outage.spread_min)
    return FeederRestart(
        at_once_kva=at_once.peak_w,
        spread_kva=spread.peak_w,
        spread_min=outage.spread_min,
        outage_min=outage.minutes,
        room_kva=feeder.headroom_kva,
    )


def sites_on(feeder: Feeder, sites: Sequence[Site]) -> tuple[float, ...]:
    """How many of each kind hang on one such feeder: `sites_each`, or all of a kind that has fewer."""
    return tuple(float(_count(feeder, site)) for site in sites)


def _count(feeder: Feeder, site: Site) -> int:
    return min(feeder.sites_each, site.count)


def _at_feed_w(sized: Sized, it_w: Samples) -> Samples:
    plant = sized.plant
    return facility_w(plant, it_w, plant.site.cooling.design_out_c, np.ones(len(plant.cop)))


def _va_per_w(sized: Sized) -> Samples:
    """At the peak."""
    return sized.feed.va / _at_feed_w(sized, sized.load.burst_w)


def _busy_w(sized: Sized) -> Samples:
    """All servers at full load."""
    return np.sum([rack.servers * rack.server.busy_w for rack in sized.load.racks], axis=0)


def _scale(sized: Sized, ledger: Ledger) -> Samples:
    return ledger.take(f"sites.{sized.site.id}.it_scale", None, "site.it_scale")


def _in_kva(sized: Sized, watts: Restart) -> Restart:
    """The same in thousands of volt-amperes."""
    factor = float(np.median(_va_per_w(sized))) / 1e3
    return Restart(
        count=watts.count,
        normal_w=watts.normal_w * factor,
        boot_w=watts.boot_w * factor,
        boot_s=watts.boot_s,
        busy_w=watts.busy_w * factor,
        backlog_s=watts.backlog_s,
        recharge_w=watts.recharge_w * factor,
        recharge_wh=watts.recharge_wh * factor,
    )


def _battery(feeder: Feeder, sites: Sequence[Sized], ledger: Ledger) -> Battery | None:
    """What cyclable batteries have beyond the hold that is required."""
    kwh, kw, worn = 0.0, 0.0, 0.0
    for sized in sites:
        ups = sized.site.ups
        if ups is None or not ups.cyclable or ups.battery_kwh is None:
            continue
        carried = sized.hold.carried_w if sized.hold is not None else float(np.median(sized.load.busiest_w))
        held = carried * ups.hold_min / 60.0 / 1e3
        count = _count(feeder, sized.site)
        spare = max(ups.battery_kwh * habits_of(sized.site, ledger).depth - held, 0.0) * count
        wear = ledger.take(f"sites.{sized.site.id}.ups.wear_usd_per_kwh", ups.wear_usd_per_kwh, "ups.wear_usd_per_kwh")
        kwh, worn = kwh + spare, worn + spare * float(np.median(wear))
        kw += ups.kw * count
    if kwh <= 0:
        return None
    return Battery(usable_kwh=kwh, charge_kw=kw / 4, discharge_kw=kw, wear_usd_per_kwh=worn / kwh, cyclable=True)
