"""The link between sites and hub: a shaper of TCP streams with a round trip, jitter and bandwidth, that can be cut and restored.

Every site has lanes (one to the hub's control API, one to its gateway); a lane listens on the site's side and calls the hub's.
Evidence of everything measured through it is `simulated`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

from nearhall.core.errors import InputError, TemporaryError
from nearhall.sim.lane import Connection, Count, Lane, SiteLink
from nearhall.sim.shaping import Shape

RTT_MS_MAX = 10_000.0
MBPS_MAX = 100_000.0
"""Beyond the worst satellite and the best port; anything larger is a slip of the unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """One way from a site to the hub."""

    site: str
    name: str
    """`api` or `gateway`."""
    listen: str
    """`HOST:PORT` on the site's side; port 0 takes a free one, told when ready."""
    to: str
    """`HOST:PORT` of the hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the link program is told; the defaults are a wide-area link within a country."""

    lanes: Sequence[LaneSettings]
    rtt_ms: float = 40.0
    jitter_ms: float = 2.0
    """A round trip takes between `rtt_ms` and `rtt_ms + jitter_ms`."""
    mbps: float = 50.0
    """Of each site, each way; 0 is unlimited."""
    seed: int = 1
    control: str = "127.0.0.1:0"
    """`HOST:PORT` of the control address (`sim.link_control`)."""
    exit_with_stdin: bool = False


@dataclass(slots=True, kw_only=True)
class _State:
    """The numbers that can be set while the link runs."""

    rtt_ms: float
    jitter_ms: float
    mbps: float


@dataclass(slots=True, kw_only=True)
class Link:
    """All lanes of all sites."""

    settings: Settings
    _sites: dict[str, SiteLink] = field(default_factory=dict[str, SiteLink])
    _counts: dict[str, dict[str, Count]] = field(default_factory=dict[str, dict[str, Count]])
    _servers: list[asyncio.Server] = field(default_factory=list[asyncio.Server])
    _open: set[Connection] = field(default_factory=set[Connection])
    _state: _State = field(init=False)
    addresses: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """By site and lane, where it listens."""

    def __post_init__(self) -> None:
        told = self.settings
        self._state = _State(rtt_ms=told.rtt_ms, jitter_ms=told.jitter_ms, mbps=told.mbps)
        self._check(self._state)
        for lane in told.lanes:
            self._sites.setdefault(lane.site, SiteLink(self._shape()))
            lanes = self._counts.setdefault(lane.site, {})
            if lane.name in lanes:
                raise InputError(f"site {lane.site} has two lanes {lane.name!r}", where="lanes", right="name each lane once")
            lanes[lane.name] = Count()

    async def start(self) -> None:
        """Listens on every lane; raises TemporaryError for an address that is taken."""
        loop = asyncio.get_running_loop()
        for told in self.settings.lanes:
            lane = self._lane(told)
            host, port = address(told.listen, where="listen")
            try:
                server = await loop.create_server(lambda lane=lane: Connection(lane), host, port)
            except OSError as error:
                message = f"cannot listen on {told.listen} ({error.strerror or error})"
                raise TemporaryError(message) from error
            self._servers.append(server)
            bound = server.sockets[0].getsockname()
            self.addresses.setdefault(told.site, {})[told.name] = f"{bound[0]}:{bound[1]}"

    async def close(self) -> None:
        """Stops listening and closes every connection."""
        for server in self._servers:
            server.close()
        for connection in tuple(self._open):
            connection.abort()
        for server in self._servers:
            await server.wait_closed()

    def stats(self) -> Mapping[str, Mapping[str, Mapping[str, int]]]:
        """By site and lane: `up_bytes`, `down_bytes` that crossed, and `connections` that were made."""
        return {
            site: {
                name: {"up_bytes": count.up_bytes, "down_bytes": count.down_bytes, "connections": count.connections}
                for name, count in lanes.items()
            }
            for site, lanes in self._counts.items()
        }

    def state(self) -> Mapping[str, object]:
        """The shape as it is, and which sites are cut off."""
        cut = sorted(name for name, site in self._sites.items() if site.cut)
        return {"rtt_ms": self._state.rtt_ms, "jitter_ms": self._state.jitter_ms, "mbps": self._state.mbps, "cut": cut}

    def cut(self, site: str | None) -> None:
        """Stalls a site's bytes (None: every site's): nothing is reset, new connections are taken and stall."""
        for link in self._chosen(site):
            link.cut = True

    def restore(self, site: str | None) -> None:
        """Ends a cut: what was held flows on at once, in order."""
        for link in self._chosen(site):
            link.restore()

    def set(self, **numbers: float) -> None:
        """Changes `rtt_ms`, `jitter_ms`, `mbps` for what enters from now on; raises InputError for anything else."""
        changed = _State(rtt_ms=self._state.rtt_ms, jitter_ms=self._state.jitter_ms, mbps=self._state.mbps)
        for name, value in numbers.items():
            if name not in {"rtt_ms", "jitter_ms", "mbps"}:
                raise InputError(f"{name!r} cannot be set", right="one of: rtt_ms, jitter_ms, mbps")
            setattr(changed, name, value)
        self._check(changed)
        self._state = changed
        for site in self._sites.values():
            site.shape = self._shape()

    def _lane(self, told: LaneSettings) -> Lane:
        host, port = address(told.to, where="to")
        return Lane(
            site=self._sites[told.site],
            host=host,
            port=port,
            count=self._counts[told.site][told.name],
            random=Random(f"{self.settings.seed}/{told.site}/{told.name}"),  # noqa: S311 (a simulation)
            open=self._open,
        )

    def _shape(self) -> Shape:
        return Shape.of(rtt_ms=self._state.rtt_ms, jitter_ms=self._state.jitter_ms, mbps=self._state.mbps)

    def _chosen(self, site: str | None) -> Sequence[SiteLink]:
        if site is None:
            return tuple(self._sites.values())
        if site not in self._sites:
            raise InputError(f"there is no site {site!r} on this link", right=f"one of: {', '.join(sorted(self._sites))}")
        return (self._sites[site],)

    @staticmethod
    def _check(state: _State) -> None:
        for name, value, most in (
            ("rtt_ms", state.rtt_ms, RTT_MS_MAX),
            ("jitter_ms", state.jitter_ms, RTT_MS_MAX),
            ("mbps", state.mbps, MBPS_MAX),
        ):
            if not 0 <= value <= most:
                raise InputError(f"{name} is {value:g}", right=f"between 0 and {most:g}")


def address(text: str, *, where: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[HOST]:PORT`; raises InputError."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise InputError(f"{text!r} is no address", where=where, right="HOST:PORT, such as 127.0.0.1:23710")
    return host, port


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop for the link: select() keeps time in microseconds.

    epoll, which asyncio and uvloop wait with, rounds up to whole milliseconds: a round trip would be up to 2 ms too long.
    """
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
