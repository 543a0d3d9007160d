"""Puts the tokenizer in front of a text model, where model.yaml names one."""

from __future__ import annotations

from nearhall.core.errors import PermanentError
from nearhall.ports.runtime import ModelFile, TensorRuntime

NEEDS_TOKENIZERS = "a model of embeddings needs the package tokenizers"
INSTALLS_TOKENIZERS = "pip install 'nearhall[embeddings]'"


def with_tokenizer(file: ModelFile, runtime: TensorRuntime) -> TensorRuntime:
    """The runtime itself, or as a model of embeddings; raises PermanentError where what that needs is not there."""
    if "tokenizer" not in file.options:
        return runtime
    try:
        from nearhall.drivers.embedder import Embedder
    except ImportError as error:
        raise PermanentError(f"{NEEDS_TOKENIZERS}: {INSTALLS_TOKENIZERS}") from error
    return Embedder(file, runtime)
