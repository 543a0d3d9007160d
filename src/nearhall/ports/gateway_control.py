"""The gateway's control socket, seen from the agent."""

from __future__ import annotations

from typing import Protocol

from nearhall.wire.energy import EnergyTold
from nearhall.wire.telemetry import GatewayStats


class GatewayControl(Protocol):
    """Counters out, wishes and the meters' readings in."""

    async def stats(self) -> GatewayStats:
        """The gateway's counters; raises TemporaryError when it does not answer."""
        ...

    async def set_model(self, model: str, wanted: str) -> None:
        """Loads (`loaded`) or unloads (`unloaded`) a model; raises TemporaryError, or PermanentError when it is refused."""
        ...

    async def tell_energy(self, told: EnergyTold) -> None:
        """One window of the site's meters; raises TemporaryError, or PermanentError from a gateway that does not know it."""
        ...
