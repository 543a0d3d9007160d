"""A site's blocks as arrays: energy by position, and which of them ran on mains. Built once; a year has 35,000 of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.documents.site_returns import POSITIONS, BlockReturn, SiteReturns

Column = NDArray[np.float64]
"""One value per block, shape (blocks,); NaN where there is none."""

IT = ("it", "pdu", "ups_out")
"""Where IT energy is metered, the best first (ISO/IEC 30134-2: categories 3, 2, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteBlocks:
    """One site's returns, ready to be counted with."""

    returns: SiteReturns
    start_s: Column
    seconds: Column
    kwh: Mapping[str, Column]
    """By position that has instruments; NaN for a block in which one of them was not read, or went back."""
    outdoor_c: Column
    sent_bytes: Column
    good: Mapping[str, Column]
    """Requests in time by workload; 0 where none came, NaN where nobody counted them."""
    total: Mapping[str, Column]

    @property
    def on_battery(self) -> NDArray[np.bool_]:
        """Whether the UPS fed the load from its battery for most of a block: it then gives out more than it takes in."""
        if "ups_in" not in self.kwh or "ups_out" not in self.kwh:
            return np.zeros(len(self.seconds), dtype=np.bool_)
        return (self.kwh["ups_out"] > 0) & (self.kwh["ups_in"] < 0.5 * self.kwh["ups_out"])

    def first(self, group: Sequence[str]) -> str | None:
        """The first position of a group that has an instrument."""
        return next((position for position in group if position in self.kwh), None)


def site_blocks(returns: SiteReturns) -> SiteBlocks:
    """The arrays of one site's returns."""
    blocks = returns.blocks
    counted = {name for block in blocks for name in block.slo}
    whole = sorted(counted | {name for block in blocks for name in block.total})
    return SiteBlocks(
        returns=returns,
        start_s=_column([block.start_s for block in blocks]),
        seconds=_column([block.seconds for block in blocks]),
        kwh={p: _column([returns.block_kwh(b, p) for b in blocks]) for p in POSITIONS if returns.at(p)},
        outdoor_c=_column([block.outdoor_c for block in blocks]),
        sent_bytes=_column([block.sent_bytes for block in blocks]),
        good={name: _column([_good(block, name) for block in blocks]) for name in sorted(counted)},
        total={name: _column([_total(block, name) for block in blocks]) for name in whole},
    )


def _good(block: BlockReturn, name: str) -> float | None:
    """Requests in time; unknown where some came and nobody counted those in time."""
    if name in block.slo:
        return block.slo[name][0]
    return None if block.total.get(name) else 0


def _total(block: BlockReturn, name: str) -> float:
    return block.slo[name][1] if name in block.slo else block.total.get(name, 0)


def _column(values: Sequence[float | None]) -> Column:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
