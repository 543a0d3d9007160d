"""Mixed-integer linear programs for HiGHS: rows are gathered, solved within limits, and the gap is always told.

HiGHS (Huangfu and Hall 2018) through highspy. One thread, so that two runs agree and a planner leaves the machine usable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite, log2
from typing import Any

import highspy
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearhall.core.errors import PermanentError

Floats = NDArray[np.float64]
Progress = Callable[[float, float, float], None]
"""Told (best objective so far, bound, relative gap) now and then."""
Cancelled = Callable[[], bool]
"""Asked now and then; once true, the search ends with the best it has."""

EXACT = 1e-9
"""A relative gap up to this is none: sums of floating-point numbers differ by as much."""
SCALE_MAX = 300
"""Powers of two: what is smaller than that is as good as nothing, and nothing overflows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to end, and whom to tell."""

    gap: float
    time_limit_s: float
    progress: Progress | None = None
    cancelled: Cancelled | None = None

    def within(self, time_limit_s: float) -> Limits:
        """The same in another time."""
        return replace(self, time_limit_s=time_limit_s)


def relative_gap(objective: float, bound: float) -> float:
    """(objective - bound) / |objective|; 0 where the bound is reached, infinite where there is none or the objective is 0."""
    left = objective - bound
    if left <= 0:
        return 0.0
    return left / abs(objective) if objective and isfinite(left) else inf


def said_of(left: float, gap: float) -> str:
    """The word for a gap that is left where `gap` was allowed: optimal, within gap, stopped."""
    return "optimal" if left <= EXACT else ("within gap" if left <= gap + EXACT else "stopped")


def towards(size: float, magnitude: float) -> float:
    """The power of two that brings a magnitude near a size, so that absolute tolerances mean the same; it rounds nothing."""
    if magnitude == 0:
        return 1.0
    return 2.0 ** min(max(round(log2(size) - log2(abs(magnitude))), -SCALE_MAX), SCALE_MAX)


class Rows:
    """Constraints lower <= a x <= upper, gathered as sparse rows."""

    def __init__(self) -> None:
        self._columns: list[NDArray[np.int32]] = []
        self._values: list[Floats] = []
        self._counts: list[NDArray[np.int64]] = []
        self._lower: list[Floats] = []
        self._upper: list[Floats] = []

    def add(self, columns: ArrayLike, values: ArrayLike, lower: float, upper: float) -> None:
        """One row."""
        self.add_many(np.asarray(columns)[None, :], np.asarray(values, dtype=np.float64)[None, :], lower, upper)

    def add_many(self, columns: ArrayLike, values: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> None:
        """Rows of the same length at once: `columns` and `values` of shape (rows, length), bounds of shape (rows,) or one."""
        held = np.asarray(columns, dtype=np.int32)
        self._columns.append(held.ravel())
        spread = np.empty(held.shape, dtype=np.float64)
        spread[...] = values
        self._values.append(spread.ravel())
        rows, length = held.shape
        counts: NDArray[np.int64] = np.full((rows,), length, dtype=np.int64)
        self._counts.append(counts)
        self._lower.append(np.broadcast_to(np.asarray(lower, dtype=np.float64), (held.shape[0],)))
        self._upper.append(np.broadcast_to(np.asarray(upper, dtype=np.float64), (held.shape[0],)))

    def matrix(self) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats, Floats, Floats]:
        """(starts, columns, values, lower, upper)."""
        if not self._columns:
            none = np.zeros(0)
            return np.zeros(1, np.int32), np.zeros(0, np.int32), none, none, none
        counts = np.concatenate(self._counts)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return starts, *(np.concatenate(part) for part in (self._columns, self._values, self._lower, self._upper))  # type: ignore[return-value]


class _Silent(highspy.Highs):
    """Writes nothing to the terminal, not even its name when it is made: standard output belongs to the command."""

    def enableCallbacks(self) -> None:  # noqa: N802 (theirs)
        """Called while it is made, and the first to write."""
        self.silent()
        super().enableCallbacks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """What came of it."""

    x: Floats | None
    """None where nothing feasible was found."""
    objective: float
    bound: float
    gap: float
    """(objective - bound) / |objective|; infinite without a solution."""
    status: str
    """optimal, within gap, stopped (time or wish), infeasible."""
    run_s: float = 0.0
    """By HiGHS's own clock."""


