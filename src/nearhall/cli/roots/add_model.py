"""Puts a user's own model into a repository: infer, copy, warm up, measure, and say how to ask it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from nearhall.cli.roots.models import example, measured_variant, write_model
from nearhall.core.errors import InputError, PermanentError, Refusal
from nearhall.core.tensor import BYTES, TensorSpec
from nearhall.documents.model import ModelDocument, TensorShape, Variant
from nearhall.drivers.model_files import runtime_of
from nearhall.drivers.packages import sha256_of
from nearhall.ports.runtime import ChatAsk, ChatMessage, ModelFile

DEFAULT_PORT = 8080
CURL_VALUES_MAX = 64
"""An input with more values is sent by a line of Python instead of by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A model that was added, and how to use it."""

    document: ModelDocument
    repository: Path
    commands: Sequence[str]
    """The lines to type, in order: serve, then ask."""


def add_model(source: str, repository: Path, *, name: str | None, remote_model: str | None) -> Added:
    """Adds a file or a URL; raises InputError for what is not supported or is there already."""
    if source.startswith(("http://", "https://")):
        return _add_url(source, repository, name=name, remote_model=remote_model)
    path = Path(source)
    runtime = runtime_of(path)
    model = _checked_name(name or _name_of(path), repository)
    _room_for(path, repository)
    if runtime == "genai":
        return _add_chat(path, repository, model)
    try:
        variant, inputs, outputs = measured_variant(path, runtime)
    except PermanentError as error:
        raise InputError(str(error), where=str(path), right="check the file with the tool that made it") from error
    except Refusal as error:
        right = "write example_shape for its inputs into a model.yaml by hand (see docs, how-to: add your model)"
        raise InputError(
            f"loads, but does not run on zeros with free lengths of 1 ({error.message})", where=str(path), right=right
        ) from error
    document = write_model(
        repository,
        model,
        path,
        variant,
        task="tensors",
        licence="yours",
        source=str(path.resolve()),
        inputs=inputs,
        outputs=outputs,
    )
    return Added(document=document, repository=repository, commands=[_serve(repository), _ask_tensors(model, inputs)])


def _add_chat(path: Path, repository: Path, model: str) -> Added:
    variant = _measured_chat(path, model)
    document = write_model(repository, model, path, variant, task="chat", licence="yours", source=str(path.resolve()))
    return Added(document=document, repository=repository, commands=[_serve(repository), _ask_chat(model)])


def _add_url(url: str, repository: Path, *, name: str | None, remote_model: str | None) -> Added:
    model = _checked_name(name or remote_model or "upstream", repository)
    variant = Variant(runtime="upstream", file=url.rstrip("/"))
    folder = repository / model
    folder.mkdir(parents=True, exist_ok=True)
    document = write_model(
        repository, model, None, variant, task="chat" if "/v1" in url else "tensors", licence="theirs", source=url
    )
    asks = _ask_chat(model) if "/v1" in url else f"curl -s http://127.0.0.1:{DEFAULT_PORT}/v2/models/{model}"
    return Added(document=document, repository=repository, commands=[_serve(repository), asks])


def _measured_chat(path: Path, model: str) -> Variant:
    """Loads the language model once, asks it a word, and measures the time to the first token and the memory."""
    try:
        from nearhall.drivers.genai import GenaiRuntime

        runtime = GenaiRuntime(ModelFile(model=model, version="1", variant="cpu", runtime="genai", path=str(path)))
    except ImportError as error:
        raise InputError("a language model needs OpenVINO GenAI", where=str(path), right="pip install 'nearhall[llm]'") from error
    except PermanentError as error:
        raise InputError(str(error), where=str(path), right="check the file with the tool that made it") from error

    async def first_token_ms() -> float:
        try:
            began = time.perf_counter()
            ask = ChatAsk(messages=[ChatMessage(role="user", content="Say hello.")], max_tokens=4)
            answer = runtime.generate(ask)
            await anext(answer)
            took = (time.perf_counter() - began) * 1e3
            await answer.aclose()
            return took
        finally:
            await runtime.close()

    memory = psutil.Process(runtime.pid).memory_info().rss / 2**20
    took = asyncio.run(first_token_ms())
    measured = {
        "latency_p50_ms": round(took, 2),
        "memory_mib": round(memory, 1),
        "runs": 1,
        "date": datetime.now(UTC).date().isoformat(),  # noqa: TID251 (cli dates its files)
        "host": f"{psutil.cpu_count()} cores; to the first token",
    }
    return Variant.model_validate({"runtime": "genai", "file": path.name, "sha256": sha256_of(path), "measured": measured})


def _name_of(path: Path) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-.") or "model"


def _checked_name(name: str, repository: Path) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InputError(f"{name!r} is no model name", where="--name", right="letters, digits, dots, dashes; at most 64")
    if (repository / name / "model.yaml").exists():
        raise InputError(
            f"the repository {repository} has a model {name!r} already", where="--name", right="give another name with --name"
        )
    return name


def _room_for(path: Path, repository: Path) -> None:
    repository.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(repository).free
    if path.stat().st_size * 1.1 > free:
        raise InputError(
            f"{path} does not fit on the disk of {repository} ({free / 1e6:.0f} MB are free)",
            right="make room, or name --repository",
        )


_ZEROS: dict[str, Any] = {BYTES: "", "BOOL": False}


def _serve(repository: Path) -> str:
    return f"nearhall serve --repository {repository} --http {DEFAULT_PORT}"


def _ask_chat(model: str) -> str:
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "Hello, who are you?"}], "max_completion_tokens": 32}
    )
    return f"curl -s http://127.0.0.1:{DEFAULT_PORT}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"


def _ask_tensors(model: str, inputs: Sequence[TensorShape]) -> str:
    """A line that works as it stands: small inputs by curl alone, large ones made by a line of Python in front of it."""
    tensors = [example(TensorSpec(i.name, i.dtype, tuple(i.shape)), i.example_shape, i.example_value) for i in inputs]
    url = f"http://127.0.0.1:{DEFAULT_PORT}/v2/models/{model}/infer"
    described: list[dict[str, Any]] = []
    small = all(tensor.count <= CURL_VALUES_MAX for tensor in tensors)
    for item, tensor in zip(inputs, tensors, strict=True):
        value: Any = _ZEROS.get(item.dtype, 0)
        described.append(
            {
                "name": item.name,
                "datatype": item.dtype,
                "shape": list(tensor.shape),
                "data": [value] * tensor.count if small else [],
            }
        )
    if small:
        return f"curl -s {url} -d '{json.dumps({'inputs': described})}'"
    for entry, tensor in zip(described, tensors, strict=True):
        entry["data"] = f"@{tensor.count}"
    body = re.sub(r"\"@(\d+)\"", r"[0]*\1", json.dumps({"inputs": described}))
    return f"python3 -c 'import json; print(json.dumps({body}))' | curl -s {url} -d @-"
