"""OpenAI's completions: a text that goes on from a prompt as it stands, without a chat template.

Source: OpenAI's API reference, "Completions". One prompt is one text and gets one choice: several prompts are several requests,
which the runtime decodes together all the same. Prompts in tokens are refused, since clients cannot know this model's tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from nearhall.core.reasons import Reason
from nearhall.wire.openai import Usage, event_of
from nearhall.wire.openai_params import TEXT_KNOWN, TEXT_NEUTRAL, TextForm, TextRequest, read_form, refuse, text_parameters

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

    @property
    def prompt_bytes(self) -> int:
        """Of the prompt."""
        return len(self.prompt.encode(errors="replace"))


def decode_completion(body: bytes | memoryview, *, tokens_max: int) -> CompletionRequest:
    """A request from its body; raises nothing but Refusal, which names the parameter and what would be right.

    `tokens_max` is the server's limit.
    """
    needs = "'model' and 'prompt'"
    form = read_form(body, _Completion, what="a completion request", needs=needs, known=_KNOWN, neutral=_NEUTRAL)
    parameters = text_parameters(form, wanted=form.max_tokens, name="max_tokens", default=DEFAULT_TOKENS, most=tokens_max)
    return CompletionRequest(prompt=_prompt(form.prompt), **parameters)


def _prompt(given: Any) -> str:
    prompt = given
    if isinstance(given, list):
        prompts = cast("list[Any]", given)
        if any(not isinstance(one, str) for one in prompts):
            refuse("prompt is given in tokens; this server takes texts", Reason.UNSUPPORTED)
        if len(prompts) != 1:
            refuse(f"prompt is a list of {len(prompts)}; send each prompt as a request of its own", Reason.UNSUPPORTED)
        prompt = prompts[0]
    if not isinstance(prompt, str):
        refuse("prompt must be a text")
    if not prompt:
        refuse("prompt is empty; a text to go on from is right")
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
