"""front.yaml: one address in front of several nodes, for `nearhall serve --front --config` (schema `nearhall/front/v1`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from nearhall.documents.addresses import Address, GrpcAddress
from nearhall.documents.strict import Strict
from nearhall.documents.up import Identifier

FRONT_NODES_MAX = 256
"""As many as a site may have."""


class Certificates(Strict):
    """Files of one end of a mutually authenticated connection, relative to this document."""

    ca: str
    """Whom to trust."""
    cert: str
    key: str


class FrontNode(Strict):
    """One node."""

    id: Identifier
    url: str = Field(pattern=r"^(https?://\S+:\d{1,5}/?|unix:\S.*)$")
    """`http://HOST:PORT`, `https://HOST:PORT` (with `tls`), or `unix:PATH` of its service socket (`nearhall serve --uds`)."""
    tls: Certificates | None = None
    """Whom to trust, and what to show, where the node serves over mutual TLS."""


class Waits(Strict):
    """How long a request that states no deadline may wait at the front, milliseconds."""

    deadline_ms: float = Field(default=25_000.0, gt=0)
    chat_deadline_ms: float = Field(default=120_000.0, gt=0)
    """For language models: to the whole answer, or to a stream's first part."""


class FrontDocument(Strict):
    """The whole of front.yaml."""

    schema_: Literal["nearhall/front/v1"] = Field(alias="schema")
    http: Address | None = None
    """[HOST:]PORT to listen on; `--http` comes before it."""
    grpc: GrpcAddress | None = None
    """The Open Inference Protocol v2 over gRPC: `[HOST:]PORT`, or `unix:PATH`; `--grpc` comes before it."""
    tls: Certificates | None = None
    """With it, clients must show a certificate of this CA."""
    nodes: list[FrontNode] = Field(min_length=1, max_length=FRONT_NODES_MAX)
    limits: Waits = Waits()

    @model_validator(mode="after")
    def _distinct(self) -> FrontDocument:
        for what, values in (("the id", [node.id for node in self.nodes]), ("the url", [node.url for node in self.nodes])):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                message = f"two nodes have {what} {twice[0]!r}; each needs its own"
                raise ValueError(message)
        return self
