"""What a site costs and what the hub would cost instead, for one site and year by year.

Both options are computed from the same draws, so that what they share cancels sample by sample and the difference is sharp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.core.errors import InputError
from nearhall.planner.money.cashflow import Convention, Flows, annuity, npv_usd
from nearhall.planner.samples.draws import Samples

Amount = float | Samples
SECONDS_PER_H = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCosts:
    """One site; what runs is USD a year."""

    hardware_usd: Amount
    """Servers, bought today and again after each life of theirs."""
    enclosure_usd: Amount
    """Cabinet, cooling, UPS, meters, installation: once."""
    energy_usd: Amount
    demand_usd: Amount
    uplink_usd: Amount
    """The line with what is left on it."""
    operations_usd: Amount
    hub_usd: Amount = 0.0
    """Requests that go to the hub all the same."""
    egress_usd: Amount = 0.0
    value_usd: Amount = 0.0
    """What answers within the SLO are worth, by their number."""
    standing_value_usd: Amount = 0.0
    """What having them is worth, however many there are."""
    hardware_life_years: float
    """After which the servers are bought again."""

    def __post_init__(self) -> None:
        """A life of nothing would be bought for ever."""
        if self.hardware_life_years <= 0:
            raise InputError(
                f"a hardware life of {self.hardware_life_years:g} years", where="hardware", right="more than 0 years"
            )

    @property
    def capex_usd(self) -> Amount:
        """What is paid today."""
        return self.hardware_usd + self.enclosure_usd

    @property
    def running_usd(self) -> Amount:
        """What a year costs, replacements apart."""
        return self.energy_usd + self.demand_usd + self.uplink_usd + self.operations_usd + self.hub_usd + self.egress_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class HubCosts:
    """The same site without servers of its own: what a hub may answer, it answers; the rest is not answered. USD a year."""

    requests_usd: Amount
    uplink_usd: Amount
    """The site's line with everything on it."""
    egress_usd: Amount
    """What the cloud bills for answers that leave it; 0 for a hub of one's own."""
    value_usd: Amount = 0.0
    standing_value_usd: Amount = 0.0

    @property
    def running_usd(self) -> Amount:
        """What a year costs."""
        return self.requests_usd + self.uplink_usd + self.egress_usd


def operations_usd_per_year(
    *,
    visits_per_year: Amount,
    usd_per_visit: Amount,
    patching_h_per_year: Amount,
    usd_per_h: Amount,
    spares_share: Amount,
    hardware_usd: Amount,
) -> Amount:
    """Visits, hours of upkeep, and spares as a share of the hardware's price."""
    return visits_per_year * usd_per_visit + patching_h_per_year * usd_per_h + spares_share * hardware_usd


def hub_usd_per_request(*, usd_per_server_hour: Amount, utilisation: Amount, requests_per_s: Amount) -> Amount:
    """What a request costs at the hub: an hour of a server over the requests that it answers in it.

    `requests_per_s` is one server's at full load; `utilisation` is how busy the hub keeps it.
    """
    return usd_per_server_hour / (SECONDS_PER_H * requests_per_s * utilisation)


def site_flows(costs: SiteCosts, *, horizon_years: int) -> Flows:
    """A site's money, shape (samples, horizon_years + 1); nothing is sold at the end."""
    flows = _even(costs.value_usd + costs.standing_value_usd - costs.running_usd, horizon_years, like=costs.capex_usd)
    flows[:, 0] -= costs.capex_usd
    for year in replacement_years(costs.hardware_life_years, horizon_years):
        flows[:, year] -= costs.hardware_usd
    return flows


def hub_flows(costs: HubCosts, *, horizon_years: int, samples: int = 1) -> Flows:
    """The hub's money for the same requests, shape (samples, horizon_years + 1)."""
    yearly = costs.value_usd + costs.standing_value_usd - costs.running_usd
    return _even(yearly, horizon_years, like=np.zeros(samples))


def gain_flows(site: SiteCosts, hub: HubCosts, *, horizon_years: int) -> Flows:
    """What a site gains over the hub, sample by sample, shape (samples, horizon_years + 1)."""
    return site_flows(site, horizon_years=horizon_years) - hub_flows(hub, horizon_years=horizon_years)


def replacement_years(life_years: float, horizon_years: int) -> tuple[int, ...]:
    """The years in which hardware is bought again; none at the horizon's end, when nobody would."""
    count = int(np.ceil(horizon_years / life_years - 1e-9)) - 1
    return tuple(max(int(np.ceil(life_years * (k + 1) - 1e-9)), 1) for k in range(count))


def usd_per_thousand_in_slo(
    flows: Flows, *, requests_per_year: Amount, p_slo: Amount, rate: float, convention: Convention = "mid"
) -> Samples:
    """What a thousand answers within the SLO cost over the horizon, shape (samples,); infinite where none is within it.

    `flows` without any value of the answers in them; today's spending is spread over the years as an annuity.
    """
    years = flows.shape[1] - 1
    yearly = -npv_usd(flows, rate=rate, convention=convention) * annuity(years, rate=rate)
    if convention == "mid":
        yearly = yearly / (1.0 + rate) ** 0.5  # the annuity falls into each year's middle as well
    good = np.broadcast_to(np.asarray(requests_per_year * p_slo, dtype=np.float64), yearly.shape)
    return np.divide(1000.0 * yearly, good, out=np.full(yearly.shape, np.inf), where=good > 0.0)


def _even(yearly: Amount, years: int, *, like: Amount) -> Flows:
    running = np.atleast_1d(np.asarray(yearly, dtype=np.float64))
    flows = np.zeros((max(len(running), np.size(like)), years + 1))
    flows[:, 1:] = running[:, None]
    return flows
