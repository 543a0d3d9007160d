"""PROGRAM serve: puts the data plane together from its settings and runs it until it is told to stop.

    python -m nearhall.cli.roots.gateway CONFIG.json

Prints `READY {"port": ...}` once its small models are loaded and it listens; language models go on loading in the background.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import ssl
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, MutableSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import uvloop

from nearhall.cli.roots.embeddings import with_tokenizer
from nearhall.cli.roots.energy_counters import count_energy
from nearhall.cli.roots.listening import Addresses, Held, answering, hold, load_certificates, number_of, remove_socket
from nearhall.cli.roots.program import listen_unix, read_settings, run_program, say_ready, stop_event
from nearhall.cli.roots.tls_protocol import tls_extension
from nearhall.core.errors import PermanentError
from nearhall.documents.whole_file import write_whole
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.cpu_quota import cpus_allowed
from nearhall.drivers.device_memory import open_device_memory
from nearhall.drivers.host import cpu_name
from nearhall.drivers.node_memory import SystemMemory
from nearhall.drivers.own_cpu import living_children_cpu_seconds, own_cpu_seconds, start_ticks
from nearhall.drivers.time_slice import ask_for_slice
from nearhall.gateway.body import MIB
from nearhall.gateway.cap import PowerCap
from nearhall.gateway.choose import Choosing, steps
from nearhall.gateway.forward import HubLink
from nearhall.gateway.http.app import App
from nearhall.gateway.http.control import Control, snapshot
from nearhall.gateway.http.direct import Direct
from nearhall.gateway.http.front import Front
from nearhall.gateway.http.server import Server, listening
from nearhall.gateway.metering.energy import EnergyBook
from nearhall.gateway.metering.metrics import Metrics
from nearhall.gateway.metering.stats import Stats
from nearhall.gateway.models.memory import ModelMemory
from nearhall.gateway.models.models import Models, Opener, Runtime
from nearhall.gateway.models.opening import Cores
from nearhall.gateway.plane import Plane
from nearhall.gateway.probes import Probes
from nearhall.gateway.queues.loop_watch import LoopWatch
from nearhall.gateway.settings import UNIX, Hub, Settings, check_settings, host_and_port, loopback
from nearhall.gateway.workloads import RANK_UNSAID, Workloads
from nearhall.policy.cores import Use, takes_the_rest
from nearhall.policy.memory import default_budget_mib
from nearhall.ports.clock import Clock
from nearhall.ports.devices import DeviceMemory
from nearhall.ports.node_memory import NodeMemory
from nearhall.ports.runtime import Fallback, ModelFile
from nearhall.wire.oip_json import Numbers
from nearhall.wire.telemetry import Event

if TYPE_CHECKING:
    from nearhall.cli.roots.grpc_listening import GrpcServer

log = logging.getLogger("nearhall.gateway")

LOOP_SLICE_MS = 0.2
RUN_SLICE_MS = 3.0
"""Of a core's time at once, for the event loop and for a model's run (the usual: 1.4 ms on two cores). Who has little to do is
let in sooner, and who computes is interrupted less often. At three times the limit, a fifth of it critical, on two cores that the
client shares, five runs each of 3 s: 97.7 to 99.3 % of the critical in time instead of 94.3 to 98.6; goodput 0.87 to 0.98 of the
limit instead of 0.69 to 0.86."""
SMALL_MODELS_S_MAX = 10.0
"""Listening begins after this at the latest, even if a model still loads; what is asked of it goes to the hub meanwhile."""


def open_runtime(file: ModelFile, uses: Collection[Use] = (), resting: MutableSet[Runtime] | None = None) -> Runtime:
    """The runtime that the file names, its library imported only now; an absent library names the extra that brings it.

    `uses`: what all models of the gateway are for; a language model's process has the cores accordingly. Those that take what
    others leave are added to `resting`.
    """
    try:
        if file.runtime == "onnxruntime":
            from nearhall.drivers.onnx_runtime import OnnxRuntime

            return with_tokenizer(file, OnnxRuntime(file))
        if file.runtime == "openvino":
            from nearhall.drivers.openvino_runtime import OpenVinoRuntime

            return OpenVinoRuntime(file)
        if file.runtime == "genai":
            from nearhall.drivers.genai import GenaiRuntime

            rest = takes_the_rest(file.model, uses, rank_unsaid=RANK_UNSAID)
            if rest:
                log.info(
                    "model %s takes what others leave of the cores: a more critical workload is served beside it", file.model
                )
            runtime = GenaiRuntime(file, takes_the_rest=rest)
            if rest and resting is not None:
                resting.add(runtime)
            return runtime
        if file.runtime == "upstream":
            from nearhall.drivers.upstream import HttpUpstream

            return HttpUpstream(file)
    except ImportError as error:
        extra = {"genai": "llm", "openvino": "pilot"}.get(file.runtime)
        hint = f"; install nearhall[{extra}]" if extra else ""
        raise PermanentError(f"the runtime {file.runtime} needs {error.name or error}, which is not installed{hint}") from error
    raise PermanentError(f"runtime {file.runtime!r} is not known")


def open_fallback(hub: Hub) -> Fallback:
    """The hub's gateway over HTTPS; begins to keep a connection warm, so it must run inside the event loop."""
    from nearhall.drivers.fallback_https import HttpsFallback

    if hub.tls is not None:
        load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), hub.tls, where="hub.tls")
    fallback = HttpsFallback(hub.url, None if hub.tls is None else (hub.tls.ca, hub.tls.cert, hub.tls.key))
    fallback.start()
    return fallback


