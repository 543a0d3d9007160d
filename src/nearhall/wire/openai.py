"""OpenAI's chat completions, the part that is served: requests in, answers, stream chunks and errors out.

Source: OpenAI's API reference, "Chat" and "Models". A parameter that asks for something this server does not do is refused by
name; one that has its neutral value (`n: 1`, `logprobs: false`, ...) asks for nothing and passes. A missing `temperature`
means 0: small models on site answer the same prompt the same way, so that times and energy can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn, cast

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason

STOP_MAX = 4
"""OpenAI's own limit."""
MESSAGES_MAX = 1024
ROLES: dict[str, str] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}

_KNOWN = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "seed",
        "user",
    }
)
_IGNORED = frozenset({"user", "safety_identifier", "metadata", "prompt_cache_key", "parallel_tool_calls", "service_tier"})
"""They ask for no other answer: names for bookkeeping, and choices that only matter together with something refused."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "reasoning_effort": ("none",),
}
"""What an unsupported parameter may say without asking for anything; null always may."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False
    include_obfuscation: bool = False


class _Chat(msgspec.Struct):
    model: str
    messages: list[dict[str, Any]]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTurn:
    """One message; its text parts joined."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A checked request."""

    model: str
    messages: tuple[ChatTurn, ...]
    stream: bool
    include_usage: bool
    stop: tuple[str, ...]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None


def decode_chat(body: bytes | memoryview, *, tokens_max: int) -> ChatRequest:
    """A request from its body; raises nothing but Refusal, which names the parameter and what would be right.

    `tokens_max` is the server's limit, and what a request gets that states none.
    """
    try:
        given = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        _refuse(f"the body is not a JSON object with 'model' and 'messages': {error}")
    _only_known(given)
    try:
        chat = msgspec.convert({key: value for key, value in given.items() if key in _KNOWN}, _Chat)
    except msgspec.ValidationError as error:
        _refuse(f"the request is not a chat completion request: {error}")
    options = chat.stream_options
    return ChatRequest(
        model=chat.model,
        messages=_messages(chat.messages),
        stream=bool(chat.stream),
        include_usage=bool(chat.stream and options is not None and options.include_usage),
        stop=_stop(chat.stop),
        max_tokens=_max_tokens(chat, tokens_max),
        temperature=_between("temperature", chat.temperature, 0.0, 0.0, 2.0),
        top_p=_between("top_p", chat.top_p, 1.0, 0.0, 1.0),
        seed=chat.seed,
    )


def _only_known(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in _KNOWN or name in _IGNORED or value is None:
            continue
        if name not in _NEUTRAL:
            near = get_close_matches(name, sorted(_KNOWN), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(_KNOWN))}"
            _refuse(f"parameter {name!r} is not supported; {hint}", Reason.UNSUPPORTED)
        if not any(value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in _NEUTRAL[name]):
            _refuse(f"parameter {name!r} is not supported by this server; leave it out", Reason.UNSUPPORTED)


def _messages(given: Sequence[Mapping[str, Any]]) -> tuple[ChatTurn, ...]:
    if not 1 <= len(given) <= MESSAGES_MAX:
        _refuse(f"messages has {len(given)} entries; 1 to {MESSAGES_MAX} are right")
    return tuple(_message(index, message) for index, message in enumerate(given))


def _message(index: int, message: Mapping[str, Any]) -> ChatTurn:
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        reason = Reason.UNSUPPORTED if role in ("tool", "function") else Reason.BAD_REQUEST
        _refuse(f"messages[{index}].role is {role!r}; served are {', '.join(ROLES)}", reason)
    if message.get("tool_calls") or message.get("function_call") or message.get("audio"):
        _refuse(f"messages[{index}] carries tool calls or audio, which are not supported", Reason.UNSUPPORTED)
    return ChatTurn(role=ROLES[role], content=_content(index, message.get("content")))


def _content(index: int, content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = cast("list[Any]", content) if isinstance(content, list) else []
    if not parts:
        _refuse(f"messages[{index}].content must be a text or a list of text parts")
    return "".join(_text_part(f"messages[{index}].content[{at}]", part) for at, part in enumerate(parts))


def _text_part(where: str, part: Any) -> str:
    fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
    kind, text = fields.get("type"), fields.get("text")
    if kind is not None and kind != "text":
        _refuse(f"{where} is of type {kind!r}; only 'text' is served", Reason.UNSUPPORTED)
    if kind is None or not isinstance(text, str):
        _refuse(f"{where} must be {{'type': 'text', 'text': '...'}}")
    return text


def _stop(given: str | Sequence[str] | None) -> tuple[str, ...]:
    stops = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    if len(stops) > STOP_MAX or not all(stops):
        _refuse(f"stop must be at most {STOP_MAX} texts, none of them empty")
    return stops


def _max_tokens(chat: _Chat, tokens_max: int) -> int:
    name = "max_tokens" if chat.max_completion_tokens is None else "max_completion_tokens"
    given = chat.max_tokens if chat.max_completion_tokens is None else chat.max_completion_tokens
    if given is None:
        return tokens_max
    if not 1 <= given <= tokens_max:
        _refuse(f"{name} is {given}; 1 to {tokens_max} are served")
    return given


def _between(name: str, given: float | None, default: float, low: float, high: float) -> float:
    if given is None:
        return default
    if not low <= given <= high:
        _refuse(f"{name} is {given}; {low} to {high} are right")
    return given


def _refuse(message: str, reason: Reason = Reason.BAD_REQUEST) -> NoReturn:
    raise Refusal(reason, message)


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What all parts of one answer share."""

    id: str
    model: str
    created: int
    """Seconds since 1970 UTC."""

    def whole(self, text: str, finish: str, usage: Usage) -> bytes:
        """The answer in one piece."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": finish}
        return msgspec.json.encode({**self._head("chat.completion"), "choices": [choice], "usage": usage})

    def chunk(self, text: str, *, first: bool, usage_comes: bool) -> bytes:
        """An event of a stream that carries text; the first one names the role."""
        delta = {"role": "assistant", "content": text} if first else {"content": text}
        return self._event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}], usage_comes=usage_comes)

    def last(self, finish: str, *, usage_comes: bool) -> bytes:
        """The event that says why the answer ended."""
        return self._event([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}], usage_comes=usage_comes)

    def usage(self, usage: Usage) -> bytes:
        """The event with the token counts, for `stream_options.include_usage`."""
        return event(msgspec.json.encode({**self._head("chat.completion.chunk"), "choices": [], "usage": usage}))

    def _event(self, choices: list[dict[str, Any]], *, usage_comes: bool) -> bytes:
        head = self._head("chat.completion.chunk")
        if usage_comes:
            head["usage"] = None
        return event(msgspec.json.encode({**head, "choices": choices}))

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


DONE = b"data: [DONE]\n\n"
"""The end of a stream that is whole; a broken one never has it."""


def event(data: bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + data + b"\n\n"


def error_event(message: str, reason: Reason) -> bytes:
    """The event that ends a stream which broke after its first token."""
    error = {"message": message, "type": "server_error", "param": None, "code": reason.value}
    return event(msgspec.json.encode({"error": error}))


def models_list(models: Sequence[tuple[str, int]], owner: str) -> bytes:
    """GET /v1/models: name and time of loading of each."""
    data = [{"id": name, "object": "model", "created": created, "owned_by": owner} for name, created in models]
    return msgspec.json.encode({"object": "list", "data": data})


def one_model(name: str, created: int, owner: str) -> bytes:
    """GET /v1/models/{name}."""
    return msgspec.json.encode({"id": name, "object": "model", "created": created, "owned_by": owner})
