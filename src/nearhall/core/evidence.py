"""Where a number comes from, and how weak a derived number is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How a number came to be, strongest first in `STRENGTH`."""

    MEASURED = "measured"
    VENDOR = "vendor"
    STANDARD = "standard"
    SIMULATED = "simulated"
    ASSUMED = "assumed"


STRENGTH: dict[Kind, int] = {
    Kind.MEASURED: 3,
    Kind.VENDOR: 2,
    Kind.STANDARD: 2,
    Kind.SIMULATED: 1,
    Kind.ASSUMED: 0,
}
"""A figure derived from several others is as weak as its weakest input (measured > vendor, standard > simulated > assumed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why a number may be believed."""

    kind: Kind
    source: str
    """The instrument, document, command or person that gave the number, in words a reader can check."""
    date: str | None = None
    """UTC, ISO 8601; None where the number does not age (a standard's constant)."""


def weakest(inputs: Iterable[Kind]) -> Kind:
    """The kind of a figure derived from `inputs`; a figure without inputs is assumed."""
    return min(inputs, key=STRENGTH.__getitem__, default=Kind.ASSUMED)
