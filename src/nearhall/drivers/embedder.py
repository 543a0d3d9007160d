"""Texts into vectors behind `ports.runtime.TensorRuntime`: a tokenizer, a text model, the mean of its tokens, length one.

A text model as sentence-transformers exports it: `input_ids`, `attention_mask` and perhaps `token_type_ids`, INT64
[batch, tokens], to `last_hidden_state` FP32 [batch, tokens, size] or a ready `sentence_embedding` FP32 [batch, size]. To its
callers it is a model of two tensors: `text`, BYTES [-1], to `embedding`, FP32 [-1, size], and `tokens`, INT64 [-1]; so it has a
lane and admission like any other. Source: Reimers and Gurevych, Sentence-BERT, EMNLP 2019 (mean pooling; cosine as the measure).
"""

# tokenizers comes with partial types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from nearhall.core.errors import PermanentError, Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import BYTES, Tensor, TensorSpec
from nearhall.drivers.arrays import to_array, to_tensor
from nearhall.ports.runtime import ModelFile, TensorRuntime

TEXT, EMBEDDING, TOKENS = "text", "embedding", "tokens"
DEFAULT_TOKENS = 256
"""Of one text, special tokens included: what small sentence models were trained with; others name theirs in `model.yaml`,
options.max_tokens."""
TOKENS_A_RUN = 4096
"""Computed at once, padding included: more texts are more runs, so that no run holds gigabytes of attention."""
TEXT_BYTES_MAX = 64 * 1024
"""No text of so many bytes has few enough tokens; it is refused before it is cut into them."""
_NEEDED, _KNOWN = {"input_ids", "attention_mask"}, {"input_ids", "attention_mask", "token_type_ids"}
_TINY = 1e-12
"""A text whose vector is all zeros keeps it, instead of dividing by zero."""

Array = npt.NDArray[Any]


class Embedder:
    """A tokenizer in front of a text model."""

    def __init__(self, file: ModelFile, model: TensorRuntime) -> None:
        """`model` is the loaded text model; raises PermanentError where it or the tokenizer is none."""
        self._model = model
        self.device = str(getattr(model, "device", "cpu"))
        """Where the text model runs."""
        self.note = str(getattr(model, "note", ""))
        """Why it does not run where it was to run."""
        names = {spec.name for spec in model.inputs}
        if not names >= _NEEDED or not names <= _KNOWN:
            right = "a text model takes input_ids, attention_mask and perhaps token_type_ids"
            raise PermanentError(f"{file.path} takes {', '.join(sorted(names))}; {right}")
        self._segments = "token_type_ids" in names
        self._output = _output(model.outputs, file.path)
        self._tokenizer = _tokenizer(Path(file.path).with_name(file.options["tokenizer"]))
        self._tokens_max = int(file.options.get("max_tokens", DEFAULT_TOKENS))
        self._pad_id = self._tokenizer.token_to_id("[PAD]") or 0
        size = self._output.shape[-1]
        if size < 0:
            size = int(self._embed([self._tokenizer.encode("size").ids]).shape[1])
        self._outputs = (TensorSpec(EMBEDDING, "FP32", (-1, size)), TensorSpec(TOKENS, "INT64", (-1,)))

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """Texts."""
        return (TensorSpec(TEXT, BYTES, (-1,)),)

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """A vector of length one for each, and how many tokens each had."""
        return self._outputs

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> Sequence[Tensor]:
        """Embeds all texts, blocking; raises Refusal for one that is no text or too long."""
        texts = [self._text(index, row) for index, row in enumerate(inputs[0].rows or ())]
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        for index, one in enumerate(ids):
            if len(one) > self._tokens_max:
                raise Refusal(Reason.BAD_REQUEST, f"text {index} has {len(one)} tokens; this model reads {self._tokens_max}")
        vectors = np.zeros((len(ids), self._outputs[0].shape[1]), np.float32)
        for batch in batches([len(one) for one in ids], TOKENS_A_RUN):
            vectors[batch] = self._embed([ids[index] for index in batch])
        made = {EMBEDDING: vectors, TOKENS: np.array([len(one) for one in ids], np.int64)}
        return [to_tensor(name, made[name]) for name in (outputs or made)]

    def close(self) -> None:
        """Frees the model."""
        self._model.close()

    def _text(self, index: int, row: bytes) -> str:
        if len(row) > TEXT_BYTES_MAX:
            raise Refusal(Reason.BAD_REQUEST, f"text {index} has {len(row)} bytes, more than {self._tokens_max} tokens have")
        try:
            return row.decode()
        except UnicodeDecodeError as error:
            raise Refusal(Reason.BAD_REQUEST, f"text {index} is not UTF-8: {error.reason}") from error

    def _embed(self, ids: Sequence[Sequence[int]]) -> Array:
        longest = max(1, *(len(one) for one in ids))
        padded = np.full((len(ids), longest), self._pad_id, np.int64)
        mask = np.zeros((len(ids), longest), np.int64)
        for row, one in enumerate(ids):
            padded[row, : len(one)] = one
            mask[row, : len(one)] = 1
        feed = {"input_ids": padded, "attention_mask": mask}
        if self._segments:
            feed["token_type_ids"] = np.zeros_like(padded)
        given = [to_tensor(spec.name, feed[spec.name]) for spec in self._model.inputs]
        made = to_array(self._model.run(given, [self._output.name])[0]).astype(np.float32, copy=False)
        return normalised(made if made.ndim == 2 else mean_of_tokens(made, mask))


def mean_of_tokens(states: Array, mask: Array) -> Array:
    """[batch, tokens, size] and [batch, tokens] to [batch, size]: padding does not count."""
    weights = mask[..., None].astype(np.float32)
    return (states * weights).sum(1) / np.maximum(weights.sum(1), 1.0)


def normalised(vectors: Array) -> Array:
    """Each of length one, so that a dot product is the cosine."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)


def batches(lengths: Sequence[int], tokens_max: int) -> list[list[int]]:
    """Which texts are computed together: neighbours in length, so that little is padding, at most so many tokens with it."""
    made: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        if made and (len(made[-1]) + 1) * lengths[index] <= tokens_max:
            made[-1].append(index)
        else:
            made.append([index])
    return made


def _output(outputs: Sequence[TensorSpec], path: str) -> TensorSpec:
    by_name = {spec.name: spec for spec in outputs}
    for name, rank in (("sentence_embedding", 2), ("last_hidden_state", 3)):
        spec = by_name.get(name)
        if spec is not None and len(spec.shape) == rank:
            return spec
    right = "a text model gives sentence_embedding [batch, size] or last_hidden_state [batch, tokens, size]"
    raise PermanentError(f"{path} gives {', '.join(by_name)}; {right}")


def _tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception for everything
        raise PermanentError(f"{path} is no tokenizer.json: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
