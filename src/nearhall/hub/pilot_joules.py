"""Joules of a request, by workload: marginal and full, from the best meter that a site has, and what they rest on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearhall.core.evidence import Evidence, Kind, weakest
from nearhall.hub.period import SitePeriod
from nearhall.hub.pilot_energy import JOULES_PER_KWH, Books, facility_joules, it_position
from nearhall.hub.tally import Tally
from nearhall.policy.energy_fit import Fit, Window, fitted
from nearhall.policy.energy_split import Drawn, Runs, Split, Use, each, marginal_kind, quiet_power_w, seen_by, split, uses_of
from nearhall.wire.telemetry import MeterWindow, WorkloadStats

QUIET_LEAST = 10
"""Windows in which next to nothing ran, from which the meter itself tells the idle power: their mean is then good to a third of
what one reading scatters."""
QUIET_BUSY_MAX = 0.05
"""Processors that the site's own programs keep busy while nobody asks: two or three hundredths, by polls and health checks."""
BOTH = frozenset({"cpu", "device"})
COUNTER_WORDS = {
    "rapl": "the processors' own counters (RAPL, without fans, network card and the supply's losses)",
    "nvml": "the accelerators' own counters (NVML, of the whole device, whoever used it)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Joules:
    """What the requests of a site took."""

    marginal: Split
    full: Split
    requests: Mapping[str, int]
    """Answered on site, by workload."""
    marginal_evidence: Evidence
    full_evidence: Evidence
    fit: Fit | None
    """Of the servers' power on what each workload used, window by window; None where it tells nothing."""
    used_s: Mapping[str, float]
    """What the fit's use adds up to, by workload."""
    fit_evidence: Evidence

    def of(self, workload: str) -> dict[str, Any]:
        """One request's joules; None where they cannot be told."""
        marginal, full = self.marginal.shares.get(workload), self.full.shares.get(workload)
        requests = self.requests.get(workload, 0)
        return {
            "marginal": _rounded(each(None if marginal is None else marginal.marginal_j, requests)),
            "full": _rounded(each(None if full is None else full.full_j, requests)),
            "fit": self._fitted(workload, requests),
        }

    def _fitted(self, workload: str, requests: int) -> dict[str, Any] | None:
        watts = None if self.fit is None else self.fit.by_model.get(workload)
        if self.fit is None or watts is None or not requests:
            return None
        each_s = self.used_s[workload] / requests
        joules = {"value": watts.value * each_s, "low": watts.low * each_s, "high": watts.high * each_s}
        return {**{name: _rounded(value) for name, value in joules.items()}, "windows": self.fit.windows}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metered:
    """The servers' energy, and their idle power."""

    joules: float
    kind: Kind
    words: str
    idle_w: float | None
    idle_kind: Kind
    idle_words: str
    sees: frozenset[str] = BOTH
    """What this instrument sees work of."""


def joules_of(period: SitePeriod, books: Books) -> Joules:
    """From a site's records: the IT meter where there is one, else the machines' own counters; the feed for the whole."""
    uses = _uses(period)
    site_j = facility_joules(books)
    ran = sum(use.cpu_s + use.device_s > 0 for use in uses.values())
    metered = _by_meter(period, books) or _by_counters(period)
    seconds = period.span.seconds
    by_time = split(Drawn(seconds=seconds, site_j=site_j), uses)
    marginal = full = by_time
    caused = False
    if metered is not None:
        drawn = Drawn(
            seconds=seconds, it_j=metered.joules, idle_w=metered.idle_w, site_j=site_j, devices_j=_devices_above_idle(period)
        )
        marginal = split(drawn, seen_by(uses, cpu="cpu" in metered.sees, device="device" in metered.sees))
        caused = metered.sees == BOTH and metered.idle_w is not None
        full = marginal if caused else by_time
    position = it_position(books)
    return Joules(
        fit=None if position is None else fitted(_windows_at(period, position)),
        used_s={name: _used_s(tally) for name, tally in period.tallies.items()},
        fit_evidence=Evidence(
            kind=books.kind(position or "it"),
            source=f"fit of the {position or 'it'} meter's power on what each workload used, window by window; 95 % interval",
        ),
        marginal=marginal,
        full=full,
        requests={name: tally.local for name, tally in period.tallies.items()},
        marginal_evidence=_marginal_evidence(metered, ran, held=any(use.device_s > 0 for use in uses.values())),
        full_evidence=Evidence(
            kind=books.kind("feed"),
            source="the feed's metered energy, shared as "
            + ("what each workload caused above idle power" if caused else "processors' time was"),
        ),
    )


def _uses(period: SitePeriod) -> dict[str, Use]:
    """What each workload used."""
    models = {workload.id: workload.model for workload in period.about.workloads}
    runs = {
        name: Runs(
            requests=tally.local,
            cpu_s=tally.service_cpu_ms / 1e3,
            busy_s=(tally.busy_ms or tally.paths["local"].service.total) / 1e3,
            on_device=period.devices.get(models.get(name, name.removeprefix("model:")), "cpu") != "cpu",
        )
        for name, tally in period.tallies.items()
    }
    return uses_of(runs, programs_cpu_s=period.cpu_s, children_cpu_s=period.children_cpu_s)


def _by_meter(period: SitePeriod, books: Books) -> _Metered | None:
    position = it_position(books)
    kwh = None if position is None else books.kwh(position)
    if position is None or kwh is None:
        return None
    kind = books.kind(position)
    quiet_w = _quiet_w(_watts_at(period, position))
    catalogue = period.about.catalogue
    named = f"{catalogue.id or 'an unknown server'}'s idle power by the catalogue"
    return _Metered(
        joules=kwh * JOULES_PER_KWH,
        kind=kind,
        words=f"energy at the {position} meter",
        idle_w=period.idle_w if quiet_w is None else quiet_w,
        idle_kind=(Kind.VENDOR if catalogue.source else Kind.ASSUMED) if quiet_w is None else kind,
        idle_words=named if quiet_w is None else "what it read while nothing was asked",
    )


def _by_counters(period: SitePeriod) -> _Metered | None:
    """What the machines count themselves; nobody commissioned those counters, so all of it is assumed."""
    names = sorted(name for name in period.counters if name in COUNTER_WORDS)
    if not names:
        return None
    watts = [
        (sum(record.counters_j.get(name, 0.0) for name in names) / (record.end_s - record.start_s), record.cpu_share)
        for _, record in period.records
        if record.end_s > record.start_s and record.cpu_share is not None
    ]
    return _Metered(
        joules=sum(period.counters[name] for name in names),
        kind=Kind.ASSUMED,
        words=f"energy by {' and '.join(COUNTER_WORDS[name] for name in names)}",
        idle_w=_quiet_w(watts) if len(period.nodes) == 1 else None,
        idle_kind=Kind.ASSUMED,
        idle_words="what they counted while nothing was asked",
        sees=frozenset({"cpu"} if "rapl" in names else ()) | frozenset({"device"} if "nvml" in names else ()),
    )


def _devices_above_idle(period: SitePeriod) -> float:
    """What accelerators drew above their idle power; 0 where that cannot be told."""
    watts = [
        (record.counters_j.get("nvml", 0.0) / (record.end_s - record.start_s), record.cpu_share)
        for _, record in period.records
        if record.end_s > record.start_s and record.cpu_share is not None
    ]
    idle_w = _quiet_w(watts) if len(period.nodes) == 1 else None
    return 0.0 if idle_w is None else max(0.0, period.counters.get("nvml", 0.0) - idle_w * period.span.seconds)


def _watts_at(period: SitePeriod, position: str) -> list[tuple[float, float]]:
    """Watts and busy processors, window by window; nothing for a site of several nodes, whose windows are not each other's."""
    ids = [meter.id for meter in period.about.meters if meter.position == position]
    found: list[tuple[float, float]] = []
    for _, record in period.records if len(period.nodes) == 1 else ():
        watts = [record.meters[name].power_w for name in ids if name in record.meters]
        known = [each_w for each_w in watts if each_w is not None]
        if record.cpu_share is not None and known and len(known) == len(ids):
            found.append((sum(known), record.cpu_share))
    return found


def _windows_at(period: SitePeriod, position: str) -> list[Window]:
    """Power by the registers at a position and what each workload used, window by window."""
    ids = [meter.id for meter in period.about.meters if meter.position == position]
    found: list[Window] = []
    for _, record in period.records if len(period.nodes) == 1 else ():
        watts = [_register_w(record.meters.get(name), record.end_s - record.start_s) for name in ids]
        known = [each_w for each_w in watts if each_w is not None]
        if len(known) == len(ids) and record.end_s > record.start_s:
            lasted = record.end_s - record.start_s
            use = {name: _used_s(stats) / lasted for name, stats in record.workloads.items()}
            found.append(Window(watts=sum(known), use=use))
    return found


def _register_w(window: MeterWindow | None, lasted_s: float) -> float | None:
    if window is None or len(window.register_kwh) != 2:
        return None
    read_s = window.register_s[1] - window.register_s[0] if len(window.register_s) == 2 else lasted_s
    return (window.register_kwh[1] - window.register_kwh[0]) * JOULES_PER_KWH / read_s if read_s > 0 else None


def _used_s(counted: Tally | WorkloadStats) -> float:
    """Seconds of processors, CPU time where it was told: what the programs around the models did for it is in its watts."""
    return (counted.service_cpu_ms or counted.busy_ms) / 1e3


def _quiet_w(windows: list[tuple[float, float]]) -> float | None:
    quiet = [pair for pair in windows if pair[1] <= QUIET_BUSY_MAX]
    return quiet_power_w(quiet, busy_share_max=QUIET_BUSY_MAX) if len(quiet) >= QUIET_LEAST else None


def _marginal_evidence(metered: _Metered | None, ran: int, *, held: bool) -> Evidence:
    if metered is None:
        return Evidence(kind=Kind.ASSUMED, source="none: neither a meter at the servers nor a counter in them")
    key = "CPU time and, on accelerators, the time that they were held" if held else "CPU time"
    shared = f", by {key}" if ran > 1 else ""
    return Evidence(
        kind=weakest([metered.kind, marginal_kind(metered.kind, metered.idle_kind, ran)]),
        source=f"{metered.words} above {metered.idle_words}{shared}",
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
