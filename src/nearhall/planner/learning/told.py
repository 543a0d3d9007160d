"""Shares, times and numbers of sites, as the decision's words tell them."""

from __future__ import annotations

from collections.abc import Iterable


def percent(share: float) -> str:
    """A share from 0 to 1 in whole percent; never rounds to 0 or 100 what is not."""
    if 0.0 < share < 0.005 or 0.995 < share < 1.0:
        return "< 1 %" if share < 0.5 else "> 99 %"
    return f"{100.0 * share:.0f} %"


def chance(probability: float) -> str:
    """A probability that was drawn, which is never quite certain."""
    return "< 1 %" if probability < 0.005 else "> 99 %" if probability > 0.995 else percent(probability)


def sites_told(count: int, *, what: str = "pilot site") -> str:
    """A number of pilot sites."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def alike(told: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """What is told of each site, the sites of which the same is told named together."""
    sites: dict[str, list[str]] = {}
    for site, words in told:
        sites.setdefault(words, []).append(site)
    return tuple(f"{', '.join(dict.fromkeys(names))}: {words}" for words, names in sites.items())


def lasted(seconds: float) -> str:
    """A length of time, in the unit that a person would take."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
