"""The power cap of the data plane: told over the control socket, it makes variants step down to save joules, until it ends.

It is a step that the caller chose, or watts. Those are held against a meter: the servers' or the feed's, as the site's agent
tells of them, or else the machine's own counters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.evidence import Kind
from nearhall.core.reasons import Reason
from nearhall.gateway.metering.energy import Metered, Of
from nearhall.policy.power_cap import STALE_S, Hold, hold_blind, hold_other, hold_under
from nearhall.wire.power_cap import MeteredTold, PowerCapTold

HELD_S_MAX = 86_400.0
"""A cap that nobody renews for a day has been forgotten."""
NEAREST: tuple[Of, ...] = ("servers", "site", "counters")
"""What a cap is held against unless it says so: the first of them that answers."""


class CapWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /control/cap."""

    step_down: float | None = None
    """0 to 1: how far from the usual quality down to each workload's floor variants may go to save joules; 0 ends the cap."""
    watts: float | None = None
    """In place of `step_down`: what a meter may show. Variants step down as far as that takes."""
    of: Of | None = None
    """With `watts`: which meter, `servers`, `site` (the feed) or `counters` (RAPL, NVML); without it the first that answers."""
    until_s: float | None = None
    """When it ends by itself, seconds since 1970 UTC, at most a day ahead; without it a day from now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A cap that somebody asked for."""

    step_down: float
    """1 of one in watts: as much as is saved while no meter answers."""
    watts: float | None
    of: Of | None
    until_s: float
    """Seconds since 1970 UTC."""
    ends_s: float
    """The same on the monotonic clock."""


class Say(Protocol):
    """Logs a line and keeps it as an event."""

    def __call__(self, kind: str, text: str, level: str = "info") -> None:
        """`level`: info, warning or error."""
        ...


class PowerCap:
    """The cap in force, and how far it is stepped down for it. Only the event loop touches it."""

    def __init__(self, *, say: Say, metered: Mapping[Of, Metered], steps: Callable[[], Sequence[float]]) -> None:
        """`metered`: the last draw by each meter; `steps`: where another variant begins to answer."""
        self._say = say
        self._metered = metered
        self._steps = steps
        self._cap: Cap | None = None
        self._of: Of | None = None
        """What a cap in watts is held against; a lesser meter does not stand in for one that has fallen silent."""
        self._hold = Hold()

    def step_down(self, now_s: float) -> float:
        """The step in force, 0 to 1; a cap whose time is over ends here."""
        cap = self._cap
        if cap is None:
            return 0.0
        if now_s >= cap.ends_s:
            self._cap = None
            self._say("cap_ended", "the power cap has ended: its time is over")
            return 0.0
        if cap.watts is None:
            return cap.step_down
        if self._fresh(now_s) is None:
            self._go_blind(now_s)
        return self._hold.step_down

    def set(self, cap: Cap | None, now_s: float) -> None:
        """Takes a cap, renews it, or ends it with None. Under watts in place of others nothing moves before a meter has told."""
        step, before = self.step_down(now_s), self._cap
        self._cap = cap
        if cap is None:
            if before is not None:
                self._say("cap_ended", "the power cap has been lifted")
            return
        if before is None or (cap.step_down, cap.watts, cap.of) != (before.step_down, before.watts, before.of):
            self._say("capped", _asks(cap))
        if cap.watts is None:
            return
        if before is None or before.watts is None or cap.of != before.of:
            self._of, self._hold = cap.of, Hold(step_down=step, moved_s=now_s if step else float("-inf"))
        else:
            self._hold = hold_other(self._hold, before_w=before.watts, cap_w=cap.watts)
        self.heard(now_s)

    def heard(self, now_s: float) -> None:
        """A meter has told of a window, or the cap has changed."""
        cap = self._cap
        if cap is None or cap.watts is None or now_s >= cap.ends_s:
            return
        if cap.of is None:
            self._choose_meter(now_s)
        seen = self._fresh(now_s)
        if seen is None:
            self._go_blind(now_s)
            return
        before = self._hold
        self._hold = hold_under(before, seen.draw, cap_w=cap.watts, steps=self._steps(), now_s=now_s)
        if before.blind and not self._hold.blind:
            self._say("cap_metered", f"the power cap of {cap.watts:g} W is held against a meter again: {_of(seen)}")
        if self._hold.short and not before.short:
            text = f"the power cap of {cap.watts:g} W is out of reach: {seen.draw.watts:.0f} W {self._with_all()}"
            self._say("cap_short", f"{text}; {_of(seen)}", "warning")
        if before.short and not self._hold.short:
            self._say("cap_reached", f"the power cap of {cap.watts:g} W holds again: {seen.draw.watts:.0f} W, {_of(seen)}")

    def told(self, now_s: float) -> PowerCapTold:
        """The cap as it is answered."""
        step, cap = self.step_down(now_s), self._cap
        if cap is None:
            return PowerCapTold()
        steps = sorted(self._steps())
        if cap.watts is None:
            return PowerCapTold(step_down=step, until_s=cap.until_s, steps=steps, says=_saves(steps))
        seen = self._fresh(now_s)
        reached, says = self._reached(cap.watts, seen)
        return PowerCapTold(
            step_down=step,
            watts=cap.watts,
            until_s=cap.until_s,
            metered=None if seen is None else _told(seen, now_s),
            reached=reached,
            steps=steps,
            says=f"{says}; {_saves(steps)}",
        )

    def _choose_meter(self, now_s: float) -> None:
        """The best that answers, or the better one that has begun to: what was learned of another one's watts is forgotten."""
        better = NEAREST if self._of is None else NEAREST[: NEAREST.index(self._of)]
        found: Of | None = next((of for of in better if _is_fresh(self._metered.get(of), now_s)), None)
        if found is not None:
            held = self._hold
            self._of, self._hold = found, Hold(step_down=held.step_down, moved_s=held.moved_s, blind=held.blind)

    def _fresh(self, now_s: float) -> Metered | None:
        seen = None if self._of is None else self._metered.get(self._of)
        return seen if _is_fresh(seen, now_s) else None

    def _go_blind(self, now_s: float) -> None:
        if self._hold.blind:
            return
        self._hold = hold_blind(self._hold, now_s=now_s)
        self._say("cap_blind", f"the power cap cannot be held in watts: {self._silent()}; {_BLIND}", "warning")

    def _silent(self) -> str:
        if self._of is None:
            return "no meter has told what is drawn"
        ever = self._of in self._metered
        return _SILENT[self._of] + (f" for {STALE_S:g} s" if ever else "")

    def _with_all(self) -> str:
        return "with all variants stepped down" if self._steps() else "and no variant to step down to"

    def _reached(self, cap_w: float, seen: Metered | None) -> tuple[bool | None, str]:
        """Whether the cap is held, and that in words."""
        if seen is None:
            return None, f"{self._silent()}; {_BLIND}"
        held = f"{seen.draw.watts:.1f} W of {cap_w:g} W, {_of(seen)}"
        if seen.draw.watts <= cap_w:
            return True, f"held: {held}"
        if self._hold.short:
            return False, f"out of reach: {held}, {self._with_all()}"
        return None, f"above it, and stepped down, which is yet to show: {held}"


