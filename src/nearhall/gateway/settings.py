"""What one gateway is told when it starts: read once, from one JSON object."""

from __future__ import annotations

import re

import msgspec

from nearhall.core.errors import InputError
from nearhall.core.residency import Residency
from nearhall.wire.openai_params import TokensMax

CHAT_TOKENS_MAX = 1024
UNIX = "unix:"
"""Before the path of a Unix socket, where an address may be one."""


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of one end of a mutually authenticated connection."""

    ca: str
    """Whom to trust."""
    cert: str
    key: str


class Hub(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hub's gateway behind this one."""

    url: str
    jurisdiction: str
    tls: Tls | None = None


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stream of requests with a target and a rule; a request belongs to the workload that names its model."""

    id: str
    model: str
    slo_ms: float | None = None
    slo_ttft_ms: float | None = None
    """For chat: to the first token."""
    priority: int = 0
    """0 to 9: a lower one goes before all higher ones that wait for the same model; and its model before a language model that is
    used for higher ones only."""
    residency: str = "any"
    chat: bool = False
    quality_min: float | None = None
    """The least quality of a variant that may answer, 0 to 1; None: never one below the default variant's."""
    raw_baseline: str = ""
    """For the report; the gateway does not use it."""


class Uds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Unix socket on which the HTTP service answers too, for callers on this machine."""

    path: str
    mode: str = "0600"
    """Who may connect, as chmod writes it; by default the gateway's own user alone, since no certificate is asked for here."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every bound of the data plane."""

    body_mib: float = 64.0
    """A batch of 40 camera frames as FP32 tensors; larger batches gain nothing on a CPU."""
    inflated_mib: float = 256.0
    """After decompression; four times the body, so that honest compression passes and a bomb does not."""
    json_mib: float = 16.0
    """JSON is parsed on the event loop, about 100 ms at this size; more must come as binary tensors."""
    queue_length: int = 256
    """Per model. At 1 ms a request the last one waits a quarter of a second, longer than any deadline worth having."""
    connections: int = 1024
    """Half of a common limit of open files."""
    forward_timeout_s: float = 60.0
    chat_tokens_max: int | None = None
    """Of one answer. None: 1024 of our own runtimes, which reserve room in their cache for all of it; another engine's own limit
    holds there. A number bounds both, and goes to an engine as `max_tokens` with a request that states none."""
    models_mib: float | None = None
    """Memory for loaded models; None: 70 % of what is free at start, the rest for bodies, runtimes and the system."""
    models_gpu_mib: float | None = None
    """The same of each device's memory; None: all of it, but what others hold of it at start and 1 GiB for CUDA itself."""
    load_wait_s: float = 30.0
    """How long a request without a deadline waits for its model to be loaded."""
    drain_s: float = 5.0
    """How long a clean stop waits for work in progress."""

    @property
    def answer_tokens(self) -> TokensMax:
        """How long an answer may be, here and by another engine."""
        return TokensMax(own=self.chat_tokens_max or CHAT_TOKENS_MAX, elsewhere=self.chat_tokens_max)


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which locally answered requests are asked of the hub too."""

    share: float = 0.0
    chat_share: float = 1.0
    """Chats are few and long: all of them, within the budget, or a short pilot has no pairs. At a `share` of 0 nothing is
    probed."""
    per_second_max: float = 2.0
    """Of each workload, so that a busy one does not use up what a rare one needs."""
    seed: int = 0


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of it."""

    node: str
    """`<site>/<node>` or `hub`; goes to `x-nearhall-served-by`."""
    jurisdiction: str
    repository: str
    """The model repository's folder."""
    port: int
    host: str = "127.0.0.1"
    reuse_port: bool = False
    """The agent and the gateway both bind the service port; gRPC's is the gateway's alone."""
    grpc: str | None = None
    """Where gRPC is answered: `HOST:PORT` (port 0 takes a free one) or `unix:PATH`, a socket for the gateway's own user."""
    uds: Uds | None = None
    tls: Tls | None = None
    """With it, clients must show a certificate of this CA, on the service port and on gRPC's; Unix sockets go without."""
    control_socket: str | None = None
    """Unix socket, made with mode 0600."""
    load_report: bool = False
    """Tell everybody who reaches the service port how much waits here (`GET /control/load`), and not only callers on this machine
    and those with a certificate. The front of a site's nodes asks for it, from whatever host it runs on."""
    pid_file: str | None = None
    hub: Hub | None = None
    control_plane: str | None = None
    """At a hub: the Unix socket of the control API, to which `/api/v1/` is handed on, so that sites dial one origin."""
    workloads: list[Workload] = []
    limits: Limits = Limits()
    probe: Probe = Probe()
    pinned: list[str] = []
    """Models that never leave memory for another one's sake, beside those whose model.yaml says so."""
    exit_with_stdin: bool = False
    """Stop cleanly when standard input ends: a gateway never outlives a parent that holds its other end."""


def host_and_port(text: str, *, where: str) -> tuple[str, int]:
    """Host and port from `8080`, `0.0.0.0:8080` or `[::1]:8080`; 127.0.0.1 unless a host is named. Raises InputError."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise InputError(f"{text!r} is no address", where=where, right="[HOST:]PORT, for example 8080 or 0.0.0.0:8080")
    return host.strip("[]") or "127.0.0.1", int(port)


def loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    return host in {"127.0.0.1", "localhost", "::1"}


def check_settings(settings: Settings, *, where: str) -> None:
    """Raises InputError for values that no gateway can run with; `where` is the file."""
    _check_addresses(settings, where)
    if not 0 <= settings.probe.share <= 1:
        raise InputError(f"probe.share is {settings.probe.share}", where=where, right="a share from 0 to 1")
    for name in Limits.__struct_fields__:
        value: float | None = getattr(settings.limits, name)
        if value is not None and value <= 0:
            raise InputError(f"limits.{name} is {getattr(settings.limits, name)}", where=where, right="more than 0")
    ids: set[str] = set()
    for workload in settings.workloads:
        if workload.id in ids:
            raise InputError(f"two workloads have the id {workload.id!r}", where=where, right="each its own")
        ids.add(workload.id)
        if workload.quality_min is not None and not 0 <= workload.quality_min <= 1:
            raise InputError(
                f"quality_min is {workload.quality_min}", where=f"{where}: workload {workload.id}", right="a share from 0 to 1"
            )
        try:
            Residency.parse(workload.residency)
        except ValueError as error:
            raise InputError(str(error), where=f"{where}: workload {workload.id}") from error


def _check_addresses(settings: Settings, where: str) -> None:
    if not 0 <= settings.port <= 65535:
        raise InputError(f"port is {settings.port}", where=where, right="0 to 65535; 0 takes a free one")
    if settings.grpc is not None and not settings.grpc.startswith(UNIX):
        host_and_port(settings.grpc, where=f"{where}: grpc")
    if settings.uds is not None and not re.fullmatch("0?[0-7]{3}", settings.uds.mode):
        raise InputError(f"uds.mode is {settings.uds.mode!r}", where=where, right='three octal digits, for example "0660"')
