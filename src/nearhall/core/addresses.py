"""Addresses that hold a login: shown without it, written down without it, and filled in where it is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nearhall.core.errors import InputError, without_login

LOGIN = "NEARHALL_CAMERA_LOGIN"
QUERY = "NEARHALL_CAMERA_QUERY"
"""Environment variables that stand for what was taken out of a camera's address: `user:password`, and its end with a secret."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_USER_INFO = re.compile(r"^([a-z][a-z0-9+.-]*://)([^/?#]+)@", re.IGNORECASE)
"""Up to the last @ of the authority, as FFmpeg reads it: a password may hold one."""
_CUT_LOGIN = re.compile(r"^[a-z][a-z0-9+.-]*://[^/?#@]*:(?!\d+[/?#])[^/?#@]*[/?#][^@]*@", re.IGNORECASE)
"""A password with a character that ends the authority: everything after it would be taken for a path, and shown."""
_AUTHORITY = re.compile(r"^[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)


def taken_out(address: str) -> tuple[str, dict[str, str]]:
    """The address with `${NAME}` in place of its login and of an end that holds a secret; and what each name stands for.

    What is a variable already stays. Raises InputError, without the address, for a login that cannot be told from a path.
    """
    if _CUT_LOGIN.match(address):
        right = "write / as %2F, ? as %3F and # as %23 in a password"
        raise InputError("the port is no number, or the password holds one of / ? #", where="the camera's address", right=right)
    secrets: dict[str, str] = {}
    user = _USER_INFO.match(address)
    if user is not None and not _is_variable(user[2]):
        secrets[LOGIN] = user[2]
        address = f"{user[1]}${{{LOGIN}}}@{address[user.end() :]}"
    authority = _AUTHORITY.match(address)
    if authority is not None:
        head, rest = authority[0], address[authority.end() :]
        shown = without_login(rest)
        if shown != rest:
            same = next(i for i, (a, b) in enumerate(zip(rest, shown + " ", strict=False)) if a != b)
            cut = max(rest.rfind(mark, 0, same) for mark in "/?") + 1
            secrets[QUERY] = rest[cut:]
            address = f"{head}{rest[:cut]}${{{QUERY}}}"
    return address, secrets


def _is_variable(login: str) -> bool:
    """Whether the password, or a login without one, is a variable of the user's own."""
    _, colon, password = login.partition(":")
    return _VARIABLE.fullmatch(password if colon else login) is not None


def filled(address: str, values: Mapping[str, str], *, where: str) -> str:
    """The address with every `${NAME}` replaced by its value; raises InputError that names the first without one."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in values:
            what = f"{address} needs the environment variable {name}, which is not set"
            like = {LOGIN: "user:password", QUERY: "the part after the question mark"}.get(name, "...")
            raise InputError(what, where=where, right=f"export {name}={like!r}")
        return values[name]

    return _VARIABLE.sub(value, address)
