"""Numbers that a plan takes as one value, such as a rating: written in any form, reckoned with at their median, evidence kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from nearhall.core.quantity import Exact, Quantity
from nearhall.documents.amount import InUnit
from nearhall.documents.amount_forms import written


class Rated(float):
    """A number that remembers what was said of it; it reckons as a plain one."""

    said: Quantity

    def __new__(cls, value: float, said: Quantity) -> Rated:
        """`said` with its spread; `value` is what is reckoned with."""
        made = super().__new__(cls, value)
        made.said = said
        return made


@dataclass(frozen=True, slots=True)
class Plain:
    """Annotates a float of this unit that may be written as any number of a plan; limits are those of its field."""

    unit: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The float's own schema, with the other forms read first."""
        return core_schema.no_info_wrap_validator_function(
            self._read,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: written(value.said) if isinstance(value, Rated) else value
            ),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A number, or a mapping of one of the forms."""
        return InUnit(self.unit).__get_pydantic_json_schema__(schema, handler)

    def _read(self, given: Any, plain: core_schema.ValidatorFunctionWrapHandler) -> Any:
        if isinstance(given, Mapping) or (isinstance(given, str) and " " in given.strip()):
            said = InUnit(self.unit).read(given)
            return Rated(plain(said.p50), said)
        return plain(given)


def rated_in(part: Any, path: str = "") -> Iterator[tuple[str, Quantity]]:
    """(path, as it is reckoned with: its median, with its evidence) of every such number of which a document says more."""
    if isinstance(part, Rated):
        wide = "" if isinstance(part.said.spread, Exact) else "; taken at its median"
        evidence = replace(part.said.evidence, source=f"{part.said.evidence.source}{wide}")
        yield path, replace(part.said, spread=Exact(), evidence=evidence)
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from rated_in(getattr(part, name), f"{path}.{name}" if path else name)
    elif isinstance(part, list | tuple):
        for index, item in enumerate(part):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            name = getattr(item, "id", index)  # pyright: ignore[reportUnknownArgumentType]
            yield from rated_in(item, f"{path}.{name}")
