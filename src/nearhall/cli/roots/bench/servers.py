"""What is measured: the limit in this process, this gateway started afresh, and any server that speaks v2."""

# onnxruntime comes without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np

from nearhall.cli.roots.bench import built_in
from nearhall.cli.roots.bench.grpc_load import ask_grpc, grpc_clients, one_grpc_client
from nearhall.cli.roots.bench.load import Address, ask, clients, connect, one_client, shown, undisturbed
from nearhall.cli.roots.bench.machine import Tree, on_cores
from nearhall.cli.roots.bench.measured import Slice
from nearhall.cli.roots.bench.requests import (
    Array,
    Inputs,
    binary_request,
    grpc_outputs,
    grpc_request,
    http_outputs,
    json_request,
)
from nearhall.core.errors import InputError, PermanentError, TemporaryError
from nearhall.core.tensor import TensorSpec
from nearhall.drivers.arrays import to_array
from nearhall.gateway.models.repository import Entry, scan
from nearhall.ports.runtime import ModelFile

FORMS = ("binary", "json", "grpc", "unix")
"""How a request travels; `unix` is binary v2 over a Unix socket."""
REACH_S = 2.0
"""Another server is on this machine or near it."""
READY_S_MAX = 60.0
STOP_S_MAX = 20.0
GATEWAY = "nearhall"


class Limit:
    """`session.run` in this process, with the gateway's own session options: what no server can beat on this core."""

    def __init__(self, file: Path, inputs: Inputs | None = None, *, cores: Collection[int] = ()) -> None:
        """Opens the file; without `inputs` the built-in models' example is taken. `cores`: where it runs, the server's."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 4
        try:
            self._session: Any = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own family and plain RuntimeError alike
            raise PermanentError(f"ONNX Runtime cannot load {file}: {str(error).strip().splitlines()[0]}") from error
        self.inputs: Inputs = inputs or {node.name: built_in.example(node.shape) for node in self._session.get_inputs()}
        self.names: list[str] = [node.name for node in self._session.get_outputs()]
        self._cores = cores or os.sched_getaffinity(0)

    def outputs(self) -> dict[str, Array]:
        """What the model gives for the inputs."""
        return dict(zip(self.names, self._session.run(None, self.inputs), strict=True))

    @property
    def in_json(self) -> bool:
        """Whether JSON has a form of what goes in and comes out: none of FP16, of NaN and of infinities."""
        return all(
            array.dtype != np.float16 and (array.dtype.kind != "f" or bool(np.isfinite(array).all()))
            for array in (*self.inputs.values(), *self.outputs().values())
        )

    def slice(self, seconds: float) -> Slice:
        """One run after another for so long."""
        run, inputs, clock = self._session.run, self.inputs, time.perf_counter
        took: list[float] = []
        with on_cores(self._cores), undisturbed():
            cpu = time.thread_time()
            begun = now = clock()
            while now - begun < seconds:
                sent = now
                run(None, inputs)
                now = clock()
                took.append((now - sent) * 1e3)
            return Slice(latencies_ms=sorted(took), took_s=now - begun, cpu_s=time.thread_time() - cpu)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One model of one server in one form."""

    server: str
    model: str
    form: str
    one: Callable[[float], Slice]
    """One client in a closed loop, for so many seconds."""
    many: Callable[[int, float], Slice]
    """So many clients."""
    answer: Callable[[], Mapping[str, Array]]
    """One answer's tensors; raises TemporaryError or PermanentError."""
    tree: Tree | None
    """Its processes; None where they are not on this machine."""

    @property
    def name(self) -> str:
        """For a table."""
        return f"{self.server} {self.model} {self.form}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A gateway that serves."""

    address: tuple[str, int]
    unix: str
    grpc: str
    tree: Tree
    start_s: float
    """From the start of its process to READY: imports, models, listening."""


