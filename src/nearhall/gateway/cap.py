"""The power cap of the data plane: told over the control socket, it makes variants step down to save joules, until it ends."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason

HELD_S_MAX = 86_400.0
"""A cap that nobody renews for a day has been forgotten."""


class CapWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /control/cap."""

    step_down: float | None = None
    """0 to 1: how far from the usual quality down to each workload's floor variants may go to save joules; 0 ends the cap."""
    watts: float | None = None
    """In place of `step_down`: what the models may draw. Taken as a wish to save as much as the floors allow."""
    until_s: float | None = None
    """When it ends by itself, seconds since 1970 UTC, at most a day ahead; without it a day from now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A cap in force."""

    step_down: float
    watts: float | None
    until_s: float
    """Seconds since 1970 UTC."""
    ends_s: float
    """The same on the monotonic clock."""

    def told(self) -> dict[str, object]:
        """As it is answered."""
        says = "variants step down towards fewer joules within each workload's quality_min; where no joules are known none does"
        if self.watts is not None:
            says += "; watts are not metered here, so as much is saved as the floors allow, whatever is drawn"
        return {"step_down": self.step_down, "watts": self.watts, "until_s": self.until_s, "says": says}


NO_CAP: dict[str, object] = {"step_down": 0.0, "watts": None, "until_s": None, "says": "no cap"}


def read_cap(body: bytes, *, utc_s: float, now_s: float) -> Cap | None:
    """The cap that a request asks for, None for one that ends it; raises Refusal(BAD_REQUEST)."""
    try:
        wish = msgspec.json.decode(body, type=CapWish)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(f"the body is no power cap: {error}") from error
    if (wish.step_down is None) == (wish.watts is None):
        raise _wrong("give either step_down or watts")
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
    return Cap(step_down=step_down, watts=wish.watts, until_s=until_s, ends_s=now_s + until_s - utc_s)


def _wrong(what: str) -> Refusal:
    return Refusal(Reason.BAD_REQUEST, f'{what}; right is {{"step_down": 0.5, "until_s": 1790000000}}')
