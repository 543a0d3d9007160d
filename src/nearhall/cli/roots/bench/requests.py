"""Requests as bytes, written once before anything is timed, and the tensors of an answer, for checking it.

Sources: Open Inference Protocol v2, REST with the binary tensor extension, and `grpc_predict_v2.proto`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from nearhall.cli.roots.bench.protobuf import chunk, fields, packed
from nearhall.core.errors import PermanentError
from nearhall.drivers.arrays import DTYPES, NAMES

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]


def http_post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole HTTP/1.1 request on a connection that stays open."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def binary_request(model: str, inputs: Inputs, outputs: Sequence[str], headers: Mapping[str, str] | None = None) -> bytes:
    """v2 with binary tensors both ways; outputs are asked for by name, which every server of the extension understands."""
    described = [
        {**_described(name, values), "parameters": {"binary_data_size": values.nbytes}} for name, values in inputs.items()
    ]
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    head = _dense({"inputs": described, "outputs": wanted})
    body = head + b"".join(values.tobytes() for values in inputs.values())
    ours = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return http_post(_path(model), body, {**ours, **(headers or {})})


def json_request(model: str, inputs: Inputs, headers: Mapping[str, str] | None = None) -> bytes:
    """v2 in JSON; FP32 values with a double's digits, as numpy's `tolist` and so tritonclient write them: 236 KB for 48."""
    described = [{**_described(name, values), "data": values.ravel().tolist()} for name, values in inputs.items()]
    return http_post(_path(model), _dense({"inputs": described}), {"content-type": "application/json", **(headers or {})})


def grpc_request(model: str, inputs: Inputs) -> bytes:
    """ModelInferRequest: model_name 1, inputs 5 (name 1, datatype 2, shape 3), raw_input_contents 7."""
    out = chunk(1, model)
    for name, values in inputs.items():
        out += chunk(5, chunk(1, name) + chunk(2, NAMES[values.dtype]) + packed(3, values.shape))
    return out + b"".join(chunk(7, values.tobytes()) for values in inputs.values())


def http_outputs(head: bytes, body: bytes) -> dict[str, Array]:
    """An answer's tensors by name, JSON or binary; raises PermanentError for what is none."""
    length = header_of(head, b"inference-header-content-length")
    size = len(body) if length is None else int(length)
    try:
        outputs = cast("list[dict[str, Any]]", json.loads(body[:size])["outputs"])
    except (ValueError, KeyError, TypeError) as error:
        raise PermanentError(f"the answer is no inference response: {body[:200]!r}") from error
    found: dict[str, Array] = {}
    at = size
    for output in outputs:
        dtype = DTYPES[output["datatype"]]
        binary = cast("dict[str, Any]", output.get("parameters") or {}).get("binary_data_size")
        if binary is None:
            values = np.array(output["data"], dtype)
        else:
            values = np.frombuffer(body[at : at + binary], dtype)
            at += binary
        found[output["name"]] = values.reshape(output["shape"])
    return found


def grpc_outputs(message: bytes) -> dict[str, Array]:
    """ModelInferResponse: outputs 5 (name 1, datatype 2, shape 3, contents 5), raw_output_contents 6."""
    tensors: list[dict[int, list[int | bytes]]] = []
    raw: list[bytes] = []
    for field, value in fields(message):
        if field == 5 and isinstance(value, bytes):
            tensors.append(_grouped(value))
        elif field == 6 and isinstance(value, bytes):
            raw.append(value)
    found: dict[str, Array] = {}
    for index, tensor in enumerate(tensors):
        name, dtype = _text(tensor[1][0]), DTYPES[_text(tensor[2][0])]
        shape = _numbers(tensor.get(3, []))
        # FP32 values that are not raw lie packed in contents (5), field 6: the same little-endian bytes.
        data = raw[index] if raw else b"".join(v for f, v in fields(_bytes(tensor[5][0])) if f == 6 and isinstance(v, bytes))
        found[name] = np.frombuffer(data, dtype).reshape(shape)
    return found


def header_of(head: bytes, name: bytes) -> bytes | None:
    """One header's value from an answer's head; names in any case."""
    _, found, rest = head.lower().partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else None


def _described(name: str, values: Array) -> dict[str, Any]:
    return {"name": name, "datatype": NAMES[values.dtype], "shape": list(values.shape)}


def _dense(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _path(model: str) -> str:
    return f"/v2/models/{model}/infer"


def _grouped(message: bytes) -> dict[int, list[int | bytes]]:
    grouped: dict[int, list[int | bytes]] = {}
    for field, value in fields(message):
        grouped.setdefault(field, []).append(value)
    return grouped


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise PermanentError("the answer is no ModelInferResponse")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


def _numbers(values: Sequence[int | bytes]) -> list[int]:
    """A repeated whole number, packed or not."""
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        number = shift = 0
        for byte in value:
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                found.append(number)
                number = shift = 0
    return found
