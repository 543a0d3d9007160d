"""Joules of one item, by what there is to count them: a meter at the server's plug, the processor's own counters, or a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Protocol, TypeVar

from nearhall.core.errors import NearhallError, PermanentError, TemporaryError
from nearhall.core.evidence import Kind, weakest
from nearhall.documents.profile import Figure
from nearhall.ports.meter import Meter, Reading

W_PER_CORE = 8.0
"""Of a busy core: 65 W over the 8 of a desktop's processor; a server's 270 W over 40 come to 7 W."""
METER_S_MIN = 10.0
"""Meters step once a second or slower; fewer readings tell no average."""
POLL_S = 0.5
READINGS_MIN = 2
"""One has no spread, and without it no difference can be told."""
IDLE_S = 2.0
"""Of rest before the counters are read under load."""
RAPL_OMITS = "the processor's packages alone: fans, network card, drives and what the supply loses are not in it"

Answer = TypeVar("Answer")


class Counter(Protocol):
    """Counts joules (`ports.devices.EnergyCounter`)."""

    @property
    def source(self) -> str:
        """`rapl` or `nvml`."""
        ...

    def joules(self) -> float:
        """Since the first call; raises TemporaryError where it cannot be read."""
        ...

    def close(self) -> None:
        """Lets it go."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Work that was done while somebody counted."""

    items: int
    seconds: float


def assumed(cpu_ms_per_item: float) -> Figure:
    """CPU time of an item at an assumed power of a busy core."""
    source = f"CPU seconds x {W_PER_CORE:g} W of a busy core, assumed; no counter or meter was read"
    return Figure(value=significant(cpu_ms_per_item / 1e3 * W_PER_CORE), kind="assumed", source=source)


def counted(
    counter: Counter, work: Callable[[], Burst], *, kind: Kind, source: str, rest: Callable[[float], None] = time.sleep
) -> Figure:
    """By a counter: what it counted while the work went on, less what as long a rest takes, over the items.

    Raises TemporaryError where the counter cannot be read.
    """
    start = counter.joules()
    rest(IDLE_S)
    idle_w = (counter.joules() - start) / IDLE_S
    start = counter.joules()
    burst = work()
    own = counter.joules() - start - idle_w * burst.seconds
    return Figure(
        value=significant(max(0.0, own) / burst.items), kind=kind.value, source=f"{source}; {idle_w:.1f} W at rest taken off"
    )


def resting() -> None:
    """Waits as long as a meter must be read to tell the power at rest."""
    time.sleep(METER_S_MIN)


async def metered(
    meter: Meter, work: Callable[[], Burst], *, name: str, rest: Callable[[], None] = resting, poll_s: float = POLL_S
) -> Figure:
    """By a meter at the plug: the power under load less that at rest. `work` runs in a thread while the meter is polled.

    Raises PermanentError where the difference drowns in the readings' own spread, or the meter does not answer.
    """
    at_rest, _ = await _polled(meter, rest, poll_s)
    busy, burst = await _polled(meter, work, poll_s)
    rest_w, busy_w = (fmean(reading.values["power_w"] for reading in readings) for readings in (at_rest, busy))
    own_w = busy_w - rest_w
    if own_w <= 2.0 * sqrt(_error(at_rest) ** 2 + _error(busy) ** 2):
        raise PermanentError(
            f"{name} cannot tell {busy_w:.1f} W under load from {rest_w:.1f} W at rest; measure longer (--seconds)"
        )
    kind = weakest(reading.kind for reading in (*at_rest, *busy))
    source = f"{name}: {len(busy)} readings of {busy_w:.1f} W under load, {rest_w:.1f} W at rest taken off"
    return Figure(value=significant(own_w * burst.seconds / burst.items), kind=kind.value, source=source)


async def _polled(meter: Meter, work: Callable[[], Answer], poll_s: float) -> tuple[list[Reading], Answer]:
    """Readings while the work went on; the first one waits for the meter to have seen some of it."""
    done = asyncio.create_task(asyncio.to_thread(work))
    readings: list[Reading] = []
    try:
        while not done.done():
            await asyncio.wait([done], timeout=poll_s)
            if not done.done():
                readings.append(await read_power(meter))
        answer = await done
    except BaseException:
        await asyncio.wait([done])
        raise
    if len(readings) < READINGS_MIN:
        raise PermanentError(f"the meter gave fewer than {READINGS_MIN} readings in one measurement")
    return readings, answer


async def read_power(meter: Meter) -> Reading:
    """One reading; raises PermanentError where the meter does not answer or tells no power."""
    try:
        reading = await meter.read()
    except TemporaryError as error:
        raise PermanentError(str(error)) from error
    if "power_w" not in reading.values:
        raise PermanentError("the meter tells no power")
    return reading


def _error(readings: Sequence[Reading]) -> float:
    """The standard error of the mean power."""
    return stdev(reading.values["power_w"] for reading in readings) / sqrt(len(readings))


def significant(value: float) -> float:
    """Four digits: no figure here is known better."""
    return float(f"{value:.4g}")


def counters(device: str) -> tuple[list[Counter], list[str]]:
    """What counts on this machine for a model on that device, and why something does not."""
    found: list[Counter] = []
    why: list[str] = []
    for name, opened in _openers(device):
        try:
            found.append(opened())
        except (NearhallError, ImportError) as error:
            why.append(f"{name}: {error}")
    return found, why


def _openers(device: str) -> list[tuple[str, Callable[[], Counter]]]:
    return [("RAPL", _rapl), *([("NVML", _nvml)] if device.startswith("cuda") else [])]


def _rapl() -> Counter:
    from nearhall.drivers.rapl import open_rapl

    return open_rapl()


def _nvml() -> Counter:
    from nearhall.drivers.nvml import NvmlEnergy, open_nvml

    return NvmlEnergy(open_nvml())
