"""What a pilot's PUE says of a whole year: log(PUE - 1) against outdoor temperature and IT load.

A pilot in winter has not seen summer. The slopes keep the plan's prior where the data say nothing of them, so that the year's PUE
stays as uncertain as the season that is missing makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLOPE_PER_K = (0.02, 0.015)
"""Prior of the slope with temperature: 2 % more overhead a kelvin, as the coefficient of performance falls; mean and sd."""
SLOPE_PER_LOAD = (-1.0, 0.7)
"""Prior of the slope with IT load (share of the budget): fixed losses weigh more at part load; mean and sd."""
BLOCK_SD_LEAST = 0.02
"""Two blocks of the same weather differ at least so much on the logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YearEstimate:
    """log(PUE - 1) of a whole year, from one site's blocks."""

    value: float
    se: float
    temperatures: tuple[float, float]
    """Lowest and highest outdoor temperature that the pilot saw."""
    unseen_share: float
    """Share of the year's hours that lie outside of those."""


def year_estimate(
    pue: NDArray[np.float64],
    outdoor_c: NDArray[np.float64],
    it_load: NDArray[np.float64],
    *,
    year_c: NDArray[np.float64],
    year_load: float,
    prior_value: float,
    prior_sd: float,
) -> YearEstimate | None:
    """From blocks (each of shape (blocks,)) to the year `year_c` (shape (hours,)) at `year_load`; None below three usable blocks.

    Bayesian linear regression with known noise, that of the residuals (Gelman et al., 14.8); `prior_value` and `prior_sd` are the
    plan's log(PUE - 1) at the year's mean temperature and load.
    """
    usable = np.isfinite(pue) & (pue > 1.0) & np.isfinite(outdoor_c) & np.isfinite(it_load)
    if int(usable.sum()) < 3:
        return None
    y, t, u = np.log(pue[usable] - 1.0), outdoor_c[usable], it_load[usable]
    centre_c = float(year_c.mean())
    design = np.column_stack([np.ones_like(t), t - centre_c, u - year_load])
    means = np.array([prior_value, SLOPE_PER_K[0], SLOPE_PER_LOAD[0]])
    precision = np.diag([1.0 / prior_sd**2, 1.0 / SLOPE_PER_K[1] ** 2, 1.0 / SLOPE_PER_LOAD[1] ** 2])
    noise = max(_residual_sd(design, y), BLOCK_SD_LEAST)
    after = precision + design.T @ design / noise**2
    cover = np.linalg.inv(after)
    found = cover @ (precision @ means + design.T @ y / noise**2)
    # The year's PUE is a mean over its hours of 1 + exp(...): by its gradient at the estimate.
    year = np.column_stack([np.ones_like(year_c), year_c - centre_c, np.zeros_like(year_c)])
    overhead = np.exp(np.clip(year @ found, -20.0, 5.0))
    gradient = (overhead[:, None] * year).mean(axis=0) / overhead.mean()
    low, high = float(t.min()), float(t.max())
    # Beyond the temperatures seen the slope may be another: no straight line through a winter knows the summer.
    hotter = float(np.average(np.maximum(year_c - high, 0.0), weights=overhead))
    colder = float(np.average(np.maximum(low - year_c, 0.0), weights=overhead))
    unseen = SLOPE_PER_K[1] * float(np.hypot(hotter, colder))
    return YearEstimate(
        value=float(np.log(overhead.mean())),
        se=float(np.hypot(float(gradient @ cover @ gradient) ** 0.5, unseen)),
        temperatures=(low, high),
        unseen_share=float(np.mean((year_c < low) | (year_c > high))),
    )


def _residual_sd(design: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of a plain fit, as far as the data allow one."""
    spread = np.ptp(design, axis=0) > 1e-9
    spread[0] = True
    columns = design[:, spread]
    if len(y) <= columns.shape[1]:
        return float(np.std(y))
    fitted = columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(np.sqrt(np.sum((y - fitted) ** 2) / (len(y) - columns.shape[1])))
