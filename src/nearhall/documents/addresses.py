"""Where a server listens, as people write it: a port, a host and a port, or the path of a Unix socket."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from nearhall.documents.strict import Strict

UNIX = "unix:"
SOCKET_PATH_MAX = 107
"""sun_path holds 108 bytes, one for the end (unix(7))."""
HTTP_PATTERN = r"^(\S+:)?\d{1,5}$"
GRPC_PATTERN = r"^(unix:\S+|(\S+:)?\d{1,5})$"
_PORT: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 65535}


def also(schema: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Says of a field that it may be written in a short form too."""
    return lambda field: field["anyOf"].insert(0, schema)


def port_exists(value: str) -> str:
    """The address, if its port is one; raises ValueError."""
    port = re.search(r"\d+$", value)
    if port is not None and not value.startswith(UNIX) and int(port.group()) > 65535:
        message = f"port {port.group()} does not exist; 0 to 65535 are right"
        raise ValueError(message)
    return value


def path_fits(path: str) -> str:
    """The path of a socket, if the system can hold it; raises ValueError."""
    length = len(path.removeprefix(UNIX).encode())
    if length > SOCKET_PATH_MAX:
        message = f"the path of a Unix socket has at most {SOCKET_PATH_MAX} bytes; this one has {length}"
        raise ValueError(message)
    return path


def _port_alone(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Address = Annotated[
    str,
    Field(pattern=HTTP_PATTERN),
    BeforeValidator(_port_alone),
    AfterValidator(port_exists),
    WithJsonSchema({"anyOf": [_PORT, {"type": "string", "pattern": HTTP_PATTERN}]}),
]
"""`[HOST:]PORT`; 127.0.0.1 unless a host is named, and port 0 takes a free one."""
GrpcAddress = Annotated[
    str,
    Field(pattern=GRPC_PATTERN),
    BeforeValidator(_port_alone),
    AfterValidator(port_exists),
    AfterValidator(lambda value: path_fits(value) if value.startswith(UNIX) else value),
    WithJsonSchema({"anyOf": [_PORT, {"type": "string", "pattern": GRPC_PATTERN}]}),
]
"""`[HOST:]PORT`, or `unix:PATH`."""


class Uds(Strict):
    """A Unix socket on which the HTTP service answers too."""

    path: Annotated[str, Field(min_length=1), AfterValidator(path_fits)]
    mode: str = Field(default="0600", pattern=r"^0?[0-7]{3}$")
    """Who may connect, as chmod writes it, in quotes; by default the gateway's own user alone."""


SocketPath = Annotated[str, Field(min_length=1), AfterValidator(path_fits)]
"""Of a Unix socket for the program's own user alone."""


def _path_alone(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


UdsSocket = Annotated[Uds, BeforeValidator(_path_alone)]
"""May be written as the path alone."""
