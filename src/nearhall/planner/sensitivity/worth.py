"""What a measurement is worth: by how much a better decision it is expected to lead to, and that for each day of metering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from nearhall.planner.samples.draws import Samples

DEGREE = 3
"""Of the polynomial that tells the mean return at a value of the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """One input, measured perfectly."""

    name: str
    usd: float
    """Expected value of partial perfect information."""
    days: float
    """Of metering that it takes."""

    @property
    def usd_per_day(self) -> float:
        """What one day of metering is worth."""
        return self.usd / self.days


def evppi_usd(returns: Samples, *known: Samples) -> float:
    """E[max(E[returns | known], 0)] - max(E[returns], 0): what knowing these inputs before the decision to build is worth.

    The conditional mean is a polynomial of the input's rank on the normal scale (Strong, Oakley, Brennan 2014). Never below 0; 0
    where no value of the input turns the decision, and where the input is not uncertain.
    """
    fitted = conditional_mean(returns, *known)
    return float(np.maximum(fitted, 0.0).mean() - max(float(fitted.mean()), 0.0))


def conditional_mean(returns: Samples, *known: Samples) -> Samples:
    """The mean return at each sample's values of the inputs, shape (samples,); its mean is that of `returns`.

    What several inputs add is summed: how one changes what another does is left out.
    """
    columns = [_scaled(values) for values in known if float(np.ptp(values)) > 1e-12 * max(1.0, abs(float(values[0])))]
    design = np.column_stack([np.ones(len(returns)), *(column**k for column in columns for k in range(1, DEGREE + 1))])
    fitted = design @ np.linalg.lstsq(design, returns, rcond=None)[0]
    return fitted - fitted.mean() + returns.mean()


def _scaled(values: Samples) -> Samples:
    """The ranks on the normal scale."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = (np.arange(len(values)) + 0.5) / len(values)
    return np.asarray(ndtri(ranks))


def explained_share(returns: Samples, known: Samples) -> float:
    """Share of the variance of the returns that this input alone explains (first-order Sobol index)."""
    whole = float(np.var(returns))
    return float(np.var(conditional_mean(returns, known))) / whole if whole > 0 else 0.0


def ranked(returns: Samples, inputs: Mapping[str, Samples], days: Mapping[str, float]) -> tuple[Worth, ...]:
    """All inputs that can be metered (`days` names them), the most worth a day first; by name where they are worth the same."""
    found = [Worth(name=name, usd=evppi_usd(returns, inputs[name]), days=days[name]) for name in days if name in inputs]
    return tuple(sorted(found, key=lambda worth: (-worth.usd_per_day, worth.name)))
