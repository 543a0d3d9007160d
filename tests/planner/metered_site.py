"""A metered site whose every figure can be worked out by hand, with the parts that a test changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from nearhall.core.evidence import Evidence, Kind
from nearhall.documents.site_returns import BlockReturn, MeterReturn, SiteReturns, WorkloadReturn

START_S = 1_790_000_000.0 // 86_400 * 86_400
"""A midnight, UTC."""
BLOCKS = 96 * 7
WATTS = {"feed": 600.0, "ups_in": 450.0, "ups_out": 400.0, "it": 400.0, "cooling": 150.0}
"""feed = ups_in + cooling; the UPS loses 50 W; PUE is 1.5."""
ASSUMED = Evidence(kind=Kind.ASSUMED, source="a plan")


def meters(kind: Kind = Kind.MEASURED, positions: Sequence[str] = tuple(WATTS)) -> tuple[MeterReturn, ...]:
    """One instrument of class 1 at each position."""
    return tuple(MeterReturn(id=position, position=position, class_percent=1.0, kind=kind) for position in positions)


def block(index: int, watts: dict[str, float], *, outdoor_c: float | None, slo: tuple[int, int], sent: float) -> BlockReturn:
    """One quarter of an hour at a constant load."""
    return BlockReturn(
        start_s=START_S + 900.0 * index,
        end_s=START_S + 900.0 * (index + 1),
        register_kwh={name: (100.0, 100.0 + power / 4000.0) for name, power in watts.items()},
        outdoor_c=outdoor_c,
        slo={"cams": slo},
        sent_bytes=sent,
        raw_bytes=10 * sent,
    )


def site(
    name: str = "a",
    *,
    blocks: int = BLOCKS,
    watts: Callable[[int], dict[str, float]] = lambda _: WATTS,
    outdoor_c: Callable[[int], float | None] = lambda index: 10.0 + index % 96 / 10.0,
    slo: Callable[[int], tuple[int, int]] = lambda _: (900, 900),
    sent: Callable[[int], float] = lambda _: 1e6,
    **changes: object,
) -> SiteReturns:
    """A week of a small site in order; `watts` and the others are by number of block."""
    made = [block(i, watts(i), outdoor_c=outdoor_c(i), slo=slo(i), sent=sent(i)) for i in range(blocks)]
    kwh = {position: sum(watts(i).get(position, 0.0) for i in range(blocks)) / 4000.0 for position in watts(0)}
    total = sum(slo(i)[1] for i in range(blocks))
    whole = SiteReturns(
        id=name,
        site_class="micro",
        jurisdiction="DE",
        origin=f"{name}.json",
        start_s=START_S,
        end_s=START_S + 900.0 * blocks,
        coverage=1.0,
        register_coverage=1.0,
        clock_error_ms=3.0,
        meters=meters(positions=tuple(watts(0))),
        energy_kwh=kwh,
        blocks=made,
        workloads=(WorkloadReturn(id="cams", total=total, local=total, late=0),),
        kinds=dict.fromkeys(("energy", "requests", "bytes", "outdoor"), Kind.MEASURED),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]
