"""What is answered in time when more is asked than can be done: offered 0.8x, 1.5x and 3x the limit, a retry storm, priorities.

The limit is what one core of the server's can do: 1 / p50 of session.run, measured before and after each load. Requests are
binary v2 of a conv net of about a millisecond with `x-nearhall-deadline-ms: 10`. They arrive by a Poisson process and are sent
when they are meant to be, whatever became of earlier ones; latency and deadline run from that moment. The storm is eight
clients that come back at once after each answer, refusals too. In the last load 20 % of 3x carry `x-nearhall-priority: 0`,
the rest 5. Of two cores the server gets both (the trials that set the goals did so too); `--disjoint` leaves it one, on which
reading, refusing and computing share the time. Answers are checked before anything is timed. About two minutes.

    python bench/overload.py [--rounds 3] [--seconds 5] [--disjoint] [--json]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from nearhall.cli.roots.bench.built_in import CONV
from nearhall.cli.roots.bench.compare import watched
from nearhall.cli.roots.bench.goals import Verdict, judge
from nearhall.cli.roots.bench.load import Kind, OpenLoop, clients, open_loop
from nearhall.cli.roots.bench.machine import Tree, cpu_times
from nearhall.cli.roots.bench.measured import LIMITS_DIFFER_MAX, STEAL_MAX, WAITED_MAX, Outcome, Slice, quantile
from nearhall.cli.roots.bench.requests import binary_request
from nearhall.cli.roots.bench.schedule import kinds, poisson
from nearhall.cli.roots.bench.script import Script, main
from nearhall.cli.roots.bench.servers import Limit, Running, check, gateway, subjects_of

DEADLINE_MS = 10.0
LOADS = (0.8, 1.5, 3.0)
STORM_CLIENTS = 8
CRITICAL, BULK = 0, 5
LIMIT_S = 0.5
LATE_MS_MAX = 2.0
"""A client that is later than this with one request in a hundred says nothing about a deadline of ten: somebody took its time."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One load and the limit around it."""

    before: Slice
    after: Slice
    limit_per_s: float
    outcomes: Sequence[Outcome]
    busy: float
    late_ms: float
    connections: int
    waited: int
    steal: float
    cpu_s: float
    """Of the server, during the load."""

    @property
    def cpu_ms(self) -> float:
        """The server's CPU milliseconds for each request that it answered or refused: true on a busy machine too."""
        handled = sum(one.answered + one.refused for one in self.outcomes)
        return self.cpu_s * 1e3 / max(1, handled)

    @property
    def quiet(self) -> bool:
        """Whether the machine was the same before and after, and ours, and this client in time."""
        first, last = self.before.p50_ms, self.after.p50_ms
        same = abs(first - last) <= LIMITS_DIFFER_MAX * min(first, last)
        alone = max(self.before.waited, self.after.waited) <= WAITED_MAX
        return same and alone and self.steal <= STEAL_MAX and self.late_ms <= LATE_MS_MAX

    @property
    def limit_now(self) -> float:
        """The limit's runs a second, by the slices around the load."""
        return 2e3 / (self.before.p50_ms + self.after.p50_ms)

    @property
    def goodput(self) -> float:
        """All kinds' answers in the deadline, over the limit."""
        return sum(one.goodput_per_s for one in self.outcomes) / self.limit_now

    @property
    def in_time(self) -> float:
        """Of the first kind."""
        return self.outcomes[0].in_deadline_share


@dataclass(frozen=True, kw_only=True)
class Load:
    """A name, and what makes a run of it, given the limit's runs a second."""

    name: str
    make: Callable[[float, int], OpenLoop]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")


def work(script: Script) -> None:
    limit = Limit(script.file_of(CONV), cores=script.cores.server)
    limit.slice(LIMIT_S)
    with gateway(script.models, script.folder, cores=script.loaded_cores()) as running:
        (subject,) = subjects_of(running, CONV, limit, ["binary"])
        check(subject, limit)
        subject.one(LIMIT_S)
        loads = plan(running, limit, script.options.seconds)
        runs: dict[str, list[Run]] = {load.name: [] for load in loads}
        for turn in range(script.options.rounds):
            for load in loads:
                script.tell(f"round {turn + 1} of {script.options.rounds}: {load.name}")
                runs[load.name].append(one_run(load, limit, running.tree, turn))
    show(script, runs)
    script.verdicts += verdicts(runs)
    script.data |= {
        "compared_with": "1 / p50 of session.run in the client's process on the server's core, before and after each load",
        "deadline_ms": DEADLINE_MS,
        "loads": {name: [plain(run) for run in every] for name, every in runs.items()},
    }


