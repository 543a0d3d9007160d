"""How high one site's IT power goes: the 99th percentile of its quarters of an hour, which breaker and cooling must bear.

Neighbouring quarters are alike, so that how sure it is comes from how days' peaks differ. It is of the days that were metered: a
busier season is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, log, sqrt

import numpy as np
from numpy.typing import NDArray

from nearhall.physics.balance import DEFAULT_CLASS_PERCENT
from nearhall.planner.learning.accept import class_percent
from nearhall.planner.learning.site_blocks import IT, SiteBlocks
from nearhall.planner.learning.site_estimates import BATCH_S, DAY_S, DAY_SD, DAYS_LEAST, KWH_J, SE_LEAST, Estimate
from nearhall.planner.learning.update import Seen

SHARE = 0.99
"""Of the quarters of an hour that stay below."""
OF_A_PEAK = 2.0
"""Standard error of the 92nd percentile of normal draws over that of their mean (1.8, rounded up): where an eighth of each day is
busy, the highest 1 % of quarters lie in 8 % of days."""
SE_OF_ONE = 0.5
"""Where there is but one to tell from."""


def peak_estimate(parts: Sequence[SiteBlocks]) -> Estimate | str:
    """The logarithm of the peak of all accepted periods of one site; in words why there is none."""
    told = [(site, site.kwh[position]) for site in parts if (position := site.first(IT)) is not None]
    if not told:
        return "no block holds its IT power"
    watts = np.concatenate([kwh * KWH_J / site.seconds for site, kwh in told])
    starts = np.concatenate([site.start_s for site, _ in told])
    watts, starts = watts[np.isfinite(watts)], starts[np.isfinite(watts)]
    value = float(np.quantile(watts, SHARE)) if len(watts) else 0.0
    if value <= 0.0:
        return "no block holds its IT power"
    error = hypot(_days_se(starts, watts), _class_error(parts))
    return Estimate(
        site=parts[0].returns.id, seen=Seen(value=log(value), se=max(error, SE_LEAST)), value=value, blocks=len(watts)
    )


def _days_se(starts: NDArray[np.float64], watts: NDArray[np.float64]) -> float:
    """Standard error of the logarithm, from how days' own peaks differ; of few days quarters of them, and what days differ by."""
    for seconds in (DAY_S, BATCH_S):
        batch = np.unique(np.floor(starts / seconds), return_inverse=True)[1]
        n = int(batch.max()) + 1
        if n >= DAYS_LEAST:
            break
    if n < 2:
        return SE_OF_ONE
    peaks = np.array([np.quantile(watts[batch == one], SHARE) for one in range(n)])
    error = OF_A_PEAK * float(np.std(np.log(np.maximum(peaks, 0.01 * peaks.max())), ddof=1)) / sqrt(n)
    return error if seconds == DAY_S else hypot(error, DAY_SD / max(n * BATCH_S / DAY_S, 1.0) ** 0.5)


def _class_error(parts: Sequence[SiteBlocks]) -> float:
    """Standard uncertainty that the meters' class allows, evenly spread within it (JCGM 100, 4.3.7)."""
    classes = [class_percent(site.returns, position) for site in parts if (position := site.first(IT)) is not None]
    return max(DEFAULT_CLASS_PERCENT if percent is None else percent for percent in classes) / 100.0 / sqrt(3.0)
