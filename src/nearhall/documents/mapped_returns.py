"""Series of numbers, by a mapping, as what a site returned: the same form that pilot.json is read into.

A driver asks for what `wanted` names at the ends of blocks and hands the values over; nothing here knows where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nearhall.core.evidence import Kind
from nearhall.documents.mapping import BYTES, KWH, MappedMeter, MappedSite, MappingDocument
from nearhall.documents.site_returns import BLOCK_S, BlockReturn, MeterReturn, SiteReturns, WorkloadReturn

Values = Sequence[float | None]
"""One for each end of a block, `None` where there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One series of one site."""

    key: str
    """What it is: `meter:main`, `good:cams`, `total:cams`, `outdoor`, `sent`, `raw`."""
    series: str
    """The query or column, `$site` filled in."""
    of: Literal["register", "count", "level"]


def wanted(mapping: MappingDocument, site: MappedSite) -> tuple[Wanted, ...]:
    """Every series of one site."""
    found = [(f"meter:{meter.id}", meter.series, "register") for meter in mapping.meters]
    for workload in mapping.workloads:
        found += [
            (f"good:{workload.id}", workload.good.series, "count"),
            (f"total:{workload.id}", workload.total.series, "count"),
        ]
    found += [(key, part.series, "count") for key, part in (("sent", mapping.sent), ("raw", mapping.raw)) if part is not None]
    if mapping.outdoor is not None:
        found.append(("outdoor", mapping.outdoor.series, "level"))
    return tuple(Wanted(key=key, series=series.replace("$site", site.called), of=of) for key, series, of in found)  # type: ignore[arg-type]


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
    blocks = [_block(mapping, values, ends_s, i) for i in range(len(ends_s) - 1)]
    registers = [values[f"meter:{meter.id}"] for meter in mapping.meters]
    meters = [MeterReturn(id=m.id, position=m.position, class_percent=m.class_percent, kind=_kind(m)) for m in mapping.meters]
    counted = [key for key in values if key.startswith("total:") or key == "sent"] or list(values)
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
        coverage=min(_covered(values[key]) for key in counted),
        register_coverage=min((_covered(register) for register in registers), default=0.0),
        clock_error_ms=clock_error_ms,
        meters=meters,
        energy_kwh={position: sum(parts) for position, parts in whole.items()},
        blocks=blocks,
        workloads=[_workload(workload.id, blocks) for workload in mapping.workloads],
        kinds={
            "energy": Kind.MEASURED,  # each instrument has a kind of its own
            "requests": Kind.MEASURED,
            "bytes": Kind.MEASURED,
            "outdoor": Kind.MEASURED,
        },
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
    slo: dict[str, tuple[int, int]] = {}
    for workload in mapping.workloads:
        good, total = (_grown(values[f"{of}:{workload.id}"], i) for of in ("good", "total"))
        if good is not None and total is not None:
            slo[workload.id] = (min(round(good), round(total)), round(total))
    return BlockReturn(
        start_s=ends_s[i],
        end_s=ends_s[i + 1],
        register_kwh=readings,
        outdoor_c=_outdoor(mapping, values, i),
        slo=slo,
        sent_bytes=_bytes(mapping.sent.unit, _grown(values["sent"], i)) if mapping.sent is not None else None,
        raw_bytes=_bytes(mapping.raw.unit, _grown(values["raw"], i)) if mapping.raw is not None else None,
    )


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


def _workload(name: str, blocks: Sequence[BlockReturn]) -> WorkloadReturn:
    counted = [block.slo[name] for block in blocks if name in block.slo]
    good, total = sum(good for good, _ in counted), sum(total for _, total in counted)
    return WorkloadReturn(id=name, total=total, local=total, late=total - good)
