"""Workloads of a plan: which model, how many requests, how soon they must be answered, what they carry and are worth."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from nearhall.core.quantity import Quantity
from nearhall.core.residency import Residency
from nearhall.documents.amount import InUnit
from nearhall.documents.plain import Plain
from nearhall.documents.plan_hours import SHAPES, Shape
from nearhall.documents.strict import Strict
from nearhall.documents.up import Identifier


class OwnModel(Strict):
    """A model that is in no catalogue, by its numbers."""

    params: Annotated[Quantity, InUnit("1", above=0)]
    layers: int | None = Field(default=None, gt=0)
    kv_heads: int | None = Field(default=None, gt=0)
    head_dim: int | None = Field(default=None, gt=0)
    gflop: Annotated[Quantity, InUnit("gflop", above=0)] | None = None
    """For one inference; for a language model it is 2 x params a token."""


class ModelWish(Strict):
    """Which model, how many bits, and for a language model how it is used."""

    kind: Literal["vision", "speech", "embedding", "llm"]
    ref: str | None = None
    """A model of the catalogue, or the name of an MLPerf benchmark (`mlperf:resnet50`)."""
    own: OwnModel | None = None
    bits: int | None = Field(default=None, ge=2, le=32)
    """Wanted precision; without it the best that fits is chosen."""
    ctx: int = Field(default=4096, gt=0, le=4_000_000)
    """Tokens that a conversation may hold."""
    concurrent: int = Field(default=1, gt=0, le=100_000)
    """Conversations held at once on one server."""
    prompt_tokens: Annotated[Quantity, InUnit("tokens", above=0)] | None = None
    output_tokens: Annotated[Quantity, InUnit("tokens", above=0)] | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> ModelWish:
        if (self.ref is None) == (self.own is None):
            raise ValueError("name a model of the catalogue with ref, or describe it with own: one of the two")
        return self


class LanguageModel(Strict):
    """A language model that is in no catalogue, all in one: the short form of `model: {kind: llm, own: ..}`."""

    params: Annotated[Quantity, InUnit("1", above=0)]
    layers: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    bits: int | None = Field(default=None, ge=2, le=32)
    ctx: int = Field(default=4096, gt=0, le=4_000_000)
    concurrent: int = Field(default=1, gt=0, le=100_000)
    prompt_tokens: Annotated[Quantity, InUnit("tokens", above=0)] | None = None
    output_tokens: Annotated[Quantity, InUnit("tokens", above=0)] | None = None

    @property
    def wish(self) -> ModelWish:
        """The same in full."""
        return ModelWish(
            kind="llm",
            own=OwnModel(params=self.params, layers=self.layers, kv_heads=self.kv_heads, head_dim=self.head_dim),
            bits=self.bits,
            ctx=self.ctx,
            concurrent=self.concurrent,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
        )


class Burst(Strict):
    """How much the rate rises above the busiest hour's mean, for how long at a time, and how much of that hour."""

    factor: Annotated[float, Plain("1")] = Field(default=1.0, ge=1, le=1000)
    seconds: Annotated[float, Plain("s")] = Field(default=30.0, gt=0, le=3600)
    share: Annotated[float, Plain("1")] = Field(default=0.05, gt=0, lt=1)

    @model_validator(mode="after")
    def _within_the_mean(self) -> Burst:
        if self.factor * self.share > 1:
            raise ValueError(
                f"bursts of {self.factor:g} times the mean for {self.share:.0%} of the hour are more than its requests"
            )
        return self


class Arrivals(Strict):
    """Requests at one site."""

    rate_per_s: Annotated[Quantity, InUnit("per_s", above=0)]
    """The mean over the busiest hour of the day."""
    shape: Shape = "shop"
    """How the day goes; its busiest hour is the rate."""
    burst: Burst = Burst()
    cv: Annotated[float, Plain("1")] = Field(default=1.0, ge=0, le=20)
    """Coefficient of variation of the times between arrivals within a burst: 0 a clock, 1 random, above 1 bunched."""

    @property
    def shape_file(self) -> str | None:
        """The file that holds the shape, where one is named and not read yet."""
        return self.shape if isinstance(self.shape, str) and self.shape not in SHAPES else None


class Slo(Strict):
    """What an answer must keep, at its own quantile."""

    p99_ms: Annotated[float, Plain("ms")] | None = Field(default=None, gt=0)
    ttft_p99_ms: Annotated[float, Plain("ms")] | None = Field(default=None, gt=0)
    """For language models: to the first token."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Slo:
        if (self.p99_ms is None) == (self.ttft_p99_ms is None):
            raise ValueError("give p99_ms, or ttft_p99_ms for a language model: one of the two")
        return self

    @property
    def limit_ms(self) -> float:
        """The limit, whichever it is of."""
        return self.p99_ms if self.p99_ms is not None else self.ttft_p99_ms or 0.0


class Payload(Strict):
    """What a request carries."""

    in_kb: Annotated[Quantity, InUnit("kB", least=0)]
    """As a sensible central design would send it: encoded video, PCM or Opus, JPEG."""
    out_kb: Annotated[Quantity, InUnit("kB", least=0)]
    residency: str = "any"

    @field_validator("residency")
    @classmethod
    def _known_residency(cls, value: str) -> str:
        Residency.parse(value)
        return value


class ServiceOn(Strict):
    """What the user measured of this workload's model on one hardware; it comes before the catalogue's figures."""

    hardware: Identifier
    service_ms: Annotated[Quantity, InUnit("ms", above=0)]
    """One request alone, in the runtime."""
    per_s: Annotated[Quantity, InUnit("per_s", above=0)]
    """Requests a second at full load of one server."""
    busy_w: Annotated[Quantity, InUnit("W", above=0)] | None = None


class Workload(Strict):
    """A stream of requests, at some sites or at all."""

    id: Identifier
    words: str = Field(default="", max_length=80)
    """What it does, as the person who signs would say it: `counts visitors by camera`."""
    model: ModelWish | None = None
    llm: LanguageModel | None = None
    arrivals: Arrivals
    slo: Slo
    data: Payload
    priority: int = Field(default=0, ge=0, le=9)
    sites: list[Identifier] | None = None
    """Where its requests arise; without it at every site."""
    measured: list[ServiceOn] = Field(default=[])
    value_usd_per_1000: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    """What a thousand answers within the SLO are worth beyond late ones, the same at site and hub."""
    value_usd_per_year: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    """What having it answered within the SLO is worth to one site for a year: what it earns, or what a rented service costs."""

    value_per_ms_usd_year: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    """What each millisecond by which the p99 is shorter than the hub's is worth to one site for a year."""

    @model_validator(mode="after")
    def _one_model(self) -> Workload:
        if (self.model is None) == (self.llm is None):
            raise ValueError("needs model: {kind: .., ref: ..}, or llm: {params: .., layers: ..} for an own one: one of the two")
        return self

    @property
    def wish(self) -> ModelWish:
        """Its model, however it is written."""
        if self.llm is not None:
            return self.llm.wish
        assert self.model is not None  # noqa: S101 (one of the two is there)
        return self.model

    @model_validator(mode="after")
    def _valued_once(self) -> Workload:
        if self.value_usd_per_1000 is not None and self.value_usd_per_year is not None:
            raise ValueError("takes value_usd_per_1000 or value_usd_per_year, not both: it would count twice")
        return self
