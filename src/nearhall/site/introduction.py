"""What a site says of itself, completed by what its instruments said of themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearhall.ports.meter import MeterIdentity


def introduced(about: Mapping[str, Any], identities: Mapping[str, MeterIdentity]) -> dict[str, Any]:
    """The self-description with the serial, class and transformer ratio of every instrument that has named itself."""
    meters = [_named(meter, identities.get(meter["id"])) for meter in about.get("meters", [])]
    return {**about, "meters": meters} if meters else dict(about)


def _named(meter: Mapping[str, Any], identity: MeterIdentity | None) -> dict[str, Any]:
    if identity is None:
        return dict(meter)
    said = {
        "vendor": identity.vendor,
        "model": identity.model,
        "serial": identity.serial,
        "virtual": identity.virtual,
        "class_percent": identity.class_percent,
        "ct_ratio": identity.ct_ratio,
    }
    return {**meter, **{name: value for name, value in said.items() if value is not None}}
