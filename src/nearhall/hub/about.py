"""A site's self-description, as its agents send it in `hello`: what the hub needs to make sense of the site's records."""

from __future__ import annotations

from typing import Any

import msgspec


class LinkAbout(msgspec.Struct, frozen=True):
    """The link, as the site was set up."""

    rtt_ms: float | None = None
    jitter_ms: float | None = None
    mbps: float | None = None
    kind: str = "assumed"
    source: str = ""
    measured: dict[str, Any] | None = None
    """The round trip of the user's own that the played link was given: `p50_ms`, `jitter_ms`, `n`, `url` and how."""


class WorkloadAbout(msgspec.Struct, frozen=True):
    """One stream of requests."""

    id: str
    model: str
    slo_ms: float | None = None
    slo_ttft_ms: float | None = None
    residency: str = "any"
    priority: int = 0
    chat: bool = False
    raw_baseline: str = ""

    @property
    def target_ms(self) -> float | None:
        """The target that `late` is counted against."""
        return self.slo_ttft_ms if self.chat else self.slo_ms


class MeterAbout(msgspec.Struct, frozen=True):
    """One instrument, as it was set up."""

    id: str
    position: str
    protocol: str = "modbus"
    profile: str = ""
    serial: str | None = None
    class_percent: float | None = None
    ct_ratio: float | None = None


class CatalogueAbout(msgspec.Struct, frozen=True):
    """The catalogue server whose curve stands for the site's."""

    id: str = ""
    idle_w: float | None = None
    busy_w: float | None = None
    source: str = ""


class UpsAbout(msgspec.Struct, frozen=True):
    """The UPS, for what it should lose."""

    rating_w: float | None = None


class NodeAbout(msgspec.Struct, frozen=True):
    """One server of the site."""

    id: str
    hardware: str | None = None


class About(msgspec.Struct, frozen=True, rename={"site_class": "class"}):
    """The whole of it; what a site leaves out is unknown, never guessed."""

    site_class: str = "micro"
    jurisdiction: str = ""
    nodes: list[NodeAbout] = []
    """All servers of the site, whichever of them says it, the first one first; empty where nobody says."""
    host: dict[str, Any] = {}
    link: LinkAbout = LinkAbout()
    workloads: list[WorkloadAbout] = []
    meters: list[MeterAbout] = []
    catalogue: CatalogueAbout = CatalogueAbout()
    ups: UpsAbout = UpsAbout()


def parse_about(data: bytes) -> About:
    """The description; an empty one where it cannot be read, since a site must not be lost for a line of text."""
    try:
        return msgspec.json.decode(data, type=About)
    except msgspec.DecodeError:
        return About()
