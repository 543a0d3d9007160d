"""Addresses that hold a login: shown without it, written down without it, and filled in where it is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nearhall.core.errors import InputError, without_login

LOGIN = "NEARHALL_CAMERA_LOGIN"
QUERY = "NEARHALL_CAMERA_QUERY"
"""Environment variables that stand for what was taken out of a camera's address: `user:password`, and its query."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_USER_INFO = re.compile(r"^([a-z][a-z0-9+.-]*://)([^/@?#]+)@", re.IGNORECASE)


def taken_out(address: str) -> tuple[str, dict[str, str]]:
    """The address with `${NAME}` in place of its login and of a query that holds a secret; and what each name stands for."""
    secrets: dict[str, str] = {}
    user = _USER_INFO.match(address)
    if user is not None and not _VARIABLE.fullmatch(user[2]):
        secrets[LOGIN] = user[2]
        address = f"{user[1]}${{{LOGIN}}}@{address[user.end() :]}"
    head, mark, query = address.partition("?")
    if mark and without_login(address) != address and not _VARIABLE.fullmatch(query):
        secrets[QUERY] = query
        address = f"{head}?${{{QUERY}}}"
    return address, secrets


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