def plan(running: Running, limit: Limit, seconds: float) -> list[Load]:
    def request(priority: int | None = None) -> bytes:
        headers = {"x-nearhall-deadline-ms": f"{DEADLINE_MS:g}"}
        if priority is not None:
            headers["x-nearhall-priority"] = str(priority)
        return binary_request(CONV, limit.inputs, limit.names, headers)

    def offered(times: float) -> Load:
        every = [Kind(name="all", request=request(), deadline_ms=DEADLINE_MS)]

        def make(per_s: float, seed: int) -> OpenLoop:
            arrivals = poisson(times * per_s, seconds, seed)
            return open_loop(running.address, every, arrivals, [0] * len(arrivals), seconds)

        return Load(name=f"{times:g}x", make=make)

    def storm(_per_s: float, _seed: int) -> OpenLoop:
        found = clients(running.address, request(), STORM_CLIENTS, seconds)
        good = sum(ms <= DEADLINE_MS for ms in found.latencies_ms)
        total = found.n + found.refused
        outcome = Outcome(
            kind="storm",
            offered=total,
            answered=found.n,
            in_deadline=good,
            refused=found.refused,
            lost=0,
            seconds=found.took_s,
            latencies_ms=found.latencies_ms,
        )
        return OpenLoop(outcomes=[outcome], client_busy=0.0, client_late_p99_ms=0.0, connections=STORM_CLIENTS, waited=0)

    def critical(per_s: float, seed: int) -> OpenLoop:
        every = [
            Kind(name="critical", request=request(CRITICAL), deadline_ms=DEADLINE_MS),
            Kind(name="bulk", request=request(BULK), deadline_ms=DEADLINE_MS),
        ]
        arrivals = poisson(3.0 * per_s, seconds, seed)
        return open_loop(running.address, every, arrivals, kinds([0.2, 0.8], len(arrivals), seed), seconds)

    return [*map(offered, LOADS), Load(name="storm", make=storm), Load(name="critical", make=critical)]


def one_run(load: Load, limit: Limit, tree: Tree, turn: int) -> Run:
    before = watched(limit.slice, LIMIT_S)
    per_s = 1e3 / before.p50_ms
    machine, server = cpu_times(), tree.cpu_s()
    found = load.make(per_s, turn)
    steal, cpu_s = cpu_times().stolen_since(machine), tree.cpu_s() - server
    return Run(
        before=before,
        after=watched(limit.slice, LIMIT_S),
        limit_per_s=per_s,
        outcomes=found.outcomes,
        busy=found.client_busy,
        late_ms=found.client_late_p99_ms,
        connections=found.connections,
        waited=found.waited,
        steal=steal,
        cpu_s=cpu_s,
    )


def show(script: Script, runs: dict[str, list[Run]]) -> None:
    table = Table(box=None, padding=(0, 1))
    for head in (
        "load",
        "kind",
        "limit/s",
        "offered/s",
        "200",
        "in time",
        "of limit",
        "p50",
        "p99",
        "refused in",
        "client late",
        "runs",
    ):
        table.add_column(head, justify="left" if head in {"load", "kind"} else "right", no_wrap=True)
    for name, every in runs.items():
        for index, first in enumerate(every[0].outcomes):
            mine = [run.outcomes[index] for run in every]
            table.add_row(
                name,
                first.kind,
                f"{median(run.limit_now for run in every):.0f}",
                f"{median(one.offered / one.seconds for one in mine):.0f}",
                f"{median(one.answered / max(1, one.offered) for one in mine):.1%}",
                f"{median(one.in_deadline_share for one in mine):.1%}",
                f"{median(one.goodput_per_s / run.limit_now for one, run in zip(mine, every, strict=True)):.2f}",
                f"{median(quantile(one.latencies_ms, 0.5) for one in mine):.2f}",
                f"{median(quantile(one.latencies_ms, 0.99) for one in mine):.2f}",
                f"{median(one.refusal_p50_ms or 0.0 for one in mine):.2f}",
                f"{median(run.cpu_ms for run in every):.3f}",
                f"{median(run.late_ms for run in every):.2f}",
                f"{median(run.busy for run in every):.0%}",
                f"{sum(run.quiet for run in every)}/{len(every)} quiet",
            )
    script.show(table)
    script.show(
        "times in ms; CPU each: the server's, for a request answered or refused\n"
        "client late: p99 of how much later than meant a request was sent; busy: the client's share of a core\n"
    )


def verdicts(runs: dict[str, list[Run]]) -> list[Verdict]:
    def of(name: str, load: str, value: Callable[[Run], float | None], scale: float = 100.0) -> Verdict:
        quiet = [run for run in runs[load] if run.quiet]
        enough = len(quiet) * 2 >= len(runs[load]) and bool(quiet)
        values = [scale * found for run in (quiet if enough else runs[load]) if (found := value(run)) is not None]
        late = median(run.late_ms for run in runs[load])
        note = f"this client was {late:.1f} ms late itself" if late > LATE_MS_MAX else ""
        return judge(name, median(values) if values else None, headline=enough, note=note)

    def p99(run: Run) -> float | None:
        return run.outcomes[0].p99_ms

    return [
        of("offered_0.8", "0.8x", lambda run: run.in_time),
        of("goodput_1.5", "1.5x", lambda run: run.goodput),
        of("accepted_p99_1.5", "1.5x", p99, 1.0),
        of("goodput_3", "3x", lambda run: run.goodput),
        of("accepted_p99_3", "3x", p99, 1.0),
        of("storm", "storm", lambda run: run.goodput),
        of("critical", "critical", lambda run: run.in_time),
    ]


def plain(run: Run) -> dict[str, Any]:
    return {
        "limit_per_s": round(run.limit_now, 1),
        "goodput_of_limit": round(run.goodput, 4),
        "quiet": run.quiet,
        "steal": round(run.steal, 4),
        "server_cpu_ms_each": round(run.cpu_ms, 4),
        "client_busy": round(run.busy, 3),
        "client_late_p99_ms": round(run.late_ms, 3),
        "connections": run.connections,
        "waited_for_a_connection": run.waited,
        "outcomes": [one.plain() for one in run.outcomes],
    }


if __name__ == "__main__":
    main("overload", __doc__ or "", work, options)
