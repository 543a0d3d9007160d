"""What a fleet draws when the mains come back: all sites boot at once, work off what waited, and recharge their batteries.

Cold-load pickup: the diversity that keeps a fleet's normal peak low is gone for a while. A restart spread over some minutes
(switched outlets or contactors with a delay for each site) brings much of it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.core.errors import InputError

Floats = NDArray[np.float64]
STEP_S = 10
CONSTANT_SHARE = 0.8
"""Of a recharge, this share of the energy goes in at full power, the rest fades away (current, then voltage held; assumed)."""
MINUTES_MAX = 7 * 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Sites of one kind as the mains come back; watts at the feed, of one site."""

    count: int
    normal_w: float
    """In ordinary operation at that hour."""
    boot_w: float
    boot_s: float
    busy_w: float
    """While the backlog is worked off."""
    backlog_s: float = 0.0
    recharge_w: float = 0.0
    """What the charger draws at most."""
    recharge_wh: float = 0.0
    """What it takes from the mains until the battery is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pickup:
    """A fleet's draw by minute from the mains' return."""

    minutes: Floats
    """0, 1, 2, ..."""
    w: Floats
    """The highest ten seconds of each minute."""
    normal_w: float
    """What the same sites draw in ordinary operation."""
    spread_min: float

    @property
    def peak_w(self) -> float:
        """The highest of them."""
        return float(self.w.max())

    @property
    def ratio(self) -> float:
        """The peak over ordinary operation."""
        return self.peak_w / self.normal_w if self.normal_w > 0 else float("inf")


def backlog_s(*, outage_s: float, load: float, kept_share: float = 1.0) -> float:
    """How long what waited takes to work off: arrivals of the outage over the capacity left; infinite at full load.

    `kept_share` of the requests wait (most give up); `load` is the busy share of the servers in ordinary operation.
    """
    waiting = outage_s * load * kept_share
    if waiting <= 0:
        return 0.0
    return waiting / (1.0 - load) if load < 1.0 else float("inf")


def pickup(sites: Sequence[Restart], *, minutes: int = 120, spread_min: float = 0.0) -> Pickup:
    """The draw of all sites after an outage; with `spread_min` their feeds are switched on evenly over so many minutes."""
    if not 1 <= minutes <= MINUTES_MAX or spread_min < 0:
        raise InputError(
            f"{minutes} minutes, spread {spread_min:g}", where="restart", right=f"1 to {MINUTES_MAX} minutes, spread 0 or more"
        )
    at_s = np.arange(0.0, minutes * 60.0, STEP_S)
    total = np.sum([kind.count * _one_site_w(kind, at_s) for kind in sites], axis=0) + np.zeros(len(at_s))
    window = round(spread_min * 60.0 / STEP_S)
    if window > 1:
        # Sites that start evenly over the window draw the mean of one site's profile over that window behind now.
        so_far = np.concatenate([np.zeros(window), np.cumsum(total)])
        total = (so_far[window:] - so_far[:-window]) / window
    return Pickup(
        minutes=np.arange(float(minutes)),
        w=total.reshape(minutes, 60 // STEP_S).max(axis=1),
        normal_w=float(sum(kind.count * kind.normal_w for kind in sites)),
        spread_min=spread_min,
    )


def _one_site_w(kind: Restart, at_s: Floats) -> Floats:
    booting, catching_up = at_s < kind.boot_s, at_s < kind.boot_s + kind.backlog_s
    server = np.where(booting, kind.boot_w, np.where(catching_up, kind.busy_w, kind.normal_w))
    return server + _recharge_w(kind, at_s)


def _recharge_w(kind: Restart, at_s: Floats) -> Floats:
    if kind.recharge_w <= 0 or kind.recharge_wh <= 0:
        return np.zeros_like(at_s)
    whole_s = kind.recharge_wh * 3600.0 / kind.recharge_w
    fading_s = (1.0 - CONSTANT_SHARE) * whole_s  # the time constant that leaves the rest of the energy under the curve
    return kind.recharge_w * np.exp(-np.maximum(at_s - CONSTANT_SHARE * whole_s, 0.0) / fading_s)
