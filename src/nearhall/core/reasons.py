"""Why a request was served where it was, or refused: the one enum behind `x-nearhall-reason` and the counters."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """A reason is stable: clients, dashboards and `pilot.json` name it. The value is what goes over the wire."""

    # Served here
    LOCAL_FIRST = "local_first"
    """The model is here and can answer in time."""
    LOCAL_LATE = "local_late"
    """Served here although the target will be missed: no other place is allowed or would be sooner."""

    # Sent to the hub
    HUB_DEADLINE = "hub_deadline"
    """The local queue cannot meet the deadline; the hub can, or is sooner."""
    HUB_MODEL_ABSENT = "hub_model_absent"
    """The model is not at this site."""
    HUB_RUNTIME_DOWN = "hub_runtime_down"
    """The model is here, but its runtime is loading, crashed or unloaded."""

    # Refused
    RESTARTING = "restarting"
    """The gateway of this site is starting, and the agent answers for it; at a hub: its control plane is. 503."""
    DRAINING = "draining"
    """The gateway is being stopped on purpose. 503."""
    DEADLINE = "deadline"
    """No allowed place can answer in time. 504 once admitted, 503 at arrival."""
    QUEUE_FULL = "queue_full"
    """The bounded queue of the model is full. 429."""
    RESIDENCY = "residency"
    """Only a place that the residency rule forbids could answer. 503."""
    NODES_AWAY = "nodes_away"
    """At the front of several nodes: every node that could answer is away. 503."""
    HUB_UNREACHABLE = "hub_unreachable"
    """Only the hub could answer, and the link or the hub is down. 503."""
    MODEL_UNKNOWN = "model_unknown"
    """Neither site nor hub knows the model. 404."""
    MODEL_NOT_READY = "model_not_ready"
    """The model is loading or its runtime is down, and no other place is allowed. 503."""
    PATH_UNKNOWN = "path_unknown"
    """There is no such path here. 404."""
    METHOD_NOT_ALLOWED = "method_not_allowed"
    """The path is asked with another method, which `Allow` names. 405."""
    BAD_REQUEST = "bad_request"
    """The request is malformed: body, tensor name, shape or type. 400."""
    UNSUPPORTED = "unsupported"
    """The request asks for something this server does not do. 400."""
    TOO_LARGE = "too_large"
    """The body, once inflated, is over the limit. 413."""
    RUNTIME_FAILED = "runtime_failed"
    """The runtime raised while it worked on the request. 500."""


SERVED_HERE = frozenset({Reason.LOCAL_FIRST, Reason.LOCAL_LATE})
SENT_TO_HUB = frozenset({Reason.HUB_DEADLINE, Reason.HUB_MODEL_ABSENT, Reason.HUB_RUNTIME_DOWN})
FAILURES = frozenset({Reason.RUNTIME_FAILED})
"""Counted as `failed`: the product's own fault. Everything else that is refused is counted by its reason."""
