"""Server-sent events as they come in, piece by piece, and what a streamed chat says in them. No input or output here.

Sources: WHATWG HTML, "Server-sent events", 9.2.6 (lines end with CR LF, LF or CR; an empty line ends an event; what the end of
the stream cuts off is none); OpenAI's API reference, "Chat streaming" (`data: [DONE]` ends a whole answer).
"""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

EVENT_BYTES_MAX = 1024 * 1024
"""One event carries a few words; a server that sends more without an empty line is at fault."""
SPOKEN = ("content", "tool_calls", "function_call", "reasoning_content", "reasoning", "refusal", "audio")
"""What a piece may say, by any of its names: a call of a tool is a first token as well as a word is. The two of reasoning are
vLLM's and llama-server's own."""
_LINE_END = re.compile(rb"\r\n|\r|\n")
_DONE = b"[DONE]"


class EventTooLargeError(Exception):
    """An event went on beyond EVENT_BYTES_MAX."""


class EventReader:
    """Cuts a stream of bytes into events, wherever its pieces begin and end."""

    def __init__(self) -> None:
        self._line = b""
        self._data: list[bytes] = []
        self._bytes = 0
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of each event that ends in this piece; raises EventTooLargeError."""
        if not piece:
            return []
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]  # the second half of a CR LF whose first half ended a line already
            self._after_cr = False
            if not piece:
                return []
        self._after_cr = piece.endswith(b"\r")
        *lines, self._line = _LINE_END.split(self._line + piece)
        events = [event for event in map(self._take, lines) if event is not None]
        if self._bytes + len(self._line) > EVENT_BYTES_MAX:
            raise EventTooLargeError
        return events

    def _take(self, line: bytes) -> bytes | None:
        """The event that an empty line ends, if it has data."""
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
                self._bytes += len(line)
            return None
        data, self._data, self._bytes = self._data, [], 0
        return b"\n".join(data) if data else None


class ChatReader:
    """What a streamed chat has said so far."""

    def __init__(self) -> None:
        self._events = EventReader()
        self.spoke = False
        """Whether a token has come, of any of the choices; an opening piece that only names the role has none."""
        self.done = False
        """Whether the server said that the answer is whole."""
        self.error: str | None = None
        """Why the server broke off, in its words."""
        self.tokens: int | None = None
        """As the server counted them; None where it did not say."""
        self.unread = 0
        """Events that were no JSON object."""

    def feed(self, piece: bytes) -> bool:
        """Whether the first text came in this piece; raises EventTooLargeError."""
        spoke = self.spoke
        for event in self._events.feed(piece):
            self._hear(event)
        return self.spoke and not spoke

    @property
    def cut_short(self) -> str | None:
        """Why this is no whole answer; None when it is one."""
        if self.error is not None:
            return "error"
        return None if self.done else "no end"

    def _hear(self, event: bytes) -> None:
        if event == _DONE:
            self.done = True
            return
        try:
            said = msgspec.json.decode(event, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.unread += 1
            return
        if said.get("error") is not None:
            self.error = str(said["error"])
        usage = _object(said.get("usage")).get("completion_tokens")
        self.tokens = usage if isinstance(usage, int) else self.tokens
        choices = said.get("choices")
        for choice in cast("list[Any]", choices) if isinstance(choices, list) else []:
            said_now = _object(choice)
            delta = _object(said_now.get("delta"))
            self.spoke = self.spoke or bool(said_now.get("text") or any(delta.get(name) for name in SPOKEN))


class FirstText:
    """Notes when the first text of a streamed chat comes, and looks no further."""

    def __init__(self) -> None:
        self._chat = ChatReader()
        self.come = False

    def feed(self, piece: bytes) -> bool:
        """Whether it came in this piece; an event that is too large to be read counts as text."""
        if self.come:
            return False
        try:
            self.come = self._chat.feed(piece)
        except EventTooLargeError:
            self.come = True
        return self.come


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
