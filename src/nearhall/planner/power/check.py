"""One thing that an engineer would look at, and how it came out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Computed, or named as not checked; for review by a licensed engineer either way."""

    name: str
    state: str
    """ok, fails, not_checked."""
    words: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""
