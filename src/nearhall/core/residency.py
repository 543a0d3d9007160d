"""Where a request's data may go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Reach(Enum):
    """How far data may travel."""

    SITE = "site"
    JURISDICTION = "jurisdiction"
    ANY = "any"


_JURISDICTION = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
"""ISO 3166-1 alpha-2, optionally with an ISO 3166-2 subdivision (`DE`, `US-CA`)."""


@dataclass(frozen=True, slots=True)
class Residency:
    """A residency rule: `site`, `jurisdiction:DE` or `any`."""

    reach: Reach
    jurisdiction: str | None = None

    @classmethod
    def parse(cls, text: str) -> Residency:
        """Reads `site`, `any` or `jurisdiction:XX`; raises ValueError that says what would be right."""
        if text == "site":
            return cls(Reach.SITE)
        if text == "any":
            return cls(Reach.ANY)
        head, _, code = text.partition(":")
        if head == "jurisdiction" and _JURISDICTION.fullmatch(code):
            return cls(Reach.JURISDICTION, code)
        message = f"residency {text!r} is not one of: site, any, jurisdiction:XX (an ISO 3166 code such as DE or US-CA)"
        raise ValueError(message)

    def permits(self, jurisdiction: str) -> bool:
        """Whether data under this rule may be sent off the site to a hub in `jurisdiction`.

        A rule for a country permits its subdivisions (`jurisdiction:US` permits `US-CA`), never the other way round.
        """
        if self.reach is Reach.ANY:
            return True
        if self.reach is Reach.SITE or self.jurisdiction is None:
            return False
        return jurisdiction == self.jurisdiction or jurisdiction.startswith(f"{self.jurisdiction}-")

    def stricter(self, other: Residency) -> Residency:
        """The rule that permits less: a request may tighten its workload's rule, never loosen it.

        Two different jurisdictions permit no common place, so the stricter of them is `site`.
        """
        if self.reach is Reach.ANY:
            return other
        if other.reach is Reach.ANY or self == other:
            return self
        if Reach.SITE in {self.reach, other.reach}:
            return Residency(Reach.SITE)
        if self.jurisdiction is not None and other.permits(self.jurisdiction):
            return self
        if other.jurisdiction is not None and self.permits(other.jurisdiction):
            return other
        return Residency(Reach.SITE)

    def __str__(self) -> str:
        """The rule as it is written in documents and headers."""
        return f"jurisdiction:{self.jurisdiction}" if self.reach is Reach.JURISDICTION else self.reach.value
