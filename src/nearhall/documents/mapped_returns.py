"""Series of numbers, by a mapping, as what a site returned: the same form that pilot.json is read into.

A driver asks for what `wanted` names at the ends of blocks and hands the values over; nothing here knows where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isclose
from typing import Literal

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.documents.mapping import BYTES, KWH, MS, SECONDS, MappedMeter, MappedSite, MappedWorkload, MappingDocument
from nearhall.documents.site_returns import BLOCK_S, BlockReturn, MeterReturn, SiteReturns, WorkloadReturn

KWH_J = 3.6e6
Values = Sequence[float | None]
"""One for each end of a block, `None` where there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One series of one site."""

    key: str
    """What it is: `meter:main`, `good:cams`, `total:cams`, `le:cams:0.05`, `p99:cams`, `in_time:cams`, `joules:cams`,
    `busy:cams`, `outdoor`, `sent`, `raw`."""
    series: str
    """The query or column, `$site` filled in."""
    of: Literal["register", "count", "level", "highest", "lowest"]
    """Of a source that has several readings a block: what a register or counter stood at, a level was at the block's end, or the
    highest or lowest reading within the block."""


def wanted(mapping: MappingDocument, site: MappedSite) -> tuple[Wanted, ...]:
    """Every series of one site."""
    found = [(f"meter:{meter.id}", meter.series, "register") for meter in mapping.meters]
    for workload in mapping.workloads:
        found += _of_workload(workload)
    found += [(key, part.series, "count") for key, part in (("sent", mapping.sent), ("raw", mapping.raw)) if part is not None]
    if mapping.outdoor is not None:
        found.append(("outdoor", mapping.outdoor.series, "level"))
    return tuple(Wanted(key=key, series=series.replace("$site", site.called), of=of) for key, series, of in found)  # type: ignore[arg-type]


def _of_workload(workload: MappedWorkload) -> list[tuple[str, str, str]]:
    """Key, series and what is read of it."""
    name = workload.id
    counts = {"good": workload.good, "total": workload.total, "joules": workload.joules, "busy": workload.busy}
    told = [(f"{key}:{name}", part.series, "count") for key, part in counts.items() if part is not None]
    if workload.histogram is not None:
        series = workload.histogram.series
        told += [(f"le:{name}:{end}", series.replace("$le", end), "count") for end in workload.histogram.le]
    if workload.p99 is not None:
        told.append((f"p99:{name}", workload.p99.series, "highest"))
    if workload.in_time is not None:
        told.append((f"in_time:{name}", workload.in_time.series, "lowest"))
    return told


def block_ends(start_s: float, end_s: float) -> tuple[float, ...]:
    """The ends of all whole blocks in a period, the first begin included: multiples of 15 minutes."""
    first = -(-start_s // BLOCK_S)
    return tuple(BLOCK_S * (first + i) for i in range(int(end_s // BLOCK_S - first) + 1))


def returns_of(
    mapping: MappingDocument,
    site: MappedSite,
    *,
    ends_s: Sequence[float],
    values: Mapping[str, Values],
    clock_error_ms: float | None,
    origin: str,
) -> SiteReturns:
    """One site's returns; `values` by the key of each `Wanted`, one for each of `ends_s`."""
    for workload in mapping.workloads:
        _no_more_in_time_than_all(workload, values, site.id)
    blocks = [_block(mapping, values, ends_s, i) for i in range(len(ends_s) - 1)]
    registers = [values[f"meter:{meter.id}"] for meter in mapping.meters]
    meters = [MeterReturn(id=m.id, position=m.position, class_percent=m.class_percent, kind=_kind(m)) for m in mapping.meters]
    covered = [_covered(values[key]) for key in values if key.startswith(("total:", "le:")) or key == "sent"]
    covered += [_told(values[f"{key}:{w.id}"]) for w in mapping.workloads if w.total is None for key in _levels(w)]
    whole: dict[str, list[float]] = {}
    for meter in mapping.meters:
        grown = [one.kwh(meter.id) for one in blocks]
        whole.setdefault(meter.position, []).append(sum(kwh for kwh in grown if kwh is not None))
    return SiteReturns(
        id=site.id,
        site_class=site.site_class,
        jurisdiction=site.jurisdiction,
        origin=origin,
        start_s=ends_s[0],
        end_s=ends_s[-1],
        coverage=min(covered or [_covered(series) for series in values.values()]),
        register_coverage=min((_covered(register) for register in registers), default=0.0),
        clock_error_ms=clock_error_ms,
        meters=meters,
        energy_kwh={position: sum(parts) for position, parts in whole.items()},
        blocks=blocks,
        workloads=[_workload(workload, blocks, values) for workload in mapping.workloads],
        kinds={
            "energy": Kind.MEASURED,  # each instrument has a kind of its own
            "requests": Kind.MEASURED,
            "bytes": Kind.MEASURED,
            "outdoor": Kind.MEASURED,
        },
    )


