"""Who settles what is not known: somebody who is asked, or a pilot; and which of the two comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nearhall.planner.results.spread import share
from nearhall.planner.sensitivity.measurements import Measurement

MATTERS = 0.05
"""What explains less of the return, and is worth less of the best measurement's worth, is not named."""
NAMED_MAX = 3

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Everything that one way of finding out settles."""

    by: Literal["desk", "pilot"]
    what: tuple[str, ...]
    """Those that matter, the most worth a day first."""
    days: float
    """One after the other."""
    share: float
    """Of what is not known of the return: the sum of all its measurements' shares."""

    @property
    def document(self) -> Json:
        """Plain values."""
        return {"by": self.by, "what": list(self.what), "days": self.days, "share": self.share}


def settled(following: Sequence[Measurement]) -> tuple[Settled, ...]:
    """The desk and the pilot, in the order in which they pay: whose best measurement is worth more a day comes first."""
    most = max((m.usd for m in following), default=0.0)
    told: list[Settled] = []
    for at_a_desk in dict.fromkeys(m.at_a_desk for m in following):
        mine = [m for m in following if m.at_a_desk is at_a_desk]
        named = [m for m in mine if m.share >= MATTERS or (m.usd > 0 and m.usd >= MATTERS * most)]
        told.append(
            Settled(
                by="desk" if at_a_desk else "pilot",
                what=tuple(dict.fromkeys(m.what for m in named)),
                days=sum(m.days for m in named),
                share=sum(m.share for m in mine),
            )
        )
    return tuple(told)


def asks_first(order: Sequence[Settled]) -> bool:
    """Whether to ask before a pilot is built."""
    return bool(order) and order[0].by == "desk" and bool(order[0].what)


def order_words(order: Sequence[Settled]) -> str:
    """What is settled by whom, in the order in which to do it; nothing where nothing is left to find out."""
    desk, pilot = (next((s for s in order if s.by == by), None) for by in ("desk", "pilot"))
    measures = f"what a pilot measures explains {share(pilot.share)}" if pilot is not None else "a pilot measures none of it"
    if asks_first(order) and desk is not None:
        names = "; ".join(what.removeprefix("ask ") for what in desk.what[:NAMED_MAX])
        return (
            f"Ask first ({desk.days:g} days at a desk): {names}. What a desk can tell explains {share(desk.share)} of what is "
            f"not known of the return; {measures}. The pilot comes after: it shows that answers come in time, what they take, "
            "and what no plan foresees."
        )
    if pilot is None or not pilot.what:
        return ""
    names = "; ".join(pilot.what[:NAMED_MAX])
    told = f"A pilot settles most: {names}. What it measures explains {share(pilot.share)} of what is not known of the return"
    return f"{told}; what a desk can tell {share(desk.share)}." if desk is not None else f"{told}."
