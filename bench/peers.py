"""Other servers beside this gateway, in one run: MLServer, LitServe, BentoML, Ray Serve, KServe's SDK, and Triton.

Triton is 2.51's binary out of the package nvidia-pytriton with a Python backend that calls ONNX Runtime; it is always named so.
Not compared: OpenVINO Model Server and native Triton (no package brings them). Each peer is installed from its lock into an
environment of its own in the cache, gets the same model with the same session options and the best admission that it has, and
is measured alone beside this gateway: every slice between two slices of the limit, client and server on disjoint cores,
answers checked first. JSON where a peer speaks only JSON. Then both are offered 0.8x and 1.5x of the limit (JSON 0.3x and 0.6x)
with a deadline of 10 ms. About a minute and a half for each peer, and as long again the first time, to install it (0.6 GB each).

    python bench/peers.py [--only triton,mlserver] [--rounds 6] [--seconds 0.6] [--no-overload] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from nearhall.cli.pilot.free_ports import free_ports
from nearhall.cli.roots.bench.built_in import CONV
from nearhall.cli.roots.bench.compare import Measured, idle_cost, measure
from nearhall.cli.roots.bench.environments import environment, site_packages
from nearhall.cli.roots.bench.goals import Verdict, judge
from nearhall.cli.roots.bench.load import Address, Kind, OpenLoop, open_loop
from nearhall.cli.roots.bench.machine import Tree, on_cores
from nearhall.cli.roots.bench.measured import Row
from nearhall.cli.roots.bench.requests import binary_request, json_request
from nearhall.cli.roots.bench.schedule import poisson
from nearhall.cli.roots.bench.screen import legend, measured_table
from nearhall.cli.roots.bench.script import Script, main
from nearhall.cli.roots.bench.servers import (
    GATEWAY,
    Limit,
    Server,
    Subject,
    check,
    gateway,
    over_grpc,
    over_http,
    stop,
    subjects_of,
)
from nearhall.core.errors import InputError, NearhallError, PermanentError, TemporaryError

HERE = Path(__file__).parent / "peers"
NOT_COMPARED = {
    "OpenVINO Model Server": "no package of the Python index brings its server",
    "native Triton": "its ONNX backend is not in nvidia-pytriton; only the Python backend is",
}
READY_S_MAX = 120.0
IDLE_S = 5.0
LIMIT_S = 0.4
DEADLINE_MS = 10.0
LOADS = {"binary": (0.8, 1.5), "json": (0.3, 0.6)}
"""Times the limit. Reading JSON costs more than the model takes, so that 0.6x of the limit is more than anybody can do."""
TRITON, MLSERVER = "triton 2.51 (python backend)", "MLServer"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where a peer listens."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One other server."""

    key: str
    title: str
    forms: tuple[str, ...]
    admission: str
    """The best that it has against overload, as it is set here."""
    command: Callable[[Path, Path, Ports], Sequence[str]]
    """From its environment, a folder to write in, and its ports."""
    prepare: Callable[[Path, Path, Ports], Mapping[str, str]] = lambda _venv, _folder, _ports: {}
    """Writes what it needs; gives environment variables."""
    overloaded: str = CONV
    """The model that is asked under overload."""


@dataclass(kw_only=True)
class Result:
    """What came of a peer."""

    peer: Peer
    version: str = ""
    found: list[Measured] = field(default_factory=list)
    start_s: float = 0.0
    idle: tuple[float, float, int] = (0.0, 0.0, 0)
    overload: dict[str, dict[str, Any]] = field(default_factory=dict)
    absent: str = ""
    """Why it was not measured."""


def _triton_files(venv: Path, folder: Path, _ports: Ports) -> Mapping[str, str]:
    packages = site_packages(venv)
    server = packages / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    stub = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(server / "python_backend_stubs" / stub / "triton_python_backend_stub", backend)
    for name, config in ((CONV, "config.pbtxt"), ("queued", "queued.pbtxt")):
        place = folder / "models" / name / "1"
        place.mkdir(parents=True)
        shutil.copy(HERE / "triton" / config, place.parent / "config.pbtxt")
        shutil.copy(HERE / "triton" / "model.py", place)
        shutil.copy(HERE / "onnx_session.py", place)
    libraries = os.pathsep.join([str(packages / "nvidia_pytriton.libs"), os.environ.get("LD_LIBRARY_PATH", "")]).strip(os.pathsep)
    return {"LD_LIBRARY_PATH": libraries, "PYTHONPATH": os.pathsep.join([str(packages), str(HERE)])}


