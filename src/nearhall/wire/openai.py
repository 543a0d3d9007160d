"""OpenAI's chat completions, the part that is served: requests in, answers, stream chunks and errors out.

Source: OpenAI's API reference, "Chat" and "Models". What is refused, and by whom, `wire.openai_params` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import msgspec

from nearhall.core.reasons import Reason
from nearhall.wire.openai_params import (
    TEXT_KNOWN,
    TEXT_NEUTRAL,
    TextForm,
    TextRequest,
    TokensMax,
    Wishes,
    read_form,
    refuse,
    text_parameters,
)

MESSAGES_MAX = 1024
SHOWN_MAX = 64
"""Characters of what a client sent, in a message."""
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
    """One message; its text parts joined, what is no text left out."""

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


def decode_chat(body: bytes | memoryview, *, tokens_max: TokensMax) -> ChatRequest:
    """A request from its body; raises nothing but Refusal, which names the parameter and what would be right."""
    needs = "'model' and 'messages'"
    chat, wishes = read_form(body, _Chat, what="a chat completion request", needs=needs, known=_KNOWN, neutral=_NEUTRAL)
    older = chat.max_completion_tokens is None
    wanted, name = (chat.max_tokens, "max_tokens") if older else (chat.max_completion_tokens, "max_completion_tokens")
    turns = _messages(chat.messages, wishes)
    parameters = text_parameters(chat, wishes, wanted=wanted, name=name, default=tokens_max.own, most=tokens_max)
    return ChatRequest(messages=turns, **parameters)


def _messages(given: Sequence[Mapping[str, Any]], wishes: Wishes) -> tuple[ChatTurn, ...]:
    if not 1 <= len(given) <= MESSAGES_MAX:
        refuse("messages", f"has {len(given)} entries; 1 to {MESSAGES_MAX} are right")
    return tuple(_message(index, message, wishes) for index, message in enumerate(given))


def _message(index: int, message: Mapping[str, Any], wishes: Wishes) -> ChatTurn:
    role = message.get("role")
    where = f"messages[{index}]"
    told = f"is {_short(role)}; served are {', '.join(ROLES)}"
    if not isinstance(role, str):
        refuse(f"{where}.role", told)
    if role not in ROLES:
        wishes.add(f"{where}.role", told, Reason.UNSUPPORTED if role in ("tool", "function") else Reason.BAD_REQUEST)
    if message.get("tool_calls") or message.get("function_call") or message.get("audio"):
        wishes.add(where, "carries tool calls or audio, which are not supported")
    may_be_empty = role in {"assistant", "tool", "function"}
    return ChatTurn(
        role=ROLES.get(role, role), content=_content(f"{where}.content", message.get("content"), wishes, may_be_empty)
    )


def _content(where: str, content: Any, wishes: Wishes, may_be_empty: bool) -> str:
    if isinstance(content, str):
        return content
    told = "must be a text or a list of text parts"
    if content is None and may_be_empty:
        wishes.add(where, told, Reason.BAD_REQUEST)
        return ""
    parts = cast("list[Any]", content) if isinstance(content, list) else []
    if not parts:
        refuse(where, told)
    return "".join(_text_part(f"{where}[{at}]", part, wishes) for at, part in enumerate(parts))


def _text_part(where: str, part: Any, wishes: Wishes) -> str:
    fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
    kind, text = fields.get("type"), fields.get("text")
    if isinstance(kind, str) and kind != "text":
        wishes.add(where, f"is of type {_short(kind)}; only 'text' is served")
        return ""
    if kind != "text" or not isinstance(text, str):
        refuse(where, "must be {'type': 'text', 'text': '...'}")
    return text


def _short(said: Any) -> str:
    return repr(said)[:SHOWN_MAX]


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
