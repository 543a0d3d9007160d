"""What OpenAI's endpoints have in common: reading a request's object, and the parameters that ask for a text.

A parameter that asks for something this server does not do is refused by name; one that has its neutral value (`n: 1`,
`logprobs: false`, ...) asks for nothing and passes. A missing `temperature` means 0: small models on site answer the same prompt
the same way, so that times and energy can be compared. Source: OpenAI's API reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason

STOP_MAX = 4
"""OpenAI's own limit."""
NAME_MAX = 256
IGNORED = frozenset({"user", "safety_identifier", "metadata", "prompt_cache_key", "parallel_tool_calls", "service_tier"})
"""They ask for no other answer: names for bookkeeping, and choices that only matter together with something refused."""
TEXT_KNOWN = frozenset({"model", "stream", "stream_options", "stop", "max_tokens", "temperature", "top_p", "seed", "user"})
TEXT_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}
"""What an unsupported parameter may say without asking for anything; null always may."""

_Form = TypeVar("_Form")


class StreamOptions(msgspec.Struct):
    """Of a streamed answer."""

    include_usage: bool = False
    include_obfuscation: bool = False


class TextForm(msgspec.Struct):
    """The parameters of a text, as they come."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """What a chat and a completion both ask; checked."""

    model: str
    stream: bool
    include_usage: bool
    stop: tuple[str, ...]
    max_tokens: int
    shorten: bool
    """The client stated no `max_tokens`: it may be less, as the context has room."""
    temperature: float
    top_p: float
    seed: int | None

    @property
    def prompt_bytes(self) -> int:
        """Bytes of the text that is to be read."""
        raise NotImplementedError


def text_parameters(form: TextForm, *, wanted: int | None, name: str, default: int, most: int) -> dict[str, Any]:
    """The fields of a `TextRequest`; `wanted` is the number of tokens that the client states by the parameter `name`."""
    options = form.stream_options
    if wanted is not None and not 1 <= wanted <= most:
        refuse(f"{name} is {wanted}; 1 to {most} are served")
    return {
        "model": form.model,
        "stream": bool(form.stream),
        "include_usage": bool(form.stream and options is not None and options.include_usage),
        "stop": _stop(form.stop),
        "max_tokens": min(default, most) if wanted is None else wanted,
        "shorten": wanted is None,
        "temperature": _between("temperature", form.temperature, 0.0, 0.0, 2.0),
        "top_p": _between("top_p", form.top_p, 1.0, 0.0, 1.0),
        "seed": _seed(form.seed),
    }


def read_form(
    body: bytes | memoryview,
    form: type[_Form],
    *,
    what: str,
    needs: str,
    known: frozenset[str],
    neutral: Mapping[str, tuple[Any, ...]],
) -> _Form:
    """A request's parameters from its body; raises nothing but Refusal, which names the parameter and what would be right."""
    try:
        given = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        refuse(f"the body is not a JSON object with {needs}: {error}")
    _only_known(given, known, neutral)
    try:
        return msgspec.convert({key: value for key, value in given.items() if key in known}, form)
    except msgspec.ValidationError as error:
        refuse(f"the request is not {what}: {error}")


def refuse(message: str, reason: Reason = Reason.BAD_REQUEST) -> NoReturn:
    """Raises Refusal."""
    raise Refusal(reason, message)


def _only_known(given: Mapping[str, Any], known: frozenset[str], neutral: Mapping[str, tuple[Any, ...]]) -> None:
    for name, value in given.items():
        if name in known or name in IGNORED or value is None:
            continue
        if name not in neutral:
            near = get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            refuse(f"parameter {name[:NAME_MAX]!r} is not supported; {hint}", Reason.UNSUPPORTED)
        if not any(value == least and isinstance(value, bool) == isinstance(least, bool) for least in neutral[name]):
            refuse(f"parameter {name!r} is not supported by this server; leave it out", Reason.UNSUPPORTED)


def _stop(given: str | Sequence[str] | None) -> tuple[str, ...]:
    stops = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    if len(stops) > STOP_MAX or not all(stops):
        refuse(f"stop must be at most {STOP_MAX} texts, none of them empty")
    return stops


def _seed(given: int | None) -> int | None:
    if given is not None and not -(2**63) <= given < 2**63:
        refuse(f"seed is {given}; a whole number of 64 bits is right")
    return given


def _between(name: str, given: float | None, default: float, low: float, high: float) -> float:
    if given is None:
        return default
    if not low <= given <= high:
        refuse(f"{name} is {given}; {low} to {high} are right")
    return given
