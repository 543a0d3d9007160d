"""Inrush: what meets the breaker when alternating current reaches the supplies, however late their software starts.

Crests against the curve's lower bound, which is a root mean square. A supply's crest is that of a bad one (P90) of the worst
kind; what runs already is counted with the crest of its current, which for bricks is about three times the root mean square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.plan_place import Site
from nearhall.physics import breakers as law
from nearhall.planner.power.check import Check
from nearhall.planner.power.cooling import free_below_c
from nearhall.planner.power.lines import Lines, lines_of
from nearhall.planner.samples.draws import Samples
from nearhall.planner.serving.load import SiteLoad

SHARE = 0.9
"""Of supplies draw at most the crest that is reckoned with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What one line has to stand when things are switched on; crests in amperes."""

    supplies: int
    each_a: float
    """Of one supply's inrush."""
    cooling_a: float
    """Of the cooling, on whichever line carries most of it."""
    running_a: float
    """Of everything, the cooling included."""
    limited_a: float | None
    """Of what a limiter lets through, the cooling included; None without one."""
    rating_a: float
    threshold_a: float
    curve: str

    @property
    def at_once(self) -> int:
        """How many may start together, beside the cooling alone."""
        return self._more(self.cooling_a)

    @property
    def few(self) -> str:
        """How many may start together, in words."""
        return f"only {self.at_once}" if self.at_once > 0 else "not even one"

    @property
    def beside(self) -> int:
        """How many more may be switched on while everything runs."""
        return self._more(self.running_a)

    @property
    def steps(self) -> tuple[int, ...] | None:
        """How many come on in each step of a staggered start; None where one is too many at some step."""
        return law.stagger(
            supplies=self.supplies,
            inrush_peak_a=self.each_a,
            threshold_a=self.threshold_a,
            running_peak_a=self.running_a,
            beside_peak_a=self.cooling_a,
        )

    def _more(self, running_a: float) -> int:
        return law.at_once(inrush_peak_a=self.each_a, threshold_a=self.threshold_a, running_peak_a=running_a)

    def __str__(self) -> str:
        """For the end of a sentence."""
        return (
            f"{self.supplies} {'supply' if self.supplies == 1 else 'supplies'} on a line, {self.each_a:.0f} A crest each (P90); "
            f"curve {self.curve} of {self.rating_a:g} A may trip from {self.threshold_a:.0f} A on"
        )


def start_of(site: Site, load: SiteLoad, lines: Lines, *, cooling_va: Samples, rating_a: float) -> Start:
    """`lines`: with everything running, behind a UPS as on its bypass; `cooling_va`: what does not come through the UPS."""
    cooling = lines_of(site, load, it_va=np.zeros_like(cooling_va), cooling_va=cooling_va).p99_a
    crest, limiter_a = max(rack.server.crest for rack in load.racks), site.supply.limiter_a
    return Start(
        supplies=max(lines.supplies),
        each_a=max(float(np.quantile(rack.server.inrush_peak_a, SHARE)) for rack in load.racks),
        cooling_a=cooling * law.SINE_CREST,
        running_a=cooling * law.SINE_CREST + max(lines.p99_a - cooling, 0.0) * crest,
        limited_a=None if limiter_a is None else limiter_a + cooling * law.SINE_CREST,
        rating_a=rating_a,
        threshold_a=float(law.magnetic_threshold_a(rating_a=rating_a, curve=site.supply.curve)),
        curve=site.supply.curve,
    )


def inrush_checks(site: Site, load: SiteLoad, lines: Lines, *, cooling_va: Samples, rating_a: float | None) -> list[Check]:
    """When the mains come back, when one supply is switched on beside the others, and what of both a UPS changes."""
    if rating_a is None or not any(lines.supplies):
        nothing = [Check(name="inrush", state="not_checked", words="no breaker, or nothing to switch on")]
        return nothing + (_of_ups() if site.ups is not None else [])
    start = start_of(site, load, lines, cooling_va=cooling_va, rating_a=rating_a)
    if site.ups is not None:
        return _behind_ups(start)
    words = f"beside {start.running_a:.0f} A of running crest {start.beside or 'no'} more may be switched on ({start})"
    state = "ok" if start.beside >= 1 else "fails"
    return [
        _returning(site, start),
        Check(name="inrush beside load", state=state, words=words, value=start.beside, limit=1, unit="at once"),
    ]


