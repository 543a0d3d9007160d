"""plan.yaml: workloads, hardware, sites, hubs, feeders, and what the decision must hold (schema `nearhall/plan/v1`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from nearhall.documents.plain import Plain
from nearhall.documents.plan_place import Feeder, Hardware, Hub, Site
from nearhall.documents.plan_work import Workload
from nearhall.documents.strict import Strict

SAMPLES_MAX = 200_000
SITES_MAX, WORKLOADS_MAX = 1000, 64


class Correlation(Strict):
    """How alike sites' loads move: parts of the variance that all sites, or a region's sites, have in common."""

    common: Annotated[float, Plain("1")] = Field(default=0.4, ge=0, le=1)
    regional: Annotated[float, Plain("1")] = Field(default=0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _parts_of_one(self) -> Correlation:
        if self.common + self.regional > 1:
            raise ValueError("common and regional are parts of one variance; together at most 1")
        return self


class Decision(Strict):
    """What must hold before the plan is scaled."""

    min_p_npv_positive: Annotated[float, Plain("1")] = Field(default=0.8, ge=0, le=1)
    min_p_slo: Annotated[float, Plain("1")] = Field(default=0.95, ge=0, le=1)
    min_p_pue_below: dict[float, float] = Field(default={})
    pilots_min: int = Field(default=3, ge=1, le=1000)
    min_p_per_request: Annotated[float, Plain("1")] = Field(default=0.8, ge=0, le=1)
    """That a request in time takes no more joules, and costs no more, than by hub and network."""


class Rollout(Strict):
    """In which steps sites are built."""

    pilot_sites: int = Field(default=3, ge=1)
    pilot_years: Annotated[float, Plain("years")] = Field(default=0.5, gt=0, le=5)
    waves: list[float] = Field(default=[0.3, 0.7], min_length=1, max_length=10)
    """Shares of the remaining sites, a year apart."""

    @field_validator("waves")
    @classmethod
    def _whole(cls, value: list[float]) -> list[float]:
        if abs(sum(value) - 1) > 1e-6 or min(value) <= 0:
            raise ValueError("waves are shares above 0 that sum to 1")
        return value


class Plan(Strict):
    """The whole of plan.yaml."""

    schema_: Literal["nearhall/plan/v1"] = Field(alias="schema")
    name: str = Field(default="", max_length=120)
    currency: Literal["USD"] = "USD"
    """All prices are in US dollars, as the fields' names say."""
    horizon_years: int = Field(default=5, ge=1, le=30)
    discount_rate: Annotated[float, Plain("1")] = Field(default=0.08, ge=0, lt=1)
    seed: int = Field(default=42, ge=0)
    samples: int = Field(default=10_000, ge=200, le=SAMPLES_MAX)
    workloads: list[Workload] = Field(min_length=1, max_length=WORKLOADS_MAX)
    hardware: list[Hardware] = Field(min_length=1, max_length=64)
    sites: list[Site] = Field(min_length=1, max_length=SITES_MAX)
    hubs: list[Hub] = Field(min_length=1, max_length=64)
    feeders: list[Feeder] = Field(default=[], max_length=SITES_MAX)
    correlation: Correlation = Correlation()
    decision: Decision = Decision()
    rollout: Rollout = Rollout()

    def hardware_at(self, place: Site | Hub) -> tuple[str, ...]:
        """Ids of what may answer at a place: what is said there, else all of the plan's."""
        if place.hardware is None:
            return tuple(hardware.id for hardware in self.hardware)
        return (place.hardware,) if isinstance(place.hardware, str) else tuple(place.hardware)