def open_front(path: str) -> Front:
    """The way to the hub's control plane."""
    from nearhall.drivers.control_socket import ControlSocket

    return Front(ControlSocket(path))


def numbers_when_asked() -> Numbers:
    """The quick reader of numbers in JSON, its libraries imported when the first long array comes.

    That takes 5 ms once, where a model's runtime has imported numpy before; at the start it would take 70 ms of everybody's.
    Where there is no simdjson for this Python (3.14 on), numbers are decoded with the rest.
    """

    @cache
    def reader() -> Numbers | None:
        try:
            from nearhall.drivers.json_numbers import JsonNumbers
        except ImportError as error:
            log.info("long arrays of numbers in JSON are read slowly: %s", error)
            return None
        return JsonNumbers().read

    def read(text: memoryview, dtype: str) -> memoryview | None:
        quick = reader()
        return None if quick is None else quick(text, dtype)

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A data plane, put together and not yet listening."""

    plane: Plane
    app: App
    direct: Direct
    metrics: Metrics
    front: Front | None


def compose(
    settings: Settings,
    *,
    clock: Clock,
    opener: Opener | None = None,
    fallback: Fallback | None = None,
    cpu_s: Callable[[], float] = own_cpu_seconds,
    node_memory: NodeMemory | None = None,
    device_memory: DeviceMemory | None = None,
) -> Composed:
    """Puts the parts together; raises InputError when the repository is none. Must run inside the event loop."""
    stats = Stats(
        gateway_id=uuid.uuid4().hex, pid=os.getpid(), clock=clock, cpu_s=cpu_s, children_cpu_s=living_children_cpu_seconds
    )
    stats.tell(Event(at_s=clock.utc(), kind="gateway_started", text=f"gateway of {settings.node} started"))
    node = SystemMemory() if node_memory is None else node_memory
    budget_mib = settings.limits.models_mib or default_budget_mib(node.free_mib())
    memory = ModelMemory(budget_mib, node=node, clock=clock, devices=device_memory, device_mib=settings.limits.models_gpu_mib)
    loop = LoopWatch(clock)
    uses: list[Use] = []
    resting: WeakSet[Runtime] = WeakSet()
    models = Models(
        Path(settings.repository),
        partial(open_runtime, uses=uses, resting=resting) if opener is None else opener,
        queue_length=settings.limits.queue_length,
        clock=clock,
        tell=stats.tell,
        memory=memory,
        pinned=settings.pinned,
        cores=Cores(count=max(1, int(cpus_allowed())), cpu=cpu_name()),
        loop=loop,
        begins=partial(ask_for_slice, RUN_SLICE_MS),
        spare=lambda: not resting,
    )
    workloads = Workloads(settings.workloads)
    energy = EnergyBook(
        stats,
        models_of={workload.id: workload.model for workload in settings.workloads},
        states=models.states,
        cpu_s=cpu_s,
        children_cpu_s=living_children_cpu_seconds,
        clock=clock,
    )
    cap = PowerCap(say=models.say, metered=energy.metered, steps=lambda: steps(models, workloads))
    energy.heard = lambda: cap.heard(clock.monotonic())
    for workload in settings.workloads:
        if models.find(workload.model) is not None:
            uses.append(Use(model=workload.model, rank=workload.priority))
        elif settings.hub is None:
            what = f"workload {workload.id} names model {workload.model[:64]!r}, which is not in {settings.repository}"
            models.say("model_failed", f"{what}: nothing here answers for it", "warning")
    choosing = Choosing(models, stats, cap)
    hub: HubLink | None = None
    if settings.hub is not None:
        reach = fallback if fallback is not None else open_fallback(settings.hub)
        timeout_s = settings.limits.forward_timeout_s
        hub = HubLink(reach, jurisdiction=settings.hub.jurisdiction, clock=clock, timeout_s=timeout_s)
    plane = Plane(
        node=settings.node.encode(),
        limits=settings.limits,
        clock=clock,
        loop=loop,
        workloads=workloads,
        models=models,
        stats=stats,
        hub=hub,
        load_report=settings.load_report,
        probes=Probes(settings.probe, hub=hub, models=models, stats=stats, clock=clock),
        choosing=choosing,
        numbers=numbers_when_asked(),
        energy=energy,
    )
    metrics = Metrics(
        stats,
        models=models.states,
        hub_reachable=lambda: None if hub is None else hub.reachable,
        cpu_s=cpu_s,
        energy=energy,
        budgets_mib=lambda: {"": memory.budget_mib, **memory.device_budgets_mib},
        device_beyond_mib=memory.devices_beyond_mib,
        cap=lambda: cap.told(clock.monotonic()),
        clock=clock,
        languages=models.languages,
    )
    may_load = settings.control_socket is None and loopback(settings.host)
    front = None if settings.control_plane is None else open_front(settings.control_plane)
    app = App(plane, metrics, may_load=may_load, front=front)
    return Composed(plane=plane, app=app, direct=Direct(app, plane), metrics=metrics, front=front)


GARBAGE_AFTER = 20_000
"""Objects that are made and not freed between two looks for garbage. With Python\'s 700 a profile under load
showed the collector again and again; what that cost in answers was not more than the runs differ by."""


def settle_memory() -> None:
    """Takes what start-up made out of the garbage collector's sight: it stays for good, and a look through it takes 30 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 10, 10)


