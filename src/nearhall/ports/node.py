"""A node behind the front: requests go to it as they are, and its answers come back as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nearhall.core.errors import TemporaryError

Header = tuple[bytes, bytes]


class NodeLostError(TemporaryError):
    """The node cannot be reached, or dropped the connection before it had answered."""

    def __init__(self, message: str, *, sent: bool, busy: bool = False) -> None:
        self.sent = sent
        """Whether the node may have seen the request."""
        self.busy = busy
        """All connections that may be open to it carry requests: nothing is known against the node."""
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class NodeAsk:
    """A request on its way to a node."""

    method: str
    target: bytes
    """Path and query, as they go on the wire."""
    headers: Sequence[Header]
    """Without host, length and what belongs to one connection; the link adds those."""
    body: bytes
    repeatable: bool
    """Whether it may be sent again on a new connection when the node had closed the one that was kept."""


class Pieces(Protocol):
    """The body of an answer that comes piece by piece."""

    async def next(self) -> bytes | None:
        """The next piece, None at the end; raises NodeLostError when the answer breaks off."""
        ...

    def close(self) -> None:
        """Gives the rest up; safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """A node's answer: whole, or its head and what is to come."""

    status: int
    headers: Sequence[Header]
    """Names in lower case, without what belongs to one connection."""
    body: bytes | Pieces


Told = Callable[[NodeAnswer | NodeLostError], None]


class Sending(Protocol):
    """A request that a node has been sent."""

    def cancel(self) -> None:
        """Gives it up: the connection is closed, so that the node sees that nobody waits. `told` is not called any more."""
        ...


class NodeLink(Protocol):
    """The way to one node: connections that are kept, at most so many."""

    @property
    def heard_s(self) -> float:
        """When the last byte came from the node (monotonic, seconds); 0 before the first."""
        ...

    def send(self, ask: NodeAsk, told: Told) -> Sending:
        """Sends a request; `told` is called once, on the loop: with the whole answer, the head of a stream, or the loss."""
        ...

    def tidy(self) -> None:
        """Closes connections that were not used for long."""
        ...

    def close(self) -> None:
        """Closes all connections."""
        ...
