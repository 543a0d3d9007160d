"""model.yaml: what stands in it is either right or told, before anything is loaded."""

from __future__ import annotations

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.model import ModelDocument
from nearhall.documents.yaml_file import dump_document, parse_document


def _text(variant: str, *, default: str = "fp32") -> bytes:
    return (
        "schema: nearhall/model/v1\nname: door\ntask: tensors\nlicence: x\nsource: x\n"
        f"versions: {{'1': {{variants: {{fp32: {{{variant}}}}}}}}}\ndefault_version: '1'\ndefault_variant: {default}\n"
    ).encode()


@pytest.mark.parametrize(
    "variant",
    [
        "runtime: onnxruntime, file: door.onnx",
        "runtime: onnxruntime, file: door.onnx, threads: 4, options: {optimization: basic}",
        "runtime: openvino, file: door.tflite, options: {performance_hint: THROUGHPUT}",
        "runtime: genai, file: door.gguf, options: {context: '4096', kv_cache_gib: '4', prefix_cache: 'off'}",
        "runtime: upstream, file: 'https://host/v1', options: {model: org/big, api_key_file: /etc/key}",
    ],
)
def test_a_variant_is_taken_and_written_back_the_same(variant: str):
    document = parse_document(_text(variant), ModelDocument, name="model.yaml")
    assert parse_document(dump_document(document), ModelDocument, name="again") == document


@pytest.mark.parametrize(
    ("runtime", "written", "meant"),
    [
        ("onnxruntime", "gpu_memory_mib: 384", {"gpu_memory_mib": "384"}),
        ("onnxruntime", "gpu_memory_mib: 384.0", {"gpu_memory_mib": "384"}),
        ("onnxruntime", "gpu_memory_mib: '384', tf32: true", {"gpu_memory_mib": "384", "tf32": "on"}),
        (
            "genai",
            "context: 4_096, kv_cache_gib: 4, prefix_cache: false",
            {"context": "4096", "kv_cache_gib": "4", "prefix_cache": "off"},
        ),
        ("genai", "prefix_cache: off", {"prefix_cache": "off"}),
        ("upstream", "model: 7", {"model": "7"}),
    ],
)
def test_options_are_taken_as_people_write_them_and_kept_as_text(runtime: str, written: str, meant: dict[str, str]):
    file = "'http://host'" if runtime == "upstream" else "f"
    document = parse_document(
        _text(f"runtime: {runtime}, file: {file}, options: {{{written}}}"), ModelDocument, name="model.yaml"
    )
    assert document.versions["1"].variants["fp32"].options == meant
    assert parse_document(dump_document(document), ModelDocument, name="again") == document


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        ("runtime: onnxruntime, file: d.onnx, options: {optimisation: all}", "options.optimisation is not known to onnxruntime"),
        ("runtime: onnxruntime, file: d.onnx, options: {optimization: fast}", "right would be all|basic|none"),
        ("runtime: openvino, file: d.onnx, options: {performance_hint: latency}", "right would be LATENCY|THROUGHPUT"),
        ("runtime: genai, file: d.gguf, options: {context: many}", "options.context is 'many'"),
        (
            "runtime: genai, file: d.gguf, options: {context: true}",
            "options.context is 'true'; right would be a whole number from 10 to 9999999",
        ),
        ("runtime: onnxruntime, file: d.onnx, options: {gpu_memory_mib: 0.5}", "options.gpu_memory_mib is '0.5'"),
        ("runtime: onnxruntime, file: d.onnx, options: {gpu_memory_mib: -1}", "right would be a whole number from 1"),
        ("runtime: onnxruntime, file: d.onnx, options: {gpu_memory_mib: [384]}", "valid string"),
        ("runtime: onnxruntime, file: d.onnx, options: [tf32]", "options"),
        ("runtime: onnxruntime, file: d.onnx, options: {tf32: 1}", "options.tf32 is '1'; right would be on|off"),
        ("runtime: onnxruntime, file: ../d.onnx", "is not a plain file name"),
        ("runtime: upstream, file: d.onnx", "http:// or https://"),
        ("runtime: torch, file: d.pt", "versions.1.variants.fp32.runtime"),
        ("runtime: onnxruntime, file: d.onnx, treads: 2", "did you mean 'threads'?"),
    ],
)
def test_a_mistake_is_told_with_what_would_be_right(variant: str, told: str):
    with pytest.raises(InputError) as refused:
        parse_document(_text(variant), ModelDocument, name="model.yaml")
    assert told in str(refused.value)
    assert "model.yaml:6" in str(refused.value)


def test_a_model_of_embeddings_has_a_tokenizer_and_no_other_has_any():
    with_one = "runtime: onnxruntime, file: d.onnx, options: {tokenizer: t.json, max_tokens: '512'}"
    without = "runtime: onnxruntime, file: d.onnx"
    far = "runtime: upstream, file: 'http://host/v1'"
    for variant in (with_one, far):
        made = parse_document(_text(variant).replace(b"task: tensors", b"task: embeddings"), ModelDocument, name="model.yaml")
        assert made.task == "embeddings"
    for text in (_text(without).replace(b"task: tensors", b"task: embeddings"), _text(with_one)):
        with pytest.raises(InputError, match=r"options\.tokenizer"):
            parse_document(text, ModelDocument, name="model.yaml")


def test_a_default_that_is_not_there_is_told():
    with pytest.raises(InputError, match="default_variant 'int8' is not a variant of it: fp32"):
        parse_document(_text("runtime: onnxruntime, file: d.onnx", default="int8"), ModelDocument, name="model.yaml")
