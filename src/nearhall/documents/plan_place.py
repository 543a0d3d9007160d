"""Places of a plan: servers, sites with their feed, cooling, UPS, tariff and line, hubs, and the feeders that sites share."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, model_validator

from nearhall.core.errors import InputError
from nearhall.core.quantity import Quantity
from nearhall.documents.amount import InUnit
from nearhall.documents.plain import Plain
from nearhall.documents.plan_hours import HOURS_A_YEAR, Existing
from nearhall.documents.site import Jurisdiction
from nearhall.documents.strict import Strict
from nearhall.documents.up import Identifier

FeederName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,30}$")]
"""As the grid's operator calls it."""
PLUGGED: dict[str, str] = {"IEC": "line_to_neutral", "NEC": "line_to_line"}
"""Where a plan does not say how single-phase equipment is plugged: 230 V of 400Y/230, 208 V of 208Y/120."""


class Hardware(Strict):
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
    supplies: Annotated[Quantity, InUnit("1", above=0, most=64)] | None = None
    """Power supplies of one server, each with a cord of its own; 0.25 where four modules share one."""
    inrush_peak_a: Annotated[Quantity, InUnit("A", above=0)] | None = None
    """Of one supply, as `leakage_ma` is."""
    leakage_ma: Annotated[Quantity, InUnit("mA", least=0)] | None = None


class Supply(Strict):
    """The feed of a site."""

    phases: Literal[1, 3]
    volts: Annotated[float, Plain("V")] = Field(gt=50, lt=1000)
    """Line to neutral for one phase, line to line for three."""
    code: Literal["IEC", "NEC"]
    plugged: Literal["line_to_neutral", "line_to_line"] | None = None
    """How single-phase equipment stands on three lines; without it to the neutral by IEC, between lines by NEC."""
    breaker_a: Annotated[float, Plain("A")] | None = Field(default=None, gt=0, le=6300)
    """What is there; without it the plan only says what is needed."""
    curve: Literal["B", "C", "D"] = "C"
    feeder: FeederName | None = None
    ambient_factor: Annotated[float, Plain("1")] = Field(default=1.0, gt=0, le=1.3)
    """IEC, of breaker and cable alike, as `grouping_factor` is: what a warm place leaves of their amperes."""
    grouping_factor: Annotated[float, Plain("1")] = Field(default=1.0, gt=0, le=1)
    run_m: Annotated[float, Plain("m")] | None = Field(default=None, gt=0)
    """Length of the cable from the board; with `mm2` the voltage drop is computed."""
    mm2: Annotated[float, Plain("mm2")] | None = Field(default=None, gt=0)
    """Copper of each conductor of that cable; with it the breaker is held against what the cable carries."""
    cables: int = Field(default=1, ge=1, le=24)
    """So many of it in parallel."""
    transformer_kva: Annotated[float, Plain("kVA")] | None = Field(default=None, gt=0)
    transformer_phases: Literal[1, 3] | None = None
    """Without it as many as `phases`."""
    impedance_percent: Annotated[float, Plain("percent")] | None = Field(default=None, gt=0, le=20)
    reinforced_pe: bool = False
    """A protective conductor of 10 mm2 copper or a second one, which leakage above 10 mA asks for."""
    switched_outlets: bool = False
    """Outlets that a controller switches one after another: the only staggering that prevents inrush."""
    limiter_a: Annotated[float, Plain("A")] | None = Field(default=None, gt=0)
    """Crest that an inrush limiter before all outlets lets through on each line when power returns."""
    compressor_start: Annotated[float, Plain("1")] | None = Field(default=None, ge=1, le=12)
    """Current of a compressor's start over its running current: 5 to 8 at once, 2 to 4 by a soft starter, 1 by a drive."""

    @model_validator(mode="after")
    def _transformer_has_its_lines(self) -> Supply:
        if self.phases == 3 and self.transformer_phases == 1:
            raise ValueError("three phases come from no single-phase transformer: leave transformer_phases out, or say 3")
        return self

    @property
    def to_neutral(self) -> bool:
        """Whether single-phase equipment stands between a line and the neutral of three lines."""
        return self.phases == 3 and (self.plugged or PLUGGED[self.code]) == "line_to_neutral"


