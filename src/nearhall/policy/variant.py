"""Which variant of a model to run: the best that fits, and what a smaller one would cost.

`choose_variant` decides once, for a plan. `pick_variant` decides for each request of a gateway that holds several: the best that
answers in time; under a power cap or an overload it steps down, never below the workload's floor of quality, and comes back
without flapping.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Literal

HOLD_S_MIN = 2.0
"""How long a workload that was stepped down stays so at least: some hundred requests, enough to empty a queue."""
HOLD_S_MAX = 60.0
"""Each relapse doubles the stay up to this: under a load that lasts, a client sees another variant twice a minute at the most."""
RELAPSES = 2.0
HEADROOM = 0.8
"""It comes back up only when the better variant would need no more than this share of what is allowed, or is idle."""
SOONER = 0.8
"""Where none is in time, a worse answer must at least come this much sooner than the best one's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One variant, as far as the choice depends on it."""

    id: str
    quality: float
    """Its score over that of the best variant, 0 to 1."""
    needed_gib: float
    """What it takes of memory, at the quantile that must fit."""
    joules: float | None = None
    """Of one request; None where nobody measured it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to run, and why not the others."""

    chosen: Candidate | None
    """None where none fits."""
    why_not: tuple[tuple[Candidate, str], ...]


def choose_variant(candidates: Sequence[Candidate], *, usable_gib: float, quality_min: float = 0.0) -> Choice:
    """The best of those that fit: by quality, then joules, then memory, last by name, whatever their order."""
    fitting = [c for c in candidates if c.needed_gib <= usable_gib and c.quality >= quality_min]
    chosen = min(fitting, key=_preference, default=None)
    return Choice(
        chosen=chosen,
        why_not=tuple(
            (c, _why_not(c, chosen or c, usable_gib, quality_min)) for c in sorted(candidates, key=_preference) if c is not chosen
        ),
    )


def _preference(candidate: Candidate) -> tuple[float, float, float, str]:
    return (-candidate.quality, _joules(candidate), candidate.needed_gib, candidate.id)


def _joules(candidate: Candidate) -> float:
    """What nobody measured is taken for more than anything that somebody did."""
    return inf if candidate.joules is None else candidate.joules


def _why_not(candidate: Candidate, chosen: Candidate, usable_gib: float, quality_min: float) -> str:
    if candidate.needed_gib > usable_gib:
        return f"needs {candidate.needed_gib:.1f} GiB of {usable_gib:.1f} GiB"
    if candidate.quality < quality_min:
        return f"quality {candidate.quality:.3f} < {quality_min:.3f}"
    if candidate.quality < chosen.quality:
        return f"fits, and costs {chosen.quality - candidate.quality:.1%} of quality"
    return _why_second(candidate, chosen)


def _why_second(candidate: Candidate, chosen: Candidate) -> str:
    """Of equal quality energy decides, then memory, then the name."""
    if candidate.joules != chosen.joules:
        more = _joules(candidate) - _joules(chosen)
        return f"as good, and takes {more:.3g} J a request more" if isfinite(more) else "as good, but its energy was not measured"
    if candidate.needed_gib > chosen.needed_gib:
        return f"as good, and takes {candidate.needed_gib - chosen.needed_gib:.1f} GiB more"
    return f"as good and as large as {chosen.id}"


