"""What a variant's profile.json tells a lane: its latency by batch size, for `policy.batching` to judge."""

from __future__ import annotations

import logging
from pathlib import Path

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind, weakest
from nearhall.documents.profile import Profile, read_profile
from nearhall.policy.batching import Curve, Point, Runs, device_key

log = logging.getLogger("nearhall.gateway")


def read_curve(folder: Path) -> Curve | None:
    """The measured curve beside a variant's file; None without one. One that cannot be read is told once and taken for none."""
    try:
        profile = read_profile(folder)
    except InputError as error:
        log.warning("a profile is not used: %s", error)
        return None
    return None if profile is None else curve_of(profile)


def curve_of(profile: Profile) -> Curve | None:
    """The latency curve of a profile; None for one that has none (a language model, another server's model)."""
    if not profile.latency_ms or profile.sha256 is None:
        return None
    return Curve(
        of=Runs(device=device_key(profile.device, profile.host.cpu), sha256=profile.sha256, threads=profile.threads),
        points=tuple(Point(batch=point.batch, p50_ms=point.p50, p90_ms=point.p90) for point in profile.latency_ms),
        kind=weakest(Kind(point.kind) for point in profile.latency_ms),
    )
