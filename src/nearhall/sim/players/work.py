"""What a player asks and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

DTYPES: dict[str, str] = {"FP32": "<f4", "FP16": "<f2", "UINT8": "<u1", "INT32": "<i4", "INT64": "<i8", "FP64": "<f8"}
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to the gateway."""

    path: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    streamed: bool = False
    context: Any = None
    """What the player wants back with the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    asked_s: float = 0.0
    """When the first byte of the request went out, by the monotonic clock."""
    got_s: float = 0.0
    """When the last bytes of the answer came."""
    first_token_s: float | None = None
    """Streamed answers: seconds from `asked_s` to the first text."""
    cut_short: str | None = None
    """Streamed answers: why this is no whole one; None for a whole one."""


@dataclass(frozen=True, slots=True)
class Found:
    """One number that the application found."""

    name: str
    count: int = 1
    value: float = 0.0
    span_s: tuple[float, float] | None = None
    """Where in the source it lies, from and to, for what has a length. It stays with the application."""


class Work(Protocol):
    """One kind of work."""

    def next(self) -> Request | None:
        """The next request; None when there is nothing to ask now."""
        ...

    def take(self, request: Request, answer: Answer) -> Sequence[Found]:
        """What an answer with status 200 says."""
        ...

    def close(self) -> None:
        """Lets go of cameras."""
        ...


@runtime_checkable
class WorkInOrder(Work, Protocol):
    """Work whose next request needs the answer before it: one request at a time, in the order of arrival."""

    def skip(self, arrivals: int) -> None:
        """So many pieces of the source passed by unasked; what comes next does not follow on what went before."""
        ...


@dataclass(slots=True)
class TensorCall:
    """Makes binary v2 requests for one model and reads its binary answers."""

    model: str
    workload: str
    outputs: Sequence[str] = field(default_factory=tuple)

    def request(self, inputs: Mapping[str, tuple[str, Array]], *, raw_bytes: int, context: Any = None) -> Request:
        """A request with the inputs (name to data type and array) as binary tensors."""
        described: list[dict[str, Any]] = []
        parts: list[bytes] = []
        for name, (dtype, array) in inputs.items():
            data = np.ascontiguousarray(array, dtype=DTYPES[dtype]).tobytes()
            described.append(
                {"name": name, "datatype": dtype, "shape": list(array.shape), "parameters": {"binary_data_size": len(data)}}
            )
            parts.append(data)
        head: dict[str, Any] = {"inputs": described, "parameters": {"binary_data_output": True}}
        if self.outputs:
            head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in self.outputs]
        encoded = msgspec.json.encode(head)
        headers = [
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", str(len(encoded))),
            ("x-nearhall-workload", self.workload),
            ("x-nearhall-raw-bytes", str(raw_bytes)),
        ]
        path = f"/v2/models/{self.model}/infer"
        return Request(path=path, headers=headers, body=b"".join([encoded, *parts]), context=context)

    @staticmethod
    def arrays(answer: Answer) -> dict[str, Array]:
        """The outputs of an answer by name."""
        length = answer.headers.get("inference-header-content-length")
        head = msgspec.json.decode(answer.body if length is None else answer.body[: int(length)])
        at = len(answer.body) if length is None else int(length)
        found: dict[str, Array] = {}
        for output in head["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                found[output["name"]] = np.array(output["data"]).reshape(output["shape"])
            else:
                data = answer.body[at : at + size]
                at += size
                found[output["name"]] = np.frombuffer(data, dtype=DTYPES[output["datatype"]]).reshape(output["shape"])
        return found