Why = Literal["", "cap", "overload", "deadline", "absent"]
"""Why it stepped down: a power cap, a queue, a deadline that the better one never meets, or the better one is not loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One variant as a gateway holds it now."""

    id: str
    quality: float
    """Its score over that of the reference variant, 0 to 1; 0 where nobody measured it."""
    joules: float | None = None
    """Of one request; None where nobody measured it."""
    mib: float = 0.0
    ready: bool = True
    """Loaded, and its runtime alive."""
    loadable: bool = True
    """Not loaded, but it may be."""
    expected_ms: float = 0.0
    """Until its answer to a request that arrives now: what waits before it, and its own run."""
    own_ms: float = 0.0
    """Its own run alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Whether a workload is kept stepped down, and how long it was so before."""

    down: bool = False
    until_s: float = 0.0
    """No sooner does it come back up; monotonic."""
    hold_s: float = HOLD_S_MIN
    """Of the last stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """Which variant answers one request."""

    chosen: Form | None
    """None: no variant that is loaded is good enough."""
    stepped_from: Form | None = None
    """The better one that would have answered otherwise."""
    why: Why = ""
    wanted: Form | None = None
    """Not loaded, and would be better for such requests: it is worth loading."""
    late: bool = False
    """No variant that is loaded is in time."""
    held: Held = Held()


def pick_variant(
    forms: Sequence[Form],
    *,
    default: str,
    allowed_ms: float,
    quality_min: float,
    step_down: float = 0.0,
    held: Held,
    now_s: float,
) -> Pick:
    """The variant for a request that may take `allowed_ms` (infinite without a deadline or target).

    `default` is the variant that should be loaded; a better one counts only where it is loaded. `step_down` is the power cap: 0
    for none, to 1 for the fewest joules that the floor `quality_min` permits; between them that share of the quality may be given
    up. The order of `forms` does not matter.
    """
    permitted = sorted((f for f in forms if f.quality >= quality_min), key=better)
    ready = [f for f in permitted if f.ready]
    usual = next((f for f in permitted if f.ready or f.id == default), None)
    if not ready or usual is None:
        return Pick(chosen=None, wanted=_first_loadable([f for f in permitted if f.id == default] or permitted), held=held)
    found = _by_time(ready, usual, allowed_ms, held, now_s) if usual.ready else _instead(ready, usual, allowed_ms, held)
    if step_down <= 0:
        return found if found.wanted or not found.late else replace(found, wanted=_sooner(permitted, usual, allowed_ms))
    least = usual.quality - min(1.0, step_down) * max(0.0, usual.quality - quality_min) - ROUNDING
    good = [f for f in permitted if f.quality >= least and f.joules is not None]
    capped = min((f for f in good if f.ready and f.expected_ms <= allowed_ms and _saves(f, usual)), key=_thrift, default=None)
    wanted = _first_loadable(f for f in sorted(good, key=_thrift) if _saves(f, capped or usual))
    if capped is None:
        return replace(found, wanted=found.wanted or wanted)
    return _stepped(capped, usual, "cap", held, wanted=wanted)


STEP_MIN = 0.01
"""Of a form that is as good as the usual one: any cap permits it."""
STEP_DIGITS = 9
ROUNDING = 1e-9
"""Of a quality: at the very step that permits it a form is not lost to the last digit."""


def steps_of(forms: Sequence[Form], *, default: str, quality_min: float) -> set[float]:
    """The values of `step_down`, up to 1, from which on `pick_variant` may take one more form that saves joules.

    Empty where none does: no joules are known, the floor `quality_min` forbids it, or it cannot be loaded.
    """
    permitted = sorted((f for f in forms if f.quality >= quality_min), key=better)
    usual = next((f for f in permitted if f.ready or f.id == default), None)
    found: set[float] = set()
    least = usual
    for form in permitted:
        if usual is not None and least is not None and (form.ready or form.loadable) and _saves(form, least):
            room = usual.quality - quality_min
            step = max(0.0, usual.quality - form.quality) / room if room > 0 else 0.0
            found.add(min(1.0, max(STEP_MIN, round(step, STEP_DIGITS))))
            least = form
    return found


def _instead(ready: Sequence[Form], usual: Form, allowed_ms: float, held: Held) -> Pick:
    """While the usual one is not loaded, another one that is good enough answers, and the usual one is worth loading."""
    return _stepped(_soonest_of(ready, ready[0], allowed_ms), usual, "absent", held, wanted=_first_loadable([usual]))


def _by_time(ready: Sequence[Form], usual: Form, allowed_ms: float, held: Held, now_s: float) -> Pick:
    """The usual one while it is in time; a lesser one while it is not, and for a while after."""
    cheaper = [f for f in ready if f is not usual and f.own_ms < usual.own_ms]
    if held.down:
        if cheaper and (now_s < held.until_s or usual.expected_ms > max(HEADROOM * allowed_ms, usual.own_ms)):
            return _stepped(_soonest_of(cheaper, usual, allowed_ms), usual, "overload", held)
        held = replace(held, down=False)
    if usual.expected_ms <= allowed_ms:
        return Pick(chosen=usual, held=held)
    chosen = _soonest_of(ready, usual, allowed_ms)
    late = chosen.expected_ms > allowed_ms
    if chosen.quality >= usual.quality:
        return Pick(chosen=chosen, held=held, late=late)
    if usual.own_ms > allowed_ms:
        # It would not be in time on an idle machine either: that is this request's wish and no overload.
        return Pick(chosen=chosen, stepped_from=usual, why="deadline", held=held, late=late)
    relapsed = held.until_s > 0 and now_s < held.until_s + RELAPSES * held.hold_s
    hold_s = min(HOLD_S_MAX, 2 * held.hold_s) if relapsed else HOLD_S_MIN
    held = Held(down=True, until_s=now_s + hold_s, hold_s=hold_s)
    return Pick(chosen=chosen, stepped_from=usual, why="overload", held=held, late=late)


def _stepped(chosen: Form, usual: Form, why: Why, held: Held, *, wanted: Form | None = None) -> Pick:
    """Another one than the usual one answers; one that is as good is no step down."""
    if chosen.quality >= usual.quality:
        return Pick(chosen=chosen, wanted=wanted, held=held)
    return Pick(chosen=chosen, stepped_from=usual, why=why, wanted=wanted, held=held)


def better(form: Form) -> tuple[float, float, float, str]:
    """Sorts the best first: by quality, then joules, then memory, last by name."""
    return (-form.quality, inf if form.joules is None else form.joules, form.mib, form.id)


def _soonest_of(ready: Sequence[Form], usual: Form, allowed_ms: float) -> Form:
    """The best that is in time; where none is, the soonest, if it is clearly sooner than the usual one."""
    in_time = next((f for f in ready if f.expected_ms <= allowed_ms), None)
    if in_time is not None:
        return in_time
    soonest = min(ready, key=lambda f: f.expected_ms)
    return soonest if soonest.expected_ms < SOONER * usual.expected_ms else usual


def _sooner(permitted: Sequence[Form], usual: Form, allowed_ms: float) -> Form | None:
    """What is not loaded and would be in time on its own, sooner than the usual one."""
    return _first_loadable(f for f in permitted if f.own_ms < min(usual.own_ms, allowed_ms))


def _thrift(form: Form) -> tuple[float, float, float, str]:
    return (inf if form.joules is None else form.joules, -form.quality, form.mib, form.id)


def _saves(form: Form, other: Form) -> bool:
    """Whether it takes fewer joules, both known; of the same form there is nothing to save."""
    return form.joules is not None and other.joules is not None and form.joules < other.joules


def _first_loadable(forms: Iterable[Form]) -> Form | None:
    return next((f for f in forms if f.loadable and not f.ready), None)
