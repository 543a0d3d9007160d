"""Whose the joules are: what a site drew, shared out among its models (or workloads), so that the shares add up to the meters.

Two figures, for two questions. *Marginal*: what the work itself caused, above the idle power; what one request more or less
changes. *Full*: everything the site drew, idle power, cooling and losses included; what a request must carry so that all together
carry the site. The standing part is shared by use: a site is held ready for whoever uses it, in the proportion in which they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nearhall.core.evidence import Kind, weakest


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one model used in a period."""

    cpu_s: float
    """CPU time of its runs; of one whose CPU time nobody counts (a process of its own) the time its runs took."""
    device_s: float = 0.0
    """Time its runs held an accelerator; such a run's `cpu_s` is what the host did beside it."""
    requests: int = 0
    """Answered here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What was metered over the period, joules."""

    seconds: float
    it_j: float | None = None
    """Of the servers: by the IT meter, or by what counters the machine has (RAPL, NVML), which see less."""
    idle_w: float | None = None
    """Of the same, while nothing is asked; None where nobody knows."""
    site_j: float | None = None
    """Of the whole site, at its feed: cooling and the UPS's losses included."""
    devices_j: float = 0.0
    """The part of `it_j` that accelerators drew above their own idle power; 0 where that is not known apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One model's joules over the period; None is what cannot be told, and never 0."""

    marginal_j: float | None
    full_j: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """All shares, and what is nobody's: every joule of the meters is in one place."""

    shares: Mapping[str, Share] = field(default_factory=dict[str, Share])
    idle_j: float | None = None
    """Of the servers: what they would have drawn with nothing to do. With the marginal shares it makes up `it_j`."""
    nobodys_marginal_j: float | None = None
    """Above idle, with no use to share it by."""
    nobodys_j: float | None = None
    """Of `site_j`, where nothing was used at all: no model ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What was counted of one model's runs."""

    requests: int
    cpu_s: float
    """CPU time of their threads; 0 where they run in a process of their own, which does not say it run by run."""
    busy_s: float
    """Time for which they held the runtime."""
    on_device: bool = False
    """Whether they ran on an accelerator."""


def uses_of(runs: Mapping[str, Runs], *, programs_cpu_s: float, children_cpu_s: float) -> dict[str, Use]:
    """What each model used, from what was counted of its runs and of the processes.

    `programs_cpu_s`: of all the site's programs, the runs in it; `children_cpu_s`: the part of it of runtimes that have a process
    of their own. That is shared by the time that the runs of such models took, and where it is not known, that time stands for
    it. What the programs around the models used goes to answers in equal parts.
    """
    silent = {name: run.busy_s for name, run in runs.items() if run.busy_s > 0 and run.cpu_s <= 0 and not run.on_device}
    each_s = children_cpu_s / sum(silent.values()) if silent and children_cpu_s > 0 else 1.0
    uses = {
        name: Use(
            cpu_s=silent[name] * each_s if name in silent else run.cpu_s,
            device_s=run.busy_s if run.on_device else 0.0,
            requests=run.requests,
        )
        for name, run in runs.items()
    }
    return with_overhead(uses, max(0.0, programs_cpu_s - sum(use.cpu_s for use in uses.values())))


def with_overhead(uses: Mapping[str, Use], cpu_s: float) -> dict[str, Use]:
    """The uses with `cpu_s`, what the programs around the models used, in equal parts for each answered request."""
    requests = sum(use.requests for use in uses.values())
    each_s = cpu_s / requests if requests else 0.0
    return {name: replace(use, cpu_s=use.cpu_s + each_s * use.requests) for name, use in uses.items()}


def seen_by(uses: Mapping[str, Use], *, cpu: bool, device: bool) -> dict[str, Use]:
    """The uses as far as an instrument sees what they cost: RAPL sees processors alone, NVML accelerators alone."""
    return {
        name: replace(use, cpu_s=use.cpu_s if cpu else 0.0, device_s=use.device_s if device else 0.0)
        for name, use in uses.items()
    }


def split(drawn: Drawn, uses: Mapping[str, Use]) -> Split:
    """Every model's marginal and full joules.

    What is above idle goes by CPU time; the part that accelerators drew, where it is known, by the time they were held. The whole
    goes by what each caused above idle, and where that is not known by the time that it held processors.
    """
    idle_j, above_j = _idle_and_above(drawn)
    caused, left_j = _caused(above_j, drawn.devices_j, uses)
    keys = caused if caused and sum(caused.values()) > 0 else _held(uses)
    full = None if drawn.site_j is None or sum(keys.values()) <= 0 else _by(keys, drawn.site_j)
    shares = {
        name: Share(marginal_j=None if caused is None else caused[name], full_j=None if full is None else full[name])
        for name in uses
    }
    nobodys_j = None if drawn.site_j is None else (drawn.site_j if full is None else 0.0)
    return Split(shares=shares, idle_j=idle_j, nobodys_marginal_j=left_j, nobodys_j=nobodys_j)


def each(joules: float | None, requests: int) -> float | None:
    """Joules for one request; None where there was none, or where they cannot be told."""
    return joules / requests if joules is not None and requests > 0 else None


def marginal_kind(meter: Kind, idle: Kind, models_that_ran: int) -> Kind:
    """Of marginal joules: that a joule follows CPU time is an assumption, and needed as soon as several models ran."""
    return weakest([meter, idle] if models_that_ran < 2 else [meter, idle, Kind.ASSUMED])


def quiet_power_w(windows: Sequence[tuple[float, float]], *, busy_share_max: float = 0.02) -> float | None:
    """Idle power from windows of (watts, processors that were busy): the mean of those in which next to nothing ran.

    None while there is no such window: a busy machine has no idle power that could be told.
    """
    quiet = [watts for watts, busy in windows if busy <= busy_share_max]
    return sum(quiet) / len(quiet) if quiet else None


def _idle_and_above(drawn: Drawn) -> tuple[float | None, float | None]:
    if drawn.it_j is None or drawn.idle_w is None:
        return None, None
    idle_j = min(drawn.it_j, max(0.0, drawn.idle_w) * drawn.seconds)
    return idle_j, drawn.it_j - idle_j


def _caused(above_j: float | None, devices_j: float, uses: Mapping[str, Use]) -> tuple[dict[str, float] | None, float | None]:
    """Marginal joules by model, and those of nobody."""
    if above_j is None:
        return None, None
    held = _held(uses)
    if sum(held.values()) <= 0:
        return dict.fromkeys(uses, 0.0), above_j
    cpu, device = {name: use.cpu_s for name, use in uses.items()}, {name: use.device_s for name, use in uses.items()}
    devices_j = min(devices_j, above_j)
    if devices_j <= 0 or min(sum(cpu.values()), sum(device.values())) <= 0:
        return _by(held, above_j), 0.0  # one pool: what drew is not known apart, or only one kind was used
    of_cpu, of_device = _by(cpu, above_j - devices_j), _by(device, devices_j)
    return {name: of_cpu[name] + of_device[name] for name in uses}, 0.0


def _held(uses: Mapping[str, Use]) -> dict[str, float]:
    """Seconds of processors, of whichever kind."""
    return {name: use.cpu_s + use.device_s for name, use in uses.items()}


def _by(keys: Mapping[str, float], joules: float) -> dict[str, float]:
    total = sum(keys.values())
    return {name: joules * key / total for name, key in keys.items()}
