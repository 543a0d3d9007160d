"""Where a pilot's sites answer beside their port: gRPC and a Unix socket, from pilot.yaml to the gateway's settings."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.small_models import add_model
from nearhall.cli.commands.up import _check_addresses
from nearhall.cli.pilot.beforehand import with_whole_paths
from nearhall.cli.pilot.free_ports import HIGHEST, LOWEST, free_ports
from nearhall.cli.pilot.prepare import lay_out, write_settings
from nearhall.core.errors import InputError
from nearhall.documents.up import Up
from nearhall.documents.yaml_file import dump_document, read_document

WORK = {"id": "w", "kind": "inspection", "model": "double", "rate_per_s": 1}


def pilot(*sites: dict[str, Any]) -> Up:
    said = [{"id": f"s{index}", "models": ["double"], "workloads": [WORK], **site} for index, site in enumerate(sites)]
    return Up.model_validate({"schema": "nearhall/up/v1", "sites": said})


def test_they_reach_the_gateways_and_the_file_that_repeats_the_run(tmp_path: Path, free_port):
    port = free_port()
    add_model(tmp_path / "models", "double", doubled=True)
    up = pilot({"grpc": port, "uds": "a.sock"}, {"grpc": "unix:b.sock", "uds": {"path": "c.sock", "mode": "0660"}}, {})
    whole = with_whole_paths(up, tmp_path)
    (tmp_path / "pilot.yaml").write_bytes(dump_document(whole))
    again = with_whole_paths(read_document(tmp_path / "pilot.yaml", Up), Path("/elsewhere"))
    assert again == whole
    _check_addresses(again)
    (tmp_path / "state").mkdir()
    write_settings(lay_out(again, tmp_path, repository=tmp_path / "models", clips={}), tmp_path, started_s=0.0, scale_errors={})
    told = [json.loads((tmp_path / "state" / "settings" / f"gateway-s{n}.json").read_bytes()) for n in range(3)]
    assert [(one["grpc"], one["uds"]) for one in told] == [
        (f"127.0.0.1:{port}", {"path": f"{tmp_path}/a.sock", "mode": "0600"}),
        (f"unix:{tmp_path}/b.sock", {"path": f"{tmp_path}/c.sock", "mode": "0660"}),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("says", "sites"),
    [
        ("takes no free port", [{"grpc": 0}]),
        ("takes no free port", [{"grpc": "0.0.0.0:0"}]),
        ("port 70000 does not exist", [{"grpc": 70000}]),
        ("name '127.0.0.1:8001' twice", [{"grpc": 8001}, {"grpc": "127.0.0.1:8001"}]),
        ("name 'a' twice", [{"uds": "a"}, {"grpc": "unix:a"}]),
        ("at most 107 bytes", [{"uds": "a" * 108}]),
    ],
)
def test_what_no_site_could_have_is_said(says, sites):
    with pytest.raises(ValidationError, match=says):
        pilot(*sites)
    assert pilot({"grpc": 8001, "uds": "a"}, {"grpc": "unix:b"})


def test_what_cannot_be_had_now_is_told_before_anything_starts(tmp_path: Path):
    def told(call) -> str:
        with pytest.raises(InputError) as caught:
            call()
        return str(caught.value)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        says = told(lambda: _check_addresses(pilot({"grpc": port})))
        assert says.startswith(f"grpc of site s0: cannot listen at 127.0.0.1:{port} (")
    _check_addresses(pilot({"grpc": port}))
    none = with_whole_paths(pilot({"uds": "none/s"}), tmp_path)
    assert "uds of site s0:" in told(lambda: _check_addresses(none))
    assert "bytes shorter" in told(lambda: with_whole_paths(pilot({"uds": "a" * 100}), tmp_path))


def test_ports_that_are_promised_are_not_drawn():
    promised = set(range(LOWEST, HIGHEST, 2))
    assert promised.isdisjoint(free_ports(40, without=promised))
