"""Which paths the service has over HTTP, and with which methods each is asked; a gateway and a front have the same ones."""

from __future__ import annotations

from collections.abc import Mapping

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason

MODELS = "/v2/models/"
READ = ("GET", "HEAD")
WORK = ("POST",)
SHOWN_MAX = 128
"""Of a path that a client made up, in a message."""
_PATHS: Mapping[str, tuple[str, ...]] = {
    "/healthz": READ,
    "/metrics": READ,
    "/v1/chat/completions": WORK,
    "/v1/completions": WORK,
    "/v1/embeddings": WORK,
    "/v1/models": READ,
    "/v2": READ,
    "/v2/health/live": READ,
    "/v2/health/ready": READ,
    "/v2/repository/index": WORK,
}
_OF_MODEL: Mapping[str, tuple[str, ...]] = {"config": READ, "infer": WORK, "ready": READ, "stats": READ}
"""What follows a model's name, or its version's."""


def methods_at(path: str) -> tuple[str, ...]:
    """The methods of a path; none for one that there is not."""
    path = path.rstrip("/")
    if path in _PATHS:
        return _PATHS[path]
    protocol, _, name = path[1:].partition("/models/")
    if protocol == "v1" and name:
        return READ
    if protocol == "v2/repository":
        model, _, verb = name.rpartition("/")
        return WORK if model and verb in {"load", "unload"} else ()
    return _of_model(name.split("/")) if protocol == "v2" and name else ()


def _of_model(parts: list[str]) -> tuple[str, ...]:
    if parts[1:2] == ["versions"]:
        del parts[1:3]
    if not parts[0] or len(parts) > 2:
        return ()
    return _OF_MODEL.get(parts[1], ()) if len(parts) == 2 else READ


def model_and_version(rest: str) -> tuple[str, str | None]:
    """`faces` or `faces/versions/1`; raises Refusal(PATH_UNKNOWN)."""
    name, slash, tail = rest.partition("/")
    if not slash:
        return name, None
    head, _, version = tail.partition("/")
    if head != "versions" or not version or "/" in version:
        raise Refusal(Reason.PATH_UNKNOWN, f"{MODELS}{rest[:SHOWN_MAX]} is no path of the v2 protocol")
    return name, version


def not_there(method: str, path: str) -> Refusal:
    """Why nothing answers a request: its path is asked with other methods, or there is no such path."""
    methods = methods_at(path)
    if methods and method not in methods:
        return wrong_method(method, path, methods)
    if path.startswith("/control/"):
        where = "at the gateway's control socket (nearhall serve --control-socket PATH)"
        return Refusal(Reason.PATH_UNKNOWN, f"{path[:SHOWN_MAX]} is not answered at this address; ask {where}")
    return Refusal(Reason.PATH_UNKNOWN, f"there is no {path[:SHOWN_MAX]} here; see /v2, /v1/models and /metrics")


def wrong_method(method: str, path: str, methods: tuple[str, ...]) -> Refusal:
    """The refusal for a path that there is, asked with another method."""
    text = f"{path[:SHOWN_MAX]} is asked with {' or '.join(methods)}, not with {method[:16]}"
    return Refusal(Reason.METHOD_NOT_ALLOWED, text, allow=methods)
