"""A data plane in this process, with runtimes that tests steer: no sockets, the real handlers."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from nearhall.cli.roots.gateway import Composed, compose
from nearhall.core.errors import PermanentError, Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.core.tensor import Tensor, TensorSpec
from nearhall.drivers.clock import SystemClock
from nearhall.gateway.http.control import Control
from nearhall.gateway.settings import Settings
from nearhall.policy.tokens import Capacity, Step
from nearhall.ports.runtime import ChatAsk, ChatPiece, ModelFile
from waiting import until_async


class Doubler:
    """y = 2 x on FP32 [-1, 4]; can be held, made slow to break, or broken."""

    inputs: Sequence[TensorSpec] = (TensorSpec("x", "FP32", (-1, 4)),)
    outputs: Sequence[TensorSpec] = (TensorSpec("y", "FP32", (-1, 4)),)

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.broken = False
        self.runs = 0
        self.closed = False

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> Sequence[Tensor]:
        self.go.wait(10)
        self.runs += 1
        if self.broken:
            raise PermanentError("the session is gone")
        values = inputs[0].data.cast("f").tolist()
        if any(value == 666 for value in values):
            raise PermanentError("cannot index 666")
        if any(value == 667 for value in values):
            raise Refusal(Reason.BAD_REQUEST, "667 is not taken")
        return [Tensor("y", "FP32", inputs[0].shape, memoryview(b"".join(_f32(2 * v) for v in values)))]

    def close(self) -> None:
        self.closed = True


def _f32(value: float) -> bytes:
    return struct.pack("<f", value)


class Parrot:
    """Says the last message or the prompt back, word by word; can die before or after so many words."""

    capacity = Capacity(sequences=4, spare=1, kv_tokens=10_000, context=2048, step_tokens=128)

    def __init__(self) -> None:
        self.heard: Callable[[Step], None] = lambda _: None
        self.alive = True
        self.dies_after: int | None = None
        self.cancelled = 0
        self.asked: list[ChatAsk] = []
        self.gate: Any = None
        """An asyncio.Event that is awaited before each word but the first."""

    def watch(self, heard: Callable[[Step], None]) -> None:
        self.heard = heard

    async def generate(self, ask: ChatAsk) -> AsyncIterator[ChatPiece]:
        self.asked.append(ask)
        said = ask.messages[-1].content if ask.prompt is None else ask.prompt
        words = said.split()[: ask.max_tokens]
        finished = False
        try:
            for index, word in enumerate(words):
                self.heard(Step(took_ms=1.0, running=1, prompt_tokens=0 if index else 7, kv_tokens=8))
                if self.dies_after == index:
                    self.alive = False
                    raise TemporaryError("the child died")
                if self.gate is not None and index:
                    await self.gate.wait()
                counts = {} if index else {"prompt_tokens": 7, "completion_tokens": 1}
                yield ChatPiece(text=word if index == 0 else f" {word}", **counts)
            finish = "length" if len(words) == ask.max_tokens else "stop"
            finished = True
            yield ChatPiece(text="", finish=finish, prompt_tokens=7, completion_tokens=len(words))
        finally:
            self.cancelled += not finished

    async def close(self) -> None:
        self.alive = False


@dataclass
class Rig:
    """One gateway and its runtimes."""

    composed: Composed
    settings: Settings
    runtimes: dict[str, Any] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, body: bytes | Any = b"", headers: dict[str, str] | None = None, connection: Any = None
    ) -> Answer:
        """One whole exchange."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: list[dict[str, Any]] = []
        messages = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        pairs = [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": pairs}
        if connection is not None:
            scope["extensions"] = {"nearhall": {"connection": connection}}
        await self.composed.app(scope, receive, send)
        return Answer(sent)

    async def infer(
        self, model: str, values: Sequence[float], headers: dict[str, str] | None = None, *, connection: Any = None
    ) -> Answer:
        data = list(values)
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(data) // 4, 4], "data": data}]}
        return await self.ask("POST", f"/v2/models/{model}/infer", body, headers, connection=connection)

    async def chat(self, model: str, text: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return await self.ask("POST", "/v1/chat/completions", body, headers)

    async def cap(self, wish: Any) -> Answer:
        """A power cap, as the agent sets it."""
        sent: list[dict[str, Any]] = []
        messages = [{"type": "http.request", "body": json.dumps(wish).encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        control = Control(self.composed.plane, stop=lambda: None)
        await control({"type": "http", "method": "POST", "path": "/control/cap", "headers": []}, receive, send)
        return Answer(sent)

    def counted(self, workload: str) -> Any:
        return self.composed.plane.stats.of(workload)


class Answer:
    """What came back."""

    def __init__(self, sent: list[dict[str, Any]]) -> None:
        self.status: int = sent[0]["status"]
        self.headers = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        self.names = [k.decode() for k, _ in sent[0]["headers"]]
        self.parts = [message.get("body", b"") for message in sent[1:]]
        self.body = b"".join(self.parts)
        self.complete = not sent[-1].get("more_body", False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        return self.headers["x-nearhall-reason"]

    @property
    def events(self) -> list[Any]:
        texts = [part.removeprefix("data: ") for part in self.body.decode().split("\n\n") if part]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


def write_model(folder: Path, name: str, *, task: str = "tensors", stateful: bool = False) -> None:
    place = folder / name / "1" / "cpu"
    place.mkdir(parents=True, exist_ok=True)
    (place / "m.onnx").write_bytes(b"")
    runtime = "genai" if task == "chat" else "onnxruntime"
    (folder / name / "model.yaml").write_text(
        f"schema: nearhall/model/v1\nname: {name}\ntask: {task}\nlicence: x\nsource: x\nstateful: {str(stateful).lower()}\n"
        f"versions: {{'1': {{variants: {{cpu: {{runtime: {runtime}, file: m.onnx}}}}}}}}\n"
        "default_version: '1'\ndefault_variant: cpu\n"
    )


def write_variants(folder: Path, name: str, variants: dict[str, str], **about: str) -> None:
    """A model with these variants, by name, each with what its entry says beside runtime and file; the first is the default."""
    for variant in variants:
        place = folder / name / "1" / variant
        place.mkdir(parents=True, exist_ok=True)
        (place / "m.onnx").write_bytes(b"")
    said = ", ".join(f"{variant}: {{runtime: onnxruntime, file: m.onnx{more}}}" for variant, more in variants.items())
    (folder / name / "model.yaml").write_text(
        f"schema: nearhall/model/v1\nname: {name}\ntask: tensors\nlicence: x\nsource: x\n"
        + "".join(f"{key}: {value}\n" for key, value in about.items())
        + f"versions: {{'1': {{variants: {{{said}}}}}}}\n"
        f"default_version: '1'\ndefault_variant: {next(iter(variants))}\n"
    )


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


@asynccontextmanager
async def rig(
    folder: Path,
    *,
    models: Sequence[str] = (),
    chats: Sequence[str] = (),
    fallback: Any = None,
    stateful: bool = False,
    upstream: Any = None,
    clock: Any = None,
    node_memory: Any = None,
    device_memory: Any = None,
    around: Callable[[Any], Any] = lambda opener: opener,
    loaded: bool = True,
    **more: Any,
) -> AsyncIterator[Rig]:
    """A gateway whose models are loaded; with `loaded` false only those that there is room for.

    `around` is put around what opens them.
    """
    _make(folder)
    for name in models:
        write_model(folder, name, stateful=stateful)
    for name in chats:
        write_model(folder, name, task="chat")
    plain: dict[str, Any] = {"node": "s/n", "jurisdiction": "DE", "repository": str(folder), "port": 0, **more}
    if fallback is not None:
        plain.setdefault("hub", {"url": "https://hub", "jurisdiction": "DE"})
    runtimes: dict[str, Any] = {}

    def opener(file: ModelFile) -> Any:
        if file.runtime == "upstream":
            return upstream
        runtime = Parrot() if file.runtime == "genai" else Doubler()
        runtimes[file.model] = runtimes[f"{file.model}/{file.variant}"] = runtime
        return runtime

    settings = msgspec.convert(plain, Settings)
    composed = compose(
        settings,
        clock=clock or SystemClock(),
        opener=around(opener),
        fallback=fallback,
        cpu_s=lambda: 0.0,
        node_memory=node_memory,
        device_memory=device_memory,
    )
    plane = composed.plane
    try:
        plane.models.start()
        if loaded:
            await until_async(lambda: all(model.ready for model in plane.models.all()), what="every model ready")
        else:
            await plane.models.until_settled()
        yield Rig(composed, settings, runtimes)
    finally:
        for runtime in runtimes.values():
            if isinstance(runtime, Doubler):
                runtime.go.set()
        await plane.probes.close()
        await plane.models.close()