def _triton(venv: Path, folder: Path, ports: Ports) -> Sequence[str]:
    options = {
        "model-repository": folder / "models",
        "backend-directory": folder / "backends",
        "http-address": "127.0.0.1",
        "grpc-address": "127.0.0.1",
        "http-port": ports.http,
        "grpc-port": ports.grpc,
        "metrics-port": ports.metrics,
        "log-warning": "false",
        "log-info": "false",
    }
    binary = site_packages(venv) / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    return [str(binary), *(f"--{name}={value}" for name, value in options.items())]


def _mlserver_files(_venv: Path, folder: Path, ports: Ports) -> Mapping[str, str]:
    settings = {
        "host": "127.0.0.1",
        "http_port": ports.http,
        "grpc_port": ports.grpc,
        "metrics_port": ports.metrics,
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps({"name": CONV, "implementation": "mlserver_model.Conv"}))
    return {}


def _mlserver(venv: Path, folder: Path, _ports: Ports) -> Sequence[str]:
    return [str(venv / "bin" / "mlserver"), "start", str(folder)]


def _app(name: str) -> Callable[[Path, Path, Ports], Sequence[str]]:
    def command(venv: Path, _folder: Path, ports: Ports) -> Sequence[str]:
        return [str(venv / "bin" / "python"), str(HERE / f"{name}_app.py"), str(ports.http), str(ports.grpc)]

    return command


def _bentoml(venv: Path, _folder: Path, ports: Ports) -> Sequence[str]:
    place = ["--host", "127.0.0.1", "--port", str(ports.http), "--working-dir", str(HERE)]
    return [str(venv / "bin" / "bentoml"), "serve", "bentoml_service:Conv", *place]


PEERS: tuple[Peer, ...] = (
    Peer(
        key="triton",
        title=TRITON,
        forms=("json", "binary", "grpc"),
        admission="queue policy: at most 8 wait, none longer than 8 ms",
        command=_triton,
        prepare=_triton_files,
        overloaded="queued",
    ),
    Peer(
        key="mlserver",
        title=MLSERVER,
        forms=("json", "grpc"),
        admission="none to set; its model in the server's process (parallel_workers 0), which is faster",
        command=_mlserver,
        prepare=_mlserver_files,
    ),
    Peer(
        key="kserve",
        title="KServe SDK",
        forms=("json", "binary", "grpc"),
        admission="none in the SDK (Knative's in front of it)",
        command=_app("kserve"),
    ),
    Peer(key="litserve", title="LitServe", forms=("json",), admission="none to set", command=_app("litserve")),
    Peer(key="bentoml", title="BentoML", forms=("json",), admission="max_concurrency 8", command=_bentoml),
    Peer(
        key="ray",
        title="Ray Serve",
        forms=("json", "binary"),
        admission="max_ongoing_requests 4, max_queued_requests 8",
        command=_app("ray"),
    ),
)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default=",".join(peer.key for peer in PEERS), help="keys, in order, with commas")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0.6, help="of each slice of a server")
    parser.add_argument("--no-overload", action="store_true")
    parser.add_argument("--load-seconds", type=float, default=3.0, help="of each load")


def work(script: Script) -> None:
    known = {peer.key: peer for peer in PEERS}
    keys = [key for key in script.options.only.split(",") if key]
    for key in keys:
        if key not in known:
            raise InputError(f"there is no peer {key!r}", where="--only", right=", ".join(known))
    limit = Limit(script.file_of(CONV), cores=script.cores.server)
    results = [one_peer(script, known[key], limit) for key in keys]
    show(script, results)
    script.verdicts += verdicts(results)
    script.data |= {
        "compared_with": "session.run in the client's process, and this gateway in the same slices",
        "not_compared": NOT_COMPARED,
        "peers": [plain(one) for one in results],
    }


