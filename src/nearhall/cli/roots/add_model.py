"""Puts a user's own model into a repository: infer, copy, warm up, measure, and say how to ask it."""

from __future__ import annotations

import asyncio
import difflib
import json
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path

import psutil

from nearhall.cli.output import writing
from nearhall.cli.roots.embeddings import INSTALLS_TOKENIZERS, NEEDS_TOKENIZERS
from nearhall.cli.roots.models import example, measured_variant, write_model
from nearhall.core.errors import InputError, PermanentError, Refusal, TemporaryError, without_login
from nearhall.core.tensor import BYTES, ITEM_BYTES, TensorSpec
from nearhall.documents.model import ModelDocument, TensorShape, Variant
from nearhall.drivers.model_files import runtime_of
from nearhall.drivers.packages import sha256_of
from nearhall.drivers.upstream import read_key
from nearhall.drivers.upstream_models import Offered, described, offered
from nearhall.ports.runtime import ChatAsk, ChatMessage, ModelFile
from nearhall.wire.oip_tensors import CODES

DEFAULT_PORT = 8080
TOKENIZER = "tokenizer.json"
EXAMPLE_VALUES_MAX = 1 << 26
"""A batch of large images; more would be a mistyped shape."""
COPY_BYTES = 1 << 20
"""At a time; language models have gigabytes."""
LISTED_MAX = 10
"""Of another server's models, in a message."""
CURL_VALUES_MAX = 64
"""An input with more values is sent by a line of Python instead of by hand."""
_PACKED = {**CODES, "FP16": "e", "BOOL": "?"}
"""`struct` codes of data types; of BYTES an empty text is written, which is its length, 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A model that was added, and how to use it."""

    document: ModelDocument
    repository: Path
    commands: Sequence[str]
    """The lines to type, in order: serve, then ask."""


def add_model(
    source: str,
    repository: Path,
    *,
    name: str | None,
    remote_model: str | None = None,
    api_key_file: Path | None = None,
    examples: Sequence[str] = (),
    tokenizer: Path | None = None,
    embeddings: bool = False,
) -> Added:
    """Adds a file or a URL; raises InputError for what is not supported or is there already."""
    if source.startswith(("http://", "https://")):
        if tokenizer is not None:
            raise InputError(f"{source} is another server", where="--tokenizer", right="leave it out; that server has its own")
        return _add_url(
            source, repository, name=name, remote_model=remote_model, api_key_file=api_key_file, embeddings=embeddings
        )
    if embeddings:
        right = "name the file's tokenizer with --tokenizer instead"
        raise InputError(f"{source} is a file", where="--embeddings", right=right)
    for option, given in (("--remote-model", remote_model), ("--api-key-file", api_key_file)):
        if given is not None:
            raise InputError(f"{source} is a file", where=option, right="leave it out; it is for the URL of another server")
    path = Path(source)
    given = dict(map(_example, examples))
    runtime = runtime_of(path)
    if tokenizer is not None and runtime != "onnxruntime":
        raise InputError(f"{source} is no ONNX file", where="--tokenizer", right="leave it out; it is for models of embeddings")
    if tokenizer is not None and not tokenizer.is_file():
        raise InputError(f"{tokenizer} is no file", where="--tokenizer", right="name the model's tokenizer.json")
    model = _checked_name(name or _name_of(path), repository)
    _room_for(path, repository)
    with _copied(path, repository, model) as file:
        options = _tokenizer_beside(file, tokenizer)
        variant, inputs, outputs = (
            (_measured_chat(file, model), [], [])
            if runtime == "genai"
            else _measured_tensors(path, file, runtime, given, options)
        )
        task = "chat" if runtime == "genai" else "tensors" if tokenizer is None else "embeddings"
        about = {"task": task, "licence": "yours", "source": str(path.resolve()), "inputs": inputs, "outputs": outputs}
        with _into(repository):
            document = write_model(repository, model, file, variant, **about)
    ask = _ask_text(model, task) if task != "tensors" else _ask_tensors(model, inputs, outputs)
    return Added(document=document, repository=repository, commands=[_serve(repository), ask])


def _into(repository: Path) -> AbstractContextManager[None]:
    return writing(repository, where="--repository", right="name a folder that you may write")


