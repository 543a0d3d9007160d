"""What this gateway adds to a model: binary v2, JSON v2, gRPC, a Unix socket; start, idle and memory.

The limit is session.run in the client's process, with the gateway's own session options; every slice of the gateway lies
between two slices of the limit. Two models: a conv net of about a millisecond (48 KB in), and a tiny one. The gateway runs
with its defaults: metrics, validation and logging on. Answers are checked before anything is timed. About four minutes.

    python bench/serve.py [--rounds 9] [--seconds 0.8] [--starts 3] [--no-pin] [--json]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from nearhall.cli.roots.bench.built_in import CONV, TINY
from nearhall.cli.roots.bench.compare import Footprint, Measured, footprint, measure
from nearhall.cli.roots.bench.goals import Verdict, judge
from nearhall.cli.roots.bench.screen import footprint_lines, legend, measured_table
from nearhall.cli.roots.bench.script import Script, main
from nearhall.cli.roots.bench.servers import FORMS, Limit, check, gateway, subjects_of

IDLE_S = 10.0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.8, help="of each slice of the gateway")
    parser.add_argument("--starts", type=int, default=3, help="how often its start is timed")


def work(script: Script) -> None:
    limits = {name: Limit(script.file_of(name), cores=script.cores.server) for name in (CONV, TINY)}
    starts = [start(script) for _ in range(script.options.starts - 1)]
    with gateway(script.models, script.folder, cores=script.cores.server) as running:
        starts.append(running.start_s)
        script.tell("idle")
        cost = footprint(running, script.models, seconds=IDLE_S)
        subjects = [subject for name in limits for subject in subjects_of(running, name, limits[name], FORMS)]
        for subject in subjects:
            check(subject, limits[subject.model])
        found = measure(subjects, limits, rounds=script.options.rounds, seconds=script.options.seconds, tell=script.tell)
    script.show(measured_table(found))
    script.show(legend() + "\n")
    script.show(footprint_lines(cost) + "\n")
    script.verdicts += verdicts(found, cost, median(starts))
    script.data |= {
        "compared_with": "session.run in the client's process, one thread, the gateway's own session options",
        "rows": [one.plain() for one in found],
        "footprint": {**cost.plain(), "starts_s": [round(s, 3) for s in starts]},
    }


def start(script: Script) -> float:
    """Seconds from its process to READY, of one start."""
    with (
        tempfile.TemporaryDirectory(prefix="nh-bench-") as folder,
        gateway(script.models, Path(folder), cores=script.cores.server) as running,
    ):
        return running.start_s


def verdicts(found: list[Measured], cost: Footprint, start_s: float) -> list[Verdict]:
    rows = {(one.subject.model, one.subject.form): one.one for one in found}
    said: list[Verdict] = []
    for form in ("binary", "json", "grpc"):
        row = rows.get((CONV, form))
        note = "Triton was measured at 1.8x (reference run of its Python backend)" if form == "grpc" else ""
        said.append(
            judge(f"{form}_p50", None if row is None else row.p50_ratio.value, headline=row is None or row.headline, note=note)
        )
        if form == "binary":
            said.append(judge("binary_cpu", None if row is None else row.cpu_ratio, headline=row is None or row.headline))
    tiny = rows.get((TINY, "binary"))
    said.append(judge("tiny_added", None if tiny is None else tiny.added_p50_ms.value, headline=tiny is None or tiny.headline))
    said.append(judge("start", start_s))
    said.append(judge("idle", cost.idle_cpu_percent))
    said.append(judge("memory", cost.pss_mib - cost.models_mib))
    return said


if __name__ == "__main__":
    main("serve", __doc__ or "", work, options)
