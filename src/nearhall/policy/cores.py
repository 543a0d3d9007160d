"""Who has the cores of a node when a language model and models that answer in milliseconds want them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A workload's use of a model."""

    model: str
    rank: int
    """0 to 9: the lower, the more critical."""


def takes_the_rest(model: str, uses: Iterable[Use], *, rank_unsaid: int) -> bool:
    """Whether the process of `model` is to run only on what all others leave of the cores.

    So it is where some other model is used for something more critical than anything that this one is used for; a model that no
    workload names is of `rank_unsaid`. A process that never rests is otherwise in the way even with a tenth of the weight:
    whoever wakes waits until its slice is over.
    """
    known = list(uses)
    own = min((use.rank for use in known if use.model == model), default=rank_unsaid)
    return any(use.model != model and use.rank < own for use in known)


STRETCH_MAX = 8.0
"""A run's time over what its thread had of a core. Of one that gives way to all others it was 2.1 on average in a gateway at 3
times its limit, and 53 to 328 in 9 of 12 runs of 1 ms beside two processes that never rest (Linux 6.18, two cores)."""
STRETCH_WORST = 100.0
"""What a longer run counts as: after one the thread is left alone for half a second, after many for seven."""
GIVING_WAY_MS_MAX = 5.0
"""Of a run that may give way: where nothing is left of the cores, it takes a few hundred times as long."""


def may_give_way(*, stretch: float, run_ms: float) -> bool:
    """Whether one of a model's worker threads is to compute only in what all others leave of the cores.

    It pays where the event loop needs a core too; not where something else leaves next to nothing. `stretch` is what its runs
    took over what they had of a core, about the p90 of the last ones; `run_ms` what a run takes at most, as far as is known.
    """
    return stretch <= STRETCH_MAX and run_ms <= GIVING_WAY_MS_MAX
