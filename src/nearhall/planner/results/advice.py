"""What to do with each kind of site as long as a plan is all there is: pilot it now, wait for an answer, or leave it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.results.settles import Settled, asks_first

Verdict = Literal["pilot", "open", "leave", "unpriced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Ids of the kinds of sites that are built, in the plan's order."""

    now: tuple[str, ...]
    """Those whose pilot may be signed."""
    waiting: tuple[str, ...]
    """Those that are piloted only if what is asked before turns out well."""
    left: tuple[str, ...]
    """Those that are likely to lose."""


def verdict_of(planned: Planned, site: SitePlan) -> Verdict:
    """pilot: likely to pay; open: may or may not; leave: likely to lose; unpriced: nobody said what its answers are worth."""
    p, least = float(np.mean(site.npv_usd > 0.0)), planned.plan.decision.min_p_npv_positive
    if p >= least:
        return "pilot"
    if site.unpriced:
        return "unpriced"
    return "open" if p > 1.0 - least else "leave"


def advice_of(planned: Planned, order: Sequence[Settled]) -> Advice:
    """A kind that may or may not pay waits where asking settles more than a pilot; where a pilot does, it is piloted."""
    now: list[str] = []
    waiting: list[str] = []
    left: list[str] = []
    for site in planned.sites:
        if site.built:
            verdict = verdict_of(planned, site)
            waits = verdict == "unpriced" or (verdict == "open" and asks_first(order))
            (left if verdict == "leave" else waiting if waits else now).append(site.site.id)
    return Advice(now=tuple(now), waiting=tuple(waiting), left=tuple(left))