@contextmanager
def _copied(path: Path, repository: Path, model: str) -> Generator[Path]:
    """The file's copy in the repository, which is what gets measured; nothing is left of it when that fails.

    A copy and no link: who trains the model again may write into the same file, and what serves must not change by that.
    """
    folder = repository / model / "1" / "cpu"
    try:
        with path.open("rb") as given, _into(repository):
            folder.mkdir(parents=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as out:
                shutil.copyfileobj(given, out, COPY_BYTES)
                out.flush()
                os.fsync(out.fileno())
            Path(out.name).chmod(0o644)
            file = Path(out.name).replace(folder / path.name)
        yield file
    except BaseException:
        shutil.rmtree(repository / model, ignore_errors=True)
        raise


def _tokenizer_beside(file: Path, tokenizer: Path | None) -> dict[str, str]:
    """Copies a model's tokenizer to where its file is; the options that name it."""
    if tokenizer is None:
        return {}
    shutil.copyfile(tokenizer, file.with_name(TOKENIZER))
    return {"tokenizer": TOKENIZER}


def _measured_tensors(
    path: Path,
    file: Path,
    runtime: str,
    examples: Mapping[str, tuple[Sequence[int], float]],
    options: Mapping[str, str],
) -> tuple[Variant, list[TensorShape], list[TensorShape]]:
    try:
        measured = measured_variant(file, runtime, examples, options)
    except PermanentError as error:
        right = "check the file with the tool that made it"
        if runtime == "onnxruntime" and "xternal" in str(error):
            right = "its weights lie in another file: save it as one, onnx.save_model(onnx.load(file), whole)"
        elif NEEDS_TOKENIZERS in str(error):
            raise InputError(NEEDS_TOKENIZERS, where="--tokenizer", right=INSTALLS_TOKENIZERS) from error
        raise InputError(str(error).replace(str(file), str(path)), where=str(path), right=right) from error
    except Refusal as error:
        right = "say what it runs on, such as --example input=1x576 --example sr=:16000"
        tried = "the examples given" if examples else "zeros with free lengths of 1"
        raise InputError(f"loads, but does not run on {tried} ({error.message})", where=str(path), right=right) from error
    names = [shape.name for shape in measured[1]]
    unknown = [name for name in examples if name not in names]
    if unknown:
        raise InputError(f"the model has no input {unknown[0]!r}", where="--example", right=f"its inputs are {', '.join(names)}")
    return measured


def _example(text: str) -> tuple[str, tuple[Sequence[int], float]]:
    """`NAME=1x576`, `NAME=1x576:0.5` or, for a scalar, `NAME=:16000`; raises InputError."""
    found = re.fullmatch(r"(?P<name>[^=]+)=(?P<shape>(\d{1,9}(x\d{1,9}){0,7})?)(:(?P<value>-?\d+(\.\d+)?))?", text)
    if found is None:
        right = "NAME=1x576, NAME=1x576:0.5 or, for a single number, NAME=:16000"
        raise InputError(f"{text!r} is no example", where="--example", right=right)
    shape = tuple(int(length) for length in found["shape"].split("x")) if found["shape"] else ()
    if prod(shape) > EXAMPLE_VALUES_MAX:
        raise InputError(f"{text!r} has {prod(shape)} values", where="--example", right=f"at most {EXAMPLE_VALUES_MAX}")
    return found["name"], (shape, float(found["value"] or 0))


def _add_url(
    url: str, repository: Path, *, name: str | None, remote_model: str | None, api_key_file: Path | None, embeddings: bool
) -> Added:
    if without_login(url) != url:
        right = "put the server's key into a file and name it with --api-key-file"
        raise InputError("the address holds a secret, which would stand in model.yaml", where=url, right=right)
    try:
        key = None if api_key_file is None else read_key(api_key_file)
        offer = offered(url, key)
        theirs = _theirs(url, offer, name, remote_model)
        model = _checked_name(name or _name_there(theirs), repository)
        chat = theirs in offer.chats or (theirs not in offer.tensors and not url.rstrip("/").endswith("/v2"))
        task = "embeddings" if embeddings else "chat" if chat else "tensors"
        about = described(url, theirs, key) if task == "tensors" else None
    except PermanentError as error:
        raise InputError(str(error), where="--api-key-file", right="name a file whose first line is the key") from error
    except TemporaryError as error:
        raise InputError(
            str(error), where=url, right="start the server first; its address is checked when it is added"
        ) from error
    options = {} if theirs == model else {"model": theirs}
    if api_key_file is not None:
        options["api_key_file"] = str(api_key_file.resolve())
    variant = Variant(runtime="upstream", file=url.rstrip("/"), options=options)
    inputs, outputs = ([], []) if about is None else (_shapes(about.inputs), _shapes(about.outputs))
    with _into(repository):
        document = write_model(
            repository,
            model,
            None,
            variant,
            task=task,
            licence="theirs",
            source=f"{theirs} at {url}",
            inputs=inputs,
            outputs=outputs,
        )
    if task != "tensors":
        ask = _ask_text(model, task)
    else:
        ask = _ask_tensors(model, inputs, outputs) if inputs else f"curl -s http://127.0.0.1:{DEFAULT_PORT}/v2/models/{model}"
    return Added(document=document, repository=repository, commands=[_serve(repository), ask])


def _theirs(url: str, offer: Offered, name: str | None, remote_model: str | None) -> str:
    """Which of the server's models is meant; raises InputError where that is not clear."""
    listed = [*offer.chats, *offer.tensors]
    if remote_model is not None and (remote_model in listed or not listed):
        return remote_model
    has = f"it has {', '.join(listed[:LISTED_MAX])}{' and more' if len(listed) > LISTED_MAX else ''}"
    if remote_model is not None:
        near = difflib.get_close_matches(remote_model, listed, n=1) or listed
        raise InputError(
            f"{url} has no model {remote_model!r}; {has}", where="--remote-model", right=f"did you mean {near[0]!r}?"
        )
    if name in listed:
        return str(name)
    if len(listed) == 1:
        return listed[0]
    if listed:
        raise InputError(f"which of its models is meant? {has}", where=url, right="name it with --remote-model")
    if offer.refused:
        what = "does not list its models (does it want a key? give --api-key-file)"
        raise InputError(what, where=url, right="name one with --remote-model")
    what = f"does not say which models it has ({offer.silent or 'its list is empty'})"
    right = "name one with --remote-model, as its own clients do, or write model.yaml by hand with options: {model: NAME}"
    raise InputError(what, where=url, right=right)


def _shapes(specs: Sequence[TensorSpec]) -> list[TensorShape]:
    return [TensorShape.model_validate({"name": s.name, "dtype": s.dtype, "shape": list(s.shape)}) for s in specs]


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
    return _plain_name(path.stem)


def _name_there(theirs: str) -> str:
    """After what the other server calls it; of a file's path, as llama-server without `--alias` says, the file's name."""
    if theirs.startswith(("/", "./", "~/")) or theirs.endswith(".gguf"):
        theirs = re.split(r"[/\\]", theirs.rstrip("/"))[-1].removesuffix(".gguf")
    return _plain_name(theirs)


def _plain_name(text: str) -> str:
    """The text as a model's name: small letters, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64].rstrip("-._") or "model"


def _checked_name(name: str, repository: Path) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InputError(f"{name!r} is no model name", where="--name", right="letters, digits, dots, dashes; at most 64")
    folder = repository / name
    try:
        repository.mkdir(parents=True, exist_ok=True)
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        right = "name a folder that you may write"
        raise InputError(f"{repository} cannot be used ({error.strerror})", where="--repository", right=right) from error
    if taken:
        right = f"give another name with --name, or remove {folder}"
        raise InputError(f"the repository {repository} has a model {name!r} already", where="--name", right=right)
    return name


def _room_for(path: Path, repository: Path) -> None:
    free = shutil.disk_usage(repository).free
    if path.stat().st_size * 1.1 > free:
        raise InputError(
            f"{path} does not fit on the disk of {repository} ({free / 1e6:.0f} MB are free)",
            right="make room, or name --repository",
        )


def _serve(repository: Path) -> str:
    return f"nearhall serve --repository {shlex.quote(str(repository))} --http {DEFAULT_PORT}"


def _ask_text(model: str, task: str) -> str:
    if task == "embeddings":
        body = json.dumps({"model": model, "input": ["Hello, who are you?"]})
        return f"curl -s http://127.0.0.1:{DEFAULT_PORT}/v1/embeddings -H 'content-type: application/json' -d {shlex.quote(body)}"
    body = json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "Hello, who are you?"}], "max_completion_tokens": 32}
    )
    return (
        f"curl -s http://127.0.0.1:{DEFAULT_PORT}/v1/chat/completions -H 'content-type: application/json' -d {shlex.quote(body)}"
    )


def _ask_tensors(model: str, inputs: Sequence[TensorShape], outputs: Sequence[TensorShape]) -> str:
    """A line that works as it stands: small inputs by curl alone, large ones made by a line of Python in front of it."""
    if any(item.dtype == "FP16" for item in (*inputs, *outputs)):
        return _ask_in_binary(model, inputs)
    url = f"http://127.0.0.1:{DEFAULT_PORT}/v2/models/{model}/infer"
    shapes = [example(TensorSpec(i.name, i.dtype, tuple(i.shape)), i.example_shape, i.example_value).shape for i in inputs]
    heads = [{"name": i.name, "datatype": i.dtype, "shape": list(shape)} for i, shape in zip(inputs, shapes, strict=True)]
    values = [_value(item) for item in inputs]
    if all(prod(shape) <= CURL_VALUES_MAX for shape in shapes):
        whole = [{**head, "data": [value] * prod(shape)} for head, value, shape in zip(heads, values, shapes, strict=True)]
        return f"curl -s {url} -d {shlex.quote(json.dumps({'inputs': whole}))}"
    # As Python text, so that a large input is one multiplication and not thousands of zeros.
    texts = [
        f'{json.dumps(head)[:-1]}, "data": [{_as_python(value)}]*{prod(shape)}}}'
        for head, value, shape in zip(heads, values, shapes, strict=True)
    ]
    made = f'import json; print(json.dumps({{"inputs": [{", ".join(texts)}]}}))'
    return f"python3 -c {shlex.quote(made)} | curl -s {url} -d @-"


def _ask_in_binary(model: str, inputs: Sequence[TensorShape]) -> str:
    """The same for a model with FP16, which JSON has no form of; what is no text of the answer is shown as dots."""
    heads: list[str] = []
    packed: list[str] = []
    for item in inputs:
        shape = example(TensorSpec(item.name, item.dtype, tuple(item.shape)), item.example_shape, item.example_value).shape
        size = prod(shape) * ITEM_BYTES.get(item.dtype, 4)  # an empty text is four bytes, its length
        head = {"name": item.name, "datatype": item.dtype, "shape": list(shape), "parameters": {"binary_data_size": size}}
        heads.append(json.dumps(head))
        value = 0 if item.dtype == BYTES else item.example_value if item.dtype in {"FP16", "FP32", "FP64"} else _value(item)
        packed.append(f'struct.pack("<{_PACKED.get(item.dtype, "I")}", {value!r})*{prod(shape)}')
    text = f'{{"inputs": [{", ".join(heads)}], "parameters": {{"binary_data_output": true}}}}'
    made = f"import struct, sys; sys.stdout.buffer.write({' + '.join([_in_double_quotes(text), *packed])})"
    url = f"http://127.0.0.1:{DEFAULT_PORT}/v2/models/{model}/infer"
    sent = f"curl -s {url} -H 'inference-header-content-length: {len(text)}' --data-binary @-"
    return f"python3 -c {shlex.quote(made)} | {sent} | tr -c '[:print:]' ."


def _in_double_quotes(text: str) -> str:
    """ASCII as a literal of bytes without single quotes, which belong to the shell."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\x27")
    return f'b"{escaped}"'


def _value(item: TensorShape) -> float | str | bool:
    """One element of the example, as JSON has it."""
    if item.dtype == BYTES:
        return ""
    if item.dtype == "BOOL":
        return bool(item.example_value)
    return int(item.example_value) if item.example_value.is_integer() else item.example_value


def _as_python(value: float | str | bool) -> str:
    """Without single quotes, which belong to the shell."""
    return '""' if isinstance(value, str) else repr(value)
