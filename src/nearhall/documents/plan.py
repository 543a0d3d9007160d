"""plan.yaml: workloads, hardware, sites, hubs, feeders, and what the decision must hold (schema `nearhall/plan/v1`)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nearhall.core.quantity import Quantity
from nearhall.core.residency import Residency
from nearhall.documents.amount import InUnit
from nearhall.documents.site import Jurisdiction
from nearhall.documents.up import Identifier

SAMPLES_MAX = 200_000
SITES_MAX, WORKLOADS_MAX = 1000, 64

Hours = Annotated[list[float], Field(min_length=24, max_length=24)]
"""A value for each hour of a day, local time; only its shape counts where a mean is given beside it."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, arbitrary_types_allowed=True)


class OwnModel(_Strict):
    """A model that is in no catalogue, by its numbers."""

    params: Annotated[Quantity, InUnit("1", above=0)]
    layers: int | None = Field(default=None, gt=0)
    kv_heads: int | None = Field(default=None, gt=0)
    head_dim: int | None = Field(default=None, gt=0)
    gflop: Annotated[Quantity, InUnit("gflop", above=0)] | None = None
    """For one inference; for a language model it is 2 x params a token."""


class ModelWish(_Strict):
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


class Burst(_Strict):
    """How much the rate rises above the busiest hour's mean, for how long at a time, and how much of that hour."""

    factor: float = Field(default=1.0, ge=1, le=1000)
    seconds: float = Field(default=30.0, gt=0, le=3600)
    share: float = Field(default=0.05, gt=0, lt=1)

    @model_validator(mode="after")
    def _within_the_mean(self) -> Burst:
        if self.factor * self.share > 1:
            raise ValueError(
                f"bursts of {self.factor:g} times the mean for {self.share:.0%} of the hour are more than its requests"
            )
        return self


class Arrivals(_Strict):
    """Requests at one site."""

    rate_per_s: Annotated[Quantity, InUnit("per_s", above=0)]
    """The mean over the busiest hour of the day."""
    shape: Literal["flat", "office", "shop", "evening"] | Hours = "shop"
    """How the day goes; its busiest hour is the rate."""
    burst: Burst = Burst()
    cv: float = Field(default=1.0, ge=0, le=20)
    """Coefficient of variation of the times between arrivals within a burst: 0 a clock, 1 random, above 1 bunched."""


class Slo(_Strict):
    """What an answer must keep, at its own quantile."""

    p99_ms: float | None = Field(default=None, gt=0)
    ttft_p99_ms: float | None = Field(default=None, gt=0)
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


class Payload(_Strict):
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


class ServiceOn(_Strict):
    """What the user measured of this workload's model on one hardware; it comes before the catalogue's figures."""

    hardware: Identifier
    service_ms: Annotated[Quantity, InUnit("ms", above=0)]
    """One request alone, in the runtime."""
    per_s: Annotated[Quantity, InUnit("per_s", above=0)]
    """Requests a second at full load of one server."""
    busy_w: Annotated[Quantity, InUnit("W", above=0)] | None = None


class Workload(_Strict):
    """A stream of requests, at some sites or at all."""

    id: Identifier
    model: ModelWish
    arrivals: Arrivals
    slo: Slo
    data: Payload
    priority: int = Field(default=0, ge=0, le=9)
    sites: list[Identifier] | None = None
    """Where its requests arise; without it at every site."""
    measured: list[ServiceOn] = []
    value_usd_per_1000: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    """What a thousand answers within the SLO are worth beyond late ones, the same at site and hub."""
    value_usd_per_year: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    """What having it answered within the SLO is worth to one site for a year: what it earns, or what a rented service costs."""

    @model_validator(mode="after")
    def _valued_once(self) -> Workload:
        if self.value_usd_per_1000 is not None and self.value_usd_per_year is not None:
            raise ValueError("takes value_usd_per_1000 or value_usd_per_year, not both: it would count twice")
        return self


