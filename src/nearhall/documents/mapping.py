"""mapping.yaml: which query or column is which quantity, for sites that run no agent of ours (schema `nearhall/mapping/v1`).

    schema: nearhall/mapping/v1
    sites:
      - {id: shop-01, class: micro, jurisdiction: DE, label: berlin-1}     # $site in a series stands for the label
    meters:
      - id: main
        position: feed                                                     # feed, ups_in, ups_out, pdu, it, cooling, other
        series: 'energy_total_kwh{site="$site", meter="main"}'             # PromQL, or a column's name
        unit: kWh                                                          # of the register, which only rises: kWh, Wh, MWh, J
        class_percent: 1.0
        commissioned: "A. Meyer, 2026-10-01, protocol 17"                  # without it readings count as assumed
    outdoor: {series: 'outdoor_celsius{site="$site"}', unit: C}
    workloads:
      - id: cams                                                           # as the plan calls it
        good: {series: 'sum(request_seconds_bucket{site="$site", app="cams", le="0.05"})'}
        total: {series: 'sum(request_seconds_count{site="$site", app="cams"})'}
        limit_ms: 50                                                       # what in time means; it must be the plan's limit
        of: latency                                                        # or first_token, where that is what the limit is to
        busy: {series: 'sum(request_busy_seconds{site="$site", app="cams"})', unit: s}   # or joules; where several workloads run
    sent: {series: 'sum(link_bytes_total{site="$site"})', unit: B}
    login: {bearer_env: PROMETHEUS_TOKEN}                                  # the variable's name, never the secret
    csv: {file: "$site.csv", time: time, clock_error_ms: 12}               # for --csv alone

Sites that are mapped alike share a mapping; a series of one site alone needs a mapping of its own.
"""

from __future__ import annotations

import re
from itertools import pairwise
from math import inf, isclose
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nearhall.documents.site import Jurisdiction
from nearhall.documents.up import Identifier
from nearhall.documents.yaml_file import read_document

KWH: dict[str, float] = {"kWh": 1.0, "Wh": 1e-3, "MWh": 1e3, "J": 1.0 / 3.6e6, "kJ": 1.0 / 3.6e3}
BYTES: dict[str, float] = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3}
MS: dict[str, float] = {"s": 1e3, "ms": 1.0}
SECONDS: dict[str, float] = {"s": 1.0, "ms": 1e-3, "h": 3600.0}
SITES_MAX, METERS_MAX, WORKLOADS_MAX, BUCKETS_MAX = 200, 32, 64, 64
SERIES_MAX = 2000
"""Characters; a query longer than that is a recording rule's work."""

Series = str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class MappedSite(_Strict):
    """One site, and what it is called where its figures are."""

    id: Identifier
    site_class: Literal["device", "micro", "distributed", "regional"] = Field(default="micro", alias="class")
    jurisdiction: Jurisdiction | None = None
    label: str = Field(default="", max_length=200, pattern=r'^[^"\\$/]*$')
    """What `$site` stands for; its id where nothing is said."""

    @property
    def called(self) -> str:
        """What `$site` stands for."""
        return self.label or self.id


class MappedMeter(_Strict):
    """One instrument: a register of energy that only rises."""

    id: Identifier
    position: Literal["feed", "ups_in", "ups_out", "pdu", "it", "cooling", "other"]
    series: Series = Field(min_length=1, max_length=SERIES_MAX)
    unit: str = "kWh"
    class_percent: float | None = Field(default=None, gt=0, le=10)
    commissioned: str | None = Field(default=None, max_length=500)
    """Who commissioned it, when, and where that is written; without it its readings count as assumed."""

    @field_validator("commissioned")
    @classmethod
    def _by_somebody_some_day(cls, value: str | None) -> str | None:
        if value is not None and (not re.search(r"\b(19|20)\d\d\b", value) or len(re.findall(r"[^\W\d_]{2,}", value)) < 1):
            raise ValueError("does not say who and when; write who commissioned it, the date, and where that is written")
        return value

    simulated: bool = False
    """For an exporter of made-up figures."""

    @field_validator("unit")
    @classmethod
    def _of_energy(cls, value: str) -> str:
        if value in {"W", "kW", "VA"}:
            raise ValueError(
                "is a power; give the meter's register of energy: watts summed up miss what happened between readings"
            )
        if value not in KWH:
            raise ValueError(f"is not known; one of {', '.join(KWH)}")
        return value


