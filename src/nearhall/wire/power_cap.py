"""What the gateway tells of its power cap: the answer of `/control/cap`, and part of `/control/stats`."""

from __future__ import annotations

import msgspec


class MeteredTold(msgspec.Struct, frozen=True):
    """The draw that a cap in watts is held against, by the last window of a meter."""

    of: str
    """`servers`, `site` or `counters`."""
    watts: float
    seconds: float
    """How long the window lasted."""
    age_s: float
    """Since it ended."""
    source: str
    """`meter`, `rapl`, `nvml` or `rapl+nvml`."""
    kind: str
    """`core.evidence.Kind`: `simulated` for a virtual meter."""
    covers: str
    """What is in it and what is not, in words."""


class PowerCapTold(msgspec.Struct, frozen=True):
    """The cap in force."""

    step_down: float = 0.0
    """How far variants step down now, 0 to 1."""
    watts: float | None = None
    """What the draw is held under; None for a cap that is a step."""
    until_s: float | None = None
    """When it ends by itself, seconds since 1970 UTC; None: there is no cap."""
    metered: MeteredTold | None = None
    """None for a cap that is a step, and while no meter answers."""
    reached: bool | None = None
    """Whether the draw is at or under `watts`; None for a cap that is a step, while no meter answers, and until a step shows."""
    steps: list[float] = []
    """The values of `step_down` at which another variant begins to answer some request; empty: none saves anything."""
    says: str = "no cap"
    """The same in words."""
