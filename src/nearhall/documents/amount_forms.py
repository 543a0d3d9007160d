"""The forms in which a number may be written, each made into a `Quantity`; see `amount`."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nearhall.core.evidence import Evidence, Kind
from nearhall.core.quantity import Exact, LogNormal, Normal, Quantity, Triangular, Uniform, log_sigma

THE_PLAN = "the plan's author"
SAID = ("source", "date", "kind", "unit")
FORMS: dict[str, tuple[str, ...]] = {
    "value": ("value",),
    "p50": ("p50", "p90", "p10"),
    "normal": ("dist", "mean", "sd", "low", "high"),
    "lognormal": ("dist", "p50", "sigma"),
    "uniform": ("dist", "low", "high"),
    "triangular": ("dist", "low", "mode", "high"),
    "ref": ("ref",),
}


def form_of(given: Mapping[str, Any]) -> str:
    """Which of the forms; raises ValueError for unknown keys, with the nearest known name, and for missing ones."""
    dist = given.get("dist")
    if dist is not None and dist not in FORMS:
        raise ValueError(f"dist {dist!r} is not known; {nearest(str(dist), ('normal', 'lognormal', 'uniform', 'triangular'))}")
    form = str(dist) if dist is not None else next((k for k in ("ref", "value", "p50") if k in given), None)
    if form is None:
        raise ValueError("has neither value, p50, dist nor ref; write a number, or {p50: .., p90: ..}")
    allowed = (*FORMS[form], *(() if form == "ref" else SAID))
    for key in given:
        if key not in allowed:
            raise ValueError(f"{key!r} is not known here; {nearest(str(key), allowed)}")
    optional = {"p50": {"p10", "p90"}, "normal": {"low", "high"}}.get(form, set[str]())
    missing = [key for key in FORMS[form] if key not in given and key not in optional]
    if form == "p50" and not {"p10", "p90"} & set(given):
        missing = ["p90"]
    if missing:
        raise ValueError(f"{missing[0]} is missing; add it")
    return form


def quantity_of(given: Any, *, unit: str) -> Quantity:
    """The quantity that a number or a mapping in one of the forms (all but `ref`) says; raises ValueError."""
    if not isinstance(given, Mapping):
        evidence = Evidence(kind=Kind.ASSUMED, source=THE_PLAN)
        return Quantity(p50=number(given, ""), unit=unit, evidence=evidence)
    said: Mapping[str, Any] = given  # pyright: ignore[reportUnknownVariableType]
    form = form_of(said)
    values = {k: number(said[k], k) for k in FORMS[form] if k in said and k != "dist"}
    return _BUILD[form](values, Quantity(p50=0.0, unit=unit, evidence=_evidence(said)))


def written(quantity: Quantity) -> Any:
    """As it would be written in a plan."""
    spread = quantity.spread
    said: dict[str, Any] = {"source": quantity.evidence.source, "kind": quantity.evidence.kind.value}
    if quantity.evidence.date is not None:
        said["date"] = quantity.evidence.date
    match spread:
        case Exact():
            return quantity.p50 if quantity.evidence.source == THE_PLAN else {"value": quantity.p50, **said}
        case LogNormal(sigma):
            return {"dist": "lognormal", "p50": quantity.p50, "sigma": sigma, **said}
        case Normal(sd, low, high):
            ends = {k: v for k, v in (("low", low), ("high", high)) if math.isfinite(v)}
            return {"dist": "normal", "mean": quantity.p50, "sd": sd, **ends, **said}
        case Uniform(low, high):
            return {"dist": "uniform", "low": low, "high": high, **said}
        case Triangular(low, mode, high):
            return {"dist": "triangular", "low": low, "mode": mode, "high": high, **said}


def _of_value(v: dict[str, float], blank: Quantity) -> Quantity:
    return replace(blank, p50=v["value"])


def _of_quantiles(v: dict[str, float], blank: Quantity) -> Quantity:
    p50, p90, p10 = v["p50"], v.get("p90"), v.get("p10")
    if p90 is not None and p90 < p50:
        message = f"p90 {p90:g} is below p50 {p50:g}; the P90 is what is exceeded in one case of ten"
        raise ValueError(message)
    if p10 is not None and p10 > p50:
        message = f"p10 {p10:g} is above p50 {p50:g}; the P10 is what is exceeded in nine cases of ten"
        raise ValueError(message)
    if p90 is not None and p10 is not None:
        raise ValueError("has p10 and p90; give one of them (the spread is log-normal), or a dist")
    return replace(blank, p50=p50, spread=LogNormal(log_sigma(p50=p50, p90=p90 if p90 is not None else p10 or 0.0)))


def _of_normal(v: dict[str, float], blank: Quantity) -> Quantity:
    low, high = v.get("low", -math.inf), v.get("high", math.inf)
    if v["sd"] < 0 or not low <= v["mean"] <= high:
        raise ValueError("needs sd >= 0 and low <= mean <= high")
    return replace(blank, p50=v["mean"], spread=Normal(v["sd"], low, high))


def _of_lognormal(v: dict[str, float], blank: Quantity) -> Quantity:
    if v["p50"] <= 0 or v["sigma"] < 0:
        raise ValueError("needs p50 above 0 and sigma >= 0")
    return replace(blank, p50=v["p50"], spread=LogNormal(v["sigma"]))


def _of_uniform(v: dict[str, float], blank: Quantity) -> Quantity:
    if v["high"] < v["low"]:
        raise ValueError("needs low <= high")
    return replace(blank, p50=(v["low"] + v["high"]) / 2.0, spread=Uniform(v["low"], v["high"]))


def _of_triangular(v: dict[str, float], blank: Quantity) -> Quantity:
    if not v["low"] <= v["mode"] <= v["high"]:
        raise ValueError("needs low <= mode <= high")
    shaped = replace(blank, spread=Triangular(v["low"], v["mode"], v["high"]))
    return replace(shaped, p50=shaped.quantile(0.5, 0.0))


_BUILD = {
    "value": _of_value,
    "p50": _of_quantiles,
    "normal": _of_normal,
    "lognormal": _of_lognormal,
    "uniform": _of_uniform,
    "triangular": _of_triangular,
}


DATE = re.compile(r"^\d{4}(-\d{2}(-\d{2})?)?$")


def _evidence(given: Mapping[str, Any]) -> Evidence:
    kinds = [kind.value for kind in Kind]
    kind = str(given.get("kind", Kind.ASSUMED.value))
    if kind not in kinds:
        raise ValueError(f"kind {kind!r} is not known; one of: {', '.join(kinds)}")
    if kind != Kind.ASSUMED.value and not given.get("source"):
        raise ValueError(f"kind {kind} needs a source: the document, instrument or person that gave the number")
    date = given.get("date")
    if date is not None and not DATE.match(str(date)):
        raise ValueError(f"date {str(date)!r} is none; write 2026-03-14, 2026-03 or 2026")
    return Evidence(kind=Kind(kind), source=str(given.get("source", THE_PLAN)), date=None if date is None else str(date))


def number(given: Any, name: str) -> float:
    """A finite number; raises ValueError."""
    label = f"{name} " if name else ""
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        message = f"{label}is no number"
        raise ValueError(message)
    return float(given)


def nearest(given: str, known: tuple[str, ...]) -> str:
    """What would be right in place of an unknown name."""
    near = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
