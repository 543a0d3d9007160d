"""The model catalogue: plausible, with a source each; an unknown model is told with the nearest known one."""

from __future__ import annotations

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.catalogue_models import CatalogueModel, ModelCatalogue, load_models
from nearhall.documents.hardware import load_catalogue
from nearhall.documents.yaml_file import parse_document


@pytest.mark.parametrize("model", load_models().models, ids=lambda model: model.id)
def test_a_model_is_plausible_and_says_where_it_comes_from(model: CatalogueModel):
    assert 1e5 <= model.params <= 1e12
    assert model.source
    assert model.gflop is not None or model.kind == "llm"
    qualities = [variant.quality for variant in sorted(model.variants, key=lambda v: -v.bits)]
    assert qualities == sorted(qualities, reverse=True), "fewer bits are never better"


def test_models_of_every_kind_and_every_benchmark_of_the_hardware_catalogue():
    models = load_models().models
    assert {model.kind for model in models} == {"vision", "speech", "embedding", "llm"}
    run = {run.model for system in load_catalogue().systems for run in system.benchmarks}
    assert run - {model.mlperf for model in models} <= {"ssd-resnet34", "stable-diffusion-xl"}


def test_a_model_is_found_by_its_id_and_by_the_benchmarks_name():
    catalogue = load_models()
    assert catalogue.model("mlperf:bert") is catalogue.model("bert-large")
    with pytest.raises(InputError, match=r"did you mean 'llama-3\.1-8b'"):
        catalogue.model("llama-3.1-8")
    with pytest.raises(InputError, match="one of: resnet50"):
        catalogue.model("zzz")


def test_a_language_model_without_its_shape_is_refused():
    text = (
        "schema: nearhall/models/v1\nmodels:\n  - {id: a, name: A, kind: %s, params: 1.0e+9, variants: [{bits: 16, quality: 1}],"
        " source: s, date: d}\n"
    )
    assert parse_document((text % "vision").encode(), ModelCatalogue, name="m").models[0].layers is None
    with pytest.raises(InputError, match="needs layers, kv_heads and head_dim"):
        parse_document((text % "llm").encode(), ModelCatalogue, name="m")
