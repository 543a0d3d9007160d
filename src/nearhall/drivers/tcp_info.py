"""Bytes that a connection put on the link, as the kernel counts them (tcp(7), TCP_INFO): TLS is in, IP and TCP headers are not.

`tcpi_bytes_sent` (Linux 4.19) counts retransmissions, as the link did; `tcpi_bytes_received` is at offset 128 since Linux 4.1.
"""

from __future__ import annotations

import socket
import struct
from typing import Protocol

_ACKED, _RECEIVED, _MIN_RTT, _SENT = 120, 128, 148, 200
"""Offsets in `struct tcp_info` (linux/tcp.h)."""
_SIZE = 256
_U64, _U32 = struct.Struct("=Q"), struct.Struct("=I")
_UNKNOWN = 0xFFFFFFFF
CONNECTIONS_MAX = 256
"""Remembered at once; the pools behind hold fewer."""


class _Socket(Protocol):
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...
    def getsockname(self) -> object: ...
    def getpeername(self) -> object: ...


def link_bytes(connection: _Socket) -> tuple[int, int]:
    """(sent, received) since the connection was made; raises OSError for a closed one."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    at = _SENT if len(info) >= _SENT + 8 else _ACKED
    return _U64.unpack_from(info, at)[0], _U64.unpack_from(info, _RECEIVED)[0]


def shortest_round_trip_s(connection: _Socket) -> float | None:
    """The shortest round trip to the other end of the connection in the last minutes (`tcpi_min_rtt`), by acknowledgements.

    No program's own time is in it. None where the kernel has none. Where something on the way ends TCP, it is the way to that.
    """
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except OSError:
        return None
    micros: int = _U32.unpack_from(info, _MIN_RTT)[0] if len(info) >= _MIN_RTT + 4 else _UNKNOWN
    return None if micros == _UNKNOWN else micros / 1e6


class LinkMeter:
    """What each exchange added to the bytes of its connection."""

    def __init__(self) -> None:
        self._last: dict[tuple[object, object], tuple[int, int]] = {}

    def added(self, connection: _Socket) -> tuple[int, int]:
        """(sent, received) on this connection since the last call for it; the first call includes its handshake."""
        try:
            key = (connection.getsockname(), connection.getpeername())
            sent, received = link_bytes(connection)
        except OSError:
            return 0, 0
        before = self._last.pop(key, (0, 0))
        if sent < before[0] or received < before[1]:
            before = (0, 0)  # the ports were used again by a new connection
        self._last[key] = (sent, received)
        while len(self._last) > CONNECTIONS_MAX:
            del self._last[next(iter(self._last))]
        return sent - before[0], received - before[1]
