"""What profile.json tells a lane: its latency by batch size, for `policy.batching` to judge; and whether it is of this file."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind, weakest
from nearhall.documents.profile import Profile, read_profile
from nearhall.policy.batching import Curve, Point, Runs, device_key

log = logging.getLogger("nearhall.gateway")


def is_of(profile: Profile, file: Path, sha256: str | None) -> bool:
    """Whether a profile is of this very file, whose hash is `sha256`; where nobody has written that down, the file is read.

    An upstream variant has no file; its profile is of wherever its address leads.
    """
    if profile.sha256 is None or sha256 is not None:
        return profile.sha256 in {sha256, None}
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == profile.sha256
    except OSError:  # it will be told when it is loaded
        return False


def read_curve(folder: Path) -> Curve | None:
    """The measured curve beside a variant's file; None without one."""
    profile = _read(folder)
    return None if profile is None else curve_of(profile)


def _read(folder: Path) -> Profile | None:
    """One that cannot be read is told and taken for none: a model is served without a profile too."""
    try:
        return read_profile(folder)
    except InputError as error:
        log.warning("a profile is not used: %s", error)
        return None


def curve_of(profile: Profile) -> Curve | None:
    """The latency curve of a profile; None for one that has none (a language model, another server's model)."""
    if not profile.latency_ms or profile.sha256 is None:
        return None
    return Curve(
        of=Runs(device=device_key(profile.device, profile.host.cpu), sha256=profile.sha256, threads=profile.threads),
        points=tuple(Point(batch=point.batch, p50_ms=point.p50, p90_ms=point.p90) for point in profile.latency_ms),
        kind=weakest(Kind(point.kind) for point in profile.latency_ms),
    )