COUNTED_APART = 1.01
"""Two counters that are read at different moments differ by the answers between them: by no more than this over a period."""


def _no_more_in_time_than_all(workload: MappedWorkload, values: Mapping[str, Values], site: str) -> None:
    if workload.good is None or workload.total is None:
        return
    both = [values[f"{which}:{workload.id}"] for which in ("good", "total")]
    pairs = [[_grown(counter, i) for counter in both] for i in range(len(both[0]) - 1)]
    good, total = (sum(pair[k] or 0.0 for pair in pairs if None not in pair) for k in (0, 1))
    if good > total * COUNTED_APART + 1.0:
        raise InputError(
            f"counted {good:,.0f} answers in time of {total:,.0f} at {site}",
            where=f"workload {workload.id} of the mapping",
            right="no more in time than all: are `good` and `total` swapped?",
        )


def _kind(meter: MappedMeter) -> Kind:
    if meter.simulated:
        return Kind.SIMULATED
    return Kind.MEASURED if meter.commissioned else Kind.ASSUMED


def _block(mapping: MappingDocument, values: Mapping[str, Values], ends_s: Sequence[float], i: int) -> BlockReturn:
    readings: dict[str, tuple[float, float]] = {}
    for meter in mapping.meters:
        first, last = values[f"meter:{meter.id}"][i : i + 2]
        if first is not None and last is not None:
            readings[meter.id] = (first * KWH[meter.unit], last * KWH[meter.unit])
    answers = _Answers()
    for workload in mapping.workloads:
        answers.add(workload, values, i)
    return BlockReturn(
        start_s=ends_s[i],
        end_s=ends_s[i + 1],
        register_kwh=readings,
        outdoor_c=_outdoor(mapping, values, i),
        slo=answers.slo,
        total=answers.total,
        in_time=answers.in_time,
        p99_ms=answers.p99_ms,
        latency=answers.latency,
        sent_bytes=_bytes(mapping.sent.unit, _grown(values["sent"], i)) if mapping.sent is not None else None,
        raw_bytes=_bytes(mapping.raw.unit, _grown(values["raw"], i)) if mapping.raw is not None else None,
    )


