"""Placement of a fleet against the plain model: 200 places and 1,000 points, at a gap of 0.1 %.

The plain model is the strong formulation as the textbooks write it, given whole to `scipy.optimize.milp`; HiGHS is behind both.
Two instances: capacities that bind nowhere, and capacities that do. Answers are checked first: ours serves everybody within the
capacities at the cost it tells, and neither objective is below the other's bound. Every round runs ours, then the plain one;
only ratios of one run mean anything. The plain model takes minutes. Import times are those of fresh processes.

    python bench/placement.py [--rounds 3] [--points 1000] [--places 200] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import scipy
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from nearhall.planner.place import Placement, facility_location

GAP = 1e-3
TIME_LIMIT_S = 900.0
IMPORT_ROUNDS = 9


@dataclass(frozen=True)
class Case:
    """Opening costs, costs of serving, needs, capacities."""

    name: str
    fixed: np.ndarray
    cost: np.ndarray
    need: np.ndarray
    room: np.ndarray


@dataclass(frozen=True)
class Plain:
    """What the plain model found."""

    objective: float
    bound: float


def make(name: str, points: int, places: int, *, tight: float | None) -> Case:
    """Random places in a square; `tight` is all capacity over all need, None for capacities that bind nowhere."""
    draw = np.random.default_rng(1)
    here, there = draw.uniform(0, 100, (points, 2)), draw.uniform(0, 100, (places, 2))
    need = draw.uniform(1, 10, points)
    cost = np.linalg.norm(here[:, None] - there[None], axis=2) * need[:, None]
    fixed = draw.uniform(3000, 9000, places) * points / 1000
    room = np.full(places, 2 * need.sum()) if tight is None else draw.uniform(0.5, 1.5, places) * need.sum() / places * tight
    return Case(name, fixed, cost, need, room)


def ours(case: Case) -> Placement:
    return facility_location(case.fixed, case.cost, case.need, case.room, gap=GAP, time_limit_s=TIME_LIMIT_S)


def plain(case: Case) -> Plain:
    """Every pair and every row at once, built without loops: building it is not what is compared."""
    points, places = case.cost.shape
    pairs, columns = points * places, places + points * places
    i, j, k = np.repeat(np.arange(points), places), np.tile(np.arange(places), points), np.arange(pairs)
    once = csr_array((np.ones(pairs), (i, places + k)), shape=(points, columns))
    held = (np.append(j, np.arange(places)), np.append(places + k, np.arange(places)))
    room = csr_array((np.append(case.need[i], -case.room), held), shape=(places, columns))
    opened = (np.append(k, k), np.append(places + k, j))
    strong = csr_array((np.append(np.ones(pairs), -np.ones(pairs)), opened), shape=(pairs, columns))
    found = milp(
        np.append(case.fixed, case.cost.ravel()),
        integrality=np.append(np.ones(places), np.zeros(pairs)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, 1, 1), LinearConstraint(room, -np.inf, 0), LinearConstraint(strong, -np.inf, 0)],
        options={"mip_rel_gap": GAP, "time_limit": TIME_LIMIT_S},
    )
    return Plain(float(found.fun), float(found.mip_dual_bound))


def check(case: Case, found: Placement, other: Plain) -> None:
    """Ours serves everybody within the capacities, costs what it says, and both agree within their gaps."""
    shares = found.shares
    if shares is None:
        shares = np.zeros_like(case.cost)
        shares[np.arange(len(case.need)), found.assignment] = 1.0
    used = shares.T @ case.need
    chosen = list(found.chosen)
    assert np.allclose(shares.sum(axis=1), 1.0)
    assert np.all(np.delete(used, chosen) <= 1e-6)
    assert np.all(used <= case.room * (1 + 1e-6))
    assert np.isclose(case.fixed[chosen].sum() + (shares * case.cost).sum(), found.objective)
    assert found.gap <= GAP * 1.0001, found.gap
    assert found.bound <= other.objective * (1 + 1e-6), "our bound is above what the plain model found"
    assert other.bound <= found.objective * (1 + 1e-6), "we found less than the plain model's bound"


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Medians over rounds; every round's answers are checked."""
    took: dict[str, list[float]] = {"ours": [], "plain": []}
    objectives: dict[str, float] = {}
    for _ in range(rounds):
        begun = time.perf_counter()
        found = ours(case)
        between = time.perf_counter()
        other = plain(case)
        took["ours"].append(between - begun)
        took["plain"].append(time.perf_counter() - between)
        check(case, found, other)
        objectives = {"ours": found.objective, "plain": other.objective}
    ratios = [a / b for a, b in zip(took["ours"], took["plain"], strict=True)]
    return {
        "case": case.name,
        "ours_s": round(statistics.median(took["ours"]), 3),
        "plain_s": round(statistics.median(took["plain"]), 3),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_low_high": [round(min(ratios), 4), round(max(ratios), 4)],
        "objectives": {name: round(value, 3) for name, value in objectives.items()},
    }


def import_s(module: str) -> float:
    """In a fresh process; the interpreter's own start is not counted."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return float(told)


def imports() -> dict[str, Any]:
    """`nearhall.planner` and its placement against `scipy.optimize`, which the plain model needs, and against bare `scipy`."""
    names = ["nearhall.planner", "nearhall.planner.place", "scipy", "scipy.optimize"]
    took: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(IMPORT_ROUNDS):
        for name in names:
            took[name].append(import_s(name))
    medians = {name: statistics.median(values) for name, values in took.items()}
    return {
        **{f"{name}_s": round(value, 4) for name, value in medians.items()},
        "planner_over_scipy": round(medians["nearhall.planner"] / medians["scipy"], 2),
        "place_over_scipy": round(medians["nearhall.planner.place"] / medians["scipy"], 2),
        "place_over_scipy_optimize": round(medians["nearhall.planner.place"] / medians["scipy.optimize"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--places", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    cases = [
        make("loose", given.points, given.places, tight=None),
        make("tight", given.points, given.places, tight=8.0),
    ]
    imported = imports()
    results = [measure(case, given.rounds) for case in cases]
    host = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "highspy": version("highspy"),
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }
    if given.json:
        print(json.dumps({"host": host, "compared_with": "scipy.optimize.milp", "import": imported, "results": results}))
        return
    size = f"{given.places} places, {given.points} points"
    print(f"placement, {size}, gap {GAP:.1%}, medians of {given.rounds} ({host['cores']} cores)")
    for found in results:
        low, high = found["ratio_low_high"]
        shown = (
            f"plain {found['plain_s']:9.3f} s   ours {found['ours_s']:9.3f} s   x {found['ratio']:.4f} ({low:.4f} to {high:.4f})"
        )
        print(f"  {found['case']:6} {shown}")
    print(f"import: {imported}")


if __name__ == "__main__":
    main()
