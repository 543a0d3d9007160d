"""What one site says of one measure: an estimate with its own standard error, on the scale on which it is normal.

A ratio of sums over blocks (energy over time, energy over requests in time, bytes over days). Neighbouring blocks are alike, so
the error comes from whole days, or where there are few of them from quarters of days, and is widened for how few they are
(Student); what days differ by is then assumed. To that comes what the meters' class allows: it does not average out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, log, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from nearhall.documents.site_returns import BlockReturn, SiteReturns
from nearhall.physics.balance import DEFAULT_CLASS_PERCENT
from nearhall.physics.pue import CATEGORY_BY_POSITION
from nearhall.planner.learning.accept import Measure, class_percent
from nearhall.planner.learning.block_bootstrap import latency_quantile, p_quantile_within
from nearhall.planner.learning.pue_regression import Curve, PueBlocks
from nearhall.planner.learning.site_blocks import IT, Column, SiteBlocks
from nearhall.planner.learning.slo_blocks import Kept, kept_blocks
from nearhall.planner.learning.told import chance
from nearhall.planner.learning.update import Seen

DAY_S = 86_400.0
TOLD_QUANTILE = 0.99
"""Sites that tell a percentile of their latency tell this one."""
DAYS_LEAST = 4
"""From so many whole days on, days are the batches."""
BATCH_S = 21_600.0
"""Before that quarters of days: what differs between them is the daily cycle too, which errs on the wide side."""
DAY_SD = 0.15
"""By how much days differ, as a share, where there are too few of them to tell (assumed)."""
WEEK_DAYS = 7
WEEKDAY_SD = 0.25
"""By how much weekdays differ, as a share: what those that were not seen may be off (assumed: a Sunday is half a Saturday)."""
WORK_SD, REQUESTS_SD = 0.3, 0.7
"""What a workload's energy may be off, on the logarithm, where the plan's expected work shares it out, and where numbers of
requests alone do, for a workload that is small beside the others (assumed)."""
SE_LEAST = 0.005
KWH_J = 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """The year that a site of the class will see."""

    year_c: NDArray[np.float64]
    """Outdoor temperature of each hour, shape (hours,)."""
    it_budget_w: float
    """The IT power that is load 1."""
    year_load: float
    """Mean IT power of the plan over that budget."""
    curve: Curve | None = None
    """What the plan's own cooling makes of the outdoor temperature; None where it tells nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One site's."""

    site: str
    seen: Seen
    """On the normal scale: the logarithm."""
    value: float
    """As a person reads it."""
    blocks: int


def ratio_estimate(parts: Sequence[SiteBlocks], measure: Measure) -> Estimate | str:
    """The logarithm of a ratio of sums, from all accepted periods of one site; in words why there is none."""
    told = [_ratio(site, measure) for site in parts]
    usable = [np.isfinite(over) & np.isfinite(under) for over, under in told]
    starts = np.concatenate([site.start_s[use] for site, use in zip(parts, usable, strict=True)])
    over = np.concatenate([one[0][use] for one, use in zip(told, usable, strict=True)])
    under = np.concatenate([one[1][use] for one, use in zip(told, usable, strict=True)])
    if not len(starts):
        return f"no block holds what {measure.of} needs"
    if over.sum() <= 0 or under.sum() <= 0:
        return f"{measure.of} is nothing, or nothing was in time"
    error = hypot(_batch_se(starts, over, under), *_systematic(parts, measure))
    value = float(over.sum() / under.sum())
    seen = Seen(value=log(value), se=max(error, SE_LEAST))
    return Estimate(site=parts[0].returns.id, seen=seen, value=value, blocks=len(starts))


def pue_blocks(parts: Sequence[SiteBlocks], season: Season) -> PueBlocks:
    """PUE, outdoor temperature and IT load of one site's blocks that ran on mains and hold them all."""
    told = [_pue_columns(site, season.it_budget_w) for site in parts]
    pue, outdoor_c, it_load = (np.concatenate([np.zeros(0), *(one[column] for one in told)]) for column in range(3))
    middle = float(np.median(pue)) if len(pue) else 2.0
    position = next((site.first(IT) for site in parts if site.first(IT) is not None), None) or "it"
    allowed = hypot(_class_error(parts, "feed"), _class_error(parts, position))
    # An error of the ratio is a larger one of what it exceeds 1 by.
    return PueBlocks(pue=pue, outdoor_c=outdoor_c, it_load=it_load, class_sd=allowed * middle / max(middle - 1.0, 0.02))


