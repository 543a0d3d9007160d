"""What has to be bought whole at a place for the workloads that are answered there together.

Two workloads may share one server, or need three where each alone needs one: no sum of shares says that. So each set that comes
in question is sized, on each kind of server that may carry it, and the cheapest is taken; placement asks for no more sets than
it must (`placement.cuts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nearhall.documents.plan import Plan
from nearhall.planner.placement.solver import Floats
from nearhall.planner.serving.equipment import Equipment
from nearhall.planner.serving.options import Option
from nearhall.planner.serving.pool import BUSY_MAX, Pool
from nearhall.planner.serving.sharing import Chosen, together
from nearhall.planner.site_costs import SiteCosts

LEAST_P = 0.5
"""Where servers are planned for less than the middle case, nothing is said of what a set takes at least."""


@dataclass(frozen=True, kw_only=True)
class ServersBought:
    """The servers of every place, for any of the points; in US dollars a year of all sites alike."""

    at: tuple[Mapping[int, Option], ...]
    """By place: the options of the points that may be answered there; none at a hub, which has what it needs."""
    costs: tuple[SiteCosts | None, ...]
    """By place; None at a hub."""
    points: int
    equipment: Equipment
    p_min: float
    seed: int
    _known: dict[tuple[int, frozenset[int]], Chosen] = field(default_factory=dict[tuple[int, frozenset[int]], Chosen], repr=False)

    def chosen(self, place: int, points: frozenset[int]) -> Chosen:
        """The kinds of servers that those points share there at the least cost, and that cost at one site (`usd`)."""
        key = (place, points)
        if key not in self._known:
            costs = self.costs[place]
            assert costs is not None  # noqa: S101 (hubs buy nothing)

            def usd_of(options: Sequence[Option], pools: Mapping[str, Sequence[Pool]]) -> float:
                whole = sum(p.servers * costs.server_usd(self.equipment.servers[name]) for name, ps in pools.items() for p in ps)
                return whole + sum(self._busy_usd(costs, o) - self.busy_usd(place, o) for o in options)

            options = [self.at[place][point] for point in sorted(points)]
            self._known[key] = together(options, usd_of, p_min=self.p_min, seed=self.seed)
        return self._known[key]

    def busy_usd(self, place: int, option: Option) -> float:
        """What its requests make servers draw above idle at one site, on the kind that draws least: its own in any set."""
        costs = self.costs[place]
        assert costs is not None  # noqa: S101 (hubs buy nothing)
        return min(self._busy_usd(costs, kind) for kind in option.kinds or (option,))

    def usd(self, place: int, points: frozenset[int]) -> float:
        """What those points together take there beside their `busy_usd`; without end where no number of servers does."""
        costs = self.costs[place]
        if costs is None or not points:
            return 0.0
        if len(points) == 1:  # sized already, when its options were looked for
            (option,) = (self.at[place][point] for point in points)
            kinds, own = option.kinds or (option,), self.busy_usd(place, option)
            return costs.site.count * min(self._alone_usd(costs, kind) - own for kind in kinds)
        return costs.site.count * self.chosen(place, points).usd_per_year

    def least_usd(self) -> Floats:
        """Shape (points, places): no set of points takes less than the sum of these.

        No server is planned fuller than `BUSY_MAX`, so that a workload takes that share of one at least, of the kind on which
        that is cheapest.
        """
        least = np.zeros((self.points, len(self.at)))
        for place, (options, costs) in enumerate(zip(self.at, self.costs, strict=True)):
            if costs is None or self.p_min < LEAST_P:
                continue
            for point, option in options.items():
                own = self.busy_usd(place, option)
                shares = [self._share_usd(costs, kind) - own for kind in option.kinds or (option,)]
                least[point, place] = costs.site.count * min(shares)
        return least

    def likely_usd(self) -> Floats:
        """Shape (points, places): what each takes of servers that its SLO lets it load, beside its `busy_usd`."""
        likely = np.zeros((self.points, len(self.at)))
        for place, (options, costs) in enumerate(zip(self.at, self.costs, strict=True)):
            for point, option in options.items():
                if costs is not None and option.service is not None:
                    server = self.equipment.servers[option.service.server]
                    likely[point, place] = costs.site.count * option.servers_worth() * costs.server_usd(server)
        return likely

    def _alone_usd(self, costs: SiteCosts, option: Option) -> float:
        assert option.service is not None  # noqa: S101 (what may be placed at a site has a service and servers)
        assert option.alone is not None  # noqa: S101
        whole = option.alone.servers * costs.server_usd(self.equipment.servers[option.service.server])
        return whole + self._busy_usd(costs, option)

    def _share_usd(self, costs: SiteCosts, option: Option) -> float:
        assert option.service is not None  # noqa: S101 (what may be placed at a site has a service and servers)
        assert option.alone is not None  # noqa: S101
        share = option.alone.lanes[0].middle.work / BUSY_MAX
        return share * costs.server_usd(self.equipment.servers[option.service.server]) + self._busy_usd(costs, option)

    def _busy_usd(self, costs: SiteCosts, option: Option) -> float:
        assert option.service is not None  # noqa: S101
        return costs.busy_usd(option, self.equipment.servers[option.service.server])


def bought_of(
    plan: Plan, options: Sequence[Sequence[Option]], equipment: Equipment, costs: Mapping[str, SiteCosts]
) -> ServersBought:
    """For all points, each with its options; places are the plan's sites, then its hubs."""
    places = (*(site.id for site in plan.sites), *(hub.id for hub in plan.hubs))
    at: dict[str, dict[int, Option]] = {name: {} for name in places}
    for row, found in enumerate(options):
        for option in found:
            if option.allowed and not option.is_hub:
                at[option.at][row] = option
    return ServersBought(
        at=tuple(at[name] for name in places),
        costs=tuple(costs.get(name) for name in places),
        points=len(options),
        equipment=equipment,
        p_min=plan.decision.min_p_slo,
        seed=plan.seed,
    )
