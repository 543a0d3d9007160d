"""Hours of a day as a plan writes them: a name, 24 numbers, or a CSV file beside the plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

HOURS_A_DAY, HOURS_A_YEAR = 24, 8760
SHAPES = ("flat", "office", "shop", "evening")


def _hours(given: Any, *, names: Sequence[str], what: str) -> list[float] | str:
    """24 numbers, a CSV file, or one of the names; raises ValueError that says which of them would be right."""
    known = f"one of {', '.join(names)}, " if names else ""
    right = f"{known}{HOURS_A_DAY} numbers of at least 0, or a .csv file of them beside the plan"
    if isinstance(given, str):
        if given in names or (given.endswith(".csv") and len(given) <= FILE_NAME_MAX):
            return given
        raise ValueError(f"is no {what}; wants {right}")
    if not isinstance(given, list):
        raise ValueError(f"wants {right}")  # noqa: TRY004 (pydantic reports values)
    hours = [float(h) for h in given if isinstance(h, int | float) and not isinstance(h, bool) and math.isfinite(h) and h >= 0]  # pyright: ignore[reportUnknownVariableType]
    if len(hours) != len(given) or len(hours) != HOURS_A_DAY:  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(f"has {len(given)} values, {len(hours)} of them numbers of at least 0; wants {right}")  # pyright: ignore[reportUnknownArgumentType]
    return hours


def _shape(given: Any) -> list[float] | str:
    return _hours(given, names=SHAPES, what="shape of a day")


def _existing(given: Any) -> list[float] | str:
    return _hours(given, names=(), what="load of a day")


FILE_NAME_MAX = 300
_HOURS_SCHEMA: dict[str, Any] = {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 24, "maxItems": 24}
_FILE_SCHEMA: dict[str, Any] = {"type": "string", "pattern": r"\.csv$", "maxLength": FILE_NAME_MAX}
Shape = Annotated[
    list[float] | str, PlainValidator(_shape), WithJsonSchema({"anyOf": [{"enum": list(SHAPES)}, _HOURS_SCHEMA, _FILE_SCHEMA]})
]
"""How a day goes, local time: a name, 24 numbers of which only the ratios count, or a CSV file of them."""
Existing = Annotated[list[float] | str, PlainValidator(_existing), WithJsonSchema({"anyOf": [_HOURS_SCHEMA, _FILE_SCHEMA]})]
"""kVA by hour of the day, local time, or a CSV file of them."""
