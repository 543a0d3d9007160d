"""What profile.json tells a gateway: latency by batch size, for `policy.batching` to judge, and variants' quality and joules."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind, weakest
from nearhall.documents.profile import Profile, read_profile
from nearhall.policy.batching import Curve, Point, Runs, device_key

log = logging.getLogger("nearhall.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a profile says of a variant beside others of its model."""

    quality: float | None = None
    """Agreement with the reference, 0 to 1; 1 for the reference of another; None where it was not measured on data."""
    joules: float | None = None
    """Of one request."""
    basis: str = ""
    """What the joules were read from, and on which device: only those of one basis can be held against each other."""


NOTHING = Known()


def known_of(files: Mapping[str, tuple[Path, str | None]]) -> dict[str, Known]:
    """What the profiles of a model's variants say, by name, where they are of these very files.

    `files`: each variant's file and its hash as model.yaml has it; where it has none, the file is read for it.
    """
    profiles = {name: profile for name, (file, _) in files.items() if (profile := _read(file.parent)) is not None}
    profiles = {name: profile for name, profile in profiles.items() if _is_of(profile, *files[name])}
    references = {p.agreement.reference for p in profiles.values() if p.agreement is not None and p.agreement.kind == "measured"}
    found = {name: _known(profile, is_reference=name in references) for name, profile in profiles.items()}
    alike = len({known.basis for known in found.values() if known.joules is not None}) == 1
    return {name: known if alike else replace(known, joules=None) for name, known in found.items()}


def _is_of(profile: Profile, file: Path, sha256: str | None) -> bool:
    """An upstream variant has no file; its profile is of wherever its address leads."""
    if profile.sha256 is None or sha256 is not None:
        return profile.sha256 in {sha256, None}
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == profile.sha256
    except OSError:  # it will be told when it is loaded
        return False


def _known(profile: Profile, *, is_reference: bool) -> Known:
    agreement, joules = profile.agreement, profile.joules_per_item
    quality = agreement.score if agreement is not None and agreement.kind == "measured" else None
    parts = [("it", joules.it)] if joules.it is not None else [("cpu", joules.cpu), ("gpu", joules.gpu)]
    told = [(name, figure) for name, figure in parts if figure is not None]
    basis = ", ".join(f"{name} {figure.kind}" for name, figure in told)
    return Known(
        quality=1.0 if is_reference and quality is None else quality,
        joules=sum(figure.value for _, figure in told) if told else None,
        basis=f"{device_key(profile.device, profile.host.cpu)}: {basis}",
    )


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
