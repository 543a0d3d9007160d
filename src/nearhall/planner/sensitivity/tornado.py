"""Which inputs move the outcome: read from the samples that are there already, without another run.

An input's bar goes from the outcome's mean where the input is about its P10 to that where it is about its P90; its share is the
part of the outcome's variance that it explains alone (first-order Sobol index by conditional means; Saltelli et al., "Global
Sensitivity Analysis", 2008, 1.2.6), less what as many groups of noise would explain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.core.errors import InputError
from nearhall.planner.samples.draws import Samples

GROUPS = 20
"""Of 5 % of the samples each: P10 and P90 lie between two of them, and of 10,000 samples each holds 500."""
ENDS = ((1, 2), (17, 18))
"""The groups about P10 and about P90."""
NOISE_Z = 3.0
"""A bar shorter than so many standard errors is not told from none: of a hundred idle inputs none passes, mostly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One input's bar."""

    name: str
    low: float
    """The outcome when the input is at its P10."""
    high: float
    """The outcome when the input is at its P90."""
    share: float
    """Part of the outcome's variance, 0 to 1."""
    is_noise: bool = False
    """Too short to be told from nothing at this number of samples."""

    @property
    def swing(self) -> float:
        """How far the input moves the outcome."""
        return abs(self.high - self.low)


def tornado(inputs: Mapping[str, Samples], outcome: Samples) -> tuple[Bar, ...]:
    """The bars, widest first, names breaking ties; `inputs` and `outcome` of shape (samples,) from the same draws."""
    n = len(outcome)
    if n < 2 * GROUPS:
        raise InputError(f"{n} samples", where="tornado", right=f"{2 * GROUPS} samples or more")
    bars = (_bar(name, np.asarray(values), outcome) for name, values in inputs.items())
    return tuple(sorted(bars, key=_widest_first))


def one_at_a_time(
    evaluate: Callable[[Mapping[str, float]], float], inputs: Mapping[str, tuple[float, float, float]]
) -> tuple[Bar, ...]:
    """The bars of a function: each input at its P10 and at its P90 while the others keep their P50.

    `inputs` gives (P10, P50, P90) by name; a bar's share is its part of the sum of squared swings.
    """
    middle = {name: quantiles[1] for name, quantiles in inputs.items()}
    ends = {name: (evaluate(middle | {name: p10}), evaluate(middle | {name: p90})) for name, (p10, _, p90) in inputs.items()}
    total = sum((high - low) ** 2 for low, high in ends.values())
    bars = (
        Bar(name=name, low=low, high=high, share=(high - low) ** 2 / total if total > 0 else 0.0)
        for name, (low, high) in ends.items()
    )
    return tuple(sorted(bars, key=_widest_first))


def _widest_first(bar: Bar) -> tuple[float, str]:
    return -bar.swing, bar.name


def _bar(name: str, values: Samples, outcome: Samples) -> Bar:
    if values.min() == values.max():
        mean = float(outcome.mean())
        return Bar(name=name, low=mean, high=mean, share=0.0, is_noise=True)
    # Equal inputs are ordered by what is no news of the outcome: where they stand.
    groups = np.array_split(outcome[np.argsort(values, kind="stable")], GROUPS)
    low, high = (np.concatenate([groups[index] for index in end]) for end in ENDS)
    error = float(np.hypot(low.std() / len(low) ** 0.5, high.std() / len(high) ** 0.5))
    swing = float(high.mean() - low.mean())
    share = _explained(groups, outcome)
    return Bar(
        name=name,
        low=float(low.mean()),
        high=float(high.mean()),
        share=share,
        is_noise=abs(swing) <= NOISE_Z * error and share < 0.01,
    )


def _explained(groups: list[NDArray[np.float64]], outcome: Samples) -> float:
    """Variance between the groups over all of it, less what chance puts there (Ezekiel's correction); 0 to 1."""
    total = float(np.sum((outcome - outcome.mean()) ** 2))
    if total <= 0.0:
        return 0.0
    within = float(sum(np.sum((group - group.mean()) ** 2) for group in groups))
    return min(max(1.0 - within / total * (len(outcome) - 1) / (len(outcome) - GROUPS), 0.0), 1.0)
