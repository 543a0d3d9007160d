"""serve.yaml: what `nearhall serve --config` runs: a data plane alone (schema `nearhall/serve/v1`).

Every key may be left out; options on the command line win. Paths are relative to the file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nearhall.core.residency import Residency
from nearhall.documents.addresses import Address, GrpcAddress, SocketPath, UdsSocket, also
from nearhall.documents.site import Jurisdiction

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Letters, digits, dots, dashes and underscores."""


NODE_NAME = r"^\S{1,128}$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Tls(_Strict):
    """Files of one end of a connection on which both ends show a certificate."""

    ca: str
    """Whom to trust."""
    cert: str
    key: str


class Hub(_Strict):
    """The gateway behind this one, which answers what cannot be answered here in time, where residency lets it."""

    url: str = Field(pattern=r"^https?://\S+$")
    jurisdiction: Jurisdiction
    """Where it is: data that is bound to another jurisdiction never goes there."""
    tls: Tls | None = None


class Workload(_Strict):
    """A stream of requests with a target and a rule; a request belongs to the workload that names its model."""

    id: Name
    model: str = Field(min_length=1, max_length=128)
    slo_p99_ms: float | None = Field(default=None, gt=0)
    slo_ttft_ms: float | None = Field(default=None, gt=0)
    """For chat: to the first token."""
    priority: int = Field(default=0, ge=0, le=9)
    """0 goes first, always; 9 last."""
    residency: str = "any"
    """`site`, `jurisdiction:DE` or `any`."""
    quality_min: float | None = Field(default=None, ge=0, le=1)
    """The least quality of a variant that may answer; without it never one below the default variant's."""

    @field_validator("residency")
    @classmethod
    def _known_residency(cls, value: str) -> str:
        Residency.parse(value)
        return value


class Limits(_Strict):
    """Bounds of the data plane; what is left out is as the [gateway's settings](settings.md) have it."""

    body_mib: float | None = Field(default=None, gt=0)
    """Of one request; for gRPC too."""
    inflated_mib: float | None = Field(default=None, gt=0)
    """Of a compressed request, once inflated."""
    json_mib: float | None = Field(default=None, gt=0)
    """Of a request's JSON."""
    queue_length: int | None = Field(default=None, gt=0)
    """Of each model."""
    connections: int | None = Field(default=None, gt=0)
    """Open at once; for gRPC: calls at once."""
    forward_timeout_s: float | None = Field(default=None, gt=0)
    """For an answer of the hub or an upstream server."""
    chat_tokens_max: int | None = Field(default=None, gt=0)
    """Of one answer, by our own runtimes and by an engine behind this gateway; without it an engine's own limit holds there."""
    models_mib: float | None = Field(default=None, gt=0)
    """Memory for loaded models; without it 70 % of what is free at start."""
    models_gpu_mib: float | None = Field(default=None, gt=0)
    """Of each device's memory; without it all of that, but what others hold of it at start and 1 GiB for CUDA itself."""
    load_wait_s: float | None = Field(default=None, gt=0)
    """How long a request without a deadline waits for its model to be loaded."""
    drain_s: float | None = Field(default=None, gt=0)
    """How long a clean stop waits for work in progress."""


class ServeDocument(_Strict):
    """The whole of it."""

    schema_: Literal["nearhall/serve/v1"] = Field(alias="schema")
    repository: str | None = None
    """The folder with one sub-folder per model."""
    http: Address | None = None
    """The service port: v2 REST, OpenAI, metrics."""
    grpc: GrpcAddress | None = None
    """The Open Inference Protocol v2 over gRPC: `[HOST:]PORT`, or `unix:PATH`."""
    uds: UdsSocket | None = Field(default=None, json_schema_extra=also({"type": "string"}))
    """May be written as the path alone."""
    control_socket: SocketPath | None = None
    """The path of a Unix socket for who runs the gateway, its own user alone (mode 0600): power cap, statistics, drain, and
    load and unload, which no other address answers then."""
    node: str = Field(default="serve/n1", pattern=NODE_NAME)
    """What answers say they were served by: `<site>/<node>`."""
    jurisdiction: Jurisdiction | None = None
    """Where this gateway is."""
    tls: Tls | None = None
    """With it, clients of the ports must show a certificate of this CA."""
    hub: Hub | None = None
    workloads: list[Workload] = Field(default=[], max_length=256)
    pinned: list[Name] = Field(default=[], max_length=256)
    """Models that never leave memory for another one's sake."""
    load_report: bool = False
    """Tell the front of a site's nodes, on whatever host it runs, how much waits here (`GET /control/load`)."""
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _distinct(self) -> ServeDocument:
        for what, values in (("id", [w.id for w in self.workloads]), ("model", [w.model for w in self.workloads])):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                message = f"two workloads have the {what} {twice[0]!r}; each needs its own"
                raise ValueError(message)
        return self
