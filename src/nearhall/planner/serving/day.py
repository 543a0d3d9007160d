"""How a day goes: the load of each hour over that of the busiest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearhall.core.errors import InputError
from nearhall.documents.plan_work import Arrivals

Day = NDArray[np.float64]
"""Shape (24,), the busiest hour is 1."""

SHAPES: dict[str, tuple[float, ...]] = {
    "flat": (1.0,) * 24,
    "office": (
        *(0.05, 0.05, 0.05, 0.05, 0.05, 0.08, 0.15, 0.4, 0.75, 0.95, 1.0, 0.95),
        *(0.7, 0.85, 0.95, 0.95, 0.9, 0.7, 0.4, 0.2, 0.15, 0.1, 0.08, 0.05),
    ),
    "shop": (
        *(0.02, 0.02, 0.02, 0.02, 0.02, 0.03, 0.08, 0.2, 0.4, 0.6, 0.75, 0.85),
        *(0.9, 0.85, 0.8, 0.85, 0.95, 1.0, 0.9, 0.6, 0.25, 0.08, 0.03, 0.02),
    ),
    "evening": (
        *(0.45, 0.3, 0.2, 0.15, 0.12, 0.12, 0.18, 0.25, 0.3, 0.32, 0.35, 0.4),
        *(0.42, 0.42, 0.42, 0.45, 0.52, 0.62, 0.75, 0.88, 0.97, 1.0, 0.88, 0.65),
    ),
}
"""Assumed; write your own 24 numbers where you know them."""


def day_of(arrivals: Arrivals) -> Day:
    """The day of these arrivals; numbers of the user's own are scaled so that the busiest is 1."""
    if arrivals.shape_file is not None:
        raise InputError("is a file that nobody has read", where=arrivals.shape_file, right="documents.plan_beside.with_files")
    hours = np.asarray(SHAPES[arrivals.shape] if isinstance(arrivals.shape, str) else arrivals.shape, dtype=np.float64)
    top = float(hours.max())
    return hours / top if top > 0 else np.ones(24)


def year_of_temperatures(*, mean_c: float, season_c: float, day_c: float) -> NDArray[np.float64]:
    """8,760 hourly outdoor temperatures: a cosine over the year, coldest at the end of January, and one over the day.

    What weather does beyond (heat waves, cold snaps) is missing; the design temperature is for that.
    """
    hour = np.arange(8760)
    season = -np.cos(2.0 * np.pi * (hour / 24.0 - 25.0) / 365.0)
    day = -np.cos(2.0 * np.pi * (hour % 24 - 3.0) / 24.0)
    return mean_c + season_c * season + day_c * day
