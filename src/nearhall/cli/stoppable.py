"""Ctrl-C during a long search: the first one asks for the best so far, the second one ends the program."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self


class Stoppable:
    """While open, SIGINT sets `asked` if `armed`; otherwise, and the second time, it interrupts as usual."""

    def __init__(self) -> None:
        self.armed = False
        """Whether there is something that can be stopped and kept."""
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Self:
        """Takes the signal over."""
        self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Gives it back."""
        signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        if not self.armed or self.asked:
            raise KeyboardInterrupt
        self.asked = True
