"""site.yaml: one small data center, written by `plan`, by `up` or by hand (schema `nearhall/site/v1`)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from nearhall.core.residency import Residency
from nearhall.documents.addresses import Address, GrpcAddress, UdsSocket, also, port_exists
from nearhall.documents.up import Identifier

NODES_MAX = 256
"""Of one site: a hall of some dozen racks; beyond it the cabinets are sites of their own."""

Jurisdiction = Annotated[str, Field(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Feed(_Strict):
    """The supply."""

    phases: Literal[1, 3]
    volts: float = Field(gt=0)
    breaker_a: float | None = Field(default=None, gt=0)
    """None where nobody knows it yet."""
    code: Literal["IEC", "NEC"] = "IEC"
    feeder: str | None = None


class Cooling(_Strict):
    """What carries the heat out."""

    kind: Literal["dx", "free", "liquid", "fans"]
    capacity_kw: float = Field(gt=0)
    ashrae: Literal["A1", "A2", "A3", "A4", "H1"] = Field(default="A2", alias="class")


class Ups(_Strict):
    """What holds the site without mains."""

    kw: float = Field(gt=0)
    hold_min: float = Field(gt=0)


class Envelope(_Strict):
    """What the site may draw and shed."""

    it_power_kw: float = Field(gt=0)
    feed: Feed | None = None
    cooling: Cooling | None = None
    ups: Ups | None = None


class Node(_Strict):
    """One server: `nearhall site FILE --node ID`, run on it, is its agent and its gateway."""

    id: Identifier
    hardware: str | None = None
    http: Annotated[str, AfterValidator(port_exists)] = Field(default="127.0.0.1:8080", pattern=r"^\S+:\d{1,5}$")
    """HOST:PORT of its service port."""
    grpc: GrpcAddress | None = None
    """The Open Inference Protocol v2 over gRPC: [HOST:]PORT, on the host of `http` unless one is named, or unix:PATH."""
    uds: UdsSocket | None = Field(default=None, json_schema_extra=also({"type": "string"}))
    """A Unix socket on which the HTTP service answers too, for callers on this server: its path, or `{path, mode}`."""
    memory_gib: float | None = Field(default=None, gt=0)

    @property
    def host(self) -> str:
        """Where it listens."""
        return self.http.rpartition(":")[0]

    @property
    def port(self) -> int:
        """On which port."""
        return int(self.http.rpartition(":")[2])

    @property
    def grpc_at(self) -> str | None:
        """Where it answers gRPC: HOST:PORT, unix:PATH, or not at all."""
        return f"{self.host}:{self.grpc}" if self.grpc is not None and self.grpc.isdecimal() else self.grpc

    @model_validator(mode="after")
    def _a_port_of_its_own(self) -> Node:
        if self.grpc is not None and re.search(r"(^|:)0+$", self.grpc):
            message = "grpc takes no free port here, since no client would know it; name one, for example 8001"
            raise ValueError(message)
        if self.grpc_at == self.http and self.port != 0:
            message = f"http and grpc are both at {self.http}; each needs a port of its own"
            raise ValueError(message)
        return self


class Front(_Strict):
    """The one address of several nodes: `nearhall serve --front --config FILE` holds it."""

    http: Address
    """[HOST:]PORT of the front."""
    grpc: GrpcAddress | None = None
    """The Open Inference Protocol v2 over gRPC, at the front too: [HOST:]PORT, or unix:PATH."""


class Meter(_Strict):
    """One instrument."""

    id: Identifier
    position: Literal["feed", "ups_in", "ups_out", "pdu", "it", "cooling", "other"]
    url: str = Field(pattern=r"^modbus://")
    profile: str = "sdm630"
    commissioning: str | None = None
    """A commissioning record, relative to this file; without it the readings are `assumed`."""


class Workload(_Strict):
    """One stream of requests."""

    id: Identifier
    model: str = Field(min_length=1, max_length=128)
    slo_p99_ms: float | None = Field(default=None, gt=0)
    slo_ttft_ms: float | None = Field(default=None, gt=0)
    """For chat: to the first token."""
    priority: int = Field(default=0, ge=0, le=9)
    residency: str = "any"
    quality_min: float | None = Field(default=None, ge=0, le=1)
    """The least quality of a variant that may answer, as a share of the reference variant's: under a power cap or an overload a
    cheaper variant takes over, never one below this. None: never one below the default variant's."""

    @field_validator("residency")
    @classmethod
    def _known_residency(cls, value: str) -> str:
        Residency.parse(value)
        return value


class Limits(_Strict):
    """What the disk and the memory of each node may hold."""

    outbox_mib: float = Field(default=256, gt=0)
    models_gib: float = Field(default=20, gt=0)
    """On disk."""
    models_memory_mib: float | None = Field(default=None, gt=0)
    """Loaded, in memory; None: 70 % of what is free when the gateway starts."""
    models_gpu_memory_mib: float | None = Field(default=None, gt=0)
    """Loaded, in each device's memory; None: all of it, but what others hold of it at start and 1 GiB for CUDA itself."""


class SiteDocument(_Strict):
    """The whole of site.yaml."""

    schema_: Literal["nearhall/site/v1"] = Field(alias="schema")
    id: Identifier
    site_class: Literal["device", "micro", "distributed", "regional"] = Field(alias="class")
    jurisdiction: Jurisdiction
    hub: str | None = Field(default=None, pattern=r"^https://\S+$")
    """The one origin that this site dials; None for a site that stands alone."""
    hub_jurisdiction: Jurisdiction | None = None
    """Where the hub is; without it nothing that is bound to a jurisdiction leaves the site."""
    envelope: Envelope
    nodes: list[Node] = Field(min_length=1, max_length=NODES_MAX)
    """The servers. Each serves all workloads at an address of its own; to the hub the first is the site, the others are parts."""
    front: Front | None = None
    """Where one address stands for all nodes; without it clients are given those of all nodes."""
    meters: list[Meter] = Field(default=[], max_length=64)
    """Of the whole site: the first node reads them, and no other, so that nothing is counted twice."""
    workloads: list[Workload] = Field(default=[], max_length=64)
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _distinct(self) -> SiteDocument:
        for what, values in (
            ("nodes have the id", [node.id for node in self.nodes]),
            ("nodes listen at", [node.http for node in self.nodes]),
            ("nodes answer gRPC at", [f"{node.grpc_at}, of {node.host}" for node in self.nodes if node.grpc_at is not None]),
            ("nodes have the uds", [f"{node.uds.path}, of {node.host}" for node in self.nodes if node.uds is not None]),
            ("meters have the id", [meter.id for meter in self.meters]),
            ("workloads have the id", [workload.id for workload in self.workloads]),
            ("workloads have the model", [workload.model for workload in self.workloads]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                message = f"two {what} {twice[0]!r}; each needs its own"
                raise ValueError(message)
        return self

    def is_first(self, node: Node) -> bool:
        """Whether it is the node that goes by the site's own name and reads its meters."""
        return node.id == self.nodes[0].id
