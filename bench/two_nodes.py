"""What the front of several nodes costs, and what becomes of requests when one of two nodes freezes, and then dies.

First the cost: requests of one client through the front against the same straight to a node, slice by slice, after the answers
have been checked. Then the faults: an open-loop load (Poisson, at a share of what one node can do, so that it can carry it alone)
with a deadline, while node n1 is frozen (SIGSTOP), killed, and started again. Every request is accounted for. Only ratios of one
run mean anything; the client, the front and both nodes share this machine's cores.

    python bench/two_nodes.py [--deadline-ms 50] [--share 0.4] [--phase-s 3] [--rounds 9] [--requests 150] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from nearhall.cli.roots.bench.built_in import CONV, TINY, write_models
from nearhall.cli.roots.bench.load import ask, connect
from nearhall.cli.roots.bench.requests import binary_request, header_of, http_outputs
from nearhall.cli.roots.bench.servers import Limit, limit_of
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.node_http import Address, NodeHttp
from nearhall.ports.node import NodeAnswer, NodeAsk, NodeLostError

PHASES = ("both", "one frozen", "one killed", "starting", "back")
"""While n1 starts again it takes more than a second of a core from the other node, the front and this client, as no host that has
cores of its own does: what becomes of requests then is told apart."""
WINDOW_S = 0.25
"""Goodput is told by windows of this length."""
BACK_SHARE = 0.9
"""Goodput is back from the window on after which every one has so much of what was offered, answered in time."""
WAIT_S_MAX = 30.0


@dataclass(frozen=True)
class Sent:
    """One request: when it was meant to be sent, what it took from then on, and how it ended."""

    at_s: float
    took_ms: float
    held_ms: float
    """From when it was really sent on: without what this client itself was late by."""
    status: int
    """0: the connection broke."""
    served: str


class Programs:
    """Two gateways and a front, ended together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.ports: dict[str, int] = {}

    def start(self, name: str, module: str, **settings: Any) -> None:
        """Starts a program and waits until it says that it serves."""
        config = self.folder / f"{name}.json"
        config.write_text(json.dumps({"port": self.ports.get(name, 0), **settings}))
        with (self.folder / f"{name}.log").open("w") as log:
            command = [sys.executable, "-m", module, str(config)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.running[name] = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("READY "):
            raise SystemExit(f"{name} did not start; see {self.folder / name}.log")
        self.ports[name] = json.loads(line.removeprefix("READY "))["port"]

    def node(self, name: str) -> None:
        """Starts a gateway, at its old port if it had one."""
        settings = {"node": f"bench/{name}", "jurisdiction": "ZZ", "repository": str(self.folder / "models")}
        self.start(name, "nearhall.cli.roots.gateway", **settings)

    def stop(self) -> None:
        """Ends all."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(15)
            finally:
                process.kill()


@dataclass(frozen=True)
class Case:
    """A model, and what it gives in this process."""

    name: str
    limit: Limit

    @property
    def wire(self) -> bytes:
        """A binary v2 request to it, as it goes over the wire."""
        return binary_request(self.name, self.limit.inputs, self.limit.names)


def check(case: Case, link: socket.socket) -> None:
    """The answer is the model's, bit for bit as far as threads allow."""
    status, head, body = ask(link, case.wire)
    assert status == 200, head
    got = http_outputs(head, body)
    for name, expected in case.limit.outputs().items():
        np.testing.assert_allclose(got[name].ravel(), expected.ravel(), rtol=1e-4, atol=1e-5)


def slice_ms(link: socket.socket, wire: bytes, requests: int) -> float:
    """The median of so many requests, ms."""
    took: list[float] = []
    for _ in range(requests):
        begun = time.perf_counter()
        ask(link, wire)
        took.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(took)


def cost(case: Case, straight: socket.socket, front: socket.socket, rounds: int, requests: int) -> dict[str, Any]:
    """Through the front against straight to a node, slices in turn."""
    wire = case.wire
    for client in (straight, front):
        slice_ms(client, wire, 50)
    pairs = [(slice_ms(straight, wire, requests), slice_ms(front, wire, requests)) for _ in range(rounds)]
    return {
        "model": case.name,
        "straight_p50_ms": round(statistics.median(a for a, _ in pairs), 4),
        "front_p50_ms": round(statistics.median(b for _, b in pairs), 4),
        "added_p50_ms": round(statistics.median(b - a for a, b in pairs), 4),
        "ratio": round(statistics.median(b / a for a, b in pairs), 3),
        "ratio_low_high": [round(min(b / a for a, b in pairs), 2), round(max(b / a for a, b in pairs), 2)],
    }


class Load:
    """Requests at random times, whatever comes back."""

    def __init__(self, port: int, case: Case, *, rate_per_s: float, deadline_ms: float) -> None:
        lines, _, self._body = case.wire.partition(b"\r\n\r\n")
        self._target = f"/v2/models/{case.name}/infer".encode()
        self._headers = [
            (b"inference-header-content-length", header_of(lines, b"inference-header-content-length") or b""),
            (b"x-nearhall-deadline-ms", b"%.1f" % deadline_ms),
        ]
        self._link = NodeHttp(Address(host="127.0.0.1", port=port), SystemClock(), connections_max=20_000)
        self._draw = random.Random(22)
        self._rate_per_s = rate_per_s
        self.sent: list[Sent] = []
        self.going = True

    async def run(self) -> None:
        """Sends while `going`; returns when every request has ended."""
        at_s = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        while self.going:
            await asyncio.sleep(max(0.0, at_s - time.monotonic()))
            tasks.add(asyncio.create_task(self._one(at_s)))
            at_s += self._draw.expovariate(self._rate_per_s)
        await asyncio.gather(*tasks)
        self._link.close()

    async def _one(self, at_s: float) -> None:
        answer: asyncio.Future[NodeAnswer | NodeLostError] = asyncio.get_running_loop().create_future()
        sent_s = time.monotonic()
        self._link.send(NodeAsk("POST", self._target, self._headers, self._body, repeatable=False), answer.set_result)
        async with asyncio.timeout(WAIT_S_MAX):
            got = await answer
        now_s = time.monotonic()
        took_ms, held_ms = (now_s - at_s) * 1e3, (now_s - sent_s) * 1e3
        if isinstance(got, NodeLostError):
            self.sent.append(Sent(at_s, took_ms, held_ms, 0, ""))
        else:
            served = dict(got.headers).get(b"x-nearhall-served-by", b"").decode()
            self.sent.append(Sent(at_s, took_ms, held_ms, got.status, served))


async def faults(programs: Programs, load: Load, phase_s: float) -> list[float]:
    """The load, and n1 frozen, killed and started again under it; gives when each phase began."""
    begun = [time.monotonic()]
    running = asyncio.create_task(load.run())
    first = programs.running["n1"]
    await asyncio.sleep(phase_s)
    first.send_signal(signal.SIGSTOP)
    begun.append(time.monotonic())
    await asyncio.sleep(phase_s)
    first.kill()
    begun.append(time.monotonic())
    await asyncio.sleep(phase_s)
    begun.append(time.monotonic())
    first.wait()
    await asyncio.to_thread(programs.node, "n1")
    begun.append(time.monotonic())
    await asyncio.sleep(phase_s)
    load.going = False
    await running
    return begun


def told(sent: list[Sent], begun: list[float], deadline_ms: float) -> dict[str, Any]:
    """Each phase: what was offered, answered in time, refused; how long goodput was away; and the longest wait."""
    phases: list[dict[str, Any]] = []
    for name, from_s, to_s in zip(PHASES, begun, [*begun[1:], float("inf")], strict=True):
        part = sorted((one for one in sent if from_s <= one.at_s < to_s), key=lambda one: one.at_s)
        good = [one.status == 200 and one.took_ms <= deadline_ms for one in part]
        shares = [share for _, share in windows(part, good, from_s)]
        back = next((i for i in range(len(shares)) if all(share >= BACK_SHARE for share in shares[i:])), len(shares))
        phases.append(
            {
                "phase": name,
                "offered": len(part),
                "in_time": sum(good),
                "share": round(sum(good) / max(1, len(part)), 4),
                "statuses": dict(sorted(Counter(str(one.status) for one in part).items())),
                "served": dict(sorted(Counter(one.served for one in part if one.status == 200).items())),
                "longest_wait_ms": round(max((one.held_ms for one in part), default=0.0), 1),
                "goodput_back_s": round(back * WINDOW_S, 2),
                "share_by_window": [round(share, 2) for share in shares],
            }
        )
    return {
        "phases": phases,
        "deadline_ms": deadline_ms,
        "longest_wait_ms": round(max(one.held_ms for one in sent), 1),
        "past_deadline": sum(one.held_ms > deadline_ms for one in sent),
        "client_late_ms": round(max(one.took_ms - one.held_ms for one in sent), 1),
    }


def windows(part: list[Sent], good: list[bool], from_s: float) -> list[tuple[int, float]]:
    """The share that was answered in time, by window."""
    offered: Counter[int] = Counter()
    answered: Counter[int] = Counter()
    for one, well in zip(part, good, strict=True):
        window = int((one.at_s - from_s) / WINDOW_S)
        offered[window] += 1
        answered[window] += well
    return [(window, answered[window] / offered[window]) for window in sorted(offered)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--deadline-ms", type=float, default=50.0)
    parser.add_argument("--share", type=float, default=0.4, help="of what one node answers one after the other")
    parser.add_argument("--phase-s", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=150, help="per slice")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        programs = Programs(Path(place))
        models = programs.folder / "models"
        write_models(models)
        cases = [Case(name, limit_of(models, name, ())) for name in (TINY, CONV)]
        try:
            programs.node("n1")
            programs.node("n2")
            nodes = [{"id": name, "url": f"http://127.0.0.1:{programs.ports[name]}"} for name in ("n1", "n2")]
            programs.start("front", "nearhall.cli.roots.front", nodes=nodes)
            straight, front = (connect(("127.0.0.1", programs.ports[name])) for name in ("n1", "front"))
            for case in cases:
                check(case, straight)
                check(case, front)
            costs = [cost(case, straight, front, given.rounds, given.requests) for case in cases]
            rate_per_s = given.share * 1e3 / costs[1]["straight_p50_ms"]
            load = Load(programs.ports["front"], cases[1], rate_per_s=rate_per_s, deadline_ms=given.deadline_ms)
            begun = uvloop.run(faults(programs, load, given.phase_s))
        finally:
            programs.stop()
    found = {
        "host": {"machine": platform.machine(), "cores": os.cpu_count(), "onnxruntime": version("onnxruntime")},
        "cost": costs,
        "rate_per_s": round(rate_per_s, 1),
        "faults": told(load.sent, begun, given.deadline_ms),
    }
    if given.json:
        print(json.dumps(found))
    else:
        show(found)


def show(found: dict[str, Any]) -> None:
    print(f"the front over a node alone, p50 ({found['host']['cores']} cores for client, front and nodes)")
    for row in found["cost"]:
        low, high = row["ratio_low_high"]
        both = f"{row['straight_p50_ms']:8.3f} -> {row['front_p50_ms']:.3f} ms"
        print(
            f"  {row['model']:6} {both}   +{row['added_p50_ms']:.3f} ms   x {row['ratio']:.2f} (rounds {low:.2f} to {high:.2f})"
        )
    faults_ = found["faults"]
    load = f"{found['rate_per_s']:.0f} requests a second, deadline {faults_['deadline_ms']:g} ms"
    print(f"{load}; answered in time, by windows of {WINDOW_S} s")
    for phase in faults_["phases"]:
        shares = " ".join(f"{share:.0%}" for share in phase["share_by_window"])
        print(f"  {phase['phase']:11} {phase['in_time']:5} of {phase['offered']:5} ({phase['share']:.1%})  {shares}")
        ends = ", ".join(f"{status}: {n}" for status, n in phase["statuses"].items())
        print(f"              longest wait {phase['longest_wait_ms']} ms; goodput back in {phase['goodput_back_s']} s; {ends}")
    worst, late = faults_["longest_wait_ms"], faults_["client_late_ms"]
    print(f"longest wait of all {worst} ms; past the deadline: {faults_['past_deadline']}; this client sent up to {late} ms late")


if __name__ == "__main__":
    main()
