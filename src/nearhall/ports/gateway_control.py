"""The gateway's control socket, seen from the agent."""

from __future__ import annotations

from typing import Protocol

from nearhall.wire.telemetry import GatewayStats


class GatewayControl(Protocol):
    """Counters out, wishes in."""

    async def stats(self) -> GatewayStats:
        """The gateway's counters; raises TemporaryError when it does not answer."""
        ...

    async def set_model(self, model: str, wanted: str) -> None:
        """Loads (`loaded`) or unloads (`unloaded`) a model; raises TemporaryError, or PermanentError when it is refused."""
        ...
