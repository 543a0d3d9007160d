"""What a plan's parts say of each other that cannot be: names that nothing has, names given twice, places that are nowhere.

Works on the document as it is written, whatever else is wrong with it, so that all mistakes are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

Where = tuple[str | int, ...]
NAMED = ("workloads", "hardware", "sites", "hubs", "feeders")
REFERENCES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("sites", "*", "hardware", "*"), "hardware", "hardware"),
    (("sites", "*", "supply", "feeder"), "feeders", "feeder"),
    (("hubs", "*", "hardware"), "hardware", "hardware"),
    (("workloads", "*", "sites", "*"), "sites", "site"),
    (("workloads", "*", "measured", "*", "hardware"), "hardware", "hardware"),
)
"""(where names stand, the part that must have them, what they are called)."""


def mistakes_across(plan: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    """(path, what is wrong and what would be right) of each."""
    yield from _twice(plan)
    yield from _of_nothing(plan)
    yield from _nowhere(plan)
    kinds = {where[:2]: kind for where, kind in standing_at(plan, ("workloads", "*", "model", "kind"))}
    for where, _ in standing_at(plan, ("workloads", "*", "slo", "ttft_p99_ms")):
        kind = kinds.get(where[:2], "llm")
        if kind != "llm":
            yield where, f"only a language model has a first token; a model of kind {kind} takes p99_ms"


def _of_nothing(plan: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    for pattern, part, what in REFERENCES:
        known = [str(found) for _, found in standing_at(plan, (part, "*", "id"))]
        for where, name in standing_at(plan, pattern):
            if str(name) not in known:
                near = get_close_matches(str(name), known, n=1)
                right = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(known) or 'none'}"
                yield where, f"no {what} has the id {name!r}; {right}"


def _nowhere(plan: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    for part in ("sites", "hubs"):
        longitudes = dict(standing_at(plan, (part, "*", "lon")))
        for where, lat in standing_at(plan, (part, "*", "lat")):
            if lat == 0 and longitudes.get((*where[:-1], "lon")) == 0:
                yield where, "0, 0 is in the Gulf of Guinea; write where it is"


def _twice(plan: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
    for part in NAMED:
        seen: set[str] = set()
        for where, name in standing_at(plan, (part, "*", "id")):
            if str(name) in seen:
                yield where, f"{name!r} is given twice; each needs its own"
            seen.add(str(name))
    sites = {str(name) for _, name in standing_at(plan, ("sites", "*", "id"))}
    for where, name in standing_at(plan, ("hubs", "*", "id")):
        if str(name) in sites:
            yield where, f"{name!r} is the id of a site too; a hub needs one of its own"


def standing_at(value: Any, pattern: tuple[str, ...], where: Where = ()) -> Iterator[tuple[Where, Any]]:
    """What stands at the pattern (`*`: each of a list) and where; nothing where the document has another shape."""
    if not pattern:
        if value is not None:
            yield where, value
    elif pattern[0] == "*" and isinstance(value, list):
        for index, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from standing_at(item, pattern[1:], (*where, index))
    elif isinstance(value, Mapping) and pattern[0] in value:
        yield from standing_at(value[pattern[0]], pattern[1:], (*where, pattern[0]))