class _Answers:
    """What one block tells of each workload's answers."""

    def __init__(self) -> None:
        self.slo: dict[str, tuple[int, int]] = {}
        self.total: dict[str, int] = {}
        self.in_time: dict[str, float] = {}
        self.p99_ms: dict[str, float] = {}
        self.latency: dict[str, tuple[int, ...]] = {}

    def add(self, workload: MappedWorkload, values: Mapping[str, Values], i: int) -> None:
        """By whichever way the workload is mapped; nothing where a value is missing."""
        name = workload.id
        total = _grown(values[f"total:{name}"], i) if workload.total is not None else None
        if workload.histogram is not None:
            self._histogram(workload, values, i)
        elif workload.good is not None:
            good = _grown(values[f"good:{name}"], i)
            if good is not None and total is not None:
                self.slo[name] = (min(round(good), round(total)), round(total))
        else:
            self._level(workload, values, i, total)

    def _histogram(self, workload: MappedWorkload, values: Mapping[str, Values], i: int) -> None:
        told = workload.histogram
        if told is None:
            return
        grown = [_grown(values[f"le:{workload.id}:{end}"], i) for end in told.le]
        sooner = [round(count) for count in grown if count is not None]
        if len(sooner) != len(told.le):
            return
        limit = next(k for k, end in enumerate(told.upto_ms) if isclose(end, workload.limit_ms or 0.0))
        self.latency[workload.id] = (sooner[0], *(max(0, high - low) for low, high in pairwise(sooner)))
        self.slo[workload.id] = (min(sooner[limit], sooner[-1]), sooner[-1])

    def _level(self, workload: MappedWorkload, values: Mapping[str, Values], i: int, total: float | None) -> None:
        """A block without requests tells nothing, whatever its level was left at."""
        if total is not None:
            self.total[workload.id] = round(total)
        if total is not None and round(total) == 0:
            return
        p99 = values[f"p99:{workload.id}"][i + 1] if workload.p99 is not None else None
        if workload.p99 is not None and p99 is not None:
            self.p99_ms[workload.id] = p99 * MS[workload.p99.unit]
        share = values[f"in_time:{workload.id}"][i + 1] if workload.in_time is not None else None
        if workload.in_time is not None and share is not None:
            share = min(max(share * (0.01 if workload.in_time.unit == "%" else 1.0), 0.0), 1.0)
            if total is None:
                self.in_time[workload.id] = share
            else:
                self.slo[workload.id] = (round(share * total), round(total))


def _grown(counter: Values, i: int) -> float | None:
    """What a counter counted in a block; one that went back began anew, and what it lost before is not made up."""
    first, last = counter[i], counter[i + 1]
    if first is None or last is None:
        return None
    return last - first if last >= first else last


def _outdoor(mapping: MappingDocument, values: Mapping[str, Values], i: int) -> float | None:
    if mapping.outdoor is None:
        return None
    found = [value for value in values["outdoor"][i : i + 2] if value is not None]
    if not found:
        return None
    mean = sum(found) / len(found)
    return mean if mapping.outdoor.unit == "C" else (mean - 32.0) / 1.8


def _bytes(unit: str, count: float | None) -> float | None:
    return None if count is None else count * BYTES[unit]


def _covered(values: Values) -> float:
    """The share of blocks with a value at both ends."""
    blocks = len(values) - 1
    held = sum(values[i] is not None and values[i + 1] is not None for i in range(blocks))
    return held / blocks


def _levels(workload: MappedWorkload) -> list[str]:
    return [key for key, part in (("p99", workload.p99), ("in_time", workload.in_time)) if part is not None]


def _told(values: Values) -> float:
    """The share of blocks with a level."""
    return sum(value is not None for value in values[1:]) / (len(values) - 1)


def _whole(values: Mapping[str, Values], key: str, *, scale: float) -> float | None:
    """What a counter counted over the period, in another unit; None where it told nothing."""
    counter = values[key]
    grown = [more for i in range(len(counter) - 1) if (more := _grown(counter, i)) is not None]
    return scale * sum(grown) if grown else None


def _workload(workload: MappedWorkload, blocks: Sequence[BlockReturn], values: Mapping[str, Values]) -> WorkloadReturn:
    name = workload.id
    counted = [block.slo[name] for block in blocks if name in block.slo]
    good, total = sum(good for good, _ in counted), sum(total for _, total in counted)
    whole = total or sum(block.total.get(name, 0) for block in blocks)
    joules = None if workload.joules is None else _whole(values, f"joules:{name}", scale=KWH[workload.joules.unit] * KWH_J)
    busy_s = None if workload.busy is None else _whole(values, f"busy:{name}", scale=SECONDS[workload.busy.unit])
    return WorkloadReturn(
        id=name,
        total=whole,
        local=whole,
        late=total - good,
        limit_ms=workload.limit_ms,
        first_token=None if workload.limit_ms is None else workload.of == "first_token",
        joules_full=joules / whole if joules is not None and whole else None,
        busy_s=busy_s,
        upto_ms=workload.histogram.upto_ms if workload.histogram is not None else (),
    )
