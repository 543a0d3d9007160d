"""What a page says, and what a browser would fetch for it."""

from __future__ import annotations

import random
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """Texts with the classes, ids and tags they stand in, and everything that a browser would fetch."""

    _VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self._open: list[tuple[str, set[str]]] = []
        self.texts: list[tuple[str, set[str]]] = []
        self.fetched: list[str] = []
        self.marks = 0
        self.scripts = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.fetched += [given[name] for name in ("src", "srcset", "data") if name in given]
        self.fetched += [given["href"]] if tag == "link" and "href" in given else []
        self.marks += "mark" in given.get("class", "").split()
        self.scripts += tag == "script"
        if tag not in self._VOID:
            self._open.append((tag, {tag, *given.get("class", "").split(), f"#{given.get('id', '')}"}))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside: set[str] = set().union(*(names for _, names in self._open))
        if data.strip():
            self.texts.append((data, inside))

    @property
    def text(self) -> str:
        """What a person reads."""
        return " ".join(data for data, inside in self.texts if not inside & {"script", "style"})


def bent(document: Any, leaf: Any) -> Any:
    """The document with every number, word and truth value replaced."""
    if isinstance(document, dict):
        return {key: bent(value, leaf) for key, value in document.items()}
    return [bent(value, leaf) for value in document] if isinstance(document, list) else leaf


def holed(document: Any, chance: random.Random, *, share: float = 0.15) -> Any:
    """The document with some of its parts, of any size, gone or null or of another kind."""
    if chance.random() < share:
        return chance.choice([None, "nonsense", -1.0, [], {}])
    if isinstance(document, dict):
        return {key: holed(value, chance) for key, value in document.items() if chance.random() > share / 2}
    return [holed(value, chance) for value in document] if isinstance(document, list) else document
