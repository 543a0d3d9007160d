"""Every number that a plan used: what was said, what was taken for granted, and its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nearhall.core.quantity import Quantity
from nearhall.documents.defaults import Default
from nearhall.planner.samples.draws import Draws, Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One number that the plan rests on."""

    name: str
    """Where it stands in the plan, or the default's name: `sites.shop.cooling.cop`, `default:hub.pue`."""
    quantity: Quantity
    words: str
    is_default: bool
    used_by: tuple[str, ...]
    """Paths in the plan that did not say it."""


class Ledger:
    """Hands out samples and remembers what it was asked for."""

    def __init__(self, draws: Draws, defaults: Mapping[str, Default], overrides: Mapping[str, Samples] | None = None) -> None:
        self.draws = draws
        self._defaults = defaults
        self._overrides = overrides or {}
        self._entries: dict[str, Entry] = {}
        self._samples: dict[str, Samples] = {}

    def take(self, path: str, said: Quantity | None, default: str = "") -> Samples:
        """Samples of what the plan says at `path`, else of the default, which all who do not say it share."""
        if said is not None:
            self._entries.setdefault(path, Entry(name=path, quantity=said, words="", is_default=False, used_by=(path,)))
            return self._kept(path, said)
        name, known = self._noted(default, path), self._defaults[default]
        self._samples[path] = self._overrides[path] if path in self._overrides else self._kept(name, known.amount)
        return self._samples[path]

    def fixed(self, path: str, default: str) -> float:
        """The value of a default that is certain: a choice of the model's, which its reader has to know all the same."""
        self._noted(default, path)
        return self._defaults[default].amount.p50

    def _noted(self, default: str, path: str) -> str:
        name, known = f"default:{default}", self._defaults[default]
        before = self._entries.get(name)
        used_by = (*(before.used_by if before is not None else ()), path)
        self._entries[name] = Entry(
            name=name, quantity=known.amount, words=known.words, is_default=True, used_by=tuple(dict.fromkeys(used_by))
        )
        return name

    def sampled(self, name: str) -> Samples | None:
        """The samples that were handed out under a name or path; None for what nobody asked for."""
        return self._samples.get(name)

    def inputs(self) -> Mapping[str, Samples]:
        """Samples of every entry that is not certain, by the entry's name."""
        return {name: self._samples[name] for name, entry in self._entries.items() if not entry.quantity.is_exact}

    def _kept(self, name: str, quantity: Quantity) -> Samples:
        if name not in self._samples:
            known = self._overrides.get(name)
            self._samples[name] = known if known is not None else self.draws.of(name, quantity)
        return self._samples[name]

    def quantity(self, path: str, said: Quantity | None, default: str) -> Quantity:
        """The quantity itself, where its spread is none of knowledge but of requests."""
        self.take(path, said, default)
        return said if said is not None else self._defaults[default].amount

    def entries(self) -> tuple[Entry, ...]:
        """Everything that was used, in the order of first use."""
        return tuple(self._entries.values())