def one_peer(script: Script, peer: Peer, limit: Limit) -> Result:
    """Installs, starts, checks and measures one peer; a peer that cannot be had is told with the reason."""
    result = Result(peer=peer)
    try:
        venv = environment(peer.key, HERE / "locks" / f"{peer.key}.txt", script.tell)
        result.version = version_of(venv, peer)
        with (
            tempfile.TemporaryDirectory(prefix="nh-peer-") as folder,
            tempfile.TemporaryDirectory(prefix="nh-bench-") as ours,
            running(script, peer, venv, Path(folder), limit) as (subjects, overloaded, start_s),
            gateway(script.models, Path(ours), cores=script.cores.server) as mine,
        ):
            result.start_s = start_s
            tree = subjects[0].tree
            result.idle = (0.0, 0.0, 0) if tree is None else idle_cost(tree, IDLE_S)
            beside = subjects_of(mine, CONV, limit, [subject.form for subject in subjects])
            for subject in beside:
                check(subject, limit)
            script.tell(f"measuring {peer.title}")
            result.found = measure(
                [*beside, *subjects],
                {CONV: limit},
                rounds=script.options.rounds,
                seconds=script.options.seconds,
                tell=lambda _: None,
            )
            if not script.options.no_overload:
                script.tell(f"offering {peer.title} more than it can do")
                result.overload = overload(script, limit, overloaded, mine.address, peer)
    except (NearhallError, OSError) as error:
        result.absent = str(error)
        script.warnings.append(f"{peer.title} was not measured: {error}")
    return result


def version_of(venv: Path, peer: Peer) -> str:
    package = {"triton": "nvidia-pytriton"}.get(peer.key, peer.key)
    for line in (HERE / "locks" / f"{peer.key}.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if name.lower().partition("[")[0] == package:
            return f"{package} {version}"
    return package


@contextmanager
def running(script: Script, peer: Peer, venv: Path, folder: Path, limit: Limit) -> Iterator[tuple[list[Subject], Address, float]]:
    """The peer's subjects that answer rightly, its address, and how long it took to its first right answer."""
    ports = Ports(**dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True)))
    more = peer.prepare(venv, folder, ports)
    environment = {
        "PATH": os.pathsep.join([str(venv / "bin"), os.environ.get("PATH", "")]),
        "HOME": str(folder),
        "VIRTUAL_ENV": str(venv),
        "PYTHONPATH": str(HERE),
        "BENCH_MODEL": str(script.file_of(CONV)),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        **more,
    }
    begun = time.perf_counter()
    with (folder / "peer.log").open("wb") as log, on_cores(script.cores.server):
        process = subprocess.Popen(
            peer.command(venv, folder, ports), env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    tree = Tree(process.pid)
    try:
        http = Server(name=peer.title, address=("127.0.0.1", ports.http), tree=tree)
        grpc = Server(name=peer.title, address=f"127.0.0.1:{ports.grpc}", tree=tree)
        every = [over_grpc(grpc, CONV, limit) if form == "grpc" else over_http(http, CONV, limit, form) for form in peer.forms]
        until_right(every[0], limit, process, folder / "peer.log")
        start_s = time.perf_counter() - begun
        good = []
        for subject in every:
            try:
                check(subject, limit)
            except (PermanentError, TemporaryError) as error:
                script.warnings.append(f"{subject.name} is left out: {error}")
            else:
                good.append(subject)
        yield good, http.address, start_s
    finally:
        end(process, tree)


def until_right(subject: Subject, limit: Limit, process: subprocess.Popen[bytes], log: Path) -> None:
    last = time.monotonic() + READY_S_MAX
    while True:
        try:
            return check(subject, limit)
        except (NearhallError, OSError, ValueError, KeyError) as error:
            said = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1][:200]
            if process.poll() is not None:
                raise PermanentError(f"it ended with {process.returncode}: {said}") from error
            if time.monotonic() > last:
                raise PermanentError(f"no right answer within {READY_S_MAX:g} s ({error}); it said: {said}") from error
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes], tree: Tree) -> None:
    """Ends a peer and every process that it started."""
    children = []
    for pid in tree.pids():
        try:
            children.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    stop(process)
    _, alive = psutil.wait_procs(children, timeout=3)
    for child in alive:
        child.kill()
    psutil.wait_procs(alive, timeout=3)


