"""Every number that a plan may leave out: its value, how far it may be off, and where it comes from (`nearhall/defaults/v1`)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from nearhall.core.quantity import Quantity
from nearhall.documents.amount_forms import quantity_of

FILE = "data/defaults.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Default:
    """What is taken where the plan says nothing."""

    name: str
    amount: Quantity
    words: str
    """What it is, for the ledger."""


def default_named(name: str) -> Default:
    """The default of this name; raises ValueError with the nearest known one."""
    known = all_defaults()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        right = f"did you mean {near[0]!r}?" if near else "nearhall plan --defaults lists them"
        message = f"there is no default {name!r}; {right}"
        raise ValueError(message)
    return known[name]


@cache
def all_defaults() -> Mapping[str, Default]:
    """Every default that ships with nearhall, by name."""
    text = files("nearhall.documents").joinpath(FILE).read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return {name: _default(name, said) for name, said in document["defaults"].items()}


def _default(name: str, said: dict[str, Any]) -> Default:
    words, unit = said.pop("words"), said.pop("unit")
    return Default(name=name, amount=quantity_of(said, unit=unit), words=words)
