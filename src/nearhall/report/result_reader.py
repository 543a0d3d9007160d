"""Reads `plan-result.json` and `decision.json`: figures with their spread and their evidence, and words with theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from nearhall.core.evidence import Kind
from nearhall.report.evidence_marks import MARKS, Figure
from nearhall.report.formats import NO_VALUE, plain
from nearhall.report.reader import PilotReader, elements, members

Form = Callable[[float], str]
RETURNS = frozenset({"npv", "p_npv_positive", "payback_years", "npv_histogram", "cash_by_year", "tornado"})
"""Parts of a pointer that name a return, of which is known what moves it."""
MOVERS = 3
QUANTILE_WORDS = {"p10": "P10", "p50": "P50", "p90": "P90", "p99": "P99", "value": "value", "mean": "mean"}


class ResultReader(PilotReader):
    """A document of quantities. A part that is missing, null or no number is a dash with a reason, never a failure."""

    def __init__(self, document: Mapping[str, Any], name: str = "plan-result.json") -> None:
        super().__init__(document)
        self.name = name

    def number(self, pointer: str) -> float | None:
        """The number at a pointer; None when there is none, or none that is finite."""
        value = super().number(pointer)
        return value if value is not None and isfinite(value) else None

    def figure(self, pointer: str, form: Form, *, missing: str = "") -> Figure:
        """The figure at a pointer, formatted, with its evidence."""
        return super().figure(pointer, form, missing=missing or self.missing(pointer))

    def believed(self, pointer: str) -> tuple[Kind, str]:
        """How the figure at a pointer came to be; a reckoned one says from how many numbers, never only from some of them."""
        kind, source = self.evidence.find(pointer)
        if pointer.endswith("/days"):
            return kind, "this tool's estimate of how long that takes"
        inputs = {
            name: n for name, n in members((self.evidence.entry(pointer) or {}).get("inputs")).items() if isinstance(n, int)
        }
        if not inputs:
            return kind, source
        assumed = inputs.get(Kind.ASSUMED.value, 0)
        told = f"reckoned from {sum(inputs.values())} numbers, {assumed or 'none'} of them assumed"
        return kind, "; ".join([told, *self._moved_by(pointer)])

    def _moved_by(self, pointer: str) -> list[str]:
        """What moves a return most, in words; nothing where the figure is no return, or nobody has reckoned that."""
        if not set(pointer.split("/")) & RETURNS:
            return []
        bars = [
            (abs(high - low), bar)
            for below, bar in self.items("/money/tornado")
            for low, high in [(self.number(f"{below}/low"), self.number(f"{below}/high"))]
            if low is not None and high is not None
        ]
        names = [bar_words(bar) for _, bar in sorted(bars, key=lambda row: -row[0])[:MOVERS]]
        return [f"what moves the return of all sites most: {'; '.join(names)}"] if names else []

    def missing(self, what: str) -> str:
        """Why there is a dash."""
        return f"{self.name} does not hold {what}"

    def middle(self, pointer: str) -> float | None:
        """The median of an uncertain number, or the number itself where nothing is said of its spread."""
        whole = self.number(pointer)
        return whole if whole is not None else self.number(f"{pointer}/p50")

    def median(self, pointer: str, form: Form) -> Figure:
        """The median as a figure."""
        value = self.middle(pointer)
        return self.texts(pointer, form(value)) if value is not None else Figure(text=NO_VALUE, missing=self.missing(pointer))

    def between(self, pointer: str, form: Form, *, ends: Sequence[str] = ("p10", "p90")) -> Figure:
        """From one quantile to another."""
        low, high = (self.number(f"{pointer}/{end}") for end in ends)
        if low is None or high is None:
            return Figure(text=NO_VALUE, missing=self.missing(f"{pointer} at {' and '.join(ends)}"))
        return self.texts(pointer, f"{form(low)} to {form(high)}")

    def letter(self, pointer: str) -> str:
        """The evidence of what a picture draws, for its axis: ` [A]`."""
        return f" [{MARKS[self.evidence.find(pointer)[0]].letter}]"

    def text(self, pointer: str) -> str:
        """The words at a pointer; nothing where there are none."""
        value = self.at(pointer)
        return value if isinstance(value, str) else ""

    def sentence(self, pointer: str) -> Figure:
        """The words at a pointer with the evidence of what they say."""
        said = self.text(pointer)
        return self.texts(pointer, said) if said else Figure(text=NO_VALUE, missing=self.missing(pointer))

    def sentences(self, pointer: str) -> list[Figure]:
        """Each of a list of words."""
        return [
            self.texts(f"{pointer}/{index}", said)
            for index, said in enumerate(elements(self.at(pointer)))
            if isinstance(said, str) and said
        ]

    def series(self, pointer: str) -> list[float]:
        """The numbers of a list; NaN, which is not drawn, for what is none."""
        return [_number(value) for value in elements(self.at(pointer))]

    def mapping(self, pointer: str) -> Mapping[str, Any]:
        """The object at a pointer; an empty one where there is none."""
        return members(self.at(pointer))


def bar_words(bar: Mapping[str, Any]) -> str:
    """What an input of the tornado is called."""
    name, words = str(bar.get("name") or "?"), str(bar.get("words") or "")
    return words if words and words != name else path_words(name)


UNIT_ENDS = ("_usd", "_w", "_kw", "_kva", "_kwh", "_per_s", "_ms", "_s", "_min", "_h", "_km", "_c", "_kb", "_gib")


def path_words(name: str) -> str:
    """A path in the plan as words: `hardware.orin.busy_w` is `orin: busy`. The unit stands with the figure."""
    parts = name.removeprefix("default:").split(".")
    if parts[-1] == "value":
        parts[-1] = "what its answers are worth"
    last = next((parts[-1].removesuffix(end) for end in UNIT_ENDS if parts[-1].endswith(end)), parts[-1])
    if len(parts) < 3:
        return _priced(" ".join([*parts[:-1], last]))
    return f"{parts[1]}: {_priced(' '.join([*parts[2:-1], last]))}"


def _priced(name: str) -> str:
    return plain(name).replace("usd per", "price per")


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    return float("nan")