def overload(script: Script, limit: Limit, theirs: Address, ours: Address, peer: Peer) -> dict[str, dict[str, Any]]:
    """Goodput of both under the same loads."""
    form = "binary" if "binary" in peer.forms else "json"
    headers = {"x-nearhall-deadline-ms": f"{DEADLINE_MS:g}"}

    def request(model: str) -> bytes:
        if form == "json":
            return json_request(model, limit.inputs, headers)
        return binary_request(model, limit.inputs, limit.names, headers)

    found: dict[str, dict[str, Any]] = {}
    for times in LOADS[form]:
        both = {}
        for name, address, model in ((peer.title, theirs, peer.overloaded), (GATEWAY, ours, CONV)):
            per_s = 1e3 / limit.slice(LIMIT_S).p50_ms
            arrivals = poisson(times * per_s, script.options.load_seconds, 1)
            kind = Kind(name=form, request=request(model), deadline_ms=DEADLINE_MS)
            loop: OpenLoop = open_loop(address, [kind], arrivals, [0] * len(arrivals), script.options.load_seconds)
            one = loop.outcomes[0]
            both[name] = {**one.plain(), "goodput_of_limit": round(one.goodput_per_s / per_s, 4)}
            time.sleep(1.0)  # what still waits there is not to meet the next load
        found[f"{times:g}x"] = both
    return found


def show(script: Script, results: Sequence[Result]) -> None:
    for one in results:
        if not one.found:
            continue
        script.show(f"[bold]{one.peer.title}[/bold] ({one.version}); admission: {one.peer.admission}")
        script.show(measured_table(one.found))
        idle, pss, count = one.idle
        script.show(f"start to right answer {one.start_s:.2f} s · idle {idle:.2f} % · {pss:.0f} MiB PSS · processes: {count}")
        if one.overload:
            script.show(overload_table(one))
        script.show("")
    script.show(legend())
    script.show("not compared: " + "; ".join(f"{name} ({why})" for name, why in NOT_COMPARED.items()) + "\n")


def overload_table(one: Result) -> Table:
    table = Table(box=None, padding=(0, 1))
    for head in ("offered", "server", "200", "in time", "of limit", "p50 ms"):
        table.add_column(head)
    for times, both in one.overload.items():
        for name, found in both.items():
            share = found["answered"] / max(1, found["offered"])
            in_time, goodput = f"{found['in_deadline_share']:.1%}", f"{found['goodput_of_limit']:.2f}"
            table.add_row(times, name, f"{share:.1%}", in_time, goodput, str(found["p50_ms"]))
    return table


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """JSON: the best of Triton and MLServer over ours, by ratios to the limit of each pair; CPU over Triton's."""
    advantages: dict[str, tuple[float, bool]] = {}
    for one in results:
        theirs, ours = row_of(one, one.peer.title, "json"), row_of(one, GATEWAY, "json")
        if one.peer.title in {TRITON, MLSERVER} and theirs is not None and ours is not None:
            ratio = theirs.p50_ratio.value / ours.p50_ratio.value
            advantages[one.peer.title] = (ratio, theirs.headline and ours.headline)
    said: list[Verdict] = []
    if advantages:
        name = min(advantages, key=lambda key: advantages[key][0])
        note = "" if len(advantages) == 2 else f"only {name} was measured"
        said.append(judge("json_peers", advantages[name][0], headline=advantages[name][1], note=note or f"the better: {name}"))
    else:
        said.append(judge("json_peers", None))
    triton = next((one for one in results if one.peer.title == TRITON), None)
    theirs, ours = (row_of(triton, name, "binary") if triton is not None else None for name in (TRITON, GATEWAY))
    if theirs is None or ours is None or theirs.cpu_ratio is None or ours.cpu_ratio is None:
        said.append(judge("binary_cpu_triton", None))
    else:
        said.append(judge("binary_cpu_triton", ours.cpu_ratio / theirs.cpu_ratio, headline=theirs.headline and ours.headline))
    return said


def row_of(one: Result, server: str, form: str) -> Row | None:
    return next((m.one for m in one.found if m.subject.server == server and m.subject.form == form), None)


def plain(one: Result) -> dict[str, Any]:
    idle, pss, count = one.idle
    return {
        "peer": one.peer.title,
        "version": one.version,
        "admission": one.peer.admission,
        "absent": one.absent,
        "rows": [found.plain() for found in one.found],
        "footprint": {
            "start_s": round(one.start_s, 2),
            "idle_cpu_percent": round(idle, 2),
            "pss_mib": round(pss, 1),
            "processes": count,
        },
        "overload": one.overload,
    }


if __name__ == "__main__":
    main("peers", __doc__ or "", work, options)
