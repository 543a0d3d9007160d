"""What OpenAI's endpoints have in common: reading a request's object, and the parameters that ask for a text.

A parameter that asks for something our own runtimes do not do is noted by name, as `Beyond`: another engine behind us may do it,
and gets the request as it came; where our own runtime would have to answer, it is refused. One that has its neutral value
(`n: 1`, `logprobs: false`, ...) asks for nothing. What is malformed or of the wrong type is refused whoever answers.

A missing `temperature` means 0 here: small models on site answer the same prompt the same way, so that times and energy can be
compared. Source: OpenAI's API reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
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
MAX_TOKENS = "max_tokens"
"""The bound of an answer by the name that every engine knows; `max_completion_tokens` is younger."""

_PATH = re.compile(r"`\$\.([^`]+)`")
"""How msgspec says where: from the root on."""
_Form = TypeVar("_Form")


@dataclass(frozen=True, slots=True)
class Beyond:
    """What a request asks for and our own runtimes do not do, though another engine may."""

    message: str
    """Names the parameter, and what would be right here."""
    reason: Reason = Reason.UNSUPPORTED
    parameter: str | None = None
    """Its path in the body."""

    def refusal(self) -> Refusal:
        """The same as a refusal."""
        return Refusal(self.reason, self.message, parameter=self.parameter)


@dataclass(slots=True)
class Wishes:
    """What a request asks for beyond our own runtimes; only the first of it is kept and told."""

    first: Beyond | None = None

    def add(self, parameter: str, what: str, reason: Reason = Reason.UNSUPPORTED) -> None:
        """Notes one more; `what` goes on from the parameter's name."""
        if self.first is None:
            self.first = Beyond(f"{parameter} {what}", reason, parameter)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensMax:
    """How long an answer may be, in tokens."""

    own: int
    """By our own runtimes, whose cache of keys and values is reserved for it; what a chat gets that states nothing."""
    elsewhere: int | None = None
    """By another engine; None: it knows its own limit."""


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
    beyond: Beyond | None
    """The first thing that only another engine may do; None: any runtime can answer."""

    @property
    def prompt_bytes(self) -> int:
        """Bytes of the text that is to be read."""
        raise NotImplementedError


def text_parameters(
    form: TextForm, wishes: Wishes, *, wanted: int | None, name: str, default: int, most: TokensMax
) -> dict[str, Any]:
    """The fields of a `TextRequest`; `wanted` is the number of tokens that the client states by the parameter `name`.

    What only another engine may do is in `wishes`, and added to it.
    """
    options = form.stream_options
    if wanted is not None and not 1 <= wanted <= most.own:
        told = f"is {wanted}; 1 to {most.own} are served"
        if wanted < 1 or (most.elsewhere is not None and wanted > most.elsewhere):
            refuse(name, told)
        wishes.add(name, told, Reason.BAD_REQUEST)
    return {
        "model": form.model,
        "stream": bool(form.stream),
        "include_usage": bool(form.stream and options is not None and options.include_usage),
        "stop": _stop(form.stop, wishes),
        "max_tokens": min(default, most.own) if wanted is None else wanted,
        "shorten": wanted is None,
        "temperature": _between("temperature", form.temperature, 0.0, 0.0, 2.0),
        "top_p": _between("top_p", form.top_p, 1.0, 0.0, 1.0),
        "seed": _seed(form.seed),
        "beyond": wishes.first,
    }


def read_form(
    body: bytes | memoryview,
    form: type[_Form],
    *,
    what: str,
    needs: str,
    known: frozenset[str],
    neutral: Mapping[str, tuple[Any, ...]],
) -> tuple[_Form, Wishes]:
    """A request's parameters from its body, and which of them our own runtimes do not do.

    Raises nothing but Refusal, which names the parameter and what would be right.
    """
    try:
        given = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(Reason.BAD_REQUEST, f"the body is not a JSON object with {needs}: {error}") from error
    try:
        asked = msgspec.convert({key: value for key, value in given.items() if key in known}, form)
    except msgspec.ValidationError as error:
        where = _PATH.search(str(error))
        parameter = None if where is None else where[1]
        raise Refusal(Reason.BAD_REQUEST, f"the request is not {what}: {error}", parameter=parameter) from error
    return asked, Wishes(next(_beyond(given, known, neutral), None))


def with_max_tokens(body: bytes | memoryview, most: int) -> bytes:
    """The body of a request that states no number of tokens, with this one; all else stays as it came."""
    asked = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**asked, MAX_TOKENS: most})


def refuse(parameter: str, what: str) -> NoReturn:
    """Raises Refusal(BAD_REQUEST); `what` goes on from the parameter's name."""
    raise Refusal(Reason.BAD_REQUEST, f"{parameter} {what}", parameter=parameter)


def _beyond(given: Mapping[str, Any], known: frozenset[str], neutral: Mapping[str, tuple[Any, ...]]) -> Iterator[Beyond]:
    """The parameters that are not known here, or ask for more than their neutral value."""
    for name, value in given.items():
        if name in known or name in IGNORED or value is None:
            continue
        if name not in neutral:
            near = get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            yield Beyond(f"parameter {name[:NAME_MAX]!r} is not supported; {hint}", parameter=name[:NAME_MAX])
        elif not any(value == least and isinstance(value, bool) == isinstance(least, bool) for least in neutral[name]):
            yield Beyond(f"parameter {name!r} is not supported by this server; leave it out", parameter=name)


def _stop(given: str | Sequence[str] | None, wishes: Wishes) -> tuple[str, ...]:
    stops = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    told = f"must be at most {STOP_MAX} texts, none of them empty"
    if not all(stops):
        refuse("stop", told)
    if len(stops) > STOP_MAX:
        wishes.add("stop", told, Reason.BAD_REQUEST)
    return stops


def _seed(given: int | None) -> int | None:
    if given is not None and not -(2**63) <= given < 2**63:
        refuse("seed", f"is {given}; a whole number of 64 bits is right")
    return given


def _between(name: str, given: float | None, default: float, low: float, high: float) -> float:
    if given is None:
        return default
    if not low <= given <= high:
        refuse(name, f"is {given}; {low} to {high} are right")
    return given