def _returning(site: Site, start: Start) -> Check:
    """All at once when the mains come back, unless a limiter holds them or outlets are switched one after another."""

    def found(state: str, words: str) -> Check:
        return Check(name="inrush", state=state, words=words, value=start.supplies, limit=start.at_once, unit="at once")

    if start.supplies <= start.at_once:
        return found("ok", f"all may start at once ({start})")
    if start.limited_a is not None:
        return found("ok" if start.limited_a < start.threshold_a else "fails", _limited(start))
    if site.supply.switched_outlets and start.steps is not None:
        told = f"in {len(start.steps)} steps of at most {max(start.steps)}, the last beside what runs already"
        return found("ok", f"switched outlets start them {told}, {start.running_a:.0f} A of crest in the end ({start})")
    if site.supply.switched_outlets:
        return found("fails", f"{start.few} may start at once, and beside what runs already none ({start})")
    return found(
        "fails",
        f"all start at once when power returns, and {start.few} may ({start}); switched outlets or a limiter help, "
        "or a curve that trips later; starting software later prevents nothing",
    )


def _limited(start: Start) -> str:
    return f"the limiter lets {start.limited_a:.0f} A of crest through, the cooling included ({start})"


def _behind_ups(start: Start) -> list[Check]:
    """A UPS ramps its own input up; on bypass nothing stands between the supplies and the mains."""
    names, held = ("inrush", "UPS bypass start"), start.limited_a is not None and start.limited_a < start.threshold_a
    if held or start.supplies <= start.at_once:
        fine = _limited(start) if held else f"even without the UPS all may start at once ({start})"
        state, told = "ok", dict.fromkeys(names, fine)
    else:
        walking = f"a UPS that walks in starts them; without it {start.few} may start at once ({start})"
        bypass = f"never start on bypass: {start.few} may start at once ({start})"
        state, told = "not_checked", dict(zip(names, (walking, bypass), strict=True))
    found = [
        Check(name=name, state=state, words=words, value=start.supplies, limit=start.at_once, unit="at once")
        for name, words in told.items()
    ]
    return found + _of_ups()


def _of_ups() -> list[Check]:
    """What only its maker knows."""
    told = {
        "UPS walk-in": "whether it ramps its own input up, over how many seconds, and its own inrush: ask the maker",
        "UPS retransfer": "whether it is back on the mains in step and within about 10 ms, supplies still charged: ask the maker",
        "inrush beside load": "behind a UPS its own current limit counts when one supply is switched on: ask the maker",
    }
    return [Check(name=name, state="not_checked", words=words) for name, words in told.items()]


def compressor_check(
    site: Site, load: SiteLoad, lines: Lines, *, cooling_va: Samples, rating_a: float | None, multiple: float
) -> Check | None:
    """A compressor that starts beside everything else, as if all cooling were one; None without one on the feed itself."""
    cooling = site.cooling
    if cooling.design_out_c <= free_below_c(site) or (site.ups is not None and cooling.on_ups):
        return None
    if rating_a is None:
        return Check(name="compressor start", state="not_checked", words="no breaker to hold it against")
    running = lines_of(site, load, it_va=np.zeros_like(cooling_va), cooling_va=cooling_va).p99_a
    crest = max((rack.server.crest for rack in load.racks), default=law.SINE_CREST) if site.ups is None else law.SINE_CREST
    beside = max(lines.p99_a - running, 0.0) * crest
    value = beside + multiple * running * law.SINE_CREST
    limit = float(law.magnetic_threshold_a(rating_a=rating_a, curve=site.supply.curve))
    fits = value < limit
    words = (
        f"{multiple:g} times {running:.1f} A beside {beside:.0f} A of crest: {value:.0f} A {'<' if fits else '>='} {limit:.0f} A"
    )
    more = "" if fits else "; a soft starter or a drive helps (then write compressor_start), or compressors that start in turn"
    state = "ok" if fits else "fails"
    return Check(name="compressor start", state=state, words=words + more, value=value, limit=limit, unit="A")
