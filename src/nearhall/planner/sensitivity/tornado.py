"""Which inputs move the outcome: read from the samples that are there already, without another run.

An input's bar goes from the outcome's mean where the input is about its P10 to that where it is about its P90; its share is the
part of the outcome's variance that it explains alone (first-order Sobol index by conditional means; Saltelli et al., "Global
Sensitivity Analysis", 2008, 1.2.6), less what as many groups of noise would explain.

Both are taken after what all others do has been subtracted, as far as least squares tells it: a polynomial of each on the normal
scale, and products of those that matter most (control variates). What is left of the others is noise, and small; an input that
enters nothing then differs from none by hardly more than nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erfc

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri, ndtri

from nearhall.core.errors import InputError
from nearhall.planner.samples.draws import Samples

GROUPS = 20
"""Of 5 % of the samples each: P10 and P90 lie between two of them, and of 10,000 samples each holds 500."""
ENDS = ((1, 2), (17, 18))
"""The groups about P10 and about P90."""
NOISE_Z = 4.0
"""A bar shorter than so many standard errors is not told from none: of a hundred idle inputs one passes in 150 plans."""
SAMPLES_A_COLUMN = 4
"""Least squares has at most a column for so many samples; with more it would follow the noise."""
PAIRED_MAX = 12
"""Inputs that matter most, whose products are taken too."""


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
    p_swing: float = 0.0
    """By how much the share of cases with an outcome above 0 differs between the input's P10 and P90, the others as drawn."""

    @property
    def swing(self) -> float:
        """How far the input moves the outcome."""
        return abs(self.high - self.low)


def tornado(inputs: Mapping[str, Samples], outcome: Samples) -> tuple[Bar, ...]:
    """The bars, widest first, names breaking ties; `inputs` and `outcome` of shape (samples,) from the same draws."""
    n = len(outcome)
    if n < 2 * GROUPS:
        raise InputError(f"{n} samples", where="tornado", right=f"{2 * GROUPS} samples or more")
    names = sorted(name for name, values in inputs.items() if np.min(values) < np.max(values))
    alone, rest, columns = _fitted([inputs[name] for name in names], outcome)
    mean = float(outcome.mean())
    bars = [Bar(name=name, low=mean, high=mean, share=0.0, is_noise=True) for name in inputs if name not in names]
    bars += [
        _bar(name, inputs[name], outcome, left=mean + rest + own, columns=columns) for name, own in zip(names, alone, strict=True)
    ]
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


def _fitted(inputs: list[Samples], outcome: Samples) -> tuple[list[Samples], Samples, int]:
    """(what each input adds to the mean by itself, what nothing explains, columns of the fit), samples; by least squares.

    Of degree 1, 2 and 3 as far as there are samples enough, then of products of the strongest two by two.
    """
    n, room = len(outcome), len(outcome) // SAMPLES_A_COLUMN - 1
    scores = np.array([_score(values) for values in inputs]).reshape(len(inputs), n)
    powers = [scores, (scores**2 - 1.0) / 2.0**0.5, (scores**3 - 3.0 * scores) / 6.0**0.5]
    kept = powers[: min(len(powers), room // len(inputs))] if inputs else []
    if not kept:
        return [np.zeros(n) for _ in inputs], outcome - outcome.mean(), 0
    main = np.concatenate(kept)
    strength = np.sum(_least_squares(main, outcome).reshape(len(kept), len(inputs)) ** 2, axis=0)
    paired = min(PAIRED_MAX, int((2.0 * max(room - len(main), 0)) ** 0.5))
    top = np.argsort(-strength, kind="stable")[:paired]
    products = [scores[i] * scores[j] for at, i in enumerate(top) for j in top[:at]]
    columns = np.concatenate([main, np.array(products).reshape(len(products), n)])
    weights = _least_squares(columns, outcome)
    centred = columns - columns.mean(axis=1, keepdims=True)
    rest = outcome - outcome.mean() - weights @ centred
    own = [np.arange(len(kept)) * len(inputs) + index for index in range(len(inputs))]
    return [weights[rows] @ centred[rows] for rows in own], rest, len(columns)


def _score(values: Samples) -> Samples:
    """The input's ranks on the normal scale."""
    n = len(values)
    ranks = np.empty(n)
    ranks[np.argsort(values, kind="stable")] = (np.arange(n) + 0.5) / n
    return np.asarray(ndtri(ranks))


def _least_squares(columns: NDArray[np.float64], outcome: Samples) -> NDArray[np.float64]:
    """Weights of the rows of `columns` beside a mean."""
    centred = columns - columns.mean(axis=1, keepdims=True)
    return np.asarray(np.linalg.lstsq(centred @ centred.T, centred @ (outcome - outcome.mean()), rcond=None)[0], dtype=np.float64)


def _bar(name: str, values: Samples, outcome: Samples, *, left: Samples, columns: int) -> Bar:
    """`left`: the outcome less what a fit of so many `columns` tells of the others; each of them hides some of the noise."""
    # Equal inputs are ordered by what is no news of the outcome: where they stand.
    order = np.argsort(values, kind="stable")
    groups = np.array_split(left[order], GROUPS)
    free = len(left) / (len(left) - columns)
    low, high = (np.concatenate([groups[index] for index in end]) for end in ENDS)
    error = float(np.hypot(low.std() / len(low) ** 0.5, high.std() / len(high) ** 0.5)) * free**0.5
    swing = float(high.mean() - low.mean())
    between, within = _sums_of_squares(groups)
    noise = within * free / (len(left) - GROUPS)
    total = float(np.sum((outcome - outcome.mean()) ** 2))
    least = np.asarray(fdtri(GROUPS - 1, len(left) - GROUPS, 1.0 - erfc(NOISE_Z / 2.0**0.5)), dtype=np.float64)
    own = np.empty(len(left))
    own[order] = np.concatenate([np.full(len(group), group.mean()) for group in groups])
    others = outcome - own
    at = [float(np.mean(others > -float(end.mean()))) for end in (low, high)]
    return Bar(
        name=name,
        low=float(low.mean()),
        high=float(high.mean()),
        share=min(max((between - (GROUPS - 1) * noise) / total, 0.0), 1.0) if total > 0.0 else 0.0,
        is_noise=abs(swing) <= NOISE_Z * error and between <= (GROUPS - 1) * noise * float(least),
        p_swing=abs(at[1] - at[0]),
    )


def _sums_of_squares(groups: list[NDArray[np.float64]]) -> tuple[float, float]:
    """(between the groups' means, within the groups)."""
    mean = float(np.concatenate(groups).mean())
    between = sum(len(group) * (float(group.mean()) - mean) ** 2 for group in groups)
    return float(between), float(sum(np.sum((group - group.mean()) ** 2) for group in groups))