@contextmanager
def gateway(
    repository: Path, folder: Path, *, cores: Collection[int], settings: Mapping[str, object] | None = None
) -> Generator[Running]:
    """A gateway with its defaults: metrics, validation and logging on. Ended at the end; its log lies in `folder`."""
    config, unix = folder / "gateway.json", folder / "s"
    wanted = {"node": "bench/n1", "jurisdiction": "ZZ", "repository": str(repository), "port": 0}
    everywhere = {"grpc": "127.0.0.1:0", "uds": {"path": str(unix)}}
    config.write_text(json.dumps({**wanted, **everywhere, **(settings or {})}))
    begun = time.perf_counter()
    with (folder / "gateway.log").open("wb") as log, on_cores(cores):
        process = subprocess.Popen(
            [sys.executable, "-m", "nearhall.cli.roots.gateway", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        ready = _ready(process, folder / "gateway.log")
        start_s = time.perf_counter() - begun
        yield Running(
            address=("127.0.0.1", int(ready["port"])),
            unix=str(unix),
            grpc=f"127.0.0.1:{ready['grpc_port']}",
            tree=Tree(process.pid),
            start_s=start_s,
        )
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that this one started: asked first, then by force."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _ready(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    assert process.stdout is not None  # noqa: S101 (it was asked for)
    line = _line_within(process.stdout, READY_S_MAX)
    if not line.startswith(b"READY "):
        said = log.read_text(errors="replace").strip().splitlines()
        raise PermanentError(f"the gateway did not start: {said[-1] if said else 'it said nothing'}")
    found: dict[str, Any] = json.loads(line.removeprefix(b"READY "))
    return found


def _line_within(stream: IO[bytes], seconds: float) -> bytes:
    """One line; what there is of it when the stream ends or the time does."""
    number, line, last = stream.fileno(), b"", time.monotonic() + seconds
    while not line.endswith(b"\n") and (left := last - time.monotonic()) > 0:
        if not select.select([number], [], [], left)[0]:
            break
        byte = os.read(number, 1)
        if not byte:
            break
        line += byte
    return line


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a server listens, over HTTP or gRPC."""

    name: str
    address: Address
    tree: Tree | None = None
    there: str = ""
    """What the model is called there, if not as here."""


def subjects_of(running: Running, model: str, limit: Limit, forms: Sequence[str]) -> list[Subject]:
    """A started gateway's, in each of these forms."""
    tcp = Server(name=GATEWAY, address=running.address, tree=running.tree)
    made = [over_http(tcp, model, limit, form) for form in ("binary", "json") if form in forms]
    if "grpc" in forms:
        made.append(over_grpc(replace(tcp, address=running.grpc), model, limit))
    if "unix" in forms:
        made.append(over_http(replace(tcp, address=running.unix), model, limit, "unix"))
    return made


def over_http(server: Server, model: str, limit: Limit, form: str) -> Subject:
    """A v2 server over HTTP."""
    there = server.there or model
    request = json_request(there, limit.inputs) if form == "json" else binary_request(there, limit.inputs, limit.names)

    def answer() -> Mapping[str, Array]:
        with connect(server.address) as connection:
            status, head, body = ask(connection, request)
        if status != 200:
            raise PermanentError(f"{server.name} answered {status} to {form} v2: {body[:200].decode(errors='replace')}")
        return http_outputs(head, body)

    return Subject(
        server=server.name,
        model=model,
        form=form,
        one=partial(one_client, server.address, request),
        many=partial(clients, server.address, request),
        answer=answer,
        tree=server.tree,
    )


def over_grpc(server: Server, model: str, limit: Limit) -> Subject:
    """A v2 server over gRPC; its address is `HOST:PORT`."""
    target = shown(server.address)
    message = grpc_request(server.there or model, limit.inputs)
    return Subject(
        server=server.name,
        model=model,
        form="grpc",
        one=partial(one_grpc_client, target, message),
        many=partial(grpc_clients, target, message),
        answer=lambda: grpc_outputs(ask_grpc(target, message)),
        tree=server.tree,
    )


def check(subject: Subject, limit: Limit) -> None:
    """Compares one answer with the model's own; raises PermanentError where they differ, before anything is timed."""
    given, right = dict(subject.answer()), limit.outputs()
    for index, (name, values) in enumerate(right.items()):
        mine = given.get(name, next(iter([*given.values()][index : index + 1]), None))
        if mine is None or mine.size != values.size or not np.allclose(mine.ravel(), values.ravel(), rtol=1e-3, atol=1e-4):
            raise PermanentError(f"{subject.name}: output {name!r} is not what the model gives in this process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """Another server, as a person named it."""

    name: str
    scheme: str
    host: str
    port: int
    model: str
    """Empty: the same name as here."""


def parse_against(text: str) -> Against:
    """`NAME=http://HOST:PORT[/MODEL]`, or `grpc://`; raises InputError."""
    right = "NAME=http://HOST:PORT[/MODEL] or NAME=grpc://HOST:PORT[/MODEL], for example triton=http://127.0.0.1:8000/conv"
    name, sign, url = text.partition("=")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{text!r} has no address ({error})", where="--against", right=right) from error
    if not sign or not name or parts.scheme not in {"http", "grpc"} or not host or not port:
        raise InputError(f"{text!r} names no server", where="--against", right=right)
    return Against(name=name, scheme=parts.scheme, host=host, port=port, model=parts.path.strip("/"))


def unreachable(server: Against) -> str | None:
    """Why nobody can be asked there now; None where somebody listens."""
    try:
        with socket.create_connection((server.host, server.port), REACH_S):
            return None
    except OSError as error:
        return f"{server.host}:{server.port} cannot be reached ({error.strerror or error})"


def against(
    server: Against, model: str, limit: Limit, forms: Sequence[str], tree: Tree | None
) -> tuple[list[Subject], list[str]]:
    """Its subjects in those forms that it answers rightly, and a line for each form that it does not."""
    there = Server(name=server.name, address=(server.host, server.port), tree=tree, there=server.model)
    if server.scheme == "grpc":
        tried = [over_grpc(there, model, limit)]
    else:
        tried = [over_http(there, model, limit, form) for form in ("binary", "json") if form in forms]
    good: list[Subject] = []
    left_out: list[str] = []
    for subject in tried:
        try:
            check(subject, limit)
        except (PermanentError, TemporaryError) as error:
            left_out.append(f"{subject.name} is left out: {error}")
        else:
            good.append(subject)
    return good, left_out


def limit_of(repository: Path, model: str, cores: Collection[int]) -> Limit:
    """The limit for one model of a repository; raises InputError for what has none in this process."""
    entry = scan(repository).get(model)
    if entry is None or entry.file is None:
        why = entry.fault if entry is not None else f"there is no model {model!r}"
        raise InputError(
            why, where=str(repository), right="name one of its models with --model; `nearhall models list` shows them"
        )
    if entry.runtime != "onnxruntime":
        right = "measure an ONNX model; for others there is no limit to compare with yet"
        raise InputError(f"model {model!r} runs in {entry.runtime or 'no runtime'}", where=str(repository), right=right)
    return Limit(Path(entry.file.path), _inputs(entry, entry.inputs or _told_by(entry.file)), cores=cores)


def _told_by(file: ModelFile) -> Sequence[TensorSpec]:
    """What the file itself says that it takes, where model.yaml does not."""
    from nearhall.drivers.onnx_runtime import OnnxRuntime

    opened = OnnxRuntime(file)
    try:
        return opened.inputs
    finally:
        opened.close()


def _inputs(entry: Entry, specs: Sequence[TensorSpec]) -> Inputs:
    """What the model is warmed up with; random values for inputs of FP32 without an example, zeros for others."""
    from nearhall.cli.roots.models import example

    found: dict[str, Array] = {}
    for spec in specs:
        if spec.optional:
            continue
        shape, value = entry.examples.get(spec.name, (None, 0.0))
        tensor = example(spec, shape, value)
        plain = spec.dtype == "FP32" and not value
        found[spec.name] = built_in.example(tensor.shape) if plain else to_array(tensor)
    return found
