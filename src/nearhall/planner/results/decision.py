"""decision.json (schema `nearhall/decision/v1`): verdicts as a document that a page is drawn from and a person keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearhall.core.evidence import Kind, weakest
from nearhall.documents.site_returns import SiteReturns
from nearhall.planner.learning.accept import is_rehearsal
from nearhall.planner.learning.beliefs import BESIDE_REAL, Learned, Spread, spread_of
from nearhall.planner.learning.decide import PilotSeen, Scaling, Stamp, Verdict
from nearhall.planner.learning.gates import Gate
from nearhall.planner.learning.join import Joined
from nearhall.planner.learning.next_measurements import Next
from nearhall.planner.learning.told import alike
from nearhall.planner.results.decision_assumptions import assumptions
from nearhall.planner.samples.draws import Samples

DENSITY_POINTS = 61
"""Of the curve of a belief."""
SCHEMA = "nearhall/decision/v1"
PURE = ("slo", "pue")
"""Conditions on pilots' own figures; others stand on the plan's prices and models too, however well those are measured."""

INDEPENDENT = (
    "Quantities are drawn independently of each other: a site that takes more power than expected is not taken to have a higher "
    "PUE or more requests too. Where such things go together, the return is less certain than is told here."
)

Json = dict[str, Any]


def decision_document(
    plan_name: str,
    verdicts: Sequence[Verdict],
    *,
    software: str,
    horizon_years: float | None = None,
    discount_rate: float | None = None,
    joined: Joined | None = None,
    choices: Mapping[str, Any] | None = None,
) -> Json:
    """The document, of plain values only; what is not known is None, never 0.

    Years and rate are those by which the return is told; `joined` names the returns that no verdict took, and `choices` what the
    plan wants of a decision (its `decision`, with the fields that it says itself in `said`).
    """
    quantities = [(verdict, item) for verdict in verdicts for item in verdict.quantities]
    evidence: dict[str, Mapping[str, str]] = {}
    for index, (_, item) in enumerate(quantities):
        evidence |= _evidence(f"/quantities/{index}", item)
    evidence["/next"] = {
        "kind": Kind.ASSUMED.value,
        "source": "how long such metering takes, and its worth by the plan's own money",
    }
    for index, verdict in enumerate(verdicts):
        evidence |= _class_evidence(f"/site_classes/{index}", verdict)
    evidence["/assumptions"] = {"kind": Kind.ASSUMED.value, "source": "what each of them says"}
    kinds = Counter(kind_of(item) for _, item in quantities)
    return {
        "schema": SCHEMA,
        "plan": plan_name,
        "software": software,
        "stamp": _stamp(verdicts),
        "horizon_years": horizon_years,
        "discount_rate": discount_rate,
        "site_classes": [_class(verdict) for verdict in verdicts],
        "quantities": [_quantity(verdict, item) for verdict, item in quantities],
        "next": [_next(verdict.kind, verdict.site_class, one) for verdict in verdicts for one in verdict.next],
        "pilots": [
            *(_pilot(verdict.kind, verdict.site_class, pilot) for verdict in verdicts for pilot in verdict.pilots),
            *(_left(site, why) for site, why in (joined.left if joined is not None else ())),
        ],
        "assumptions": assumptions(verdicts, choices or {}),
        "notes": [INDEPENDENT, *(joined.notes if joined is not None else ())],
        "evidence": evidence,
        "counts": {kind.value: kinds[kind] for kind in Kind},
    }


def _stamp(verdicts: Sequence[Verdict]) -> Stamp:
    """One of them for all: a rehearsal anywhere makes it one, and what differs is measured in part."""
    stamps: set[Stamp] = {verdict.stamp for verdict in verdicts} or {"NOT MEASURED"}
    if "REHEARSED" in stamps:
        return "REHEARSED"
    return "PARTLY MEASURED" if len(stamps) > 1 else stamps.pop()


def _class(verdict: Verdict) -> Json:
    before, after = verdict.p_npv_positive
    return {
        "kind_of_site": verdict.kind,
        "class": verdict.site_class,
        "verdict": verdict.state,
        "would": verdict.would,
        "stamp": verdict.stamp,
        "sentence": verdict.sentence,
        "reasons": list(verdict.reasons),
        "gates": [_gate(gate) for gate in verdict.gates],
        "conflicts": list(verdict.conflicts),
        "p_npv_positive": {"prior": _round(before), "posterior": _round(after)},
        "npv_usd": {"prior": _spread(verdict.npv_usd[0]), "posterior": _spread(verdict.npv_usd[1])},
        "scaling": None if verdict.scaling is None else _scaling(verdict.scaling),
    }


def _scaling(scaling: Scaling) -> Json:
    """What all sites of the kind cost to build, by the plan: prices are the same for all, so that the spread grows with them."""
    one = spread_of(scaling.capex_usd)
    every = Spread(p10=scaling.sites * one.p10, p50=scaling.sites * one.p50, p90=scaling.sites * one.p90)
    return {"sites": scaling.sites, "capex_usd_each": _spread(one), "capex_usd": _spread(every)}


def _gate(gate: Gate) -> Json:
    return {
        "name": gate.name,
        "topic": gate.topic,
        "words": gate.words,
        "probability": _round(gate.probability),
        "count": gate.count,
        "needed": gate.needed,
        "needed_words": gate.needed_words,
        "holds": gate.holds,
        "stops": gate.stops,
        "counts": gate.counts,
    }


def kind_of(item: Learned) -> Kind:
    """A rehearsal's figures are simulated, though a real clock counted some of them: nobody's load was there."""
    return Kind.SIMULATED if item.rehearsed else item.kind


def _quantity(verdict: Verdict, item: Learned) -> Json:
    data = None if item.data is None else {"value": _round(item.data), "n_sites": len(item.sites), "n_blocks": item.blocks}
    return {
        "kind_of_site": verdict.kind,
        "site_class": verdict.site_class,
        "name": item.belief.name,
        "words": item.belief.words,
        "unit": item.belief.unit,
        "form": item.belief.form,
        "prior": _spread(item.prior),
        "data": data,
        "posterior": None if item.posterior is None else _spread(item.posterior),
        "new_site": _spread(item.new_site),
        "density": _density(item),
        "z": _round(item.z),
        "conflict": item.conflict,
        "favourable": verdict.better.get(item.belief.name),
        "widened": item.widened,
        "accepted": bool(item.sites),
        "too_short": item.short,
        "refused": "; ".join(alike((site, why) for site, why in item.refused if why != BESIDE_REAL)),
        "notes": list(item.notes),
        "kind": kind_of(item).value,
    }


def _density(item: Learned) -> Json | None:
    """Probability for each unit of the figure, before and after, of a site that nobody measured; None for one that is certain.

    A Gaussian kernel over a histogram of the draws, as wide as Scott (1992) advises, from P0.5 to P99.5.
    """
    both = (item.samples_before, item.samples_after)
    low, high = (pick(float(np.quantile(part, q)) for part in both) for pick, q in ((min, 0.005), (max, 0.995)))
    if not (isfinite(low) and isfinite(high)) or high - low <= 1e-9 * max(abs(high), 1e-9):
        return None
    x = np.linspace(low, high, DENSITY_POINTS)
    return {"x": x.tolist(), "prior": _smoothed(item.samples_before, x), "new_site": _smoothed(item.samples_after, x)}


def _smoothed(samples: Samples, x: NDArray[np.float64]) -> list[float]:
    """The density of the samples at evenly spaced values."""
    q25, q75 = np.quantile(samples, (0.25, 0.75))
    width = max(1.06 * float(q75 - q25) / 1.349 * len(samples) ** -0.2, 0.5 * float(x[1] - x[0]))
    counts, edges = np.histogram(samples, bins=8 * len(x), range=(float(x[0]) - 4 * width, float(x[-1]) + 4 * width))
    middles = 0.5 * (edges[1:] + edges[:-1])
    kernel = np.exp(-0.5 * ((x[:, None] - middles) / width) ** 2) / (width * (2.0 * np.pi) ** 0.5)
    return [float(f"{value:.4g}") for value in kernel @ (counts / len(samples))]


def _evidence(pointer: str, item: Learned) -> dict[str, Mapping[str, str]]:
    held = item.belief.evidence
    found: dict[str, Mapping[str, str]] = {f"{pointer}/prior": {"kind": held.kind.value, "source": held.source}}
    told = {"kind": held.kind.value, "source": held.source}
    if item.sites:
        how = "a rehearsal at " if item.rehearsed else "registers and counters of "
        told = {"kind": kind_of(item).value, "source": f"{how}{', '.join(item.sites)}"}
    for part in ("data", "posterior", "new_site"):
        found[f"{pointer}/{part}"] = told
    return found


def _class_evidence(pointer: str, verdict: Verdict) -> dict[str, Mapping[str, str]]:
    """Money is the plan's own, whatever was measured; a condition on figures of the pilots is as sure as those."""
    kinds = {item.belief.name: kind_of(item) for item in verdict.quantities}
    used = sum(bool(item.sites) for item in verdict.quantities)
    source = f"the plan's prices and models, with {used} of {len(kinds)} quantities as the pilots had them"
    before = {"kind": Kind.ASSUMED.value, "source": "the plan's prices and models, before any pilot"}
    found: dict[str, Mapping[str, str]] = {pointer: {"kind": Kind.ASSUMED.value, "source": source}}
    found |= {f"{pointer}/{part}/prior": before for part in ("npv_usd", "p_npv_positive")}
    found[f"{pointer}/scaling"] = {"kind": Kind.ASSUMED.value, "source": "the plan's prices and its number of sites"}
    for index, gate in enumerate(verdict.gates):
        if gate.beliefs and gate.probability is not None:
            names = ", ".join(gate.beliefs)
            pure = gate.name.partition(":")[0] in PURE or gate.name == f"limit:{gate.beliefs[0]}"
            kind = weakest([kinds[name] for name in gate.beliefs]) if pure else Kind.ASSUMED
            more = "" if pure else ", with the plan's own prices and models"
            found[f"{pointer}/gates/{index}"] = {"kind": kind.value, "source": f"what is believed of {names}{more}"}
    return found


