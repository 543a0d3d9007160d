"""A hub's control plane in process: a store in memory, a clock that is turned by hand, no sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from hub.asgi_client import Client
from hub.small_site import START_S, about
from nearhall.drivers.clock import ManualClock
from nearhall.drivers.store_memory import MemoryStore
from nearhall.hub.api import control_api, peer_by_tls
from nearhall.hub.live import Board
from nearhall.hub.page import page_app
from nearhall.hub.service import Hub
from nearhall.ports.store import Store
from nearhall.wire.live import LiveState
from nearhall.wire.session import Batch, Hello, Numbered
from nearhall.wire.telemetry import Record

TOKEN = "a-token-that-nobody-guesses"
HOST = "127.0.0.1:8445"


async def at_once(call: Any, *arguments: Any) -> Any:
    """`off_loop` without a thread."""
    return call(*arguments)


@dataclass
class Rig:
    """One hub and its callers."""

    hub: Hub
    store: Store
    clock: ManualClock

    def site(self, name: str = "shop-01") -> Client:
        """A site's agent with its own certificate."""
        return Client(control_api(self.hub, peer=peer_by_tls), certificate=name)

    def stranger(self, **headers: str) -> Client:
        """A browser that knows the address and nothing else."""
        app = page_app(self.hub, token=TOKEN, hosts=frozenset({HOST, "localhost:8445"}), render=render)
        return Client(app, {"host": HOST, **headers})

    def person(self, **headers: str) -> Client:
        """Somebody who knows the token."""
        return self.stranger(authorization=f"Bearer {TOKEN}", **headers)


def render(events: str, state: LiveState) -> str:
    """A page of one line."""
    return f"<p>{events} {len(state.sites)}</p>"


def rig(store: Store | None = None, started_s: float = START_S) -> Rig:
    """A hub on a new store, or on one that is there."""
    held = store or MemoryStore()
    clock = ManualClock(started_s)
    board = Board(hub="hub (DE)", software="nearhall test", started_s=started_s)
    return Rig(hub=Hub(hub_id="hub-1", store=held, board=board, clock=clock, off_loop=at_once), store=held, clock=clock)


def hello(**more: Any) -> bytes:
    """A site's first words."""
    said: dict[str, Any] = {"protocols": [1], "software": "s", "boot_id": "boot", "outbox_id": "outbox"}
    return msgspec.json.encode(Hello(**(said | {"next_number": 1, "oldest_pending": 1, "about": about()} | more)))


def batch(*numbered: tuple[int, Record]) -> bytes:
    """Records as a site sends them."""
    records = [Numbered(number, record) for number, record in numbered]
    return msgspec.json.encode(Batch(outbox_id="outbox", first_kept=records[0].number if records else 1, records=records))
