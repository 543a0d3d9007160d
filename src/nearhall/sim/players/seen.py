"""What one workload's user saw, counted so that it adds up whatever happens.

arrivals == sent + dropped + idle + unready
sent     == answered + refused + cut_short + broken + unanswered
answered + refused + cut_short == the sum of by_status
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nearhall.core.histogram import Histogram
from nearhall.sim.players.work import Answer, Found

NAMES_MAX = 64
"""Different reasons, places, errors and findings that are kept apart; a server that makes names up cannot fill this process."""
SPANS_MAX = 100
"""The newest stretches (segments of speech) that the report names one by one."""
_COUNTS = (
    *("arrivals", "sent", "answered", "refused", "cut_short", "broken", "unanswered"),
    *("dropped", "idle", "unready", "misread"),
)


@dataclass(slots=True)
class Seen:
    """Counts and times of one workload."""

    arrivals: int = 0
    """Requests that fell due."""
    sent: int = 0
    answered: int = 0
    """Status 200 with the whole body; of a stream also its `[DONE]`."""
    refused: int = 0
    """Any other status, with the whole body."""
    cut_short: int = 0
    """Streams with status 200 that ended in an error or without `[DONE]`."""
    broken: int = 0
    """Connections that were refused, reset or timed out before the whole answer, and answers too large to be one."""
    unanswered: int = 0
    """Still open when the players had to stop."""
    dropped: int = 0
    """Arrivals that were not sent because too many answers were outstanding."""
    idle: int = 0
    """Arrivals without a new picture to send."""
    unready: int = 0
    """Arrivals for which the application failed to make a request."""
    misread: int = 0
    """Of those answered: that the application could not read."""
    by_status: dict[str, int] = field(default_factory=dict[str, int])
    by_reason: dict[str, int] = field(default_factory=dict[str, int])
    by_place: dict[str, int] = field(default_factory=dict[str, int])
    by_error: dict[str, int] = field(default_factory=dict[str, int])
    """What went wrong on this side, by where and kind: `ask ConnectError`, `take KeyError`, ..."""
    took: Histogram = field(default_factory=Histogram)
    """Milliseconds from the first byte of the request to the last of the answer, at the socket; answered requests only."""
    from_intended: Histogram = field(default_factory=Histogram)
    """Milliseconds from the intended arrival to the last byte of the answer."""
    first_token: Histogram = field(default_factory=Histogram)
    """Milliseconds from the first byte of the request to the first text of a stream, at the socket."""
    found: dict[str, Found] = field(default_factory=dict[str, Found])
    """Sums of what the application found."""
    spans: list[tuple[str, float, float]] = field(default_factory=list[tuple[str, float, float]])
    """The newest stretches found: name, and seconds in the source's own time."""

    def count(self, answer: Answer, *, intended_s: float) -> None:
        """Counts a whole answer, by what it is."""
        _one(self.by_status, str(answer.status))
        _one(self.by_reason, answer.headers.get("x-nearhall-reason", "none"))
        if answer.status != 200:
            self.refused += 1
        elif answer.cut_short is not None:
            self.cut_short += 1
            self.error(f"stream {answer.cut_short}")
        else:
            self.answered += 1
            _one(self.by_place, answer.headers.get("x-nearhall-served-by", "unknown"))
            self.took.add((answer.got_s - answer.asked_s) * 1e3)
            self.from_intended.add((answer.got_s - intended_s) * 1e3)
            if answer.first_token_s is not None:
                self.first_token.add(answer.first_token_s * 1e3)

    def error(self, kind: str) -> bool:
        """Counts an error; whether it is the first of its kind."""
        return _one(self.by_error, kind) == 1

    def keep(self, found: Found) -> None:
        """Adds up what the application found."""
        name = found.name if found.name in self.found or len(self.found) < NAMES_MAX else "other"
        before = self.found.get(name, Found(name, 0))
        self.found[name] = Found(name, before.count + found.count, before.value + found.value)
        if found.span_s is not None:
            self.spans = [*self.spans[-SPANS_MAX + 1 :], (name, *found.span_s)]

    def plain(self) -> dict[str, object]:
        """As the closing report has it."""
        return {
            **{name: getattr(self, name) for name in _COUNTS},
            "by_status": self.by_status,
            "by_reason": self.by_reason,
            "by_place": self.by_place,
            "by_error": self.by_error,
            "p50_ms": self.took.reported(0.5),
            "p99_ms": self.took.reported(0.99),
            "from_intended_p50_ms": self.from_intended.reported(0.5),
            "from_intended_p99_ms": self.from_intended.reported(0.99),
            "first_token_p50_ms": self.first_token.reported(0.5),
            "found": {name: {"count": found.count, "value": round(found.value, 3)} for name, found in self.found.items()},
            "spans": [{"name": name, "start_s": round(start, 3), "end_s": round(end, 3)} for name, start, end in self.spans],
        }


def totals(seen: Sequence[Seen]) -> dict[str, int]:
    """Sums over workloads."""
    return {name: sum(getattr(one, name) for one in seen) for name in _COUNTS}


def _one(counts: dict[str, int], name: str) -> int:
    """Counts one; gives how many of its name there are now."""
    name = name if name in counts or len(counts) < NAMES_MAX else "other"
    counts[name] = counts.get(name, 0) + 1
    return counts[name]