def kept_estimate(parts: Sequence[SiteBlocks], workload: str, *, share: float) -> Kept:
    """Blocks of one site in which the workload kept its SLO, by its requests in time or, where nobody counted them, its latency.

    A block whose 99th percentile is within the limit had 99 % of its requests in time, and so keeps a share up to that.
    """
    counted = [block.slo[workload] for site in parts for block in site.returns.blocks if workload in block.slo]
    told = kept_blocks(counted, share=share)
    levels = [
        kept
        for site in parts
        for block in site.returns.blocks
        if workload not in block.slo and (kept := _level_kept(site.returns, block, workload, share)) is not None
    ]
    days = min(max(weekdays_seen(parts), 1), WEEK_DAYS)
    return Kept(kept=told.kept + sum(levels), blocks=told.blocks + len(levels), weekdays=days)


def _level_kept(returns: SiteReturns, block: BlockReturn, workload: str, share: float) -> bool | None:
    """Of a block of which only a level is known; None where there is none."""
    if workload in block.in_time:
        return block.in_time[workload] >= share
    limit_ms = next((item.limit_ms for item in returns.workloads if item.id == workload), None)
    if workload not in block.p99_ms or limit_ms is None or share > TOLD_QUANTILE:
        return None
    return block.p99_ms[workload] <= limit_ms


def kept_notes(parts: Sequence[SiteBlocks], workload: str, *, share: float) -> tuple[str, ...]:
    """How sure one site's requests are of the SLO's own quantile, and where that lies; nothing where they are too few."""
    found = (kept_note(parts, workload, share=share), tail_note(parts, workload, share=share))
    return tuple(note for note in found if note is not None)


def tail_note(parts: Sequence[SiteBlocks], workload: str, *, share: float) -> str | None:
    """Where the SLO's own quantile lies, whole blocks drawn again; None where nobody told a histogram, or of too few blocks."""
    told = [
        (item.upto_ms, item.limit_ms, [block.latency[workload] for block in site.returns.blocks if workload in block.latency])
        for site in parts
        for item in site.returns.workloads
        if item.id == workload and item.upto_ms
    ]
    if not told:
        return None
    ends, limit_ms, _ = told[0]
    blocks = [counts for same, _, held in told if same == ends for counts in held]
    if not blocks:
        return None
    # Nobody knows how slow the slowest were: beyond the last end it is said that they lie beyond.
    last = ends[-2]
    found = latency_quantile(np.array(blocks, dtype=np.int64), np.array([*ends[:-1], last]), q=share, seed=0)
    if found is None:
        return None
    beyond = "at least " if found.value_ms >= last else ""
    limit = f", limit {limit_ms:g} ms" if limit_ms is not None else ""
    between = f"8 of 10 redrawn pilots put it at {found.p10_ms:.3g} to {found.p90_ms:.3g} ms"
    return f"over all requests the {100.0 * share:g}th percentile is {beyond}{found.value_ms:.3g} ms{limit}; {between}"


def kept_note(parts: Sequence[SiteBlocks], workload: str, *, share: float) -> str | None:
    """How sure one site's requests are of the SLO's own quantile, whole blocks drawn again; None where they are too few."""
    counted = [block.slo[workload] for site in parts for block in site.returns.blocks if workload in block.slo]
    held = p_quantile_within(counted, share=share, seed=0)
    return (
        None
        if held is None
        else f"over all requests the {100.0 * share:g}th percentile keeps its limit with probability {chance(held)}"
    )


def pue_category(parts: Sequence[SiteBlocks]) -> str:
    """Where IT energy is metered, as the standard calls it, and what that leaves out."""
    position = next((position for site in parts if (position := site.first(IT)) is not None), "")
    number = CATEGORY_BY_POSITION.get(position)
    more = ": whatever else the UPS feeds counts as IT" if number == 1 else ""
    return f"category {number}, IT metered at {position}{more}"


def _ratio(site: SiteBlocks, measure: Measure) -> tuple[Column, Column]:
    """Numerator and denominator of each block."""
    missing = np.full(len(site.seconds), np.nan)
    if measure.of == "sent_bytes_per_day":
        return site.sent_bytes, site.seconds / DAY_S
    if measure.of == "requests_per_s":
        return _sum(site.total, measure.workload, missing), site.seconds
    if measure.of == "joules_per_request_in_slo":
        split = energy_split(site.returns, measure)
        joules = site.kwh["feed"] * KWH_J * (np.nan if split is None else split.share) if "feed" in site.kwh else missing
        return joules, _sum(site.good, measure.workload, missing)
    position = site.first(IT if measure.of == "it_power_w" else ("feed",))
    return (missing if position is None else site.kwh[position] * KWH_J), site.seconds


