"""What outages of the mains leave unserved, and what that is worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearhall.core.errors import InputError

TOTAL = 1e-6
"""How far the probabilities' sum may be off from 1."""


def unserved_kwh(*, outage_h: ArrayLike, load_kw: ArrayLike, survivable_h: ArrayLike) -> NDArray[np.float64]:
    """Energy that each outage leaves unserved: what lasts longer than the site survives; shape of the inputs together."""
    beyond = np.maximum(np.asarray(outage_h, dtype=np.float64) - np.asarray(survivable_h, dtype=np.float64), 0.0)
    return beyond * np.asarray(load_kw, dtype=np.float64)


def expected_outage_usd(
    *,
    outage_h: ArrayLike,
    load_kw: ArrayLike,
    usd_per_kwh: float,
    survivable_h: ArrayLike = 0.0,
    probability: ArrayLike | None = None,
    present_worth: float = 1.0,
) -> float:
    """What the outages cost, weighed by their probability (even without one), over `present_worth` years' worth of dollars."""
    unserved = np.atleast_1d(unserved_kwh(outage_h=outage_h, load_kw=load_kw, survivable_h=survivable_h))
    if probability is None:
        return float(unserved.mean()) * usd_per_kwh * present_worth
    weight = np.asarray(probability, dtype=np.float64)
    if weight.shape != unserved.shape or weight.min() < 0 or abs(weight.sum() - 1.0) > TOTAL:
        raise InputError("probabilities that do not fit", where="outages", right="one for each outage, none below 0, together 1")
    return float(weight @ unserved) * usd_per_kwh * present_worth
