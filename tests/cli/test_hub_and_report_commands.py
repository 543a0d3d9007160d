"""`nearhall hub` and `nearhall report` as somebody types them."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from hub.small_site import START_S, record, store_with
from nearhall.cli.hub_place import Address, Wanted, issue_site, lay_out_hub, parse_address, sort_names
from nearhall.cli.main import main
from nearhall.cli.roots.program import read_settings
from nearhall.core.errors import InputError
from nearhall.drivers.store_sqlite import SqliteStore
from nearhall.gateway.settings import Settings as GatewaySettings
from nearhall.hub.settings import Settings as HubSettings


def typed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of `nearhall ARGUMENTS`."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A store with a minute of one site."""
    path = tmp_path / "hub.db"
    store = SqliteStore(path)
    store_with([record(n) for n in range(30)], into=store)
    store.close()
    return path


def test_a_report_of_everything(held: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    code, said, _ = typed(capsys, "report", "--store", held, "--out", out, "--json")
    printed = json.loads(said)
    assert code == 0
    assert printed == json.loads((out / "pilot.json").read_text())
    assert printed["run"]["ended"] == "2023-11-14T22:14:20.000Z"
    assert printed["run"]["seed"] is None
    assert "<html" in (out / "report.html").read_text()[:500]


def test_a_report_of_a_part_in_words(held: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    times = ["--from", "2023-11-14T22:13:30", "--to", "2023-11-15T00:13:40+02:00"]
    code, said, _ = typed(capsys, "report", "--store", held, "--out", tmp_path / "out", *times)
    pilot = json.loads((tmp_path / "out" / "pilot.json").read_text())
    assert code == 0
    assert pilot["run"] | {"software": ""} == {
        "started": "2023-11-14T22:13:30.000Z",
        "ended": "2023-11-14T22:13:40.000Z",
        "software": "",
        "seed": None,
    }
    assert pilot["totals"]["requests"]["local"] == 50
    assert str(tmp_path / "out" / "report.html") in said.replace("\n", "")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--from", "yesterday"], "--from: 'yesterday' is no moment"),
        (["--from", "2023-11-15", "--to", "2023-11-14"], "the period ends before it begins"),
        (["--from", "2030-01-01", "--to", "2030-01-02"], "the store holds no telemetry of this period"),
        (["--store", "nothing.db"], "nothing.db: is no store of a hub"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    options: list[str], told: str, held: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code, said, noted = typed(capsys, "report", "--store", held, "--out", tmp_path / "out", *options)
    assert (code, said) == (2, "")
    assert told in noted
    assert len(noted.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "pilot.json").exists()


def test_an_empty_store_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    SqliteStore(tmp_path / "hub.db").close()
    code, _, noted = typed(capsys, "report", "--store", tmp_path / "hub.db", "--out", tmp_path / "out")
    assert code == 2
    assert "holds no telemetry yet" in noted


def wanted(tmp_path: Path, **more: Any) -> Wanted:
    (tmp_path / "models").mkdir(exist_ok=True)
    parts: dict[str, Any] = {
        "state": tmp_path / "state",
        "listen": Address(host="0.0.0.0", port=8443),
        "page": Address(host="127.0.0.1", port=8445),
        "repository": tmp_path / "models",
        "jurisdiction": "DE",
        "names": ["hub.example", "192.0.2.7"],
    }
    return Wanted(**(parts | more))


def test_a_hub_is_laid_out_and_its_programs_understand_their_settings(tmp_path: Path):
    laid = lay_out_hub(wanted(tmp_path), started_s=START_S)
    folder = tmp_path / "state"
    hub = read_settings(str(folder / "settings" / "hub.json"), HubSettings)
    gateway = read_settings(str(folder / "settings" / "hub-gateway.json"), GatewaySettings)
    assert (hub.api.socket, hub.page.token, hub.run_started_s) == (gateway.control_plane, laid.token, START_S)
    assert (gateway.node, gateway.host, gateway.port, gateway.tls is not None) == ("hub", "0.0.0.0", 8443, True)
    assert laid.page_url == f"http://127.0.0.1:8445/?token={laid.token}"
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, folder / "token"]} == {
        "state": 0o700,
        "token": 0o600,
    }
    again = lay_out_hub(wanted(tmp_path), started_s=START_S)
    assert again.token == laid.token, "an open page survives a restart"


def test_a_site_gets_its_bundle_where_up_looks_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    lay_out_hub(wanted(tmp_path), started_s=START_S)
    options = ["--state", tmp_path / "state", "--site", "shop-01", "--out", tmp_path / "credentials"]
    code, said, _ = typed(capsys, "hub", "credentials", *options, "--json")
    assert code == 0
    assert json.loads(said)["site"] == "shop-01"
    assert sorted(path.name for path in (tmp_path / "credentials" / "shop-01").iterdir()) == ["ca.pem", "cert.pem", "key.pem"]


@pytest.mark.parametrize("site", ["hub", "Shop", "", "../x", "a" * 32, "a b"])
def test_a_name_that_is_none_gets_no_certificate(tmp_path: Path, site: str):
    lay_out_hub(wanted(tmp_path), started_s=START_S)
    with pytest.raises(InputError, match="is no name for a site"):
        issue_site(tmp_path / "state", site, tmp_path / "out")
    assert issue_site(tmp_path / "state", "a" * 31, tmp_path / "out").cert.exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"repository": Path("/nowhere")}, "--repository: /nowhere is no folder"),
        ({"jurisdiction": "Germany"}, "--jurisdiction"),
        ({"page": Address(host="127.0.0.1", port=8443)}, "both listeners have the same port"),
        ({"names": ["hub example"]}, "neither a DNS name nor an IP address"),
        ({"state": Path("/proc/nearhall")}, "--state"),
        ({"state": Path("/tmp") / ("s" * 100)}, "too long for a Unix socket"),
    ],
)
def test_a_hub_that_cannot_be_is_one_line(tmp_path: Path, changes: dict[str, Any], told: str):
    with pytest.raises(InputError, match=told):
        lay_out_hub(wanted(tmp_path, **changes), started_s=START_S)


@pytest.mark.parametrize(
    ("text", "address"),
    [("8443", ("127.0.0.1", 8443)), ("0.0.0.0:1", ("0.0.0.0", 1)), ("[::1]:2", ("::1", 2)), (":3", ("127.0.0.1", 3))],
)
def test_addresses_are_read(text: str, address: tuple[str, int]):
    found = parse_address(text, option="--listen")
    assert (found.host, found.port) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "host:port", "0", "70000", "1:2:x"])
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(InputError, match=r"--listen: .* is no address"):
        parse_address(text, option="--listen")


def test_names_are_sorted_into_what_a_certificate_holds():
    assert sort_names(["Hub.Example", "192.0.2.7", "[2001:db8::1]", "localhost"]) == (
        ["localhost", "hub.example"],
        ["127.0.0.1", "192.0.2.7", "2001:db8::1"],
    )


def test_a_missing_option_is_named(capsys: pytest.CaptureFixture[str]):
    code, _, noted = typed(capsys, "hub")
    assert (code, noted.strip()) == (2, "error: --state: is missing; name the hub's folder")
