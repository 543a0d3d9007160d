"""Draws as a document tells them: quantiles, and numbers in its sentences."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from nearhall.core.shares import percent_beside, side
from nearhall.planner.samples.draws import Samples


def three(samples: Samples | Sequence[float], *, high: bool = False) -> dict[str, Any] | None:
    """P10, P50, P90 (with `high` P50, P90, P99); None where it is endless or unknown."""
    values = np.asarray(samples, dtype=np.float64)
    levels = (0.5, 0.9, 0.99) if high else (0.1, 0.5, 0.9)
    found = np.quantile(values, levels) if np.all(np.isfinite(values)) else None
    return None if found is None else {f"p{round(level * 100)}": float(v) for level, v in zip(levels, found, strict=True)}


def share(value: float) -> str:
    """A share in whole percent, as it stands in a sentence; what was drawn is never quite certain."""
    return "> 99\u00a0%" if value > 0.995 else "< 1\u00a0%" if value < 0.005 else f"{100 * value:.0f}\u00a0%"


def cases_asked(value: float, asked: float) -> str:
    """A share of the cases beside what is asked, told finely enough to see on which side of it the share lies."""
    told = f"{percent_beside(value, asked)}\u00a0%" if 0.005 <= value <= 0.995 else share(value)
    return f"{told} of the cases, {side(value, asked)} the {100 * asked:g}\u00a0% asked"


def usd(value: float) -> str:
    """Whole dollars in a sentence."""
    return f"\u2212${-value:,.0f}" if value < 0 else f"${value:,.0f}"


def listed(names: Collection[str]) -> str:
    """Names in a sentence, in their order of letters."""
    *first, last = sorted(names)
    return f"{', '.join(first)} and {last}" if first else last