def solve(
    *,
    cost: Floats,
    lower: Floats,
    upper: Floats,
    integer: NDArray[np.bool_],
    rows: Rows,
    gap: float = 0.0,
    time_limit_s: float = 600.0,
    start: Floats | None = None,
    offset: float = 0.0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Solved:
    """Minimises cost x within the rows and bounds; shapes (n,) each. `gap` is relative.

    Raises PermanentError where HiGHS does not take the model.
    """
    highs = _Silent()
    for option, value in (("threads", 1), ("mip_rel_gap", gap), ("mip_abs_gap", 1e-6), ("time_limit", time_limit_s)):
        highs.setOptionValue(option, value)
    model = _model(cost=cost, lower=lower, upper=upper, integer=integer, rows=rows, offset=offset)
    if highs.passModel(model) == highspy.HighsStatus.kError:
        raise PermanentError("HiGHS refuses the model: it has numbers too far apart, or one that is not finite")
    if start is not None:
        given = highspy.HighsSolution()
        given.col_value = start.tolist()
        highs.setSolution(given)
    _watch(highs, progress, cancelled)
    highs.run()
    solved = _outcome(highs, is_mip=bool(integer.any()))
    if start is None or solved.x is None or _agree(solved, cost, offset):
        return solved
    # Seen with HiGHS 1.16: the objective of a better solution, and the point that it was started from. Then without a start.
    return solve(
        cost=cost,
        lower=lower,
        upper=upper,
        integer=integer,
        rows=rows,
        gap=gap,
        time_limit_s=time_limit_s,
        offset=offset,
        progress=progress,
        cancelled=cancelled,
    )


def _agree(solved: Solved, cost: Floats, offset: float) -> bool:
    """The point has the objective that is told of it."""
    return solved.x is not None and abs(float(cost @ solved.x) + offset - solved.objective) <= 1e-6 * (1 + abs(solved.objective))


def _model(
    *, cost: Floats, lower: Floats, upper: Floats, integer: NDArray[np.bool_], rows: Rows, offset: float
) -> highspy.HighsLp:
    starts, columns, values, row_lower, row_upper = rows.matrix()
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(cost), len(row_lower)
    model.col_cost_, model.col_lower_, model.col_upper_ = cost, lower, upper
    model.row_lower_, model.row_upper_ = row_lower, row_upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = starts, columns, values
    model.offset_ = offset
    if integer.any():
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        model.integrality_ = [kinds[int(whole)] for whole in integer]
    return model


def _watch(highs: highspy.Highs, progress: Progress | None, cancelled: Cancelled | None) -> None:
    """HiGHS asks now and then whether to stop; what it knows by then is told on the same occasion."""
    if progress is None and cancelled is None:
        return

    def asked(event: Any) -> None:
        out = event.data_out
        if progress is not None and abs(out.mip_primal_bound) < _ENDLESS:
            progress(out.mip_primal_bound, out.mip_dual_bound, out.mip_gap)
        if cancelled is not None and cancelled():
            event.interrupt()

    highs.cbMipInterrupt.subscribe(asked)


_ENDLESS = 1e30
"""What HiGHS gives for an objective while it has no solution."""


def _outcome(highs: highspy.Highs, *, is_mip: bool) -> Solved:
    info, status = highs.getInfo(), highs.getModelStatus()
    found, run_s = highs.getSolution().col_value, float(highs.getRunTime())
    feasible = info.primal_solution_status == 2 and len(found) > 0  # a feasible point
    done = status == highspy.HighsModelStatus.kOptimal
    if not feasible:
        nothing = float("inf")
        proven = {highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible}
        said = "infeasible" if status in proven else "stopped"
        return Solved(x=None, objective=nothing, bound=-nothing, gap=nothing, status=said, run_s=run_s)
    objective = float(info.objective_function_value)
    bound = float(info.mip_dual_bound) if is_mip else objective
    left = relative_gap(objective, bound)
    exact = left <= max(1e-9, 1e-6 / max(abs(objective), 1.0))
    words = ("optimal" if exact else "within gap") if done else "stopped"
    return Solved(x=np.asarray(found), objective=objective, bound=bound, gap=left, status=words, run_s=run_s)
