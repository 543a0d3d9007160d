"""Joules by model, for `/metrics`: from the site's meters while an agent tells of them, else from the machine's own counters.

The gateway reads no meter, and does not need the agent: either may die and the other goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal, NamedTuple

import msgspec

from nearhall.core.errors import Refusal, TemporaryError
from nearhall.core.evidence import Kind
from nearhall.core.reasons import Reason
from nearhall.gateway.metering.stats import Stats
from nearhall.policy.energy_split import Drawn, Runs, Split, marginal_kind, quiet_power_w, seen_by, split, uses_of
from nearhall.policy.power_cap import Draw
from nearhall.ports.clock import Clock
from nearhall.ports.devices import EnergyCounter
from nearhall.wire.energy import EnergyTold
from nearhall.wire.telemetry import OTHER, ModelState

log = logging.getLogger("nearhall.gateway")

TOLD_S_MAX = 15.0
"""An agent that has told nothing for so long (seven windows) is away; the machine's own counters are then used, if it has any."""
COUNT_S = 5.0
"""Between reads of the machine's own counters: they step a thousand times a second, and a processor's wraps after minutes."""
QUIET_BUSY_MAX = 0.02
"""Processors that the gateway keeps busy while nobody asks."""
WINDOW_S_MAX = 3600.0
JOULES_MAX = 1e9
"""Of one window that is told: an hour of 277 kW, more than a site of any class draws."""


class Labels(NamedTuple):
    """Of one sum of joules."""

    model: str
    share: str
    """`marginal` or `full`."""
    kind: str
    source: str
    """`meter`, `rapl`, `nvml` or `rapl+nvml`."""


@dataclass(frozen=True, slots=True)
class Joules:
    """A sum, and the answers that it was for."""

    joules: float = 0.0
    requests: int = 0


