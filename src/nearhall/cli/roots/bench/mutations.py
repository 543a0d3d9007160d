"""Requests that are almost right: valid ones taken apart into tokens, and put together wrongly. Seeded, without I/O.

A parser that is fed noise refuses it at its first byte; what breaks parsers is what is nearly a request. So most cases change
one to three tokens of a valid document for awkward ones (numbers that are too large, texts that are no text, the wrong
bracket), some change bytes, and some join two documents.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearhall.cli.roots.bench.protobuf import chunk, number, packed, varint
from nearhall.wire.oip_json import LEAST_BYTES

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|[\[\]{},:]|true|false|null|\s+')

AWKWARD: tuple[bytes, ...] = (
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"-1",
    b"1",
    b"2",
    b"255",
    b"256",
    b"-129",
    b"65536",
    b"2147483648",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9" * 40,
    b"9" * 4200,
    b"1" + b"0" * 5000,
    b"1.5",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"3.5e38",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"00",
    b"1.",
    b".5",
    b"+1",
    b"0x10",
    b'""',
    b'"x"',
    b'"\\u0000"',
    b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b'"\\uD83D\\uDE00"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b'"' + b"a" * 3000 + b'"',
    b'"FP32"',
    b'"FP16"',
    b'"BYTES"',
    b'"BOOL"',
    b'"UINT64"',
    b'"INT8"',
    b'"binary_data_size"',
    b'"binary_data"',
    b'"binary_data_output"',
    b'"shared_memory_region"',
    b'"classification"',
    b'"timeout"',
    b'"priority"',
    b'"parameters"',
    b'"tools"',
    b'"n"',
    b'"stop"',
    b'"stream_options"',
    b'"role"',
    b'"content"',
    b"[]",
    b"{}",
    b"[[]]",
    b"[null]",
    b"[" * 200,
    b"]" * 3,
    b"[" * 3000 + b"]" * 3000,
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b",,",
    b"\x00",
    b"\xef\xbb\xbf",
    b"/*x*/",
    b" ",
)

_PUNCTUATION = frozenset({b"[", b"]", b"{", b"}", b",", b":"})


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_WHOLE = tuple(text for text in AWKWARD if _is_json(text))
"""Those that leave a document well formed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """A valid request to begin with."""

    tokens: tuple[bytes, ...]
    tail: bytes = b""
    """Binary tensors after the JSON."""
    binary: bool = False
    """Whether the length of the JSON is told."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request to try."""

    body: bytes
    head_bytes: int | None


def seeded(document: Any, tail: bytes = b"", *, binary: bool = False) -> Seeded:
    """A valid request, taken apart."""
    text = json.dumps(document, separators=(",", ":")).encode()
    return Seeded(tokens=tuple(_TOKEN.findall(text)), tail=tail, binary=binary or bool(tail))


