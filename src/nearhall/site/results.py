"""What the site's applications found: numbers by datagram on a Unix socket. Only numbers, so only numbers can leave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Annotated

import msgspec

from nearhall.wire.telemetry import Outcome

NAMES_MAX = 64
"""Distinct names a workload may report; further ones are passed over, so that a faulty application cannot fill the link."""
WORKLOADS_MAX = 64
DATAGRAM_BYTES_MAX = 1024


_Name = Annotated[str, msgspec.Meta(pattern=r"^[\w.:-]{1,64}$")]
"""A name, no sentence: what an application saw must not leave in it."""


class _Result(msgspec.Struct, frozen=True):
    workload: _Name
    name: _Name
    count: int = 1
    value: float | None = None
    """Without one, things were only counted: each adds one."""


_decoder = msgspec.json.Decoder(_Result)


class Results(asyncio.DatagramProtocol):
    """Adds up what applications report until the window takes it."""

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, tuple[int, float]]] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self.refused = 0
        """Datagrams that were none."""

    async def listen(self, path: Path) -> None:
        """Makes the socket, for this user alone."""
        path.unlink(missing_ok=True)  # noqa: ASYNC240 (once, at the start)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=str(path), family=socket.AF_UNIX)
        path.chmod(0o600)  # noqa: ASYNC240

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Counts one report; what is no report, or one name too many, is passed over."""
        with contextlib.suppress(msgspec.DecodeError):
            if len(data) <= DATAGRAM_BYTES_MAX:
                result = _decoder.decode(data)
                names = self._sums.get(result.workload)
                if names is None and len(self._sums) < WORKLOADS_MAX:
                    names = self._sums.setdefault(result.workload, {})
                if names is not None and (result.name in names or len(names) < NAMES_MAX):
                    count, total = names.get(result.name, (0, 0.0))
                    added = result.count if result.value is None else result.value
                    names[result.name] = (count + result.count, total + added)
                    return
        self.refused += 1

    def window(self) -> dict[str, list[Outcome]]:
        """What was reported since the last call."""
        sums, self._sums = self._sums, {}
        return {
            workload: [Outcome(name=name, count=count, total=total) for name, (count, total) in names.items()]
            for workload, names in sums.items()
        }

    def close(self) -> None:
        """Closes the socket."""
        if self._transport is not None:
            self._transport.close()