class Hardware(_Strict):
    """A server that the plan may use."""

    id: Identifier
    ref: str
    """A system of the catalogue: its id, or `mlperf:v2.1/Orin_TRT_MaxQ`."""
    mem_gib: Annotated[Quantity, InUnit("GiB", above=0)] | None = None
    """Usable memory of one server, if not the catalogue's."""
    cost_usd: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    idle_w: Annotated[Quantity, InUnit("W", above=0)] | None = None
    busy_w: Annotated[Quantity, InUnit("W", above=0)] | None = None
    power_factor: Annotated[Quantity, InUnit("1", above=0, most=1)] | None = None
    nameplate_w: Annotated[Quantity, InUnit("W", above=0)] | None = None
    inrush_peak_a: Annotated[Quantity, InUnit("A", above=0)] | None = None
    leakage_ma: Annotated[Quantity, InUnit("mA", least=0)] | None = None


class Supply(_Strict):
    """The feed of a site."""

    phases: Literal[1, 3]
    volts: float = Field(gt=50, lt=1000)
    """Line to neutral for one phase, line to line for three."""
    code: Literal["IEC", "NEC"]
    breaker_a: float | None = Field(default=None, gt=0, le=6300)
    """What is there; without it the plan only says what is needed."""
    curve: Literal["B", "C", "D"] = "C"
    feeder: Identifier | None = None
    ambient_factor: float = Field(default=1.0, gt=0, le=1.3)
    grouping_factor: float = Field(default=1.0, gt=0, le=1)
    run_m: float | None = Field(default=None, gt=0)
    """Length of the cable from the board; with `mm2` the voltage drop is computed."""
    mm2: float | None = Field(default=None, gt=0)
    transformer_kva: float | None = Field(default=None, gt=0)
    impedance_percent: float | None = Field(default=None, gt=0, le=20)
    reinforced_pe: bool = False
    """A protective conductor of 10 mm2 copper or a second one, which leakage above 10 mA asks for."""
    switched_outlets: bool = False
    """Outlets that a controller switches one after another: the only staggering that prevents inrush."""


class Cooling(_Strict):
    """What carries the heat out."""

    kind: Literal["dx", "free", "liquid", "fans"] = "dx"
    capacity_kw: Annotated[Quantity, InUnit("kW", above=0)]
    ashrae: Literal["A1", "A2", "A3", "A4", "H1"] = Field(default="A2", alias="class")
    cop: Annotated[Quantity, InUnit("1", above=0)] | None = None
    """At the design outdoor temperature."""
    design_out_c: float = Field(default=35.0, ge=-40, le=60)
    supply_c: float = Field(default=24.0, ge=5, le=45)
    """Air into the servers."""
    on_ups: bool = False
    """Compressor and fans go on without mains."""
    restart_delay_s: float = Field(default=180.0, ge=0, le=3600)


class Ups(_Strict):
    """What holds a site without mains."""

    kva: float = Field(gt=0)
    kw: float = Field(gt=0)
    hold_min: float = Field(gt=0, le=1440)
    """What is required."""
    chem: Literal["vrla", "li-ion"] = "vrla"
    cyclable: bool = False
    """Whether the maker allows cycling for shaving peaks."""
    wear_usd_per_kwh: Annotated[Quantity, InUnit("usd_per_kwh", least=0)] | None = None
    """Of each kilowatt-hour discharged to shave: the battery's price over what it delivers in its life."""
    battery_kwh: float | None = Field(default=None, gt=0)
    ah: float | None = Field(default=None, gt=0)
    volts: float | None = Field(default=None, gt=0)
    table: list[tuple[float, float]] = []
    """The maker's constant-power table: [minutes, kW], new and at 25 degrees."""
    source: str | None = None

    @model_validator(mode="after")
    def _known_energy(self) -> Ups:
        if not self.table and self.battery_kwh is None and (self.ah is None or self.volts is None):
            raise ValueError("needs the maker's table, battery_kwh, or ah and volts")
        if any(minutes <= 0 or kw <= 0 for minutes, kw in self.table):
            raise ValueError("table holds [minutes, kW], both above 0")
        rows = sorted(self.table)
        for (minutes, kw), (longer, less) in pairwise(rows):
            if longer == minutes or less > kw:
                right = "no more power for a longer time, as a battery gives it"
                raise ValueError(f"table gives {kw:g} kW for {minutes:g} min and {less:g} kW for {longer:g} min: wants {right}")
        return self


