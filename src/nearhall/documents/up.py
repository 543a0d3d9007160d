"""pilot.yaml: what `nearhall up` runs, so that a run can be repeated (schema `nearhall/up/v1`)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nearhall.core.residency import Residency
from nearhall.documents.addresses import UNIX, GrpcAddress, UdsSocket, also

SCHEMA = "nearhall/up/v1"

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
"""Names that fit a certificate, a folder and a column: lower case letters, digits and dashes, at most 31."""
SITES_MAX = 8
"""One machine plays them all; beyond this they measure each other."""
RATE_PER_S_MAX = 1000.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


RTT_MS_MAX, JITTER_MS_MAX = 2000.0, 500.0
"""Of a link that is played: beyond these it is no line that a request would be sent over."""


class MeasuredTrip(_Strict):
    """What `--hub-probe` measured: exchanges on one warm connection, or TCP connects where nothing spoke HTTP."""

    url: str
    n: int = Field(ge=1)
    p50_ms: float = Field(ge=0)
    jitter_ms: float = Field(ge=0)
    """The 95th percentile less the median."""
    connect_p50_ms: float = Field(ge=0)
    warm: bool


class Link(_Strict):
    """The link between every site and the hub."""

    rtt_ms: float = Field(default=40.0, ge=0, le=RTT_MS_MAX)
    jitter_ms: float = Field(default=2.0, ge=0, le=JITTER_MS_MAX)
    mbps: float = Field(default=50.0, ge=0, le=10_000)
    """0 means unlimited."""
    source: str = "default of nearhall up: a wide-area link within a country"
    """Where the round trip comes from; `--hub-probe URL` writes what it measured."""
    measured: MeasuredTrip | None = None
    """The user's own round trip, where it was measured; the link that is played from it is simulated all the same."""


class Probe(_Strict):
    """How much of what is answered here is asked of the hub too."""

    share: float = Field(default=0.3, ge=0, le=1)
    per_second_max: float = Field(default=0.5, gt=0, le=100)
    """Of each workload of each site."""


class Meter(_Strict):
    """A real instrument in place of the virtual one at the same position."""

    id: Identifier
    position: Literal["feed", "ups_in", "ups_out", "pdu", "it", "cooling", "other"]
    url: str = Field(pattern=r"^modbus://")
    profile: str = "sdm630"
    commissioning: str | None = None
    """A commissioning record (JSON); without it the readings are `assumed`, never `measured`."""


class Workload(_Strict):
    """One stream of requests at one site."""

    id: Identifier
    kind: Literal["video", "speech", "inspection", "chat", "camera"]
    model: str = Field(min_length=1, max_length=128)
    rate_per_s: float = Field(gt=0, le=RATE_PER_S_MAX)
    residency: str = "any"
    priority: int = Field(default=0, ge=0, le=9)
    slo_p99_ms: float | None = Field(default=None, gt=0)
    slo_ttft_ms: float | None = Field(default=None, gt=0)
    source: str | None = None
    """A clip's name, a file, a folder or an rtsp:// address; None for the kind's own."""
    raw_baseline: str = ""
    """What a sensible central design would have sent, in words."""

    @field_validator("residency")
    @classmethod
    def _known_residency(cls, value: str) -> str:
        Residency.parse(value)
        return value

    @property
    def chat(self) -> bool:
        """Whether answers are streamed tokens, so that times are times to first token."""
        return self.kind == "chat"


