"""OpenAI's completions: a text that goes on from a prompt as it stands, without a chat template.

Source: OpenAI's API reference, "Completions". Of our own runtimes one prompt is one text and gets one choice: several prompts are
several requests, which the runtime decodes together all the same, and prompts in tokens are refused, since clients cannot know
this model's tokens. Another engine may take both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from nearhall.wire.openai import Usage, event_of
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

DEFAULT_TOKENS = 16
"""OpenAI's default for `max_tokens`."""
_KNOWN = TEXT_KNOWN | {"prompt"}
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {**TEXT_NEUTRAL, "best_of": (1,), "echo": (False,), "suffix": ("",)}


class _Completion(TextForm, kw_only=True):
    prompt: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(TextRequest):
    """A checked request."""

    prompt: str
    """Of several, or of tokens, nothing: only another engine takes them."""

    @property
    def prompt_bytes(self) -> int:
        """Of the prompt."""
        return len(self.prompt.encode(errors="replace"))


def decode_completion(body: bytes | memoryview, *, tokens_max: TokensMax) -> CompletionRequest:
    """A request from its body; raises nothing but Refusal, which names the parameter and what would be right."""
    needs = "'model' and 'prompt'"
    form, wishes = read_form(body, _Completion, what="a completion request", needs=needs, known=_KNOWN, neutral=_NEUTRAL)
    prompt = _prompt(form.prompt, wishes)
    parameters = text_parameters(form, wishes, wanted=form.max_tokens, name="max_tokens", default=DEFAULT_TOKENS, most=tokens_max)
    return CompletionRequest(prompt=prompt, **parameters)


def _prompt(given: Any, wishes: Wishes) -> str:
    prompt = given
    if isinstance(given, list):
        prompts = cast("list[Any]", given)
        if not prompts:
            refuse("prompt", "is a list of 0; a text to go on from is right")
        if any(isinstance(one, int | list) for one in prompts):
            wishes.add("prompt", "is given in tokens; this server takes texts")
            return ""
        if not all(isinstance(one, str) for one in prompts):
            refuse("prompt", "must be a text, or a list of texts")
        if len(prompts) > 1:
            wishes.add("prompt", f"is a list of {len(prompts)}; send each prompt as a request of its own")
            return ""
        prompt = prompts[0]
    if not isinstance(prompt, str):
        refuse("prompt", "must be a text")
    if not prompt:
        refuse("prompt", "is empty; a text to go on from is right")
    return prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionAnswer:
    """A completion's answer."""

    id: str
    model: str
    created: int
    """Seconds since 1970 UTC."""

    def whole(self, text: str, finish: str, usage: Usage) -> bytes:
        """The answer in one piece."""
        return msgspec.json.encode({**self._head(), "choices": [_choice(text, finish)], "usage": usage})

    def chunk(self, text: str, *, first: bool, usage_comes: bool) -> bytes:
        """An event of a stream that carries text."""
        return self._event(_choice(text, None), usage_comes=usage_comes)

    def last(self, finish: str, *, usage_comes: bool) -> bytes:
        """The event that says why the answer ended."""
        return self._event(_choice("", finish), usage_comes=usage_comes)

    def usage(self, usage: Usage) -> bytes:
        """The event with the token counts, for `stream_options.include_usage`."""
        return event_of(self._head(), [], usage)

    def _event(self, choice: Mapping[str, Any], *, usage_comes: bool) -> bytes:
        head = self._head()
        return event_of({**head, "usage": None} if usage_comes else head, [choice])

    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}


def _choice(text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