class Count(_Strict):
    """A counter that only rises, and begins anew at 0 when its program does."""

    series: Series = Field(min_length=1, max_length=SERIES_MAX)


class ByteCount(Count):
    """A counter of bytes."""

    unit: str = "B"

    @field_validator("unit")
    @classmethod
    def _of_bytes(cls, value: str) -> str:
        if value not in BYTES:
            raise ValueError(f"is not known; one of {', '.join(BYTES)}")
        return value


class EnergyCount(Count):
    """A counter of the energy that one workload took."""

    unit: str = "J"

    @field_validator("unit")
    @classmethod
    def _of_energy(cls, value: str) -> str:
        if value not in KWH:
            raise ValueError(f"is not known; one of {', '.join(KWH)}")
        return value


class BusyCount(Count):
    """A counter of the time that servers worked for one workload."""

    unit: Literal["s", "ms", "h"] = "s"


class Thermometer(_Strict):
    """The outdoor temperature."""

    series: Series = Field(min_length=1, max_length=SERIES_MAX)
    unit: Literal["C", "F"] = "C"


class Histogram(_Strict):
    """Counters of answers by the upper end of their latency, each with all that were sooner."""

    series: Series = Field(min_length=1, max_length=SERIES_MAX)
    """`$le` in it stands for the end, as `le` writes it."""
    le: list[str] = Field(min_length=2, max_length=BUCKETS_MAX)
    """The ends, ascending; the last is +Inf, which counts all."""
    unit: Literal["s", "ms"] = "s"

    @field_validator("series")
    @classmethod
    def _of_ends(cls, value: str) -> str:
        if "$le" not in value:
            raise ValueError("has no $le; it stands for a bucket's upper end")
        return value

    @field_validator("le")
    @classmethod
    def _ascending(cls, value: list[str]) -> list[str]:
        try:
            ends = [float(end) for end in value]
        except ValueError:
            raise ValueError("holds what is no number; write ends as the series does, the last +Inf") from None
        if ends[-1] != inf or not all(0.0 < low < high for low, high in pairwise(ends)):
            raise ValueError("does not ascend to +Inf; give every bucket once, the smallest first")
        return value

    @property
    def upto_ms(self) -> tuple[float, ...]:
        """The ends in milliseconds."""
        return tuple(float(end) * MS[self.unit] for end in self.le)


class Latency(_Strict):
    """The 99th percentile over the 15 minutes before; of several readings in a quarter of an hour the highest counts."""

    series: Series = Field(min_length=1, max_length=SERIES_MAX)
    unit: Literal["s", "ms"] = "s"


class Share(_Strict):
    """The share in time over the 15 minutes before; of several readings in a quarter of an hour the lowest counts."""

    series: Series = Field(min_length=1, max_length=SERIES_MAX)
    unit: Literal["1", "%"] = "1"


