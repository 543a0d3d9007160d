"""What to measure next, by what a decision made with it is worth more than one made without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearhall.planner.learning.beliefs import BESIDE_REAL, Learned
from nearhall.planner.learning.gates import Gate, SamplesOf, Standing, gates
from nearhall.planner.learning.typical import Uniforms, typical_and_next
from nearhall.planner.samples.draws import Draws, Samples
from nearhall.planner.sensitivity.worth import conditional_mean, evppi_usd

GROUP = 250
"""Samples of a like value that a condition's probability is told from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """A measurement that may turn the decision."""

    belief: str
    words: str
    why: str
    """What is in the way of knowing it, or what it is good for."""
    days: float
    evppi_usd: float
    """By how much a decision made with it is expected to be better than one without, for one new site."""
    blocking: bool
    """A gate that does not hold stands on it."""

    @property
    def usd_per_day(self) -> float:
        """What one day of metering is worth."""
        return self.evppi_usd / self.days


def next_measurements(
    standing: Standing, judged: Sequence[Gate], npv_of: SamplesOf, *, draws: Draws, kind: str, known: bool
) -> tuple[Next, ...]:
    """Ranked by worth a day, those that hold up the decision first among equals.

    `known`: real pilots stand behind it. While nothing was measured, `standing` is of what the plan held before: a
    rehearsal is no knowledge.
    """
    blocking = {name for gate in judged if gate.counts and not gate.holds for name in gate.beliefs}
    found = [
        Next(
            belief=item.belief.name,
            words=f"meter {item.belief.words} at {'another' if known and item.sites else 'a'} site",
            why=_why(item, known=known),
            days=item.belief.days,
            evppi_usd=_worth_usd(standing, item, npv_of, _uniforms(draws, kind, item), known=known),
            blocking=item.belief.name in blocking,
        )
        for item in standing.learned
    ]
    return tuple(sorted(found, key=lambda one: (-round(one.usd_per_day, 6), not one.blocking, one.belief)))


def _uniforms(draws: Draws, kind: str, item: Learned) -> Uniforms:
    first, second, third = (draws.uniform(f"decide/{kind}/{item.belief.name}/typical/{n}") for n in range(3))
    return first, second, third


def _worth_usd(standing: Standing, item: Learned, npv_of: SamplesOf, uniforms: Uniforms, *, known: bool) -> float:
    """Of knowing the typical site, which is all that further pilots can teach; how the next one differs stays open.

    Valued by the decision that would be made: to build where the return is positive, and the conditions that stand on this figure
    hold; the others are taken to hold.
    """
    typical, new_site = typical_and_next(item.after if known else item.before, uniforms)
    if item.belief.form != "share":
        new_site = (1.0 if item.belief.form == "pue" else 0.0) + np.exp(new_site)
    then = replace(item, samples_after=new_site)
    learned = [then if one is item else one for one in standing.learned]
    drawn = replace(standing, learned=learned)
    drawn = replace(drawn, npv=npv_of(drawn.after))
    conditions = [
        (gate.score, gate.needed)
        for gate in gates(drawn)
        if gate.counts and gate.score is not None and gate.needed is not None and item.belief.name in gate.beliefs
    ]
    hangs = item.belief.name in standing.npv_slopes
    return worth_usd(drawn.npv if hangs else np.full_like(drawn.npv, drawn.npv.mean()), typical, conditions)


def worth_usd(returns: Samples, known: Samples, conditions: Sequence[tuple[Samples, float]]) -> float:
    """What knowing one figure is worth to who builds only where the conditions' means reach what is needed; never below 0."""
    if all(float(score.mean()) >= needed for score, needed in conditions):
        return evppi_usd(returns, known)
    fitted = conditional_mean(returns, known)
    holds = np.ones(len(known), dtype=np.bool_)
    for score, needed in conditions:
        holds &= _mean_around(score, known) >= needed
    return float(np.where(holds, np.maximum(fitted, 0.0), 0.0).mean())


def _mean_around(score: Samples, known: Samples) -> Samples:
    """The mean score among the samples of a like value, shape (samples,): by steps, since a condition holds or does not."""
    groups = np.array_split(np.argsort(known, kind="stable"), max(len(known) // GROUP, 2))
    found = np.empty(len(known))
    for group in groups:
        found[group] = score[group].mean()
    return found


def _why(item: Learned, *, known: bool) -> str:
    if item.conflict:
        return "pilots and plan contradict each other"
    refused = next((f"{site}: {reason}" for site, reason in item.refused if reason != BESIDE_REAL), None)
    if refused is not None:
        return refused
    if not known:
        return f"{item.belief.evidence.kind.value} until a pilot with commissioned meters has measured it"
    return f"known from {len(item.sites)} {'site' if len(item.sites) == 1 else 'sites'}" if item.sites else "not measured yet"
