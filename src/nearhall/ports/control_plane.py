"""The hub's control plane, seen from the hub's gateway, which is the one origin that sites dial."""

from __future__ import annotations

from typing import Protocol

from nearhall.ports.runtime import ForwardRequest, ForwardResponse


class ControlPlane(Protocol):
    """Where requests of the control API are handed on to."""

    async def forward(self, request: ForwardRequest) -> ForwardResponse:
        """Hands a request on; raises TemporaryError when nobody takes it or the answer breaks off before its head."""
        ...

    async def close(self) -> None:
        """Closes all connections."""
        ...