class Site(_Strict):
    """One small data center of the pilot."""

    id: Identifier
    jurisdiction: str = Field(default="DE", pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")
    site_class: Literal["device", "micro", "distributed", "regional"] = Field(default="micro", alias="class")
    hardware: str | None = None
    """The catalogue server whose power curve the virtual cabinet follows; None for the catalogue's default."""
    models: list[str]
    """Models that are at this site; what is asked for and not here goes to the hub."""
    workloads: list[Workload] = Field(min_length=1, max_length=16)
    meters: list[Meter] = []
    grpc: GrpcAddress | None = None
    """Where the site answers the Open Inference Protocol v2 over gRPC too: [HOST:]PORT, on 127.0.0.1 unless a host is named, or
    unix:PATH."""
    uds: UdsSocket | None = Field(default=None, json_schema_extra=also({"type": "string"}))
    """A Unix socket on which the site's HTTP service answers too, for callers on this machine: its path, or `{path, mode}`."""

    @property
    def grpc_at(self) -> str | None:
        """Where it answers gRPC: HOST:PORT, unix:PATH, or not at all."""
        return f"127.0.0.1:{self.grpc}" if self.grpc is not None and self.grpc.isdecimal() else self.grpc

    @property
    def sockets(self) -> dict[str, str]:
        """The paths of its Unix sockets, by the key that names each."""
        grpc = {"grpc": self.grpc.removeprefix(UNIX)} if self.grpc is not None and self.grpc.startswith(UNIX) else {}
        return grpc if self.uds is None else {**grpc, "uds": self.uds.path}

    @model_validator(mode="after")
    def _no_free_port(self) -> Site:
        if self.grpc is not None and re.search(r"(^|:)0+$", self.grpc):
            message = "grpc takes no free port here, since no client would know it; name one, for example 8001"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Site:
        for what, values in (("id", [w.id for w in self.workloads]), ("model", [w.model for w in self.workloads])):
            twice = sorted({v for v in values if values.count(v) > 1})
            if twice:
                message = f"two workloads of {self.id} have the {what} {twice[0]!r}; each needs its own"
                raise ValueError(message)
        return self


class Hub(_Strict):
    """The regional hub: one of this machine's, unless `url` names another."""

    jurisdiction: str = Field(default="DE", pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")
    url: str | None = Field(default=None, pattern=r"^https://")
    credentials: str | None = None
    """For a hub elsewhere: the folder of bundles that `nearhall hub credentials` wrote, one folder a site."""


class Up(_Strict):
    """The whole of pilot.yaml."""

    schema_: Literal["nearhall/up/v1"] = Field(default=SCHEMA, alias="schema")
    seconds: float | None = Field(default=None, gt=0, le=31_536_000)
    seed: int = Field(default=1, ge=0, lt=2**31)
    light: bool = False
    link: Link = Link()
    hub: Hub = Hub()
    probe: Probe = Probe()
    sites: list[Site] = Field(min_length=1, max_length=SITES_MAX)

    @model_validator(mode="after")
    def _distinct(self) -> Up:
        ids = [site.id for site in self.sites]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            message = f"two sites have the id {twice[0]!r}; each needs its own"
            raise ValueError(message)
        paths = [path for site in self.sites for path in site.sockets.values()]
        places = [*paths, *(site.grpc_at for site in self.sites if site.grpc_at is not None and "grpc" not in site.sockets)]
        twice = sorted({place for place in places if places.count(place) > 1})
        if twice:
            message = f"grpc and uds name {twice[0]!r} twice; each needs an address of its own"
            raise ValueError(message)
        return self


_VIDEO_BASELINE = "the camera's own H.264 stream, whole"
_SPEECH_BASELINE = "PCM, 16 bit, at the microphone's own rate"
_INSPECTION_BASELINE = "each image as PNG"


def _tensor_workloads(*, clip: str, speech: str) -> list[Workload]:
    return [
        Workload(
            id="video",
            kind="video",
            model="faces",
            rate_per_s=10,
            residency="site",
            priority=2,
            slo_p99_ms=50,
            source=clip,
            raw_baseline=_VIDEO_BASELINE,
        ),
        Workload(
            id="speech",
            kind="speech",
            model="voice",
            rate_per_s=31.25,
            residency="site",
            priority=3,
            slo_p99_ms=20,
            source=speech,
            raw_baseline=_SPEECH_BASELINE,
        ),
        Workload(
            id="inspection",
            kind="inspection",
            model="inspection",
            rate_per_s=4,
            residency="jurisdiction:DE",
            priority=1,
            slo_p99_ms=10,
            raw_baseline=_INSPECTION_BASELINE,
        ),
    ]


def default_pilot(*, light: bool = False) -> Up:
    """The pilot that `nearhall up` runs without a file: a shop that holds every model, and a plant that holds no chat model."""
    chat = Workload(
        id="chat",
        kind="chat",
        model="smollm2",
        rate_per_s=0.125,
        residency="jurisdiction:DE",
        priority=5,
        slo_ttft_ms=500,
        raw_baseline="none: chat claims no saving",
    )
    extra = [] if light else [chat]
    models = ["faces", "voice", "inspection"]
    shop = Site.model_validate(
        {
            "id": "shop-01",
            "class": "micro",
            "models": models if light else [*models, "smollm2"],
            "workloads": [*_tensor_workloads(clip="carphone_pristine", speech="bigbuckbunny"), *extra],
        }
    )
    plant = Site.model_validate(
        {
            "id": "plant-02",
            "class": "micro",
            "models": models,
            "workloads": [*_tensor_workloads(clip="bikes", speech="speech_8k_raw"), *extra],
        }
    )
    return Up(light=light, sites=[shop, plant])