class Cooling(Strict):
    """What carries the heat out."""

    kind: Literal["dx", "free", "liquid", "fans"] = "dx"
    capacity_kw: Annotated[Quantity, InUnit("kW", above=0)]
    ashrae: Literal["A1", "A2", "A3", "A4", "H1"] = Field(default="A2", alias="class")
    cop: Annotated[Quantity, InUnit("1", above=0)] | None = None
    """At the design outdoor temperature."""
    design_out_c: Annotated[float, Plain("C")] = Field(default=35.0, ge=-40, le=60)
    supply_c: Annotated[float, Plain("C")] = Field(default=24.0, ge=5, le=45)
    """Air into the servers."""
    ups_carries: bool | list[Literal["fans", "compressor"]] = Field(default=False, alias="on_ups")
    """What goes on without mains: all of it (true), nothing (false), or a list: [fans], [fans, compressor]."""
    restart_delay_s: Annotated[float, Plain("s")] = Field(default=180.0, ge=0, le=3600)
    """What a compressor that stopped takes from power to cold air."""
    thermal_kj_per_k: Annotated[Quantity, InUnit("kj_per_k", above=0)] | None = None
    """Heat that the cabinet takes up per kelvin, measured at the site: switch the cooling off and read the inlet."""
    other_heat_w: Annotated[Quantity, InUnit("W", least=0)] | None = None
    """What comes in through walls, from the sun, light and people, at the hottest."""
    liquid_share: Annotated[Quantity, InUnit("1", above=0, most=1)] | None = None
    """kind liquid: of the heat, what the liquid takes; the rest warms the air."""
    recirculates: bool = False
    """kinds free and fans: cold outdoor air is mixed with the servers' own warmth until it is warm enough."""

    @model_validator(mode="after")
    def _a_compressor_needs_its_fans(self) -> Cooling:
        if self.compressor_on_ups and not self.fans_on_ups:
            raise ValueError("on_ups: a compressor cools nothing without its fans: write [fans, compressor]")
        return self

    @property
    def fans_on_ups(self) -> bool:
        """Whether air moves without mains."""
        return self.ups_carries if isinstance(self.ups_carries, bool) else "fans" in self.ups_carries

    @property
    def compressor_on_ups(self) -> bool:
        """Whether a compressor runs without mains."""
        return self.ups_carries if isinstance(self.ups_carries, bool) else "compressor" in self.ups_carries

    @property
    def on_ups(self) -> bool:
        """Whether all of the cooling goes on without mains."""
        return self.fans_on_ups and (self.kind == "fans" or self.compressor_on_ups)


class Ups(Strict):
    """What holds a site without mains."""

    kva: Annotated[float, Plain("kVA")] = Field(gt=0)
    kw: Annotated[float, Plain("kW")] = Field(gt=0)
    hold_min: Annotated[float, Plain("min")] = Field(gt=0, le=1440)
    """What is required."""
    chem: Literal["vrla", "li-ion"] = "vrla"
    cyclable: bool = False
    """Whether the maker allows cycling for shaving peaks."""
    wear_usd_per_kwh: Annotated[Quantity, InUnit("usd_per_kwh", least=0)] | None = None
    """Of each kilowatt-hour discharged to shave: the battery's price over what it delivers in its life."""
    battery_kwh: Annotated[float, Plain("kWh")] | None = Field(default=None, gt=0)
    ah: Annotated[float, Plain("Ah")] | None = Field(default=None, gt=0)
    volts: Annotated[float, Plain("V")] | None = Field(default=None, gt=0, validation_alias=AliasChoices("volts", "cell_v"))
    """Of one string of cells."""
    strings: int = Field(default=1, ge=1, le=1000)
    """How many such strings, each of `ah`."""
    charger_kw: Annotated[float, Plain("kW")] | None = Field(default=None, gt=0)
    """What the charger adds to the UPS's input at most; without it what fills an empty battery within the usual hours."""
    table: list[tuple[float, float]] = Field(default=[])
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


class Tariff(Strict):
    """What the site's electricity costs."""

    energy_usd_per_kwh: Annotated[Quantity, InUnit("usd_per_kwh", least=0)]
    demand_usd_per_kw_month: Annotated[Quantity, InUnit("usd_per_kw_month", least=0)] | None = None
    ratchet: Annotated[float, Plain("1")] = Field(default=0.0, ge=0, le=1)
    """Share of the highest past peak that is billed at least."""