class Tariff(_Strict):
    """What the site's electricity costs."""

    energy_usd_per_kwh: Annotated[Quantity, InUnit("usd_per_kwh", least=0)]
    demand_usd_per_kw_month: Annotated[Quantity, InUnit("usd_per_kw_month", least=0)] | None = None
    ratchet: float = Field(default=0.0, ge=0, le=1)
    """Share of the highest past peak that is billed at least."""


class Uplink(_Strict):
    """What the line to the hub costs, as its contract bills it."""

    kind: Literal["flat_step", "per_gb", "p95_mbps", "lte_quota"]
    usd_per_month: list[float] = Field(default=[], max_length=16)
    """flat_step: of each step; lte_quota: the base fee (one value)."""
    steps_mbps: list[float] = Field(default=[], max_length=16)
    usd_per_gb: Annotated[Quantity, InUnit("usd_per_gb", least=0)] | None = None
    """per_gb; for lte_quota beyond the quota."""
    usd_per_mbps_month: Annotated[Quantity, InUnit("usd_per_mbps_month", least=0)] | None = None
    quota_gb: float | None = Field(default=None, gt=0)
    mbps: float = Field(default=100.0, gt=0, le=400_000)
    """How fast the line is; of a flat_step line the step that is needed says it."""
    rtt_ms: Annotated[Quantity, InUnit("ms", above=0)] | None = None
    """Measured round trip to the hub; without it distance and access class give one."""

    @model_validator(mode="after")
    def _whole(self) -> Uplink:
        needs: dict[str, tuple[bool, str]] = {
            "flat_step": (len(self.steps_mbps) == len(self.usd_per_month) > 0, "steps_mbps and as many usd_per_month"),
            "per_gb": (self.usd_per_gb is not None, "usd_per_gb"),
            "p95_mbps": (self.usd_per_mbps_month is not None, "usd_per_mbps_month"),
            "lte_quota": (
                self.quota_gb is not None and self.usd_per_gb is not None and len(self.usd_per_month) == 1,
                "quota_gb, usd_per_gb and one usd_per_month",
            ),
        }
        holds, what = needs[self.kind]
        if not holds:
            raise ValueError(f"an uplink of kind {self.kind} needs {what}")
        if sorted(self.steps_mbps) != self.steps_mbps:
            raise ValueError("steps_mbps ascends")
        return self


HOURS_A_YEAR = 8760


class Climate(_Strict):
    """Outdoor temperature over a year: a file of hours, or where none is at hand two cosines."""

    mean_c: float | None = Field(default=None, ge=-40, le=45)
    season_c: float | None = Field(default=None, ge=0, le=40)
    """Half the difference between the warmest and the coldest month's mean."""
    day_c: float = Field(default=5.0, ge=0, le=25)
    """Half the difference between afternoon and night."""
    file: str | None = Field(default=None, min_length=1, max_length=300)
    """CSV beside the plan: 8,760 hours from 1 January, degrees C in the column `outdoor_c`, or in the only one."""
    hours_c: list[float] | None = Field(default=None, min_length=HOURS_A_YEAR, max_length=HOURS_A_YEAR)
    """What the file holds; read by `nearhall plan`."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Climate:
        cosines = self.mean_c is not None and self.season_c is not None
        if not cosines and self.file is None and self.hours_c is None:
            raise ValueError("give mean_c and season_c, or a file of 8,760 hours")
        return self


class Operations(_Strict):
    """What keeps a site running."""

    visits_per_year: Annotated[Quantity, InUnit("per_year", least=0)] | None = None
    usd_per_visit: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    patching_h_per_year: Annotated[Quantity, InUnit("h", least=0)] | None = None
    usd_per_h: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    spares_share: Annotated[Quantity, InUnit("1", least=0, most=1)] | None = None
    """Of the hardware's price, a year."""