async def serve(settings: Settings, *, announce: Callable[[Addresses, Plane], None]) -> None:
    """Runs the gateway until SIGTERM, SIGINT, a drain on the control socket, or (if asked) the end of standard input."""
    held = hold(
        settings.host,
        settings.port,
        reuse_port=settings.reuse_port,
        uds=None if settings.uds is None else settings.uds.path,
        grpc=settings.grpc,
        control_socket=settings.control_socket,
        tls=settings.tls,
    )
    port: int = held.http.getsockname()[1]
    stop = stop_event(with_stdin=settings.exit_with_stdin)
    devices = await asyncio.to_thread(open_device_memory)
    with held:
        composed = compose(settings, clock=SystemClock(), device_memory=devices)
        plane = composed.plane
        counting = asyncio.create_task(count_energy(plane.energy))
        control = None if settings.control_socket is None else listen_unix(Path(settings.control_socket), where="control_socket")
        try:
            async with AsyncExitStack() as open_sockets:
                if control is not None:
                    own = _server(Control(plane, stop=stop.set), settings)
                    made = control.getsockname(), number_of(control.getsockname())
                    await open_sockets.enter_async_context(listening(own, control, drain_s=settings.limits.drain_s))
                    open_sockets.callback(remove_socket, *made)  # while it still listens, so that nobody else's is removed
                plane.models.start()
                await _until_settled(plane, stop)
                async with _listening(settings, composed, held) as addresses, _pid_file(settings, plane, port):
                    settle_memory()
                    announce(addresses, plane)
                    await stop.wait()
                    plane.draining = True
        finally:
            counting.cancel()
            await plane.probes.close()
            await plane.models.close()
            if devices is not None:
                devices.close()
            if plane.hub is not None:
                await plane.hub.close()
            if composed.front is not None:
                await composed.front.close()


