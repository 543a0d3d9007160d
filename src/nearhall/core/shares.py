"""A share told beside the one that was asked for: rounding must not hide on which side of it the share lies."""

from __future__ import annotations

DIGITS_MAX = 6
"""More decimal places than these tell nothing that was drawn."""
JUST = 0.01
"""Nearer than this to what is asked, a share passes or fails by little only."""


def percent_beside(share: float, asked: float) -> str:
    """The share in percent without its sign, with as few decimal places as show on which side of what is asked it lies."""
    wanted, where = round(100.0 * asked, DIGITS_MAX), _sign(share, asked)
    told = [f"{100.0 * share:.{places}f}" for places in range(DIGITS_MAX + 1)]
    return next((text for text in told if _sign(float(text), wanted) == where), told[-1])


def _sign(value: float, other: float) -> int:
    return (value > other) - (value < other)


def side(share: float, asked: float) -> str:
    """On which side of what is asked: `below`, `just below`, `exactly`, `just above`, `above`."""
    word = ("exactly", "above", "below")[_sign(share, asked)]
    return f"just {word}" if 0.0 < abs(share - asked) < JUST else word
