"""What a node says of its load, to the front that shares requests out: `GET /control/load`, JSON of a few hundred bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from nearhall.core.errors import TemporaryError

PATH = "/control/load"
REPORT_BYTES_MAX = 1024 * 1024
"""Thousands of models; more is no load report."""


class ModelLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a node, as it stands now."""

    name: str
    version: str = ""
    variant: str = ""
    state: str = "ready"
    """`loading`, `ready`, `failed` or `unloaded`."""
    ready: bool = False
    """Whether it answers now: loaded, and its process or server alive."""
    loadable: bool = False
    """It is not, but a request has it loaded, which takes the time in `backlog_ms`."""
    chat: bool = False
    stateful: bool = False
    """Its requests may not be repeated, and stay with one node."""
    backlog_ms: float = 0.0
    """Until a request that arrived now would begin."""
    own_ms: float = 0.0
    """About the p90 of a request's own service; of a language model: to its first token."""
    own_by_size_ms: Mapping[int, float] = {}
    """The same by the size of the input (`policy.admit.size_class`), as far as sizes were seen."""
    hold_ms: float = 0.0
    """How long a request keeps others waiting: its service; of a language model: to its last token."""
    slots: int = 1
    """Requests served at the same time."""
    free: int = 1
    """How many more would begin at once."""
    waiting: int = 0
    tokens_max: int | None = None
    """Of one answer in OpenAI's words, by the node's own runtimes; None: no limit is known."""
    engine: ModelLoad | None = None
    """Another engine among the model's variants, which may do what our own runtimes do not: as it stands itself, the one of them
    that would answer first."""


class NodeLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One node."""

    node: str
    """`<site>/<node>`, as in `x-nearhall-served-by`."""
    gateway_id: str = ""
    """Another one for each process: who says the same at two addresses is one gateway. Empty: not known."""
    draining: bool = False
    in_flight: int = 0
    models: Sequence[ModelLoad] = ()


_decoder = msgspec.json.Decoder(NodeLoad)


def decode_load(body: bytes) -> NodeLoad:
    """A node's report; raises TemporaryError for what is none. Fields of later versions are passed over."""
    if len(body) > REPORT_BYTES_MAX:
        raise TemporaryError(f"its load report has {len(body)} bytes; {REPORT_BYTES_MAX} are allowed")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TemporaryError(f"its load report cannot be read: {error}") from error
