"""Sites dial one origin: the hub's gateway hands the control API on, says whose certificate it saw, and both fail apart."""

from __future__ import annotations

import http.client
import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.gateway_process import GatewayProcess, gateway
from gateway.small_models import add_model
from hub.hub_rig import batch, hello
from hub.small_site import record
from hub.test_hub_process import bundle, running, settings_of
from nearhall.drivers.authority import Bundle
from nearhall.drivers.mutual_tls import client_context
from nearhall.wire.session import BODY_BYTES_MAX

HELLO = "/api/v1/sites/shop-01/hello"
TELEMETRY = "/api/v1/sites/shop-01/telemetry"
INFER = "/v2/models/double/infer"
BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'
pytestmark = pytest.mark.timeout(120)


@contextmanager
def front(folder: Path, socket: Path) -> Iterator[GatewayProcess]:
    """A hub's gateway in front of the control API on `socket`."""
    add_model(folder / "models", "double", doubled=True)
    own = bundle(folder, "hub")
    tls = {"ca": str(own.ca), "cert": str(own.cert), "key": str(own.key)}
    with gateway(folder, folder / "models", node="hub", tls=tls, control_plane=str(socket)) as started:
        yield started


def ask(port: int, own: Bundle, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], Any]:
    context = client_context(ca=str(own.ca), cert=str(own.cert), key=str(own.key))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(said) if said else None
    finally:
        connection.close()


def test_inference_and_telemetry_go_to_one_address(short_folder: Path):
    socket = short_folder / "control.sock"
    shop, plant = bundle(short_folder, "shop-01"), bundle(short_folder, "plant-02")
    config = settings_of(short_folder, api={"socket": str(socket)})
    with running(config), front(short_folder, socket) as hub:
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert ask(hub.port, shop, "POST", INFER, BODY)[0] == 200
        assert ask(hub.port, shop, "POST", HELLO, hello())[0] == 200
        status, _, said = ask(hub.port, shop, "POST", TELEMETRY, batch((1, record(0)), (2, record(1))))
        assert (status, said["acknowledged"]) == (200, 2)
        status, _, said = ask(hub.port, plant, "POST", TELEMETRY, batch((3, record(2))))
        assert (status, said["reason"]) == (403, "identity")
        forged = {"x_nearhall_peer": "shop-01", "x_nearhall_peer_uri": "nearhall:site:shop-01"}
        assert ask(hub.port, plant, "POST", TELEMETRY, batch((3, record(2))), **forged)[0] == 403
        assert ask(hub.port, shop, "GET", "/api/v1/sites/shop-01/desired?after=0&wait_s=0.05")[0] == 304
        assert ask(hub.port, shop, "POST", TELEMETRY, bytes(BODY_BYTES_MAX + 1))[0] == 413
        assert ask(hub.port, shop, "GET", "/api/v1/nothing")[0] == 404


def test_the_planes_fail_apart(short_folder: Path):
    socket = short_folder / "control.sock"
    shop = bundle(short_folder, "shop-01")
    config = settings_of(short_folder, api={"socket": str(socket)})
    with front(short_folder, socket) as hub:
        with running(config) as (control, _):
            assert ask(hub.port, shop, "POST", HELLO, hello())[0] == 200
            control.kill()
            control.wait(10)
            status, headers, _ = ask(hub.port, shop, "POST", TELEMETRY, batch((1, record(0))))
            assert (status, headers["x-nearhall-reason"], headers["retry-after"]) == (503, "restarting", "1")
            assert ask(hub.port, shop, "POST", INFER, BODY)[0] == 200
        with running(config):
            assert ask(hub.port, shop, "POST", TELEMETRY, batch((1, record(0))))[2]["acknowledged"] == 1


def test_a_site_hands_nothing_on(tmp_path: Path):
    add_model(tmp_path / "models", "double", doubled=True)
    with gateway(tmp_path, tmp_path / "models") as site:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
        connection.request("POST", HELLO, hello())
        assert connection.getresponse().status == 404
        connection.close()