class Uplink(Strict):
    """What the line to the hub costs, as its contract bills it."""

    kind: Literal["flat_step", "per_gb", "p95_mbps", "lte_quota"]
    usd_per_month: list[Annotated[float, Field(ge=0)]] = Field(default=[], max_length=16)
    """flat_step: of each step; lte_quota: the base fee (one value)."""
    steps_mbps: list[Annotated[float, Field(gt=0)]] = Field(default=[], max_length=16)
    usd_per_gb: Annotated[Quantity, InUnit("usd_per_gb", least=0)] | None = None
    """per_gb; for lte_quota beyond the quota."""
    usd_per_mbps_month: Annotated[Quantity, InUnit("usd_per_mbps_month", least=0)] | None = None
    quota_gb: Annotated[float, Plain("GB")] | None = Field(default=None, gt=0)
    mbps: Annotated[float, Plain("mbps")] = Field(default=100.0, gt=0, le=400_000)
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
            raise ValueError(
                "steps_mbps must rise: write them from the slowest to the fastest, and usd_per_month in the same order"
            )
        return self


class Climate(Strict):
    """Outdoor temperature over a year: a file of hours, or where none is at hand two cosines."""

    mean_c: Annotated[float, Plain("C")] | None = Field(default=None, ge=-40, le=45)
    season_c: Annotated[float, Plain("C")] | None = Field(default=None, ge=0, le=40)
    """Half the difference between the warmest and the coldest month's mean."""
    day_c: Annotated[float, Plain("C")] = Field(default=5.0, ge=0, le=25)
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


class Operations(Strict):
    """What keeps a site running."""

    visits_per_year: Annotated[Quantity, InUnit("per_year", least=0)] | None = None
    usd_per_visit: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    patching_h_per_year: Annotated[Quantity, InUnit("h", least=0)] | None = None
    usd_per_h: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    spares_share: Annotated[Quantity, InUnit("1", least=0, most=1)] | None = None
    """Of the hardware's price, a year."""


class Site(Strict):
    """One small data center, or `count` of a kind."""

    id: Identifier
    count: int = Field(default=1, ge=1, le=100_000)
    """How many like it are planned."""
    site_class: Literal["device", "micro", "distributed", "regional"] = Field(default="micro", alias="class")
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    altitude_m: Annotated[float, Plain("m")] = Field(default=0.0, ge=-430, le=5500)
    jurisdiction: Jurisdiction
    hardware: list[Identifier] | None = Field(default=None, min_length=1, max_length=64)
    """What may stand here, without it any of the plan's; of what keeps the SLO the one that draws least is taken."""
    it_budget_kw: Annotated[float, Plain("kW")] = Field(gt=0, le=5000)
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


class Hub(Strict):
    """The regional data center."""

    id: Identifier
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    jurisdiction: Jurisdiction
    cap_kw: Annotated[float, Plain("kW")] = Field(gt=0)
    hardware: Identifier | None = None
    """What answers there; without it, for each workload, the one of the plan's that keeps the SLO with the least energy."""
    usd_per_server_hour: Annotated[Quantity, InUnit("usd", least=0)] | None = None
    """What one server of its hardware costs an hour, all in; by how busy it is kept follows the cost of a request."""
    utilisation: Annotated[Quantity, InUnit("1", above=0, most=1)] | None = None
    pue: Annotated[Quantity, InUnit("1", least=1)] | None = None
    egress: Literal["none", "aws", "azure"] = "none"
    """What leaves the cloud is billed by its tiers; what goes in usually is not."""


class Feeder(Strict):
    """A line of the grid that several sites share."""

    id: FeederName
    headroom_kva: Annotated[float, Plain("kVA")] = Field(gt=0)
    """What the sites may take beside what is on it already."""
    sites_each: int = Field(default=1, ge=1, le=10_000)
    """How many sites of each kind that names it hang on one such feeder: with two kinds so many of the one and of the other."""
    existing_kva: Existing | None = Field(default=None, validation_alias=AliasChoices("existing_kva", "existing_load"))
    """What is on it already, by hour of the day."""

    @property
    def existing_hours_kva(self) -> list[float] | None:
        """The same, once a file is read; raises InputError before that."""
        if isinstance(self.existing_kva, str):
            raise InputError("is a file that nobody has read", where=self.existing_kva, right="documents.plan_beside.with_files")
        return self.existing_kva
