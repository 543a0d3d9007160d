"""Free TCP ports below the ephemeral range, where no outgoing connection can take them between now and their use."""

from __future__ import annotations

import socket
from collections.abc import Collection
from random import SystemRandom

from nearhall.core.errors import TemporaryError

LOWEST, HIGHEST = 20_000, 32_000
"""Above the registered services people run, below Linux's first ephemeral port (32768)."""
TRIES = 2_000


def free_ports(count: int, *, host: str = "127.0.0.1", without: Collection[int] = ()) -> list[int]:
    """`count` distinct ports that could be bound a moment ago, none of those that are promised already."""
    draw = SystemRandom()
    found: list[int] = []
    for _ in range(TRIES):
        port = draw.randrange(LOWEST, HIGHEST)
        if port not in found and port not in without and is_free(host, port):
            found.append(port)
            if len(found) == count:
                return found
    message = f"no {count} free ports between {LOWEST} and {HIGHEST} on {host}"
    raise TemporaryError(message)


def is_free(host: str, port: int) -> bool:
    """Whether the port can be bound now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