Of = Literal["servers", "site", "counters"]
"""What a meter sees: the servers, the whole site at its feed, or what the machine's own counters count."""
POSITIONS = {"it": "at their inlets", "pdu": "at the output of their distribution", "ups_out": "at the output of their UPS"}
_COUNTED = {
    "rapl": "the processors and their memory; accelerators, fans, disks, network cards and the supplies' losses are not in it",
    "nvml": "the accelerators; processors, memory, fans, disks, network cards and the supplies' losses are not in it",
    "rapl+nvml": "processors, their memory and accelerators; fans, disks, network cards and the supplies' losses are not in it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """The draw that a meter saw in its last window, whatever drew it."""

    of: Of
    draw: Draw
    source: str
    """`meter`, `rapl`, `nvml` or `rapl+nvml`."""
    kind: Kind
    covers: str
    """What is in it and what is not, in words."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """The gateway's own counters at one moment, by model."""

    runs: Mapping[str, Runs]
    cpu_s: float
    children_cpu_s: float


class EnergyBook:
    """Adds up joules by model. Only the event loop touches it."""

    def __init__(
        self,
        stats: Stats,
        *,
        models_of: Mapping[str, str],
        states: Callable[[], list[ModelState]],
        cpu_s: Callable[[], float],
        children_cpu_s: Callable[[], float],
        clock: Clock,
    ) -> None:
        """`models_of`: the model of each workload by id."""
        self.sums: dict[Labels, Joules] = {}
        self.counters_j: dict[str, float] = {}
        """Joules by the machine's own counters since the start, whether or not they were used here."""
        self.metered: dict[Of, Metered] = {}
        """The last draw by each meter that ever told one; it says itself how old it is."""
        self.heard: Callable[[], None] = lambda: None
        """Called after each window of a meter."""
        self._stats = stats
        self._models_of = dict(models_of)
        self._states = states
        self._cpu_s = cpu_s
        self._children_cpu_s = children_cpu_s
        self._clock = clock
        self._before: _Counted | None = None
        self._source = ""
        self._told_s: float | None = None
        self._quiet: list[tuple[float, float]] = []
        self._gap = False
        """Whether one of the machine's own counters was not read the last time."""

    def told(self, told: EnergyTold) -> None:
        """One window of the site's meters."""
        self._told_s = self._clock.monotonic()
        self._meter_told(told, self._told_s)
        window = self._since("meter")
        if window is None:
            return
        drawn = Drawn(seconds=told.seconds, it_j=told.it_j, idle_w=told.idle_w, site_j=told.site_j)
        found = split(drawn, uses_of(window.runs, programs_cpu_s=window.cpu_s, children_cpu_s=window.children_cpu_s))
        ran = sum(run.busy_s > 0 for run in window.runs.values())
        marginal = marginal_kind(Kind(told.it_kind), Kind(told.idle_kind), ran)
        self._add(found, window.runs, marginal.value, told.site_kind, "meter")

    def counted(self, joules: Mapping[str, float], seconds: float) -> None:
        """What the machine's own counters added since the last time; only kept while an agent tells of better ones."""
        for name, more in joules.items():
            self.counters_j[name] = self.counters_j.get(name, 0.0) + more
        self._counters_told(joules, seconds)
        if self._told_s is not None and self._clock.monotonic() - self._told_s < TOLD_S_MAX:
            return
        source = "+".join(sorted(joules, reverse=True))
        window = self._since(source)
        if window is None or seconds <= 0:
            return
        total = sum(joules.values())
        self._quiet.append((total / seconds, window.cpu_s / seconds))
        self._quiet = [pair for pair in self._quiet if pair[1] <= QUIET_BUSY_MAX][-100:]
        uses = uses_of(window.runs, programs_cpu_s=window.cpu_s, children_cpu_s=window.children_cpu_s)
        drawn = Drawn(seconds=seconds, it_j=total, idle_w=quiet_power_w(self._quiet, busy_share_max=QUIET_BUSY_MAX))
        found = split(drawn, seen_by(uses, cpu="rapl" in joules, device="nvml" in joules))
        self._add(found, window.runs, Kind.ASSUMED.value, Kind.ASSUMED.value, source)

    async def count(self, counters: Sequence[EnergyCounter], every_s: float = COUNT_S) -> None:
        """Reads the machine's own counters until cancelled."""
        before, read_s = await _read(counters), self._clock.monotonic()
        while True:
            await asyncio.sleep(every_s)
            now, now_s = await _read(counters), self._clock.monotonic()
            self.counted({name: joules - before[name] for name, joules in now.items() if name in before}, now_s - read_s)
            before, read_s = before | now, now_s

    def _meter_told(self, told: EnergyTold, now_s: float) -> None:
        """By what the meters said of power, or else by energy."""
        where = POSITIONS.get(told.it_position, "by their meter")
        servers = f"all servers {where}, whatever runs on them"
        site = "the whole site at its feed, cooling and losses included"
        self._meter_drew("servers", told.it_w, told.it_j, told, now_s, kind=told.it_kind, covers=servers)
        self._meter_drew("site", told.site_w, told.site_j, told, now_s, kind=told.site_kind, covers=site)
        self.heard()

    def _meter_drew(
        self, of: Of, watts: float | None, joules: float | None, told: EnergyTold, now_s: float, *, kind: str, covers: str
    ) -> None:
        if watts is None and joules is not None:
            watts = joules / told.seconds
        if watts is not None:
            idle_w = told.idle_w if of == "servers" and told.idle_w is not None else 0.0
            draw = Draw(watts=watts, seconds=told.seconds, at_s=now_s, idle_w=idle_w)
            self.metered[of] = Metered(of=of, draw=draw, source="meter", kind=Kind(kind), covers=covers)

    def _counters_told(self, joules: Mapping[str, float], seconds: float) -> None:
        """One that is not read this time would look like less drawn, and like more the next time: neither says anything."""
        whole, after_gap = joules.keys() == self.counters_j.keys(), self._gap
        self._gap = not whole
        if not joules or not whole or after_gap or seconds <= 0:
            return
        source = "+".join(sorted(joules, reverse=True))
        draw = Draw(watts=sum(joules.values()) / seconds, seconds=seconds, at_s=self._clock.monotonic())
        covers = _COUNTED.get(source, source)
        self.metered["counters"] = Metered(of="counters", draw=draw, source=source, kind=Kind.ASSUMED, covers=covers)
        self.heard()

    def _add(self, found: Split, runs: Mapping[str, Runs], marginal_kind: str, full_kind: str, source: str) -> None:
        for model, share in found.shares.items():
            requests = runs[model].requests
            for name, kind, joules in (("marginal", marginal_kind, share.marginal_j), ("full", full_kind, share.full_j)):
                if joules is not None and (joules > 0 or requests):
                    labels = Labels(model, name, kind, source)
                    before = self.sums.get(labels, Joules())
                    self.sums[labels] = Joules(before.joules + joules, before.requests + requests)

    def _since(self, source: str) -> _Counted | None:
        """What was counted since the last window of the same source; None at its first, which only sets the mark."""
        now, before = self._now(), self._before
        same, self._before, self._source = source == self._source, now, source
        if before is None or not same:
            return None
        nothing = Runs(requests=0, cpu_s=0.0, busy_s=0.0)
        return _Counted(
            runs={name: _less(run, before.runs.get(name, nothing)) for name, run in now.runs.items()},
            cpu_s=max(0.0, now.cpu_s - before.cpu_s),
            children_cpu_s=max(0.0, now.children_cpu_s - before.children_cpu_s),
        )

    def _now(self) -> _Counted:
        on_device = {state.name for state in self._states() if state.device not in {"", "cpu"}}
        runs: dict[str, Runs] = {}
        for workload, counts in self._stats.by_workload.items():
            model = "(other)" if workload == OTHER else self._models_of.get(workload, workload.removeprefix("model:"))
            before = runs.get(model, Runs(requests=0, cpu_s=0.0, busy_s=0.0))
            runs[model] = Runs(
                requests=before.requests + counts.answered["local"],
                cpu_s=before.cpu_s + counts.service_cpu_ms / 1e3,
                busy_s=before.busy_s + counts.busy_ms / 1e3,
                on_device=model in on_device,
            )
        return _Counted(runs, self._cpu_s(), self._children_cpu_s())


def read_told(body: bytes) -> EnergyTold:
    """What the agent told; raises Refusal(BAD_REQUEST) in words."""
    try:
        told = msgspec.json.decode(body, type=EnergyTold)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(Reason.BAD_REQUEST, f"the body is no window of meters: {error}") from error
    if not 0 < told.seconds <= WINDOW_S_MAX:
        raise Refusal(Reason.BAD_REQUEST, f"seconds is {told.seconds:g}; right would be more than 0 and at most {WINDOW_S_MAX:g}")
    for name in ("it_j", "site_j", "idle_w", "it_w", "site_w"):
        value = getattr(told, name)
        if value is not None and not (isfinite(value) and 0 <= value <= JOULES_MAX):
            raise Refusal(Reason.BAD_REQUEST, f"{name} is {value:g}; right would be 0 to {JOULES_MAX:g}")
    kinds = {kind.value for kind in Kind}
    for name in ("it_kind", "idle_kind", "site_kind"):
        if getattr(told, name) not in kinds:
            raise Refusal(Reason.BAD_REQUEST, f"{name} is {getattr(told, name)[:32]!r}; known: {', '.join(sorted(kinds))}")
    return told


async def _read(counters: Sequence[EnergyCounter]) -> dict[str, float]:
    """Joules by source; one that cannot be read now is left out."""
    found: dict[str, float] = {}
    for counter in counters:
        with suppress(TemporaryError):
            found[counter.source] = await asyncio.to_thread(counter.joules)
    return found


def _less(now: Runs, before: Runs) -> Runs:
    return replace(
        now,
        requests=now.requests - before.requests,
        cpu_s=max(0.0, now.cpu_s - before.cpu_s),
        busy_s=max(0.0, now.busy_s - before.busy_s),
    )
