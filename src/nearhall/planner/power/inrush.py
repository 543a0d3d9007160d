"""Inrush: what meets the breaker when alternating current reaches the supplies, however late their software starts."""

from __future__ import annotations

import numpy as np

from nearhall.documents.plan_place import Site
from nearhall.physics import breakers as law
from nearhall.planner.power.check import Check
from nearhall.planner.power.lines import Lines
from nearhall.planner.serving.load import SiteLoad


def inrush_checks(site: Site, load: SiteLoad, lines: Lines, needed_a: float | None) -> list[Check]:
    """When the mains come back, when one supply is switched on beside the others, and when a UPS is on bypass.

    Crests against the curve's lower bound, which is a root mean square: that leaves a margin, so that the worst kind of supply is
    taken by its typical (median) crest.
    """
    rating = site.supply.breaker_a or needed_a
    if rating is None or load.servers == 0:
        return [Check(name="inrush", state="not_checked", words="no breaker, or nothing to switch on")]
    supplies = max(lines.supplies)
    peak = max(float(np.median(rack.server.inrush_peak_a)) for rack in load.racks)
    threshold = float(law.magnetic_threshold_a(rating_a=rating, curve=site.supply.curve))
    together = law.at_once(inrush_peak_a=peak, threshold_a=threshold)
    shown = (
        f"{supplies} on a line, {peak:.0f} A crest each (typical); curve {site.supply.curve} of {rating:g} A may trip from "
        f"{threshold:.0f} A on"
    )
    if site.ups is not None:
        return _behind_ups(supplies, together, shown)
    running = lines.p99_a * 2.0**0.5
    beside = law.at_once(inrush_peak_a=peak, threshold_a=threshold, running_peak_a=running)
    words = f"beside {running:.0f} A of running crest {beside} more may be switched on ({shown})"
    state = "ok" if beside >= 1 else "fails"
    return [
        _start(site, supplies, together, shown),
        Check(name="inrush beside load", state=state, words=words, value=beside, limit=1),
    ]


def _start(site: Site, supplies: int, together: int, shown: str) -> Check:
    """All at once when the mains come back, unless outlets are switched one after another."""
    if supplies <= together:
        return Check(name="inrush", state="ok", words=f"all may start at once ({shown})", value=supplies, limit=together)
    steps = law.stagger_steps(supplies=supplies, at_once=together)
    if site.supply.switched_outlets and steps is not None:
        words = f"switched outlets start them in {steps} steps of {together} ({shown})"
        return Check(name="inrush", state="ok", words=words, value=supplies, limit=together)
    words = (
        f"all start at once when power returns, and only {together} may ({shown}); switched outlets or a limiter help, "
        "or a curve that trips later; starting software later prevents nothing"
    )
    return Check(name="inrush", state="fails", words=words, value=supplies, limit=together)


def _behind_ups(supplies: int, together: int, shown: str) -> list[Check]:
    """A UPS ramps its own input up; on bypass nothing stands between the supplies and the mains."""
    own = Check(
        name="inrush beside load",
        state="not_checked",
        words="behind a UPS its own current limit counts when one supply is switched on: ask the maker",
    )
    if supplies <= together:
        fine = f"even without the UPS all may start at once ({shown})"
        return [Check(name="inrush", state="ok", words=fine, value=supplies, limit=together), own]
    words = f"{supplies} supplies behind a UPS that walks in, if it does: without it only {together} may start at once ({shown})"
    bypass = f"never start on bypass: {supplies} supplies at once where {together} may ({shown}); a retransfer finds them charged"
    return [
        Check(name="inrush", state="not_checked", words=words, value=supplies, limit=together),
        Check(name="UPS bypass start", state="not_checked", words=bypass, value=supplies, limit=together),
        own,
    ]
