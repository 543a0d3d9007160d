"""OpenAI's chat completions, the part that is served: requests in, answers, stream chunks and errors out.

Source: OpenAI's API reference, "Chat" and "Models". What is refused and what passes, `wire.openai_params` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import msgspec

from nearhall.core.reasons import Reason
from nearhall.wire.openai_params import TEXT_KNOWN, TEXT_NEUTRAL, TextForm, TextRequest, read_form, refuse, text_parameters

MESSAGES_MAX = 1024
ROLES: dict[str, str] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}

_KNOWN = TEXT_KNOWN | {"messages", "max_completion_tokens"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **TEXT_NEUTRAL,
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "reasoning_effort": ("none",),
}


class _Chat(TextForm, kw_only=True):
    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTurn:
    """One message; its text parts joined."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(TextRequest):
    """A checked request."""

    messages: tuple[ChatTurn, ...]

    @property
    def prompt_bytes(self) -> int:
        """Of all messages."""
        return sum(len(turn.content.encode(errors="replace")) for turn in self.messages)


def decode_chat(body: bytes | memoryview, *, tokens_max: int) -> ChatRequest:
    """A request from its body; raises nothing but Refusal, which names the parameter and what would be right.

    `tokens_max` is the server's limit, and what a request gets at most that states none.
    """
    needs = "'model' and 'messages'"
    chat = read_form(body, _Chat, what="a chat completion request", needs=needs, known=_KNOWN, neutral=_NEUTRAL)
    older = chat.max_completion_tokens is None
    wanted, name = (chat.max_tokens, "max_tokens") if older else (chat.max_completion_tokens, "max_completion_tokens")
    parameters = text_parameters(chat, wanted=wanted, name=name, default=tokens_max, most=tokens_max)
    return ChatRequest(messages=_messages(chat.messages), **parameters)


def _messages(given: Sequence[Mapping[str, Any]]) -> tuple[ChatTurn, ...]:
    if not 1 <= len(given) <= MESSAGES_MAX:
        refuse(f"messages has {len(given)} entries; 1 to {MESSAGES_MAX} are right")
    return tuple(_message(index, message) for index, message in enumerate(given))


def _message(index: int, message: Mapping[str, Any]) -> ChatTurn:
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        reason = Reason.UNSUPPORTED if role in ("tool", "function") else Reason.BAD_REQUEST
        refuse(f"messages[{index}].role is {role!r}; served are {', '.join(ROLES)}", reason)
    if message.get("tool_calls") or message.get("function_call") or message.get("audio"):
        refuse(f"messages[{index}] carries tool calls or audio, which are not supported", Reason.UNSUPPORTED)
    return ChatTurn(role=ROLES[role], content=_content(index, message.get("content")))


def _content(index: int, content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = cast("list[Any]", content) if isinstance(content, list) else []
    if not parts:
        refuse(f"messages[{index}].content must be a text or a list of text parts")
    return "".join(_text_part(f"messages[{index}].content[{at}]", part) for at, part in enumerate(parts))


def _text_part(where: str, part: Any) -> str:
    fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
    kind, text = fields.get("type"), fields.get("text")
    if kind is not None and kind != "text":
        refuse(f"{where} is of type {kind!r}; only 'text' is served", Reason.UNSUPPORTED)
    if kind is None or not isinstance(text, str):
        refuse(f"{where} must be {{'type': 'text', 'text': '...'}}")
    return text


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Answer(Protocol):
    """What all parts of one answer share: how a text is put into OpenAI's objects."""

    def whole(self, text: str, finish: str, usage: Usage) -> bytes:
        """The answer in one piece."""
        ...

    def chunk(self, text: str, *, first: bool, usage_comes: bool) -> bytes:
        """An event of a stream that carries text."""
        ...

    def last(self, finish: str, *, usage_comes: bool) -> bytes:
        """The event that says why the answer ended."""
        ...

    def usage(self, usage: Usage) -> bytes:
        """The event with the token counts, for `stream_options.include_usage`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """A chat's answer."""

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
        return event_of(self._head("chat.completion.chunk"), [], usage)

    def _event(self, choices: list[dict[str, Any]], *, usage_comes: bool) -> bytes:
        head = self._head("chat.completion.chunk")
        return event_of({**head, "usage": None} if usage_comes else head, choices)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


DONE = b"data: [DONE]\n\n"
"""The end of a stream that is whole; a broken one never has it."""


def event(data: bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + data + b"\n\n"


def event_of(head: Mapping[str, Any], choices: Sequence[Mapping[str, Any]], usage: Usage | None = None) -> bytes:
    """The event of one chunk."""
    counts = {} if usage is None else {"usage": usage}
    return event(msgspec.json.encode({**head, "choices": choices, **counts}))


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