@asynccontextmanager
async def _listening(settings: Settings, composed: Composed, held: Held) -> AsyncGenerator[Addresses]:
    """Answers at every address of the settings; at the end what is in progress may end, at all of them at a time."""
    everywhere = answering(
        service(composed, settings),
        held,
        tls=settings.tls,
        drain_s=settings.limits.drain_s,
        grpc=None if settings.grpc is None else _grpc_server(settings, composed.plane),
        local=None if settings.uds is None else (service(composed, settings), settings.uds),
    )
    async with everywhere as addresses:
        yield addresses


def _grpc_server(settings: Settings, plane: Plane) -> GrpcServer:
    """Its library is imported only where it is asked for."""
    from nearhall.cli.roots.grpc_listening import gateway_server

    address = settings.grpc or ""
    local = address.startswith(UNIX) or loopback(host_and_port(address, where="grpc")[0])
    return gateway_server(settings, plane, may_load=settings.control_socket is None and local)


def _server(app: Any, settings: Settings) -> Server:
    return Server(app, body_bytes_max=int(settings.limits.body_mib * MIB), tls_of=tls_extension)


def service(composed: Composed, settings: Settings) -> Server:
    """A server of the data plane's own application."""
    return Server(
        composed.app,
        body_bytes_max=int(settings.limits.body_mib * MIB),
        tls_of=tls_extension,
        turn_away=composed.direct.turn_away,
        take=composed.direct.take,
        stirred=composed.plane.loop.stirred,
    )


async def _until_settled(plane: Plane, stop: asyncio.Event) -> None:
    """Until the small models are loaded, a stop is asked for, or patience ends."""
    waits = [asyncio.create_task(plane.models.until_settled()), asyncio.create_task(stop.wait())]
    await asyncio.wait(waits, timeout=SMALL_MODELS_S_MAX, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


@asynccontextmanager
async def _pid_file(settings: Settings, plane: Plane, port: int) -> AsyncGenerator[None]:
    """Says who serves, so that an agent that starts later can adopt this process."""
    if settings.pid_file is None:
        yield
        return
    path = Path(settings.pid_file)
    stats = snapshot(plane)
    said = {
        "pid": stats.pid,
        "start_ticks": start_ticks(),
        "gateway_id": stats.gateway_id,
        "started_s": stats.started_s,
        "port": port,
    }
    await asyncio.to_thread(write_whole, path, json.dumps(said).encode())
    try:
        yield
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


def announce_ready(addresses: Addresses, plane: Plane) -> None:
    """Tells the parent that the gateway serves, and how its models stand."""
    models = {model.entry.name: model.state.value for model in plane.models.all()}
    grpc = {} if addresses.grpc_port is None else {"grpc_port": addresses.grpc_port}
    say_ready(port=addresses.port, **grpc, gateway_id=plane.stats.gateway_id, models=models)


async def main(path: str) -> None:
    """Runs the gateway on the settings in the file at `path`."""
    settings = read_settings(path, Settings)
    check_settings(settings, where=path)
    ask_for_slice(LOOP_SLICE_MS)
    await serve(settings, announce=announce_ready)


if __name__ == "__main__":
    run_program(main, runner=uvloop.run)
