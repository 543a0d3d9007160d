"""Every error of nearhall that crosses a room, in one tree:

NearhallError
├── InputError            the user's: what, where, what would be right; exit 2, nothing written
├── Refusal               a request refused on purpose; carries its Reason and when to come back
├── TemporaryError        outside, likely to pass: try again later (link, hub, meter, busy port)
└── PermanentError        outside or inside, will not pass by itself: stop, tell a person
"""

from __future__ import annotations

import re

from nearhall.core.reasons import Reason

_USER_INFO = re.compile(r"(?<=://)(?!\$\{\w+\}@)[^/\s?#'\"]+@")
_SECRET_VALUE = re.compile(
    r"([?&/_][^=&\s/?]*(?:pass|pwd|token|key|secret|auth|sig)[^=&\s/?]*=)(?!\$\{)[^&\s'\"]+", re.IGNORECASE
)


def without_login(text: str) -> str:
    """The text with user and password of every address in it struck out, and values of its query that are named like secrets."""
    return _SECRET_VALUE.sub(r"\1***", _USER_INFO.sub("***@", text))


class NearhallError(Exception):
    """The root of everything nearhall raises on purpose. What it says is for screens and logs: no address in it has a login."""

    def __str__(self) -> str:
        """What happened, in one line."""
        return without_login(super().__str__())


class InputError(NearhallError):
    """Bad input from a person: one clear line saying what, where, and what would be right."""

    def __init__(self, what: str, *, where: str = "", right: str = "") -> None:
        self.what = what
        self.where = where
        """File and path in it, option name, or URL; empty if there is only one place."""
        self.right = right
        """What would be right, as something the user can do."""
        super().__init__(str(self))

    def __str__(self) -> str:
        """`where: what; right`, in one line."""
        line = f"{self.where}: {self.what}" if self.where else self.what
        return without_login(f"{line}; {self.right}" if self.right else line)


class Refusal(NearhallError):  # noqa: N818 (an expected outcome, named for what the client gets)
    """A request that is answered with a refusal, never with silence."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retry_after_ms: int | None = None,
        allow: tuple[str, ...] = (),
        parameter: str | None = None,
    ) -> None:
        self.reason = reason
        self.message = message
        self.retry_after_ms = retry_after_ms
        """When a retry may succeed; None where retrying is futile (`x-should-retry: false`)."""
        self.allow = allow
        """The methods that would be right, where METHOD_NOT_ALLOWED is why."""
        self.parameter = parameter
        """What of the request is not right, by its path in the body (`messages[0].role`); None where it is no one parameter."""
        super().__init__(f"{reason.value}: {message}")


class TemporaryError(NearhallError):
    """Something outside failed and may work later; the caller retries within its limits."""


class PermanentError(NearhallError):
    """Something failed and will not heal by retrying; the caller stops and says so."""