def _sum(counts: Mapping[str, Column], workload: str | None, missing: Column) -> Column:
    """Requests of one workload, or of all."""
    chosen = [count for name, count in counts.items() if workload in {None, name}]
    return np.sum(chosen, axis=0) if chosen else missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A workload's part of a site's energy."""

    share: float
    sd: float = 0.0
    """Its error on the logarithm."""
    words: str = ""
    """How it was come by, where the site did not tell it."""


def energy_split(returns: SiteReturns, measure: Measure) -> Split | None:
    """The workload's part as the site told it, else by the plan's expected work, else by requests; None where neither can be."""
    told = energy_share(returns, measure.workload)
    if told is not None:
        return Split(share=told)
    answered = {item.id: item.local for item in returns.workloads}
    uncounted = {name for block in returns.blocks for name in (*block.p99_ms, *block.in_time) if not answered.get(name)}
    if uncounted or not answered.get(measure.workload or ""):
        return None
    work = dict(measure.work)
    planned = all(name in work for name, count in answered.items() if count)
    parts = {name: count * (work[name] if planned else 1.0) for name, count in answered.items() if count}
    share = parts[measure.workload or ""] / sum(parts.values())
    by = "the work that the plan expects of each" if planned else "the numbers of their requests"
    return Split(
        share=share,
        sd=(WORK_SD if planned else REQUESTS_SD) * (1.0 - share),
        words=f"energy shared out among {len(parts)} workloads by {by}, and so less sure: map busy_s or joules of each",
    )


def energy_share(returns: SiteReturns, workload: str | None) -> float | None:
    """The workload's share of the site's energy as it was told, by joules or busy time; None where several ran and it was not."""
    if workload is None or len(returns.workloads) == 1:
        return 1.0
    served = {item.id for item in returns.workloads if item.local}
    joules = {item.id: item.joules_full * item.local for item in returns.workloads if item.joules_full is not None}
    busy = {item.id: item.busy_s for item in returns.workloads if item.busy_s is not None}
    for parts in (joules, busy):
        if workload in parts and not served - set(parts) and sum(parts.values()) > 0:
            return parts[workload] / sum(parts.values())
    return None


def weekdays_seen(parts: Sequence[SiteBlocks]) -> int:
    """How many days of the week hold a block (UTC)."""
    return _weekdays(np.concatenate([site.start_s for site in parts])) if parts else 0


def _weekdays(starts: NDArray[np.float64]) -> int:
    return len(np.unique(np.floor(starts / DAY_S) % WEEK_DAYS))


def _pue_columns(site: SiteBlocks, it_budget_w: float) -> tuple[Column, Column, Column]:
    """PUE, outdoor temperature and IT load of the blocks on mains that hold them all."""
    position = site.first(IT)
    if position is None or "feed" not in site.kwh:
        nothing = np.zeros(0)
        return nothing, nothing, nothing
    it = site.kwh[position]
    used = (it > 0) & np.isfinite(site.kwh["feed"]) & np.isfinite(site.outdoor_c) & ~site.on_battery
    load = it[used] * KWH_J / site.seconds[used] / it_budget_w
    return site.kwh["feed"][used] / it[used], site.outdoor_c[used], load


def _batch_se(starts: NDArray[np.float64], over: NDArray[np.float64], under: NDArray[np.float64]) -> float:
    """Standard error of log(sum(over) / sum(under)), from how batches differ (Cochran, "Sampling Techniques", 6.4)."""
    for seconds in (DAY_S, BATCH_S):
        batch = np.unique(np.floor(starts / seconds), return_inverse=True)[1]
        n = int(batch.max()) + 1
        if n >= DAYS_LEAST:
            break
    if n < 2:
        return 0.5
    top, bottom = np.bincount(batch, over), np.bincount(batch, under)
    residual = top - bottom * top.sum() / bottom.sum()
    error = sqrt(float(np.sum(residual**2)) / (n * (n - 1))) / float(top.mean())
    error *= float(stdtrit(n - 1, 0.9)) / float(ndtri(0.9))
    days = _weekdays(starts)
    # The mean of those weekdays against that of all seven: a sample without putting back (Cochran, 2.6).
    error = hypot(error, WEEKDAY_SD * ((WEEK_DAYS - days) / (WEEK_DAYS * days)) ** 0.5)
    return error if seconds == DAY_S else hypot(error, DAY_SD / max(n * BATCH_S / DAY_S, 1.0) ** 0.5)


def _systematic(parts: Sequence[SiteBlocks], measure: Measure) -> list[float]:
    positions: dict[str, Sequence[str]] = {
        "it_power_w": IT,
        "feed_power_w": ("feed",),
        "joules_per_request_in_slo": ("feed",),
    }
    read = positions.get(measure.of)
    return [] if read is None else [max(_class_error(parts, position) for position in read)]


def _class_error(parts: Sequence[SiteBlocks], position: str) -> float:
    """Standard uncertainty that the class allows: evenly spread within it (JCGM 100, 4.3.7). 0 where there is no instrument."""
    errors = [class_percent(site.returns, position) for site in parts if position in site.kwh]
    return max((DEFAULT_CLASS_PERCENT if e is None else e for e in errors), default=0.0) / 100.0 / sqrt(3.0)
