"""What a server costs where it stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.planner.serving.server import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a server costs its site in a year; medians."""

    usd_per_year_of_usd: float
    """Yearly payment for each dollar of a server's price."""
    usd_per_w_year: float
    """Energy of a watt that is drawn all year, cooling and losses included."""

    def of(self, server: Server, count: float, busy_w: float) -> float:
        """So many whole servers, of which so many watts are busy and the rest idle, USD a year."""
        bought = count * float(np.median(server.cost_usd)) * self.usd_per_year_of_usd
        return bought + (count * float(np.median(server.idle_w)) + busy_w) * self.usd_per_w_year
