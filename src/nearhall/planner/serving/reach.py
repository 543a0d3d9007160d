"""The way between where requests arise and where they are answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan_place import Hub, Site
from nearhall.documents.plan_work import Workload
from nearhall.physics.network import distance_rtt_ms, great_circle_km, serialisation_ms
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """From a site's users to one place."""

    kilometres: float
    rtt_ms: Samples
    """Median round trip."""
    rtt_p99_ms: Samples


def to_own_site(ledger: Ledger) -> Reach:
    """Within the building."""
    rtt_ms = ledger.take("lan.rtt_ms", None, "lan.rtt_ms")
    jitter = ledger.take("network.jitter_share", None, "network.jitter_share")
    return Reach(kilometres=0.0, rtt_ms=rtt_ms, rtt_p99_ms=rtt_ms * (1.0 + jitter))


def to_elsewhere(site: Site, other: Site | Hub, ledger: Ledger) -> Reach:
    """Over the site's uplink to a hub, or to another site: what was measured, else access and distance.

    A measured round trip is to the nearest hub; it is taken for every hub, since where the others are tells less than the line.
    """
    away_km = great_circle_km(site.lat, site.lon, other.lat, other.lon)
    jitter = ledger.take("network.jitter_share", None, "network.jitter_share")
    if site.uplink.rtt_ms is not None and isinstance(other, Hub):
        rtt_ms = ledger.take(f"sites.{site.id}.uplink.rtt_ms", site.uplink.rtt_ms)
    else:
        access = ledger.take(f"sites.{site.id}.access", None, f"access.{site.access}_ms")
        factor = ledger.take(f"sites.{site.id}.route_factor", None, "network.route_factor")
        far = ledger.take(f"sites.{other.id}.access", None, f"access.{other.access}_ms") if isinstance(other, Site) else 0.0
        rtt_ms = access + far + np.asarray(distance_rtt_ms(kilometres=away_km, route_factor=factor))
    return Reach(kilometres=away_km, rtt_ms=rtt_ms, rtt_p99_ms=rtt_ms * (1.0 + jitter))


def carried_ms(site: Site, workload: Workload, ledger: Ledger) -> Samples:
    """What it takes to put a request and its answer on the line."""
    at = f"workloads.{workload.id}.data"
    size_kb = ledger.take(f"{at}.in_kb", workload.data.in_kb) + ledger.take(f"{at}.out_kb", workload.data.out_kb)
    mbps = site.uplink.steps_mbps[-1] if site.uplink.steps_mbps else site.uplink.mbps
    return np.asarray(serialisation_ms(size_bytes=size_kb * 1e3, mbps=mbps))
