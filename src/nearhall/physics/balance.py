"""Do the meters of a site agree? The energy balance of a cabinet on mains power.

    feed ──┬── ups_in ──(UPS loss)── ups_out ── it (+ other loads on the UPS)
           ├── cooling
           └── other

Each meter may be off by its accuracy class, so each comparison has a tolerance made of the classes of the meters in it; a meter
that is out by more than that is noticed. Valid while the UPS runs on mains and its battery is idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot

DEFAULT_CLASS_PERCENT = 2.0
"""For a meter that names no class: IEC 62053-21's wider class for active energy."""
RESOLUTION_KWH = 2e-6
"""Below twice this nothing can be compared: float32 registers near zero resolve better, polling does not (0.2 s of 40 W)."""
LOSS_SHARE_MAX = 0.5
"""A UPS at idle may lose as much as it passes on; half of its input is beyond any in service at a site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredEnergy:
    """Energy by one meter over the period."""

    kwh: float
    class_percent: float | None = None
    moments_percent: float = 0.0
    """What the moments of reading may add: registers are read one after the other, and step, within a second or so; over a long
    period this vanishes."""

    @property
    def tolerance_kwh(self) -> float:
        """What the meter's class and the moments of reading allow it to be off."""
        accuracy = DEFAULT_CLASS_PERCENT if self.class_percent is None else self.class_percent
        return self.kwh * hypot(accuracy, self.moments_percent) / 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Whether the books close, and if not, where."""

    closure_percent: float | None
    """|feed - (ups_in + cooling + other)| over feed; None while a meter of it is missing."""
    tolerance_percent: float | None
    closes: bool | None
    """None when nothing could be compared."""
    findings: tuple[str, ...]
    """In words: which meters do not agree, by how much, and which one is suspected."""


def energy_balance(meters: Mapping[str, MeteredEnergy], *, expected_ups_loss_kwh: float | None = None) -> Balance:
    """Compares what the meters say, by position (feed, ups_in, ups_out, it, cooling, other).

    `expected_ups_loss_kwh` is the loss that the UPS's data sheet or model gives for the period; with it an error of the UPS's
    input or output meter is told from the loss itself.
    """
    findings: list[str] = []
    compared = 0
    closure, tolerance = None, None
    parts = [meters[p] for p in ("ups_in", "cooling", "other") if p in meters]
    if "feed" in meters and "ups_in" in meters and "cooling" in meters and meters["feed"].kwh > RESOLUTION_KWH:
        feed = meters["feed"]
        compared += 1
        difference = feed.kwh - sum(part.kwh for part in parts)
        allowed = _combined(feed, *parts)
        closure = abs(difference) / feed.kwh * 100.0
        tolerance = allowed / feed.kwh * 100.0
        if abs(difference) > allowed:
            findings.append(f"feed says {_signed(difference / feed.kwh)} than ups_in, cooling and other together")
    if "ups_out" in meters and "it" in meters and meters["ups_out"].kwh > RESOLUTION_KWH:
        compared += 1
        out, it = meters["ups_out"], meters["it"]
        difference = out.kwh - it.kwh
        if abs(difference) > _combined(out, it):
            findings.append(f"ups_out says {_signed(difference / out.kwh)} than it")
    if "ups_in" in meters and "ups_out" in meters and meters["ups_in"].kwh > RESOLUTION_KWH:
        compared += 1
        findings.extend(_ups(meters["ups_in"], meters["ups_out"], expected_ups_loss_kwh))
    if not compared:
        return Balance(closure_percent=None, tolerance_percent=None, closes=None, findings=())
    suspect = _suspect(findings)
    told = (*findings, f"suspected: the meter at position {suspect}") if suspect else tuple(findings)
    return Balance(closure_percent=closure, tolerance_percent=tolerance, closes=not findings, findings=told)


def _ups(into: MeteredEnergy, out: MeteredEnergy, expected_loss_kwh: float | None) -> list[str]:
    loss = into.kwh - out.kwh
    allowed = _combined(into, out)
    if loss < -allowed:
        return [f"ups_out says {-loss / into.kwh:.1%} more than ups_in: a UPS on mains gives out less than it takes"]
    if expected_loss_kwh is not None and abs(loss - expected_loss_kwh) > allowed:
        return [f"ups_in less ups_out is {loss / into.kwh:.1%} of ups_in; the UPS should lose {expected_loss_kwh / into.kwh:.1%}"]
    if expected_loss_kwh is None and loss > LOSS_SHARE_MAX * into.kwh + allowed:
        return [f"ups_in less ups_out is {loss / into.kwh:.1%} of ups_in: more than a UPS loses"]
    return []


def _combined(*meters: MeteredEnergy) -> float:
    """What independent errors within their classes may add up to: the root of the sum of squares (JCGM 100, GUM)."""
    return hypot(*(meter.tolerance_kwh for meter in meters)) + RESOLUTION_KWH


def _suspect(findings: list[str]) -> str | None:
    """The position that alone explains the findings: each meter stands in its own set of comparisons."""
    at_feed = any(f.startswith("feed") for f in findings)
    at_it = any(f.startswith("ups_out says") and f.endswith("than it") for f in findings)
    at_ups = any(f.startswith("ups_in less") or "a UPS on mains" in f for f in findings)
    by_pattern = {
        (True, False, False): "feed or cooling",
        (True, True, False): None,
        (True, False, True): "ups_in",
        (False, True, True): "ups_out",
        (False, True, False): "it",
        (False, False, True): "ups_in or ups_out",
    }
    return by_pattern.get((at_feed, at_it, at_ups))


def _signed(share: float) -> str:
    return f"{abs(share):.1%} {'more' if share > 0 else 'less'}"