def _next(kind: str, site_class: str, one: Next) -> Json:
    return {
        "kind_of_site": kind,
        "site_class": site_class,
        "what": one.belief,
        "words": one.words,
        "why": one.why,
        "days": one.days,
        "evppi_usd": _round(one.evppi_usd),
        "usd_per_day": _round(one.usd_per_day),
        "blocking": one.blocking,
    }


def _pilot(kind: str, site_class: str, pilot: PilotSeen) -> Json:
    return {
        "file": pilot.origin,
        "site": pilot.site,
        "kind_of_site": kind,
        "site_class": site_class,
        "seconds": _round(pilot.seconds),
        "rehearsal": pilot.rehearsed,
        "too_short": pilot.short,
        "accepted": bool(pilot.accepted),
        "used": list(pilot.used),
        "refused": [{"why": why, "for": list(names)} for why, names in pilot.refused],
    }


def _left(site: SiteReturns, why: str) -> Json:
    """Returns that belong to no kind of site that the plan builds."""
    return {
        "file": site.origin,
        "site": site.id,
        "kind_of_site": None,
        "site_class": site.site_class,
        "seconds": _round(site.seconds),
        "rehearsal": is_rehearsal(site),
        "too_short": "",
        "accepted": False,
        "used": [],
        "refused": [{"why": why, "for": []}],
    }


def _spread(spread: Spread) -> Json:
    return {"p10": _round(spread.p10), "p50": _round(spread.p50), "p90": _round(spread.p90)}


def _round(value: float | None) -> float | None:
    """Six digits: more would be claimed to be known."""
    return None if value is None or not isfinite(value) else float(f"{value:.6g}")
