"""What the data plane is held to, and whether a run says that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Says(StrEnum):
    """What a run says about a goal."""

    HOLDS = "holds"
    MISSES = "misses"
    NOT_JUDGED = "not judged"
    """Too few slices are left of a machine that was not quiet, or the thing is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound on one figure."""

    what: str
    bound: float
    at_most: bool
    unit: str = "x"
    """`x`: a ratio; `%`, `ms`, `s`, `MiB`."""
    beside: str = "in-process session.run"
    """What the figure is compared with."""

    @property
    def shown(self) -> str:
        """The bound as people write it."""
        return f"{'<=' if self.at_most else '>='} {_number(self.bound, self.unit)}"


GOALS: Mapping[str, Goal] = {
    "binary_p50": Goal(what="binary v2, p50 over the limit", bound=1.4, at_most=True),
    "binary_cpu": Goal(what="binary v2, CPU for a request over the limit", bound=1.35, at_most=True),
    "binary_cpu_triton": Goal(
        what="binary v2, CPU for a request over Triton's", bound=1.0, at_most=True, beside="triton 2.51 (python backend)"
    ),
    "json_p50": Goal(what="JSON v2, p50 over the limit", bound=2.4, at_most=True),
    "json_peers": Goal(
        what="JSON v2, p50 of the best peer over ours",
        bound=1.4,
        at_most=False,
        beside="the better of triton 2.51 (python backend) and MLServer",
    ),
    "grpc_p50": Goal(what="gRPC, p50 over the limit", bound=2.6, at_most=True),
    "tiny_added": Goal(what="tiny model, binary, p50 added to the limit", bound=0.25, at_most=True, unit="ms"),
    "offered_0.8": Goal(
        what="offered 0.8x the limit, 10 ms: answered in time", bound=97, at_most=False, unit="%", beside="what was offered"
    ),
    "goodput_1.5": Goal(what="offered 1.5x: goodput in deadline of the limit", bound=80, at_most=False, unit="%"),
    "goodput_3": Goal(what="offered 3x: goodput in deadline of the limit", bound=80, at_most=False, unit="%"),
    "accepted_p99_1.5": Goal(
        what="offered 1.5x: p99 of accepted (a stretch)", bound=10, at_most=True, unit="ms", beside="the deadline"
    ),
    "accepted_p99_3": Goal(
        what="offered 3x: p99 of accepted (a stretch)", bound=10, at_most=True, unit="ms", beside="the deadline"
    ),
    "storm": Goal(what="eight clients back at once after each 503: goodput of the limit", bound=70, at_most=False, unit="%"),
    "critical": Goal(
        what="critical 20 % of 3x the limit: in deadline", bound=99, at_most=False, unit="%", beside="critical offered"
    ),
    "beside_chat": Goal(
        what="vision at 50 % beside saturated chat: in deadline", bound=99, at_most=False, unit="%", beside="what was offered"
    ),
    "start": Goal(what="start to ready, small models", bound=1.5, at_most=True, unit="s", beside="nothing"),
    "idle": Goal(what="idle CPU of one core", bound=0.5, at_most=True, unit="%", beside="nothing"),
    "memory": Goal(what="memory beside the models' files", bound=100, at_most=True, unit="MiB", beside="the models' files"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A goal and what this run says of it."""

    goal: Goal
    value: float | None
    says: Says
    note: str = ""

    @property
    def shown(self) -> str:
        """The figure as people write it."""
        return "-" if self.value is None else _number(self.value, self.goal.unit)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "goal": self.goal.what,
            "bound": self.goal.shown,
            "value": None if self.value is None else round(self.value, 4),
            "unit": self.goal.unit,
            "compared_with": self.goal.beside,
            "says": self.says.value,
            "note": self.note,
        }


def judge(name: str, value: float | None, *, headline: bool = True, note: str = "") -> Verdict:
    """What a figure says of the goal with that name; one that is no headline says nothing, and is shown all the same."""
    goal = GOALS[name]
    if value is None or not headline:
        return Verdict(goal=goal, value=value, says=Says.NOT_JUDGED, note=note or ("not measured" if value is None else NOISY))
    good = value <= goal.bound if goal.at_most else value >= goal.bound
    return Verdict(goal=goal, value=value, says=Says.HOLDS if good else Says.MISSES, note=note)


NOISY = "the machine was not quiet"


def _number(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.2f}x"
    return f"{value:.3g} {unit}" if unit in {"ms", "s"} else f"{value:.1f} {unit}"
