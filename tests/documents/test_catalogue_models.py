"""The model catalogue: plausible, with a source each; an unknown model is told with the nearest known one."""

from __future__ import annotations

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.catalogue_models import CatalogueModel, ModelCatalogue, load_models
from nearhall.documents.hardware import load_catalogue
from nearhall.documents.yaml_file import parse_document
from nearhall.physics.memory import kv_bytes_per_token


@pytest.mark.parametrize("model", load_models().models, ids=lambda model: model.id)
def test_a_model_is_plausible_and_says_where_it_comes_from(model: CatalogueModel):
    assert 1e5 <= model.params <= 1e12
    assert model.source
    assert model.gflop is not None or model.kind == "llm"
    qualities = [variant.quality for variant in sorted(model.variants, key=lambda v: -v.bits)]
    assert qualities == sorted(qualities, reverse=True), "fewer bits are never better"
    widths = [variant.bits * (1.0 + variant.overhead) for variant in sorted(model.variants, key=lambda v: v.bits)]
    assert widths == sorted(widths), "scales never make fewer bits larger than more"
    assert model.kind != "llm" or model.hidden is not None


def shape_of(model: CatalogueModel) -> tuple[int, int, int, int]:
    assert model.layers
    assert model.kv_heads
    assert model.head_dim
    assert model.hidden
    return model.layers, model.kv_heads, model.head_dim, model.hidden


SHAPES = [
    # id, intermediate width, attention heads, vocabulary, embedding shared with the output, bias of the attention, experts
    ("smollm2-135m", 1536, 9, 49152, True, False, 1),
    ("smollm2-360m", 2560, 15, 49152, True, False, 1),
    ("smollm2-1.7b", 8192, 32, 49152, True, False, 1),
    ("qwen2.5-0.5b", 4864, 14, 151936, True, True, 1),
    ("qwen2.5-1.5b", 8960, 12, 151936, True, True, 1),
    ("qwen2.5-3b", 11008, 16, 151936, True, True, 1),
    ("qwen2.5-7b", 18944, 28, 152064, False, True, 1),
    ("llama-3.2-1b", 8192, 32, 128256, True, False, 1),
    ("llama-3.2-3b", 8192, 24, 128256, True, False, 1),
    ("llama-3.1-8b", 14336, 32, 128256, False, False, 1),
    ("llama-2-7b", 11008, 32, 32000, False, False, 1),
    ("llama-2-70b", 28672, 64, 32000, False, False, 1),
    ("mistral-7b", 14336, 32, 32768, False, False, 1),
    ("phi-3.5-mini", 8192, 32, 32064, False, False, 1),
    ("mixtral-8x7b", 14336, 32, 32000, False, False, 8),
]


@pytest.mark.parametrize(("name", "wide", "heads", "words", "shared", "bias", "experts"), SHAPES, ids=[row[0] for row in SHAPES])
def test_parameters_follow_from_the_shape(name: str, wide: int, heads: int, words: int, shared: bool, bias: bool, experts: int):
    """Of the models' config.json: a slip in layers, heads or width shows in the count."""
    model = load_models().model(name)
    layers, kv_heads, head_dim, hidden = shape_of(model)
    outer, inner = heads * head_dim, kv_heads * head_dim
    attention = 2 * hidden * (outer + inner) + (outer + 2 * inner if bias else 0)
    router = hidden * experts if experts > 1 else 0

    def counted(used: int) -> int:
        layer = attention + 3 * hidden * wide * used + router + 2 * hidden
        return layers * layer + hidden * words * (1 if shared else 2) + hidden

    assert model.params == counted(experts)
    if model.active_params is not None:
        assert model.active_params == pytest.approx(counted(2), rel=1e-4), "two experts a token"


def test_the_cache_of_published_models():
    """Cases 12 and 13: Llama 2 70B 4,096 tokens fp16, 1,342,177,280 B; Llama 2 7B 524,288 B a token."""

    def per_token(name: str) -> float:
        layers, kv_heads, head_dim, _ = shape_of(load_models().model(name))
        return float(kv_bytes_per_token(layers=layers, kv_heads=kv_heads, head_dim=head_dim))

    assert per_token("llama-2-70b") * 4096 == 1_342_177_280
    assert per_token("llama-2-7b") == 524_288


def test_a_4_bit_llama_is_as_large_as_the_file():
    """Llama 3.1 8B takes 14.96 GiB at 16 bits and 4.57 GiB in Q4_K_M (runyard.dev, on llama.cpp's quantisations)."""
    model = load_models().model("llama-3.1-8b")
    sizes = {v.bits: model.params * v.bits / 8 * (1 + v.overhead) / 2**30 for v in model.variants}
    assert sizes[16] == pytest.approx(14.96, abs=0.01)
    assert sizes[4] == pytest.approx(4.57, rel=0.02)


def test_more_active_parameters_than_there_are_is_refused():
    text = (
        "schema: nearhall/models/v1\nmodels:\n  - {id: a, name: A, kind: vision, params: 1.0e+9, active_params: %s,"
        " variants: [{bits: 16, quality: 1}], source: s, date: d}\n"
    )
    assert parse_document((text % "1.0e+8").encode(), ModelCatalogue, name="m").models[0].active_params == 1e8
    with pytest.raises(InputError, match="active_params of a are more"):
        parse_document((text % "2.0e+9").encode(), ModelCatalogue, name="m")


def test_models_of_every_kind_and_every_benchmark_of_the_hardware_catalogue():
    models = load_models().models
    assert {model.kind for model in models} == {"vision", "speech", "embedding", "llm"}
    run = {run.model for system in load_catalogue().systems for run in system.benchmarks}
    assert run - {model.mlperf for model in models} <= {"stable-diffusion-xl"}


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
