"""Whether a node can do what a request asks for: by any of a model's variants, by another engine alone, or not at all.

Our own runtimes do less than other engines behind them (ADR 0032), and not every node has an engine (ADR 0036).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class By(Enum):
    """Who at a node may answer a request."""

    ANY = "any"
    ENGINE = "engine"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a request asks for beyond what every node does."""

    engine: bool = False
    """Something that only another engine may do."""
    tokens: int = 0
    """The length that it states for its answer; 0: it states none."""


PLAIN = Needs()
"""Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Able:
    """What one node can do for a model."""

    tokens: int | None = None
    """Of one answer by the node's own runtimes; None: it has told no limit."""
    engine: bool = False
    """Another engine is among the model's variants there."""
    engine_tokens: int | None = None
    """Of one answer by that engine; None: it has its own limit."""


def answered_by(needs: Needs, able: Able) -> By:
    """Who at the node may answer."""
    if not needs.engine and (able.tokens is None or needs.tokens <= able.tokens):
        return By.ANY
    if able.engine and (able.engine_tokens is None or needs.tokens <= able.engine_tokens):
        return By.ENGINE
    return By.NONE


def worth_reading(nodes: Sequence[Able | None]) -> bool:
    """Whether what a request needs decides where it goes. None: a node that is away and has told nothing of the model yet."""
    known = {able for able in nodes if able is not None}
    if len(nodes) < 2 or not known:
        return False
    return None in nodes or len(known) > 1 or any(able.engine for able in known)
