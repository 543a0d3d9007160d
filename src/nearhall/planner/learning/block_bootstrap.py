"""How sure a pilot is of a tail latency: whole blocks are drawn again, for requests of one block are late together.

Blocks of 15 minutes are nearly independent, requests are not: drawing requests would make a week pose as a million trials
(Kuensch 1989, "The jackknife and the bootstrap for general stationary observations").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
DRAWS_LEAST, PICKS_MAX = 100, 4_000_000
"""A year's 35,000 blocks are drawn again a hundred times: enough for a probability in words."""
BLOCKS_LEAST = 8
"""Below so many blocks there is nothing to draw again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TailQuantile:
    """A quantile of latency, and where 80 % of redrawn pilots put it."""

    value_ms: float
    p10_ms: float
    p90_ms: float


def p_quantile_within(blocks: Sequence[tuple[int, int]], *, share: float, seed: int, draws: int = DRAWS) -> float | None:
    """Probability that at least `share` of all requests are in time, that is, that the SLO's own quantile keeps its limit.

    `blocks` are (in time, all). None below `BLOCKS_LEAST` blocks with requests.
    """
    used = np.array([block for block in blocks if block[1] > 0], dtype=np.float64).reshape(-1, 2)
    if len(used) < BLOCKS_LEAST:
        return None
    draws = max(DRAWS_LEAST, min(draws, PICKS_MAX // len(used)))
    picked = np.random.default_rng(seed).integers(0, len(used), size=(draws, len(used)))
    spare = (used[:, 0] - share * used[:, 1])[picked].sum(axis=1)
    return float(np.count_nonzero(spare >= -1e-9)) / draws


def latency_quantile(
    counts: NDArray[np.int64], upto_ms: NDArray[np.float64], *, q: float, seed: int, draws: int = DRAWS
) -> TailQuantile | None:
    """The quantile of all requests and its 80 % interval over redrawn blocks.

    `counts` of shape (blocks, bins) are requests by bin, `upto_ms` of shape (bins,) the bins' upper ends, ascending. Within a bin
    requests are taken as spread evenly. None below `BLOCKS_LEAST` blocks with requests.
    """
    used = counts[counts.sum(axis=1) > 0]
    if len(used) < BLOCKS_LEAST:
        return None
    random = np.random.default_rng(seed)
    picked = random.integers(0, len(used), size=(draws, len(used)))
    found: NDArray[np.float64] = np.fromiter(
        (_quantile(used[again].sum(axis=0), upto_ms, q) for again in picked), np.float64, draws
    )
    low, high = float(np.quantile(found, 0.1)), float(np.quantile(found, 0.9))
    return TailQuantile(value_ms=_quantile(used.sum(axis=0), upto_ms, q), p10_ms=low, p90_ms=high)


def _quantile(counts: NDArray[np.int64], upto_ms: NDArray[np.float64], q: float) -> float:
    upto: NDArray[np.float64] = np.zeros(len(counts) + 1)
    upto[1:] = np.cumsum(counts)
    ends: NDArray[np.float64] = np.zeros(len(counts) + 1)
    ends[1:] = upto_ms
    return float(np.interp(np.array([q * float(upto[-1])]), upto, ends)[0])
