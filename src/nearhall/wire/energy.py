"""What the agent, who reads the meters, tells the gateway, who knows its models: `POST /control/energy`, once a window."""

from __future__ import annotations

import msgspec


class EnergyTold(msgspec.Struct, frozen=True, omit_defaults=True):
    """One window of a site's meters, joules; what no meter says is left out."""

    seconds: float
    it_j: float | None = None
    """Of the servers."""
    it_kind: str = "assumed"
    """`core.evidence.Kind` of it."""
    idle_w: float | None = None
    """What the servers draw with nothing to do."""
    idle_kind: str = "assumed"
    site_j: float | None = None
    """At the feed."""
    site_kind: str = "assumed"
    it_w: float | None = None
    """Mean of what the meter of the servers itself said of its power: a register of energy may step too coarsely for that."""
    it_position: str = ""
    """Where it is: `ups_out`, `pdu` or `it`."""
    site_w: float | None = None
    """The same of the feed's meter."""
