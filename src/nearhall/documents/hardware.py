"""The hardware catalogue (`nearhall/hardware/v1`): what servers draw and how fast they are, each figure with its source."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nearhall.core.errors import InputError
from nearhall.documents.yaml_file import parse_document


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Figure = Literal["mem_gib", "memory_gb_each", "peak_tflops", "bandwidth_gb_s", "cost_usd", "nameplate_w", "supplies"]
"""A figure of a system that the benchmark's logs do not hold."""


class Fact(_Strict):
    """Why a figure may be believed."""

    kind: Literal["measured", "vendor", "standard", "assumed"]
    source: str
    date: str


class Benchmark(_Strict):
    """One run of a published benchmark on the system."""

    model: str
    """As the benchmark names it, without its accuracy target: `resnet50`, `bert`."""
    scenario: Literal["single", "multi", "offline", "server"]
    run: str
    """The very row: round, system, benchmark, scenario. `v2.1/Orin_TRT_MaxQ bert-99 SingleStream`."""
    per_s: float | None = Field(default=None, gt=0)
    """Samples a second: `offline` at full batches, `server` at random arrivals within its own latency limit."""
    latency_p90_ms: float | None = Field(default=None, gt=0)
    """`single`: one request at a time."""
    latency_p99_ms: float | None = Field(default=None, gt=0)
    """`multi`: of a query, which is eight samples at once."""
    mj_per_query: float | None = Field(default=None, gt=0)
    """Of the wall, `single` and `multi`; of `multi` a query is eight samples."""
    mean_w: float = Field(gt=0)
    p99_w: float = Field(gt=0)


class Price(_Strict):
    """What one costs."""

    p50: float = Field(gt=0)
    p90: float = Field(gt=0)

    @model_validator(mode="after")
    def _p90_is_no_less(self) -> Price:
        if self.p90 < self.p50:
            message = f"p90 {self.p90:g} is below p50 {self.p50:g}"
            raise ValueError(message)
        return self


class Round(_Strict):
    """One round of the benchmark."""

    date: str
    """When its results were published."""
    source: str


class System(_Strict):
    """One server or module."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    name: str
    refs: list[str] = []
    """Other names of it: `mlperf:v2.1/Orin_TRT_MaxQ`."""
    supply: Literal["brick", "shared_dc", "server"]
    accelerators: int = Field(default=0, ge=0)
    memory_gb_each: float | None = Field(default=None, gt=0)
    """As sold: of one accelerator, or of the board where they share it. GB of the label, which is no unit to reckon with."""
    mem_gib: float | None = Field(default=None, gt=0)
    """Memory that models may use, of the whole server: what the driver reports, or the board's less what its system takes."""
    idle_w: float = Field(gt=0)
    busy_w: float = Field(gt=0)
    p99_w: float | None = Field(default=None, gt=0)
    power_factor: float | None = Field(gt=0, le=1)
    """None where it was not recorded: then the default of the supply's kind applies, and is assumed."""
    nameplate_w: float | None = Field(default=None, gt=0)
    supplies: float | None = Field(default=None, gt=0, le=64)
    """Power supplies of one; of modules that share one each one's part. None: the default of the supply's kind applies."""
    inrush_peak_a: float | None = Field(default=None, gt=0)
    leakage_ma: float | None = Field(default=None, ge=0)
    peak_tflops: float | None = Field(default=None, gt=0)
    """fp16, dense, of all accelerators."""
    bandwidth_gb_s: float | None = Field(default=None, gt=0)
    """Of all accelerators' memory."""
    cost_usd: Price | None = None
    kind: Literal["measured", "vendor", "standard", "assumed"]
    source: str
    """Of idle_w, busy_w, p99_w and power_factor: the benchmark's run."""
    date: str
    evidence: dict[Figure, Fact] = {}
    """Of the figures that no run holds."""
    benchmarks: list[Benchmark] = []

    @model_validator(mode="after")
    def _busy_is_more(self) -> System:
        if self.busy_w <= self.idle_w:
            message = f"busy_w of {self.id} is not above its idle_w"
            raise ValueError(message)
        return self

    def fact(self, figure: Figure) -> Fact:
        """Where a figure comes from; what nothing is said of comes from where the watts come from."""
        return self.evidence.get(figure) or Fact(kind=self.kind, source=self.source, date=self.date)


class Catalogue(_Strict):
    """All systems."""

    schema_: Literal["nearhall/hardware/v1"] = Field(alias="schema")
    default: str
    rounds: dict[str, Round] = {}
    """The benchmark's rounds by version: `v2.1`."""
    systems: list[System]

    def system(self, name: str) -> System:
        """The system with this id or one of its other names; raises InputError with the nearest known one, or all."""
        for system in self.systems:
            if name == system.id or name in system.refs:
                return system
        known = [name for system in self.systems for name in (system.id, *system.refs)]
        near = get_close_matches(name, known, n=1, cutoff=0.8)
        right = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(s.id for s in self.systems)}"
        raise InputError(f"the catalogue has no hardware {name!r}", right=right)


@cache
def load_catalogue() -> Catalogue:
    """The catalogue that ships with nearhall."""
    data = files("nearhall.documents").joinpath("data/hardware.yaml").read_bytes()
    return parse_document(data, Catalogue, name="hardware.yaml")
