"""`--wan rtt=40,jitter=2,mbps=50`: the simulated link as one option."""

from __future__ import annotations

import difflib

from pydantic import ValidationError

from nearhall.core.errors import InputError
from nearhall.documents.up import Link

WHERE = "--wan"
FIELDS = {"rtt": "rtt_ms", "jitter": "jitter_ms", "mbps": "mbps"}
RIGHT = "such as rtt=40,jitter=2,mbps=50 (milliseconds, milliseconds, Mbit/s; mbps=0 is unlimited)"


def parse_wan(text: str, base: Link) -> Link:
    """The link `text` asks for, on top of `base`; raises InputError that names the part that is wrong."""
    numbers: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise InputError(f"{part.strip()!r} is not NAME=NUMBER", where=WHERE, right=RIGHT)
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            right = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(FIELDS)}"
            raise InputError(f"{name!r} is not known", where=WHERE, right=right)
        if FIELDS[name] in numbers:
            raise InputError(f"{name} is given twice", where=WHERE, right="keep one of the two")
        try:
            numbers[FIELDS[name]] = float(value)
        except ValueError:
            raise InputError(f"{name} is {value!r}, not a number", where=WHERE, right=RIGHT) from None
    try:
        return Link.model_validate({**base.model_dump(), **numbers, "source": f"given: --wan {text}", "measured": None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = str(first["msg"])
        raise InputError(
            f"{first['loc'][0]}: {message[0].lower()}{message[1:]} (given: {first['input']:g})", where=WHERE, right=RIGHT
        ) from error
