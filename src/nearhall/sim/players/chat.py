"""People who ask the site's chat model short questions and read the answer as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

from nearhall.sim.players.work import Answer, Found, Request
from nearhall.wire.chat_events import ChatReader

TOKENS_MAX = 32
PROMPTS: tuple[str, ...] = (
    "What is a data center? Answer in one sentence.",
    "Name three causes of a machine stopping on a factory line.",
    "Write a polite sign that asks customers to wait here.",
    "What should I check first when a cabinet is too warm?",
    "Explain in one sentence what a UPS does.",
    "Suggest a short name for a small shop that sells bicycles.",
    "How do I restart a till that does not answer?",
    "What does latency mean? One sentence.",
)


class ChatWork:
    """Asks the prompts in a random, repeatable order; each with a number, so that no cache of prefixes answers for the model."""

    def __init__(self, *, model: str, workload: str, seed: int) -> None:
        self._model = model
        self._workload = workload
        self._draw = Random(seed)  # noqa: S311 (a repeatable rehearsal)
        self._asked = 0

    def next(self) -> Request | None:
        """The next question, to be streamed."""
        self._asked += 1
        prompt = f"({self._asked}) {self._draw.choice(PROMPTS)}"
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_completion_tokens": TOKENS_MAX,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = [("content-type", "application/json"), ("x-nearhall-workload", self._workload)]
        return Request(path="/v1/chat/completions", headers=headers, body=msgspec.json.encode(body), streamed=True)

    def take(self, request: Request, answer: Answer) -> Sequence[Found]:
        """One answer; and its tokens, where the server counted them. Raises ValueError for events that are none of a chat."""
        said = ChatReader()
        said.feed(answer.body)
        if said.unread:
            raise ValueError(f"{said.unread} events are no JSON objects")
        answers = [Found("answers", 1, 1.0)]
        return answers if said.tokens is None else [*answers, Found("tokens", 1, float(said.tokens))]

    def close(self) -> None:
        """Nothing is open."""
