"""The gateway's control socket behind `ports.gateway_control`: HTTP over a Unix socket."""

from __future__ import annotations

import httpcore
import msgspec

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.wire.energy import EnergyTold
from nearhall.wire.telemetry import GatewayStats

ANSWER_S = 2.0
LOAD_S = 60.0


class GatewaySocket:
    """One gateway's control socket."""

    def __init__(self, path: str) -> None:
        self._pool = httpcore.AsyncConnectionPool(uds=path, max_connections=2)
        self._decoder = msgspec.json.Decoder(GatewayStats)

    async def stats(self) -> GatewayStats:
        """The gateway's counters."""
        body = await self._ask("GET", "/control/stats", ANSWER_S)
        try:
            return self._decoder.decode(body)
        except msgspec.DecodeError as error:
            raise TemporaryError(f"the gateway's counters cannot be read: {error}") from error

    async def set_model(self, model: str, wanted: str) -> None:
        """Loads or unloads a model."""
        verb = "load" if wanted == "loaded" else "unload"
        await self._ask("POST", f"/v2/repository/models/{model}/{verb}", LOAD_S)

    async def tell_energy(self, told: EnergyTold) -> None:
        """One window of the site's meters."""
        await self._ask("POST", "/control/energy", ANSWER_S, msgspec.json.encode(told))

    async def close(self) -> None:
        """Closes the connection."""
        await self._pool.aclose()

    async def _ask(self, method: str, path: str, seconds: float, body: bytes = b"") -> bytes:
        timeout = {"connect": ANSWER_S, "read": seconds, "write": ANSWER_S, "pool": seconds}
        try:
            answer = await self._pool.request(method, f"http://gateway{path}", content=body, extensions={"timeout": timeout})
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            raise TemporaryError(f"the gateway's control socket does not answer: {type(error).__name__}") from error
        if answer.status >= 500:
            raise TemporaryError(f"the gateway answered {answer.status} to {path}")
        if answer.status >= 400:
            raise PermanentError(f"the gateway refused {path}: {answer.content[:200].decode(errors='replace')}")
        return answer.content