def _tensor(dtype: str, shape: Sequence[int], **more: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": dtype, "shape": list(shape), **more}


def _binary(dtype: str, shape: Sequence[int], data: bytes) -> Seeded:
    parameters = {"binary_data_size": len(data)}
    return seeded({"inputs": [_tensor(dtype, shape, parameters=parameters)], "outputs": [_OUTPUT]}, data)


_OUTPUT = {"name": "y", "parameters": {"binary_data": True}}

V2_JSON: tuple[Seeded, ...] = (
    seeded({"inputs": [_tensor("FP32", [1, 4], data=[1.5, -2.0, 3.25, 0.0])]}),
    seeded({"id": "a1", "inputs": [_tensor("INT64", [2, 2], data=[[1, 2], [3, 4]])], "outputs": [{"name": "y"}]}),
    seeded({"inputs": [_tensor("BYTES", [2], data=["one", "zwei"])], "parameters": {"timeout": 5000, "priority": 1}}),
    seeded({"inputs": [_tensor("BOOL", [3], data=[True, False, True]), {**_tensor("UINT8", [1], data=[7]), "name": "z"}]}),
    seeded({"inputs": [_tensor("FP64", [1, 1, 2], data=[[[1e300, -1e-300]]])], "parameters": {"binary_data_output": True}}),
    seeded({"inputs": [_tensor("INT8", [], data=[1])], "outputs": [_OUTPUT]}),
)


def _long(request: Seeded) -> Seeded:
    """With so much space after the first value of each input that its data is long, which JSON allows."""
    tokens: list[bytes] = []
    in_data = False
    for token in request.tokens:
        tokens.append(token)
        if in_data and token not in _PUNCTUATION:
            tokens.append(b" " * LEAST_BYTES)
            in_data = False
        in_data = in_data or token == b'"data"'
    return Seeded(tokens=tuple(tokens))


V2_LONG: tuple[Seeded, ...] = (
    *(_long(request) for request in V2_JSON),
    seeded({"inputs": [_tensor("FP32", [2, 600], data=[[0.5] * 600, [1] * 600])]}),
    _long(seeded({"data": [[1, 2]], "id": "[0e0]", "inputs": [_tensor("UINT64", [2], data=[1, 1 << 63])]})),
)
"""Arrays that are read quickly, where they are right; whatever the gateway makes of them must be the same as without."""
V2_BINARY: tuple[Seeded, ...] = (
    _binary("FP32", [1, 4], bytes(16)),
    _binary("FP16", [4], bytes(8)),
    _binary("BOOL", [4], b"\0\1\1\0"),
    _binary("BYTES", [2], b"\3\0\0\0one\4\0\0\0zwei"),
    seeded(
        {
            "inputs": [
                _tensor("INT32", [2], parameters={"binary_data_size": 8}),
                {**_tensor("UINT16", [2], data=[1, 65535]), "name": "z"},
            ]
        },
        bytes(8),
    ),
)
CHAT: tuple[Seeded, ...] = (
    seeded({"model": "chat", "messages": [{"role": "user", "content": "Say hello"}]}),
    seeded(
        {
            "model": "chat",
            "messages": [
                {"role": "system", "content": "short"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "stop": ["\n", "END"],
            "max_tokens": 16,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 7,
            "n": 1,
            "tools": [],
            "response_format": {"type": "text"},
        }
    ),
)
TEXT: tuple[Seeded, ...] = (
    seeded({"model": "chat", "prompt": "Once", "max_tokens": 8, "stop": "."}),
    seeded({"model": "words", "input": ["one", "two"], "encoding_format": "float", "dimensions": 8}),
)
"""OpenAI's completions and embeddings."""


def mutated(draw: random.Random, corpus: Sequence[Seeded]) -> Case:
    """The next case."""
    first = draw.choice(corpus)
    tokens = list(first.tokens)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
        _change(draw, tokens, corpus)
    head = b"".join(tokens)
    tail = first.tail
    if draw.random() < 0.1:
        head = _bytes_changed(draw, head)
    if tail and draw.random() < 0.2:
        tail = _bytes_changed(draw, tail)
    return Case(head + tail, _told_length(draw, len(head), len(tail)) if first.binary else None)


def _change(draw: random.Random, tokens: list[bytes], corpus: Sequence[Seeded]) -> None:
    if not tokens:
        return
    at = int(draw.random() * len(tokens))
    kind = draw.random()
    if kind < 0.7:
        _replace_value(draw, tokens, corpus)
    elif kind < 0.78:
        tokens[at] = draw.choice(AWKWARD)
    elif kind < 0.83:
        del tokens[at]
    elif kind < 0.88:
        tokens.insert(at, tokens[int(draw.random() * len(tokens))])
    elif kind < 0.92:
        other = int(draw.random() * len(tokens))
        tokens[at], tokens[other] = tokens[other], tokens[at]
    elif kind < 0.96:
        tokens.insert(at, draw.choice(AWKWARD))
    else:
        other_tokens = draw.choice(corpus).tokens
        cut = int(draw.random() * len(other_tokens))
        tokens[at:] = other_tokens[cut:]


def _replace_value(draw: random.Random, tokens: list[bytes], corpus: Sequence[Seeded]) -> None:
    """A name or value gives way to another one: one of its own kind from a valid request, or an awkward one."""
    for _ in range(4):
        at = int(draw.random() * len(tokens))
        if tokens[at] not in _PUNCTUATION:
            break
    else:
        return
    if draw.random() < 0.5:
        tokens[at] = draw.choice(_WHOLE)
        return
    quoted = tokens[at][:1] == b'"'
    for _ in range(4):
        other = draw.choice(draw.choice(corpus).tokens)
        if other not in _PUNCTUATION and (other[:1] == b'"') == quoted:
            tokens[at] = other
            return


def _bytes_changed(draw: random.Random, data: bytes) -> bytes:
    at = int(draw.random() * (len(data) + 1))
    end = min(len(data), at + int(draw.random() * 9))
    kind = draw.random()
    if kind < 0.3:
        return data[:at] + draw.randbytes(end - at) + data[end:]
    if kind < 0.5:
        return data[:at] + data[end:]
    if kind < 0.65:
        return data[:at]
    if kind < 0.8:
        return data[:at] + draw.randbytes(int(draw.random() * 9)) + data[at:]
    if kind < 0.9:
        return data[:end] + data[at:]
    return data[:at] + b"\xff" * (end - at) + data[end:]


def _told_length(draw: random.Random, head: int, tail: int) -> int | None:
    kind = draw.random()
    if kind < 0.85:
        return head
    return draw.choice((None, 0, 1, -1, head - 1, head + 1, head + tail, head + tail + 1, 1 << 62))


# ---- gRPC -------------------------------------------------------------------------------------------------------


def grpc_corpus() -> tuple[bytes, ...]:
    """Valid ModelInferRequests: raw contents, typed contents, parameters, wanted outputs."""
    raw = chunk(5, chunk(1, "x") + chunk(2, "FP32") + packed(3, [1, 4]))
    typed = chunk(5, chunk(1, "x") + chunk(2, "INT64") + packed(3, [2]) + chunk(5, packed(3, [5, 6])))
    texts = chunk(5, chunk(1, "x") + chunk(2, "BYTES") + packed(3, [2]) + chunk(5, chunk(8, "one") + chunk(8, "zwei")))
    parameter = chunk(4, chunk(1, "timeout") + chunk(2, number(2, 5000)))
    wanted = chunk(6, chunk(1, "y") + chunk(2, chunk(1, "binary_data") + chunk(2, number(1, 1))))
    return (
        chunk(1, "m") + raw + chunk(7, bytes(16)),
        chunk(1, "m") + chunk(2, "1") + chunk(3, "id") + parameter + typed + wanted,
        chunk(1, "m") + texts,
    )


def grpc_mutated(draw: random.Random, corpus: Sequence[bytes]) -> bytes:
    """A message with fields changed, or bytes."""
    message = draw.choice(corpus)
    for _ in range(draw.choice((1, 1, 2, 3))):
        kind = draw.random()
        if kind < 0.6:
            message = _bytes_changed(draw, message)
        elif kind < 0.8:
            at = int(draw.random() * (len(message) + 1))
            value = draw.choice((0, 1, 127, 128, 1 << 31, (1 << 63) - 1, (1 << 64) - 1))
            message = message[:at] + varint(value) + message[at:]
        else:
            other = draw.choice(corpus)
            message += other[int(draw.random() * len(other)) :]
    return message


def http_mutated(draw: random.Random, requests: Sequence[bytes]) -> bytes:
    """A request over HTTP whose head is almost right; bodies are others' concern."""
    head, mark, body = draw.choice(requests).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    for _ in range(draw.choice((1, 1, 2, 3))):
        at = int(draw.random() * len(lines))
        kind = draw.random()
        if kind < 0.3:
            lines[at] = _bytes_changed(draw, lines[at])
        elif kind < 0.5:
            name, colon, _ = lines[at].partition(b":")
            lines[at] = name + colon + b" " + draw.choice(AWKWARD)
        elif kind < 0.8:
            lines.insert(1 + int(draw.random() * len(lines)), draw.choice(_LINES))
        elif kind < 0.9:
            lines.insert(at, lines[int(draw.random() * len(lines))])
        else:
            del lines[at]
        lines = lines or [b""]
    return b"\r\n".join(lines) + draw.choice((mark, mark, mark, mark, b"\n\n", b"\r\n")) + body


_LINES = (
    b"transfer-encoding: chunked",
    b"transfer-encoding: chunked, chunked",
    b"transfer-encoding: gzip",
    b"content-length: 0",
    b"content-length: -1",
    b"content-length: 99999999999999999999",
    b"content-length: 1e3",
    b"content-length : 5",
    b"content-encoding: gzip",
    b"expect: 100-continue",
    b"connection: close",
    b"connection: upgrade",
    b"upgrade: websocket",
    b"upgrade: h2c",
    b"host: a\x00b",
    b"x: " + b"a" * 70_000,
    b" folded: line",
    b"\xff\xfe: x",
    b": nameless",
    b"inference-header-content-length: 7",
    b"x-nearhall-deadline-ms: 1e999",
    b"accept-encoding: gzip",
)


def headers_mutated(draw: random.Random, names: Mapping[bytes, Sequence[bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers with values that are wrong now and then."""
    found: list[tuple[bytes, bytes]] = []
    for name, values in names.items():
        if draw.random() < 0.4:
            value = draw.choice(AWKWARD) if draw.random() < 0.5 else draw.choice(values)
            found.append((name, value))
    return found
