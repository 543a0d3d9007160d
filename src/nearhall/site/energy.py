"""What a window of the meters says of a site's energy, for the gateway to share out among its models. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearhall.core.evidence import Kind, weakest
from nearhall.physics.pue import CATEGORY_BY_POSITION, category
from nearhall.site.settings import Meter
from nearhall.wire.energy import EnergyTold
from nearhall.wire.telemetry import MeterWindow

JOULES_PER_KWH = 3.6e6


def told_of(windows: Mapping[str, MeterWindow], meters: Sequence[Meter], about: Mapping[str, Any]) -> EnergyTold | None:
    """The window as it is told; None where no register of the servers or of the feed moved on, or the site has several nodes.

    The meters of a site of several nodes see all of them, and each gateway knows its own work alone.
    """
    nodes: Sequence[Any] = about.get("nodes") or ()
    positions = {meter.position for meter in meters}
    best = category(positions & set(CATEGORY_BY_POSITION))
    servers = None if best is None else _drawn(windows, meters, best[1])
    feed = _drawn(windows, meters, "feed")
    lasted = servers or feed
    if lasted is None or len(nodes) > 1:
        return None
    seconds = lasted[1]
    idle_w, sourced = _idle_w(about)
    return EnergyTold(
        seconds=seconds,
        it_j=None if servers is None else servers[0],
        it_kind=(Kind.ASSUMED if servers is None else servers[2]).value,
        idle_w=idle_w,
        idle_kind=(Kind.VENDOR if sourced else Kind.ASSUMED).value,
        site_j=None if feed is None else feed[0] * seconds / feed[1],
        site_kind=(Kind.ASSUMED if feed is None else feed[2]).value,
        it_w=None if best is None else _power_w(windows, meters, best[1]),
        it_position="" if best is None else best[1],
        site_w=_power_w(windows, meters, "feed"),
    )


def _drawn(windows: Mapping[str, MeterWindow], meters: Sequence[Meter], position: str) -> tuple[float, float, Kind] | None:
    """Joules, over how many seconds, and their kind, at a position; None while one of its registers did not move on."""
    watts: list[float] = []
    lasted: list[float] = []
    kinds: list[Kind] = []
    for meter in meters:
        if meter.position == position:
            window = windows.get(meter.id)
            if window is None or len(window.register_kwh) != 2 or window.register_s[1] <= window.register_s[0]:
                return None
            seconds = window.register_s[1] - window.register_s[0]
            watts.append((window.register_kwh[1] - window.register_kwh[0]) * JOULES_PER_KWH / seconds)
            lasted.append(seconds)
            kinds.append(Kind(window.kind))
    return (sum(watts) * lasted[0], lasted[0], weakest(kinds)) if watts else None


def _power_w(windows: Mapping[str, MeterWindow], meters: Sequence[Meter], position: str) -> float | None:
    """Watts at a position; None while one of its meters does not tell."""
    found = [windows.get(meter.id) for meter in meters if meter.position == position]
    watts = [window.power_w for window in found if window is not None and window.power_w is not None]
    return sum(watts) if watts and len(watts) == len(found) else None


def _idle_w(about: Mapping[str, Any]) -> tuple[float | None, bool]:
    """Idle power by the catalogue, and whether it has a source."""
    catalogue: Mapping[str, Any] = about.get("catalogue") or {}
    idle: Any = catalogue.get("idle_w")
    return (float(idle) if isinstance(idle, int | float) else None), bool(catalogue.get("source"))