class Site(_Strict):
    """One small data center, or `count` of a kind."""

    id: Identifier
    count: int = Field(default=1, ge=1, le=100_000)
    """How many like it are planned."""
    site_class: Literal["device", "micro", "distributed", "regional"] = Field(default="micro", alias="class")
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    altitude_m: float = Field(default=0.0, ge=-430, le=5500)
    jurisdiction: Jurisdiction
    hardware: list[Identifier] = Field(min_length=1, max_length=16)
    """What may stand here; the cheapest that keeps the SLO is taken."""
    it_budget_kw: float = Field(gt=0, le=5000)
    supply: Supply
    cooling: Cooling
    ups: Ups | None = None
    tariff: Tariff
    uplink: Uplink
    climate: Climate | None = None
    access: Literal["fibre", "cable", "lte", "5g"] = "fibre"
    enclosure_usd: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    """Cabinet, cooling, UPS, meters, installation."""
    operations: Operations = Operations()


class Hub(_Strict):
    """The regional data center."""

    id: Identifier
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    jurisdiction: Jurisdiction
    cap_kw: float = Field(gt=0)
    hardware: Identifier
    usd_per_server_hour: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    """What one server of its hardware costs an hour, all in; by how busy it is kept follows the cost of a request."""
    utilisation: Annotated[Quantity, InUnit("1", above=0, most=1)] | None = None
    pue: Annotated[Quantity, InUnit("1", least=1)] | None = None
    egress: Literal["none", "aws", "azure"] = "none"
    """What leaves the cloud is billed by its tiers; what goes in usually is not."""


class Feeder(_Strict):
    """A line of the grid that several sites share."""

    id: Identifier
    headroom_kva: float = Field(gt=0)
    """What the sites may take beside what is on it already."""
    sites_each: int = Field(default=1, ge=1, le=10_000)
    """How many sites of a kind (`count`) hang on one such feeder."""
    existing_kva: Hours | None = None
    """What is on it already, by hour of the day."""


class Correlation(_Strict):
    """How alike sites' loads move: parts of the variance that all sites, or a region's sites, have in common."""

    common: float = Field(default=0.4, ge=0, le=1)
    regional: float = Field(default=0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _parts_of_one(self) -> Correlation:
        if self.common + self.regional > 1:
            raise ValueError("common and regional are parts of one variance; together at most 1")
        return self


class Decision(_Strict):
    """What must hold before the plan is scaled."""

    min_p_npv_positive: float = Field(default=0.8, ge=0, le=1)
    min_p_slo: float = Field(default=0.95, ge=0, le=1)
    min_p_pue_below: dict[float, float] = {}
    pilots_min: int = Field(default=3, ge=1, le=1000)


class Rollout(_Strict):
    """In which steps sites are built."""

    pilot_sites: int = Field(default=3, ge=1)
    pilot_years: float = Field(default=0.5, gt=0, le=5)
    waves: list[float] = Field(default=[0.3, 0.7], min_length=1, max_length=10)
    """Shares of the remaining sites, a year apart."""

    @field_validator("waves")
    @classmethod
    def _whole(cls, value: list[float]) -> list[float]:
        if abs(sum(value) - 1) > 1e-6 or min(value) <= 0:
            raise ValueError("waves are shares above 0 that sum to 1")
        return value


class Plan(_Strict):
    """The whole of plan.yaml."""

    schema_: Literal["nearhall/plan/v1"] = Field(alias="schema")
    name: str = Field(default="", max_length=120)
    currency: Literal["USD"] = "USD"
    """All prices are in US dollars, as the fields' names say."""
    horizon_years: int = Field(default=5, ge=1, le=30)
    discount_rate: float = Field(default=0.08, ge=0, lt=1)
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
