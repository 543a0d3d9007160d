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
