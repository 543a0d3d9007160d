"""One run: every slice of a server between two slices of the limit, all subjects in turn, round after round."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from nearhall.cli.roots.bench.machine import Tree, cpu_times, waited_s
from nearhall.cli.roots.bench.measured import Between, Figure, Row, Slice, row
from nearhall.cli.roots.bench.schedule import interleaved
from nearhall.cli.roots.bench.servers import Limit, Running, Subject

CLIENTS = 8
LIMIT_SHARE = 0.5
"""A slice of the limit is this part of a server's: two of them lie around each."""
WARM_UP_S = 0.3
IDLE_REST_S = 2.0
"""After load, before idling is measured: what starts up or cleans up is not idling."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One subject's figures."""

    subject: Subject
    one: Row | None
    """With one client; None when it answered nothing."""
    many: Row | None
    """With `CLIENTS` clients."""
    per_s: float
    """Answers a second with many clients, the median of the slices."""
    per_s_ratio: float | None
    """Of what one core can do: the limit's runs a second."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "server": self.subject.server,
            "model": self.subject.model,
            "form": self.subject.form,
            **({} if self.one is None else _plain(self.one)),
            f"per_s_at_{CLIENTS}": round(self.per_s, 1),
            f"per_s_at_{CLIENTS}_of_limit": None if self.per_s_ratio is None else round(self.per_s_ratio, 3),
            f"cpu_ratio_at_{CLIENTS}": None if self.many is None else _rounded(self.many.cpu_ratio, 3),
        }


def limits_ms(found: Sequence[Measured]) -> dict[str, float]:
    """The limit's own median by model, ms: of the slices beside those that count."""
    models = dict.fromkeys(one.subject.model for one in found if one.one is not None)
    return {
        model: median(one.one.limit_p50_ms for one in found if one.one is not None and one.subject.model == model)
        for model in models
    }


def measure(
    subjects: Sequence[Subject], limits: Mapping[str, Limit], *, rounds: int, seconds: float, tell: Tell, clients: int = CLIENTS
) -> list[Measured]:
    """Measures them all; `limits` by model, `seconds` for each slice of a server."""
    for limit in limits.values():
        limit.slice(WARM_UP_S)
    for subject in subjects:
        subject.one(WARM_UP_S)
    ones: dict[Subject, list[Between]] = {subject: [] for subject in subjects}
    manys: dict[Subject, list[Between]] = {subject: [] for subject in subjects}
    for turn, subject in interleaved(subjects, rounds):
        tell(f"round {turn + 1} of {rounds}: {subject.name}")
        limit = limits[subject.model]
        first = watched(limit.slice, seconds * LIMIT_SHARE)
        one = watched(subject.one, seconds, subject.tree)
        middle = watched(limit.slice, seconds * LIMIT_SHARE)
        ones[subject].append(Between(before=first, slice=one, after=middle))
        if clients:
            many = watched(lambda s, subject=subject: subject.many(clients, s), seconds, subject.tree)
            last = watched(limit.slice, seconds * LIMIT_SHARE)
            manys[subject].append(Between(before=middle, slice=many, after=last))
    return [_together(subject, ones[subject], manys[subject]) for subject in subjects]


def watched(take: Callable[[float], Slice], seconds: float, tree: Tree | None = None) -> Slice:
    """A slice, with the CPU time that the server's processes took, and what the hypervisor and others took away."""
    before, waited, cpu = cpu_times(), waited_s(), None if tree is None else tree.cpu_s()
    found = take(seconds)
    waited = (waited_s() - waited) / found.took_s
    if cpu is not None and tree is not None:
        found = replace(found, cpu_s=tree.cpu_s() - cpu)
    return replace(found, steal=cpu_times().stolen_since(before), waited=waited)


def _together(subject: Subject, ones: Sequence[Between], manys: Sequence[Between]) -> Measured:
    rates = [pair.slice.per_s for pair in manys]
    ratios = [ratio for pair in manys if (ratio := pair.ratio(lambda s: s.per_s)) is not None]
    return Measured(
        subject=subject,
        one=row(ones),
        many=row(manys),
        per_s=median(rates) if rates else 0.0,
        per_s_ratio=median(ratios) if ratios else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a server costs when nobody asks it anything."""

    start_s: float
    idle_cpu_percent: float
    """Of one core."""
    pss_mib: float
    models_mib: float
    """The models' files: what the memory is compared with."""
    processes: int

    def plain(self) -> dict[str, float]:
        """For JSON."""
        return {
            "start_s": round(self.start_s, 3),
            "idle_cpu_percent": round(self.idle_cpu_percent, 2),
            "pss_mib": round(self.pss_mib, 1),
            "models_mib": round(self.models_mib, 1),
            "processes": self.processes,
        }


def footprint(running: Running, repository: Path, *, seconds: float) -> Footprint:
    """Rests, then watches it idle for so long."""
    idle, pss, count = idle_cost(running.tree, seconds)
    folders = os.walk(repository, followlinks=True)
    files = sum((Path(folder) / name).stat().st_size for folder, _, names in folders for name in names) / 2**20
    return Footprint(start_s=running.start_s, idle_cpu_percent=idle, pss_mib=pss, models_mib=files, processes=count)


def idle_cost(tree: Tree, seconds: float) -> tuple[float, float, int]:
    """CPU in percent of one core, memory in MiB and the number of processes, of a server that is asked nothing."""
    time.sleep(IDLE_REST_S)
    cpu, begun = tree.cpu_s(), time.perf_counter()
    time.sleep(seconds)
    idle = (tree.cpu_s() - cpu) / (time.perf_counter() - begun) * 100
    return idle, tree.pss_mib(), len(tree.pids())


def _plain(one: Row) -> dict[str, Any]:
    return {
        "p10_ms": round(one.p10_ms, 4),
        "p50_ms": round(one.p50_ms, 4),
        "p99_ms": _rounded(one.p99_ms, 4),
        "limit_p50_ms": round(one.limit_p50_ms, 4),
        "p50_ratio": _figure(one.p50_ratio),
        "p10_ratio": round(one.p10_ratio, 3),
        "p99_ratio": _rounded(one.p99_ratio, 3),
        "added_p50_ms": _figure(one.added_p50_ms),
        "cpu_ms": _rounded(one.cpu_ms, 4),
        "cpu_ratio": _rounded(one.cpu_ratio, 3),
        "refused": one.refused,
        "slices": one.slices,
        "slices_disturbed": one.disturbed,
        "slices_unexplained": one.unexplained,
        "headline": one.headline,
        "p50_ratio_of_each_slice": [round(value, 3) for value in one.per_round],
    }


def _figure(figure: Figure) -> dict[str, float | None]:
    return {"value": round(figure.value, 4), "low": _rounded(figure.low, 4), "high": _rounded(figure.high, 4)}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
