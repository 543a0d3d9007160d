"""Tokens into text as they come, and the end of an answer at a stop string. No library here: decoding is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

INCOMPLETE = "\ufffd"
"""What a decoder gives for a character of which only the first bytes have come."""


@dataclass(slots=True)
class Speech:
    """One answer's text. What was said is never decoded again: an answer of n tokens costs n small decodings, not n²/2 tokens."""

    stops: Sequence[str] = ()
    ids: list[int] = field(default_factory=list[int])
    _from: int = 0
    """Where the window begins: the tokens that were said last, since some decoders need the one before (a space, a capital)."""
    _read: int = 0
    """Tokens whose text was taken."""
    _held: str = ""
    """Text that is not said yet, since it may begin a stop string."""

    def windows(self) -> tuple[list[int], list[int]]:
        """What must be decoded now: the tokens that were taken last, and the same with the new ones."""
        return self.ids[self._from : self._read], self.ids[self._from :]

    def hear(self, before: str, after: str, *, last: bool) -> tuple[str, bool]:
        """The text that can be said now, and whether a stop string ended it; takes both windows decoded."""
        if not last and (len(after) <= len(before) or after.endswith(INCOMPLETE)):
            return "", False
        text = self._held + after[len(before) :]
        self._from, self._read = self._read, len(self.ids)
        found = [at for at in (text.find(stop) for stop in self.stops) if at >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        held = 0 if last else max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held], False


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of `text` begin `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
