"""Any number of a plan as people write it: a scalar, `{p50, p90}`, `{dist: ...}` or `{ref: ...}`, with its source.

    watts: 250
    watts: {value: 250, source: "data sheet X, 2026", date: 2026-03, kind: vendor}
    watts: {p50: 250, p90: 310}
    watts: {dist: triangular, low: 200, mode: 250, high: 400}
    watts: {ref: "default:fan_share"}

A number without a kind is `assumed`: the plan says it, and nothing more is known. `unit` may be written and must be the field's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from nearhall.core.quantity import Quantity
from nearhall.documents.amount_forms import FORMS, SAID, form_of, quantity_of, written
from nearhall.documents.defaults import default_named

PREFIXES: dict[str, float] = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True, slots=True)
class InUnit:
    """Annotates a field that holds a `Quantity` of this unit, between these bounds (median and 90 % range alike)."""

    unit: str
    least: float = -math.inf
    most: float = math.inf
    above: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Reads with `read`, writes with `written`."""
        return core_schema.no_info_plain_validator_function(
            self.read, serialization=core_schema.plain_serializer_function_ser_schema(written)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A number, or a mapping of one of the forms."""
        keys = sorted({key for form in FORMS.values() for key in form} | set(SAID))
        properties: dict[str, Any] = {key: {} for key in keys}
        mapping: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        return {"anyOf": [{"type": "number"}, mapping], "description": f"in {self.unit}"}

    def read(self, given: Any) -> Quantity:
        """The quantity; raises ValueError that says what is wrong and what would be right."""
        if isinstance(given, Quantity):
            return given
        found = self._mapping(given) if isinstance(given, Mapping) else self._plain(given)  # pyright: ignore[reportUnknownArgumentType]
        for name, value in (("p50", found.p50), ("p10", found.p10), ("p90", found.p90)):
            self._within(name if not found.is_exact else "", value)
        return found

    def _plain(self, given: Any) -> Quantity:
        if isinstance(given, str):
            raise ValueError(self._of_text(given))  # noqa: TRY004 (pydantic reports values)
        return quantity_of(given, unit=self.unit)

    def _of_text(self, text: str) -> str:
        head, _, unit = text.strip().partition(" ")
        try:
            value = float(head)
        except ValueError:
            return f"{text!r} is no number; write one{self._in}, or {{p50: .., p90: ..}}"
        factor = _factor(unit, self.unit) if unit else None
        if factor is None:
            return f"{text!r} is text; write a number{self._in}"
        return f"{text!r} is in {unit}, the field in {self.unit}; write {value * factor:g}"

    @property
    def _in(self) -> str:
        return "" if self.unit == "1" else f" in {self.unit}"

    def _mapping(self, given: Mapping[str, Any]) -> Quantity:
        form = form_of(given)
        unit = given.get("unit", self.unit)
        if unit != self.unit:
            factor = _factor(str(unit), self.unit)
            right = f"multiply by {factor:g}" if factor else "convert it"
            message = f"unit {unit} does not fit: the field is in {self.unit}; {right}"
            raise ValueError(message)
        if form == "ref":
            return self._of_ref(str(given["ref"]))
        return quantity_of(given, unit=self.unit)

    def _of_ref(self, ref: str) -> Quantity:
        kind, _, name = ref.partition(":")
        if kind != "default":
            raise ValueError(f"ref {ref!r} is not known; write default:NAME (nearhall plan --defaults lists them)")
        found = default_named(name).amount
        if found.unit != self.unit:
            raise ValueError(f"ref {ref!r} is in {found.unit}, the field in {self.unit}; name one of the same unit")
        return found

    def _within(self, name: str, value: float) -> None:
        label = f"{name} " if name else ""
        if self.above is not None and value <= self.above:
            message = f"{label}{value:g} {self.unit} is not above {self.above:g}"
            raise ValueError(message)
        if not self.least <= value <= self.most:
            message = f"{label}{value:g} {self.unit} is not between {self.least:g} and {self.most:g}"
            raise ValueError(message)


def _factor(unit: str, wanted: str) -> float | None:
    """What a value in `unit` is multiplied by to be in `wanted`; None where one cannot be the other."""
    for stem in ("W", "Wh", "VA", "bps", "B", "USD", "usd", "s", "A", "V", "m"):
        if unit.endswith(stem) and wanted.endswith(stem):
            one, other = unit.removesuffix(stem), wanted.removesuffix(stem)
            if one in PREFIXES and other in PREFIXES:
                return PREFIXES[one] / PREFIXES[other]
    return None
