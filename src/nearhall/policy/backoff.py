"""How long to wait before trying again: after a crash, and after the link was lost."""

from __future__ import annotations

RESTART_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before the first, second, ... start after crashes; the last one repeats; the first is free: most crashes are single."""
HEALTHY_S = 60.0
"""A process that lived this long starts the row anew."""
RETRY_LEAST_S = 0.2
RETRY_MOST_S = 1.0
"""A site's outbox must drain within 2 s of the link's return, so it never sleeps longer than half of that."""


def restart_wait_s(crashes_in_a_row: int) -> float:
    """Before the next start, after so many crashes in a row (1 or more)."""
    return RESTART_S[min(max(crashes_in_a_row, 1), len(RESTART_S)) - 1]


def crashes_after(crashes_in_a_row: int, lived_s: float) -> int:
    """The crashes in a row, after one more by a process that lived `lived_s`."""
    return 1 if lived_s >= HEALTHY_S else crashes_in_a_row + 1


def retry_wait_s(last_wait_s: float, draw: float) -> float:
    """Before the next try, by decorrelated jitter (Brooker, AWS, 2015), so that sites cut off together come back apart.

    `draw` is uniform in [0, 1); `last_wait_s` is 0 before the first.
    """
    high = min(RETRY_MOST_S, max(RETRY_LEAST_S, last_wait_s) * 3.0)
    return RETRY_LEAST_S + draw * (high - RETRY_LEAST_S)
