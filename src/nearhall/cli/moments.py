"""Moments as people type them."""

from __future__ import annotations

from datetime import UTC, datetime

from nearhall.core.errors import InputError


def moment(text: str | None, option: str) -> float | None:
    """Seconds since 1970 from ISO 8601; without a zone it is UTC. Raises InputError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is no moment", where=option, right="ISO 8601, for example 2026-11-23T08:00Z") from error
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
