"""The model catalogue (`nearhall/models/v1`): what models are made of, and what smaller precisions cost in quality."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nearhall.core.errors import InputError
from nearhall.documents.yaml_file import parse_document


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Precision(_Strict):
    """One form of a model by the width of its weights."""

    bits: int = Field(ge=2, le=32)
    overhead: float = Field(default=0.0, ge=0, le=1)
    """What scales of quantised groups add to the weights."""
    quality: float = Field(gt=0, le=1.05)
    """Its score over that of the model at 16 bits."""
    kind: Literal["measured", "vendor", "standard", "assumed"] = "assumed"
    source: str = "spread of published quantisations; measure it on your own data"


class CatalogueModel(_Strict):
    """One model."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    name: str
    kind: Literal["vision", "speech", "embedding", "llm"]
    params: float = Field(gt=0)
    active_params: float | None = Field(default=None, gt=0)
    """Those that one token uses, where experts share the work: all lie in memory, these are computed. None: all."""
    layers: int | None = Field(default=None, gt=0)
    kv_heads: int | None = Field(default=None, gt=0)
    head_dim: int | None = Field(default=None, gt=0)
    hidden: int | None = Field(default=None, gt=0)
    """Width of the layers' states."""
    gflop: float | None = Field(default=None, gt=0)
    """Operations of one inference at its usual input, in 10^9; None for language models, where it is 2 x params a token."""
    mlperf: str | None = None
    """What MLPerf calls it in the hardware catalogue's benchmarks."""
    variants: list[Precision] = Field(min_length=1)
    source_kind: Literal["measured", "vendor", "standard", "assumed"] = "assumed"
    """Of the weakest figure of its shape and operations; variants have their own."""
    source: str
    date: str

    @model_validator(mode="after")
    def _shape_is_whole(self) -> CatalogueModel:
        if self.kind == "llm" and None in {self.layers, self.kv_heads, self.head_dim}:
            message = f"the language model {self.id} needs layers, kv_heads and head_dim"
            raise ValueError(message)
        if self.active_params is not None and self.active_params > self.params:
            message = f"active_params of {self.id} are more than its params"
            raise ValueError(message)
        return self


class ModelCatalogue(_Strict):
    """All models."""

    schema_: Literal["nearhall/models/v1"] = Field(alias="schema")
    models: list[CatalogueModel]

    def model(self, name: str) -> CatalogueModel:
        """The model with this id, or `mlperf:NAME`; raises InputError with the nearest known one, or all."""
        for model in self.models:
            if name == model.id or (model.mlperf is not None and name == f"mlperf:{model.mlperf}"):
                return model
        near = get_close_matches(name, [model.id for model in self.models], n=1)
        right = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(m.id for m in self.models)}"
        raise InputError(f"the catalogue has no model {name!r}", right=right)


@cache
def load_models() -> ModelCatalogue:
    """The catalogue that ships with nearhall."""
    data = files("nearhall.documents").joinpath("data/models.yaml").read_bytes()
    return parse_document(data, ModelCatalogue, name="models.yaml")
