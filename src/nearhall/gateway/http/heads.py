"""What the heads of tensor requests say, kept for a while: a machine that asks says the same in each of its requests."""

from __future__ import annotations

from dataclasses import dataclass

from nearhall.core.errors import Refusal
from nearhall.gateway.exchange import Header, Scope
from nearhall.gateway.workloads import Rules, Workloads
from nearhall.wire.headers import ASKED, FRONT, AskHeaders, parse_ask
from nearhall.wire.paths import MODELS, model_and_version

KEPT_MAX = 256
"""Heads; a site has some dozens of clients, each of them with one or a few."""
KEPT_BYTES_MAX = 1024
"""Longer ones are read anew each time, so that what is kept stays under a megabyte whatever clients send."""
INFER = "/infer"
_CONTENT_LENGTH = b"content-length"
_SAYING = (ASKED | {FRONT}) - {_CONTENT_LENGTH}
"""What decides, but for the length of the body: that is another one in each request."""
_PLAIN = frozenset({"", "identity"})


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What a request for inference says before its body. Compared by identity."""

    ask: AskHeaders
    """But for the body's length."""
    rules: Rules
    name: str
    """The model's, as the client wrote it."""
    version: str | None
    from_front: bool
    """It says that a front of several nodes sent it."""


class Heads:
    """Reads heads, and remembers them."""

    def __init__(self, workloads: Workloads) -> None:
        self._workloads = workloads
        self._kept: dict[tuple[str, tuple[Header, ...]], Head] = {}

    def read(self, scope: Scope) -> Head | None:
        """None where it is no request for inference, where it is wrong, and where it says something out of the ordinary."""
        path: str = scope["path"]
        if not path.endswith(INFER) or scope["method"] != "POST":
            return None
        said = tuple([pair for pair in scope["headers"] if pair[0] in _SAYING])
        key = (path, said)
        head = self._kept.get(key)
        if head is None and (head := self._understood(path, said)) is not None:
            self._keep(key, head)
        return head

    def _keep(self, key: tuple[str, tuple[Header, ...]], head: Head) -> None:
        path, said = key
        if len(path) + sum(len(name) + len(value) for name, value in said) > KEPT_BYTES_MAX:
            return
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[key] = head

    def _understood(self, path: str, said: tuple[Header, ...]) -> Head | None:
        if not path.startswith(MODELS):
            return None
        try:
            ask = parse_ask(said)
            if ask.probe or ask.encoding not in _PLAIN:
                return None
            name, version = model_and_version(path[len(MODELS) : -len(INFER)])
            rules = self._workloads.rules(ask, name)
        except Refusal:
            return None  # whoever reads it next says why
        return Head(ask, rules, name, version, any(name == FRONT for name, _ in said))
