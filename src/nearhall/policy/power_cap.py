"""A power cap in watts: how far variants step down so that a meter shows no more than it, without swinging.

All the way down at once where the meter is above the cap, for that is what a cap forbids; back up slowly, to where the draw last
seen says that it fits, else step by step, and each relapse doubles the wait. What a step saves is not known beforehand: in a draw
are an idle part, other programs and a load that changes. That no step takes more than the one before it is taken for granted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

STALE_S = 15.0
"""A draw this old says nothing of now: seven windows of an agent, three of the machine's own counters."""
LAG_S = 1.0
"""What was begun before a step ends, and a meter's own mean follows, within this; a window that began sooner saw both."""
HOLD_S_MIN = 10.0
"""Before it comes back up: two windows of the slowest meter and a half."""
HOLD_S_MAX = 600.0
"""Each relapse doubles the stay up to this: under a load that lasts it is above the cap for a window or two in an hour."""
RETEST = 6.0
"""Where nothing says that the step that was above the cap would fit now, it is tried after this many stays."""
RELAPSES = 6.0
"""Above the cap again within so many stays of having come up is a relapse: a load that comes and goes by the minute is not
followed for long."""
HEADROOM = 0.95
"""It comes back up where the draw should then be no more than this share of the cap: a load breathes by a few per cent."""
REACH_S = 10.0
"""A cheaper variant may have to be loaded first: not before this is a draw that stays above the cap called out of reach."""
CLEAR_S = 60.0
"""Under the cap for so long, it is said to be reached again: a draw around the cap is told of once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a meter saw in one window."""

    watts: float
    """Their mean."""
    seconds: float
    """How long it lasted."""
    at_s: float
    """When it ended; monotonic."""
    idle_w: float = 0.0
    """What of it is there without any request; 0 where nobody knows, and then it comes back later than it might."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """How far variants step down for a cap in watts, and what was learned."""

    step_down: float = 0.0
    moved_s: float = -inf
    """When that last changed; monotonic, as all times here."""
    rose: bool = True
    """Whether it then became more."""
    good: float = 1.0
    """The step at which the draw was last seen to hold; 1 while none was."""
    over: float | None = None
    """The step above which it has to stay, as far as is known: there the draw was above the cap."""
    over_w: float = 0.0
    """What was drawn there."""
    rise: float | None = None
    """How many times as much as here was drawn there, above idle; None while that has not been seen."""
    idle_w: float = 0.0
    """What was taken for idle in that."""
    hold_s: float = HOLD_S_MIN
    """How long the next stay lasts at least."""
    seen_s: float = -inf
    """The end of the last window that was looked at."""
    over_s: float = -inf
    """The end of the last one that was above the cap."""
    blind: bool = False
    """No meter answers."""
    short: bool = False
    """The cap is out of reach: the draw stays above it at step 1."""


def hold_blind(hold: Hold, *, now_s: float) -> Hold:
    """While no meter answers, as much is saved as the floors of quality permit."""
    if hold.blind:
        return hold
    return replace(_risen(hold, 1.0, now_s), blind=True, short=False, good=1.0, over=None)


def hold_under(hold: Hold, draw: Draw, *, cap_w: float, steps: Sequence[float], now_s: float) -> Hold:
    """After a window of the meter. `steps`: where another variant begins to be permitted; the last is as good as 1."""
    if draw.at_s <= hold.seen_s:
        return hold
    settled = draw.at_s - draw.seconds >= hold.moved_s + LAG_S
    hold = replace(hold, seen_s=draw.at_s, blind=False)
    if draw.watts > cap_w:
        return _above(replace(hold, over_s=draw.at_s), draw, settled, now_s)
    if draw.at_s - hold.over_s >= CLEAR_S:
        hold = replace(hold, short=False)
    return _below(hold, draw, cap_w, steps, now_s) if settled else hold


def hold_other(hold: Hold, *, before_w: float, cap_w: float) -> Hold:
    """Under another cap: the step stays until a window has been looked at, and so does what still holds of what was learned."""
    if cap_w == before_w:
        return hold
    hold = replace(hold, seen_s=-inf, good=1.0, short=hold.short and cap_w < before_w)
    fits = hold.over is not None and hold.over_w <= HEADROOM * cap_w
    return replace(hold, over=None, hold_s=HOLD_S_MIN) if fits else hold


def _above(hold: Hold, draw: Draw, settled: bool, now_s: float) -> Hold:
    """At once where it came up too far, even if the window began before; else once what it does can be seen."""
    if hold.step_down >= 1:
        return replace(hold, short=hold.short or (settled and draw.at_s - hold.moved_s >= REACH_S))
    if hold.rose and not settled:
        return hold
    step = hold.good if hold.good > hold.step_down else 1.0
    return replace(_risen(hold, step, now_s), over=hold.step_down, over_w=draw.watts)


def _risen(hold: Hold, step: float, now_s: float) -> Hold:
    relapsed = not hold.rose and now_s - hold.moved_s < RELAPSES * hold.hold_s
    hold_s = min(HOLD_S_MAX, 2 * hold.hold_s) if relapsed else HOLD_S_MIN
    return replace(hold, step_down=step, moved_s=now_s, rose=True, hold_s=hold_s, rise=None)


def _below(hold: Hold, draw: Draw, cap_w: float, steps: Sequence[float], now_s: float) -> Hold:
    hold = replace(hold, good=hold.step_down)
    if hold.over is not None and hold.rise is None and draw.watts > 0:
        idle_w = draw.idle_w if draw.idle_w < draw.watts else 0.0
        hold = replace(hold, rise=max(1.0, (hold.over_w - idle_w) / (draw.watts - idle_w)), idle_w=idle_w)
    step, stays = _next(hold, draw.watts, cap_w, steps)
    if step >= hold.step_down or now_s - hold.moved_s < stays * hold.hold_s:
        return hold
    over = None if hold.over is None or step <= hold.over else hold.over
    return replace(hold, step_down=step, moved_s=now_s, rose=False, over=over)


def _next(hold: Hold, watts: float, cap_w: float, steps: Sequence[float]) -> tuple[float, float]:
    """The step to come back to, and after how many stays."""
    lowest = -1.0 if hold.over is None else hold.over
    between = sorted(step for step in {0.0, *sorted(steps)[:-1]} if lowest < step < hold.step_down)
    if hold.over is not None and hold.rise is not None:
        expected_w = hold.idle_w + max(0.0, watts - hold.idle_w) * hold.rise
        if expected_w <= HEADROOM * cap_w:
            return hold.over, 1.0
    if between:
        return between[len(between) // 2], 1.0
    return (0.0, 1.0) if hold.over is None else (hold.over, RETEST)