class MappedWorkload(_Strict):
    """Requests of one workload, as the plan calls it: counted in time, or told by their latency.

    Where nobody counts the answers in time, a workload is mapped by a histogram of their latency (counters by upper end, as
    Prometheus has them, `$le` standing for the end), by the 99th percentile over the 15 minutes before, or by the share in time
    over them. The two last know no number of requests unless `total` tells it; the percentile knows no energy of a request.

        workloads:
          - id: speech
            limit_ms: 20
            histogram: {series: 'sum(speech_seconds_bucket{site="$site", le="$le"})', le: ["0.01", "0.02", "0.05", "+Inf"]}
          - id: video
            limit_ms: 50
            p99: {series: 'histogram_quantile(0.99, sum by (le) (rate(video_seconds_bucket{site="$site"}[15m])))', unit: s}
          - id: chat
            in_time: {series: 'sum(rate(chat_ok{site="$site"}[15m])) / sum(rate(chat_all{site="$site"}[15m]))', unit: "1"}
    """

    id: Identifier
    limit_ms: float | None = Field(default=None, gt=0)
    """What an answer in time keeps; where it is told, it is compared with the plan's."""
    of: Literal["latency", "first_token"] = "latency"
    """What that limit is of: the whole answer, or its first token."""
    good: Count | None = None
    """Answered in time."""
    total: Count | None = None
    histogram: Histogram | None = None
    p99: Latency | None = None
    in_time: Share | None = None
    joules: EnergyCount | None = None
    """What the site's energy is shared out by where several workloads run; only what they have of each other counts."""
    busy: BusyCount | None = None
    """The same by the time that servers worked."""

    @model_validator(mode="after")
    def _one_way(self) -> MappedWorkload:
        ways = {"good": self.good, "histogram": self.histogram, "p99": self.p99, "in_time": self.in_time}
        given = [name for name, way in ways.items() if way is not None]
        if len(given) != 1:
            raise ValueError(f"is told by {' and '.join(given) or 'nothing'}; name one of {', '.join(ways)}")
        if self.good is not None and self.total is None:
            raise ValueError("counts what was in time of nobody knows how many; name total")
        if self.histogram is not None and self.total is not None:
            raise ValueError("has two totals; the histogram's +Inf counts all")
        if (self.p99 is not None or self.histogram is not None) and self.limit_ms is None:
            raise ValueError("has no limit that latency must keep; give limit_ms")
        if self.histogram is not None and not any(isclose(end, self.limit_ms or 0.0) for end in self.histogram.upto_ms):
            raise ValueError(f"has no bucket that ends at its limit of {self.limit_ms:g} ms; give one, or map p99")
        if self.joules is not None and self.busy is not None:
            raise ValueError("has its energy told twice; give joules or busy")
        return self


class Login(_Strict):
    """What the server wants to see; each is the NAME of an environment variable, so that no secret stands in the file."""

    bearer_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Holds a token."""
    basic_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Holds USER:PASSWORD."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Login:
        if (self.bearer_env is None) == (self.basic_env is None):
            raise ValueError("name one variable, with bearer_env or with basic_env")
        return self

    @property
    def variable(self) -> str:
        """The variable's name."""
        return self.bearer_env or self.basic_env or ""


class CsvFiles(_Strict):
    """Where the columns are."""

    file: str = Field(default="$site.csv", min_length=1, max_length=300)
    """Below the folder that the command names."""
    time: str = "time"
    """The column of times: ISO 8601 with an offset, or seconds since 1970."""
    clock_error_ms: float | None = None
    """By how much the recorder's clock was off when somebody compared it."""

    @field_validator("file")
    @classmethod
    def _below(cls, value: str) -> str:
        if Path(value).is_absolute() or ".." in Path(value).parts:
            raise ValueError("lies outside of the folder; give a name below it")
        return value


class MappingDocument(_Strict):
    """The whole of mapping.yaml."""

    schema_: Literal["nearhall/mapping/v1"] = Field(alias="schema")
    sites: list[MappedSite] = Field(min_length=1, max_length=SITES_MAX)
    meters: list[MappedMeter] = Field(default=[], max_length=METERS_MAX)
    outdoor: Thermometer | None = None
    workloads: list[MappedWorkload] = Field(default=[], max_length=WORKLOADS_MAX)
    sent: ByteCount | None = None
    """On the link, both ways."""
    raw: ByteCount | None = None
    """What a central design would have sent."""
    login: Login | None = None
    csv: CsvFiles = CsvFiles()

    @model_validator(mode="after")
    def _distinct(self) -> MappingDocument:
        for what, values in (
            ("sites", [site.id for site in self.sites]),
            ("meters", [meter.id for meter in self.meters]),
            ("workloads", [workload.id for workload in self.workloads]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"two {what} have the id {twice[0]!r}; each needs its own")
        called = [site.called for site in self.sites]
        alike = sorted({name for name in called if called.count(name) > 1})
        if alike:
            ids = " and ".join(site.id for site in self.sites if site.called == alike[0])
            raise ValueError(f"sites {ids} have the same label {alike[0]!r}; one site's figures cannot stand for two")
        if len(self.sites) > 1 and "$site" not in self.csv.file:
            raise ValueError(f"csv.file {self.csv.file!r} is one file for {len(self.sites)} sites; put $site into its name")
        if not (self.meters or self.workloads or self.sent):
            raise ValueError("maps nothing; name meters, workloads or sent")
        return self


def read_mapping(path: Path) -> MappingDocument:
    """The mapping in a file; raises InputError that names every mistake."""
    return read_document(path, MappingDocument)