_NAMES: dict[Of, str] = {"servers": "the servers", "site": "the site", "counters": "the machine's own counters"}
_SILENT: dict[Of, str] = {
    "servers": "no meter has told of the servers",
    "site": "no meter has told of the site",
    "counters": "no counter of this machine (RAPL, NVML) has told",
}
_BLIND = "as much is saved as the floors of quality allow, whatever is drawn"


def read_cap(body: bytes, *, utc_s: float, now_s: float) -> Cap | None:
    """The cap that a request asks for, None for one that ends it; raises Refusal(BAD_REQUEST)."""
    try:
        wish = msgspec.json.decode(body, type=CapWish)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(f"the body is no power cap: {error}") from error
    if (wish.step_down is None) == (wish.watts is None):
        raise _wrong("give either step_down or watts")
    if wish.of is not None and wish.watts is None:
        raise _wrong("of belongs to watts: it says which meter they are held against")
    if wish.step_down is not None and not 0 <= wish.step_down <= 1:
        raise _wrong(f"step_down is {wish.step_down:g}, not a share from 0 to 1")
    if wish.watts is not None and not (isfinite(wish.watts) and wish.watts >= 0):
        raise _wrong(f"watts is {wish.watts:g}; 0 or more is right")
    until_s = utc_s + HELD_S_MAX if wish.until_s is None else wish.until_s
    if not utc_s < until_s <= utc_s + HELD_S_MAX:
        raise _wrong(f"until_s is {until_s:.0f}; a time within a day after now, {utc_s:.0f}, is right")
    step_down = 1.0 if wish.step_down is None else wish.step_down
    if step_down == 0:
        return None
    return Cap(step_down=step_down, watts=wish.watts, of=wish.of, until_s=until_s, ends_s=now_s + until_s - utc_s)


def _wrong(what: str) -> Refusal:
    right = '{"step_down": 0.5, "until_s": 1790000000} or {"watts": 300, "of": "servers"} (or "site", "counters")'
    return Refusal(Reason.BAD_REQUEST, f"{what}; right is {right}")


def _is_fresh(seen: Metered | None, now_s: float) -> bool:
    return seen is not None and now_s - seen.draw.at_s <= STALE_S


def _asks(cap: Cap) -> str:
    if cap.watts is None:
        return f"power cap: variants step down by {cap.step_down:g}"
    return f"power cap: {cap.watts:g} W" + ("" if cap.of is None else f" of {_NAMES[cap.of]}")


def _saves(steps: Sequence[float]) -> str:
    if not steps:
        return "no variant here saves anything: fewer joules must be known of one that a workload's quality_min permits"
    return "variants step down towards fewer joules within each workload's quality_min"


def _of(seen: Metered) -> str:
    how = "by a virtual meter, simulated" if seen.kind is Kind.SIMULATED else f"{seen.kind.value}, by {seen.source}"
    return f"{how}, of {seen.covers}"


def _told(seen: Metered, now_s: float) -> MeteredTold:
    return MeteredTold(
        of=seen.of,
        watts=round(seen.draw.watts, 3),
        seconds=seen.draw.seconds,
        age_s=round(max(0.0, now_s - seen.draw.at_s), 3),
        source=seen.source,
        kind=seen.kind.value,
        covers=seen.covers,
    )
