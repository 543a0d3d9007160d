"""Which metered sites belong to which kind of site of the plan, and what must not be counted at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.documents.site_returns import SiteReturns

BLOCKS_COMPARED = 96
"""A day's are enough to know a copy by."""
BLOCKS_ALIKE = 4
"""So many blocks of the same readings at two sites are no accident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedKind:
    """One kind of site of a plan."""

    id: str
    site_class: str
    built: bool
    """Whether the plan builds any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Where each site's returns belong."""

    by_kind: Mapping[str, tuple[SiteReturns, ...]]
    """By id of each kind that is built."""
    left: tuple[tuple[SiteReturns, str], ...]
    """Those that no verdict takes, and why."""
    notes: tuple[str, ...]
    """What was taken for several kinds at once."""


def joined(kinds: Sequence[PlannedKind], returns: Sequence[SiteReturns]) -> Joined:
    """By id: a site `shop` or `shop-12` is of the kind `shop`. Where no kind is named so, by class.

    Where several kinds share the class and nothing says which, a site counts for each of them: that is told in `notes`.
    """
    by_kind: dict[str, list[SiteReturns]] = {kind.id: [] for kind in sorted(kinds, key=lambda one: one.id) if kind.built}
    left: list[tuple[SiteReturns, str]] = []
    notes: list[str] = []
    for site in returns:
        found = _kinds_of(kinds, site)
        if isinstance(found, str):
            left.append((site, found))
            continue
        for kind in found:
            by_kind[kind].append(site)
        if len(found) > 1:
            notes.append(
                f"{site.id} ({site.origin}) counts for each of {', '.join(found)}: its name tells no kind, as {found[0]}-1 would"
            )
    return Joined(
        by_kind={kind: tuple(sites) for kind, sites in by_kind.items()}, left=tuple(left), notes=tuple(dict.fromkeys(notes))
    )


def _kinds_of(kinds: Sequence[PlannedKind], site: SiteReturns) -> list[str] | str:
    """Ids of the kinds that a site tells of, or in words why there is none."""
    named = max((kind for kind in kinds if _called(site.id, kind.id)), key=lambda kind: len(kind.id), default=None)
    if named is not None:
        if not named.built:
            return f"the plan builds no {named.id}"
        if named.site_class != site.site_class:
            return f"it is of class {site.site_class}, the plan's {named.id} of class {named.site_class}: give both the same"
        return [named.id]
    alike = sorted(kind.id for kind in kinds if kind.built and kind.site_class == site.site_class)
    built = ", ".join(f"{kind.id} (class {kind.site_class})" for kind in sorted(kinds, key=lambda one: one.id) if kind.built)
    return alike or f"the plan builds no site of class {site.site_class}; it builds {built or 'none'}"


def _called(site: str, kind: str) -> bool:
    return site == kind or site.startswith(f"{kind}-")


def check_distinct(returns: Sequence[SiteReturns]) -> None:
    """Raises InputError for what would count twice: a site's periods that overlap, or one site's readings under two names."""
    ordered = sorted(returns, key=lambda site: (site.start_s, site.id, site.origin))
    for one, other in combinations(ordered, 2):
        if other.start_s >= one.end_s or one.start_s >= other.end_s:
            continue
        if one.id == other.id:
            raise InputError(
                f"site {one.id!r} is told twice over overlapping periods ({one.origin} and {other.origin})",
                where="pilots",
                right="give each period of a site once, from one source",
            )
        shared = sorted(_serials(one) & _serials(other))
        if shared:
            raise InputError(
                f"meter {shared[0]} stands at two sites at once: {one.id} ({one.origin}) and {other.id} ({other.origin})",
                where="pilots",
                right="give each site once; if these are two sites, record each meter's own serial number",
            )
        if _same_readings(one, other):
            raise InputError(
                f"{one.id} ({one.origin}) and {other.id} ({other.origin}) hold the same meter readings",
                where="pilots",
                right="give each site once: copies are no further pilots",
            )


def _serials(site: SiteReturns) -> set[str]:
    """Of real instruments; a virtual one's says nothing."""
    return {meter.serial for meter in site.meters if meter.serial and meter.kind is Kind.MEASURED}


def _same_readings(one: SiteReturns, other: SiteReturns) -> bool:
    """Whether the blocks that both have hold the very same registers; rehearsals from one seed may."""
    if any(meter.kind is Kind.SIMULATED for site in (one, other) for meter in site.meters):
        return False
    mine, theirs = _readings(one), _readings(other)
    both = [(mine[start], theirs[start]) for start in mine.keys() & theirs.keys()]
    return len(both) >= BLOCKS_ALIKE and all(here == there for here, there in both)


def _readings(site: SiteReturns) -> dict[float, list[tuple[float, float]]]:
    """By start of the first blocks in which something was consumed: the registers' readings."""
    readings = ((block.start_s, sorted(block.register_kwh.values())) for block in site.blocks[:BLOCKS_COMPARED])
    return {start: held for start, held in readings if any(last > first for first, last in held)}
