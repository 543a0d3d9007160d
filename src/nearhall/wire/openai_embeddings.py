"""OpenAI's embeddings: texts in, a vector for each out. Source: OpenAI's API reference, "Embeddings"."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from nearhall.core.reasons import Reason
from nearhall.wire.openai_params import Beyond, Wishes, read_form, refuse

TEXTS_MAX = 256
"""Of one request to our own runtime. They are computed in one run, which nobody interrupts: at 5 ms a text that is a second."""
_KNOWN = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {}


class _Embeddings(msgspec.Struct):
    model: str
    input: Any
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsRequest:
    """A checked request."""

    model: str
    texts: tuple[str, ...]
    """Of tokens nothing: only another engine takes them."""
    base64: bool
    dimensions: int | None
    """None, or what the client expects; only the model's own number can be served."""
    beyond: Beyond | None
    """The first thing that only another engine may do; None: any runtime can answer."""


def decode_embeddings(body: bytes | memoryview) -> EmbeddingsRequest:
    """A request from its body; raises nothing but Refusal, which names the parameter and what would be right."""
    needs = "'model' and 'input'"
    form, wishes = read_form(body, _Embeddings, what="an embeddings request", needs=needs, known=_KNOWN, neutral=_NEUTRAL)
    texts = _texts(form.input, wishes)
    return EmbeddingsRequest(
        model=form.model,
        texts=texts,
        base64=form.encoding_format == "base64",
        dimensions=form.dimensions,
        beyond=wishes.first,
    )


def _texts(given: Any, wishes: Wishes) -> tuple[str, ...]:
    texts = cast("list[Any]", given) if isinstance(given, list) else [given]
    told = f"has {len(texts)} texts; 1 to {TEXTS_MAX} are served"
    if not texts:
        refuse("input", told)
    if len(texts) > TEXTS_MAX:
        wishes.add("input", told, Reason.BAD_REQUEST)
    for index, text in enumerate(texts):
        if isinstance(text, int | list):
            wishes.add("input", "is given in tokens; this server takes texts")
            return ()
        if not isinstance(text, str) or not text:
            refuse(f"input[{index}]", "must be a text that is not empty")
    return tuple(texts)


def embeddings_answer(model: str, vectors: Sequence[memoryview], *, base64: bool, prompt_tokens: int) -> bytes:
    """The answer; each vector as little-endian FP32."""
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(vector, base64=base64)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": model, "usage": usage})


def _vector(vector: memoryview, *, base64: bool) -> str | Sequence[float]:
    return b64encode(vector).decode() if base64 else vector.cast("B").cast("f").tolist()
