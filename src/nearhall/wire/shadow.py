"""The shadow of a site: what the hub wants (`desired`) and what the site says (`reported`), each whole, each owned by one end.

Rules as published for AWS IoT device shadows: only the owner writes a half; desired-only or differing keys are the difference.
"""

from __future__ import annotations

from typing import Any

import msgspec

DESIRED_BYTES_MAX = 65_536
"""A site's wishes are a page of text; more is a mistake."""


class DesiredSite(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the hub wants of a site, version 1. A field that is absent is left as it is."""

    schema: str = "nearhall/desired/v1"
    models: dict[str, str] | None = None
    """Model to `loaded` or `unloaded`, for models in the site's repository."""


class ReportedSite(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a site says of itself, version 1."""

    schema: str = "nearhall/reported/v1"
    software: str = ""
    desired_version: int = 0
    """The desired document that this report has taken in."""
    models: dict[str, str] = {}
    """Model to its state at the gateway."""
    gateway_up: bool = True
    problems: list[str] = []
    """What of the desired document could not be done, in words."""


def parse_desired(document: dict[str, Any]) -> DesiredSite:
    """The document as a site takes it; raises ValueError saying what is wrong with it."""
    try:
        desired = msgspec.convert(document, DesiredSite)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    if desired.schema != "nearhall/desired/v1":
        message = f"schema is {desired.schema!r}; this site understands nearhall/desired/v1"
        raise ValueError(message)
    for model, state in (desired.models or {}).items():
        if state not in {"loaded", "unloaded"}:
            message = f"models.{model} is {state!r}; loaded or unloaded is right"
            raise ValueError(message)
    return desired


def difference(desired: DesiredSite, reported: ReportedSite) -> dict[str, str]:
    """What is still to be done: model to the state that it should have and has not."""
    todo: dict[str, str] = {}
    for model, wanted in (desired.models or {}).items():
        has = reported.models.get(model)
        is_loaded = has in {"ready", "loading"}
        if (wanted == "loaded") is not is_loaded:
            todo[model] = wanted
    return todo
