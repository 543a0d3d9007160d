"""Which variant of a model to run: the best that fits, and what a smaller one would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One variant, as far as the choice depends on it."""

    id: str
    quality: float
    """Its score over that of the best variant, 0 to 1."""
    needed_gib: float
    """What it takes of memory, at the quantile that must fit."""
    joules: float | None = None
    """Of one request; None where nobody measured it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to run, and why not the others."""

    chosen: Candidate | None
    """None where none fits."""
    why_not: tuple[tuple[Candidate, str], ...]


def choose_variant(candidates: Sequence[Candidate], *, usable_gib: float, quality_min: float = 0.0) -> Choice:
    """The best of those that fit: by quality, then joules, then memory, last by name, whatever their order."""
    fitting = [c for c in candidates if c.needed_gib <= usable_gib and c.quality >= quality_min]
    chosen = min(fitting, key=_preference, default=None)
    return Choice(
        chosen=chosen,
        why_not=tuple(
            (c, _why_not(c, chosen or c, usable_gib, quality_min)) for c in sorted(candidates, key=_preference) if c is not chosen
        ),
    )


def _preference(candidate: Candidate) -> tuple[float, float, float, str]:
    return (-candidate.quality, _joules(candidate), candidate.needed_gib, candidate.id)


def _joules(candidate: Candidate) -> float:
    """What nobody measured is taken for more than anything that somebody did."""
    return inf if candidate.joules is None else candidate.joules


def _why_not(candidate: Candidate, chosen: Candidate, usable_gib: float, quality_min: float) -> str:
    if candidate.needed_gib > usable_gib:
        return f"needs {candidate.needed_gib:.1f} GiB of {usable_gib:.1f} GiB"
    if candidate.quality < quality_min:
        return f"quality {candidate.quality:.3f} < {quality_min:.3f}"
    if candidate.quality < chosen.quality:
        return f"fits, and costs {chosen.quality - candidate.quality:.1%} of quality"
    return _why_second(candidate, chosen)


def _why_second(candidate: Candidate, chosen: Candidate) -> str:
    """Of equal quality energy decides, then memory, then the name."""
    if candidate.joules != chosen.joules:
        more = _joules(candidate) - _joules(chosen)
        return f"as good, and takes {more:.3g} J a request more" if isfinite(more) else "as good, but its energy was not measured"
    if candidate.needed_gib > chosen.needed_gib:
        return f"as good, and takes {candidate.needed_gib - chosen.needed_gib:.1f} GiB more"
    return f"as good and as large as {chosen.id}"
