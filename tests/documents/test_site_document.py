"""site.yaml: DESIGN's example reads; a mistake in it is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import convert

from nearhall.cli.commands.site import node_state, resolve
from nearhall.core.errors import InputError
from nearhall.documents.site import SiteDocument
from nearhall.documents.yaml_file import parse_document
from nearhall.gateway.settings import Settings, check_settings

EXAMPLE = """
schema: nearhall/site/v1
id: shop-01
class: micro
jurisdiction: DE
hub: https://hub.example:8443
envelope:
  it_power_kw: 8
  feed: {phases: 3, volts: 400, breaker_a: 32, code: IEC, feeder: F1}
  cooling: {kind: dx, capacity_kw: 10, class: A2}
  ups: {kw: 9, hold_min: 10}
nodes:
  - {id: n1, hardware: "mlperf:v2.1/Orin_TRT_MaxQ", http: "127.0.0.1:8080", memory_gib: 8}
meters:
  - {id: feed, position: feed, url: "modbus://meter.local:502/1", profile: sdm630}
workloads:
  - {id: cams, model: faces, slo_p99_ms: 10, priority: 2, residency: site}
  - {id: chat, model: smollm2, slo_ttft_ms: 300, priority: 5, residency: "jurisdiction:DE"}
limits: {outbox_mib: 256, models_gib: 20}
"""


def _site(text: str = EXAMPLE) -> SiteDocument:
    return parse_document(text.encode(), SiteDocument, name="site.yaml")


def test_the_design_s_example_resolves_to_settings(tmp_path: Path):
    tls = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    site = _site()
    gateway, agent = resolve(site, site.nodes[0], tmp_path / "site.yaml", tmp_path, repository=tmp_path, tls=tls)
    assert (gateway["node"], gateway["port"]) == ("shop-01/n1", 8080)
    assert gateway["hub"] == {**agent["hub"], "jurisdiction": ""}, "one origin, in nobody's jurisdiction until it is said"
    assert agent["hub"] == {"url": "https://hub.example:8443", "tls": tls}
    assert agent["about"]["ups"] == {"rating_w": 9000.0}
    assert [workload["chat"] for workload in agent["workloads"]] == [False, True]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("residency: site", "residncy: site"), "workloads[0].residncy is not known; did you mean 'residency'?"),
        (("hub: https", "hub: http"), "hub: "),
        (("breaker_a: 32", "breaker_a: -1"), "envelope.feed.breaker_a"),
        (("model: smollm2", "model: faces"), "two workloads have the model 'faces'"),
        (("id: shop-01", "id: Shop 01"), "id: "),
        (
            ("memory_gib: 8}", 'memory_gib: 8}\n  - {id: n1, http: "127.0.0.1:8081"}'),
            "two nodes have the id 'n1'; each needs its own",
        ),
        (("memory_gib: 8}", "memory_gib: 8}\n  - {id: n2}"), "two nodes listen at '127.0.0.1:8080'; each needs its own"),
    ],
)
def test_a_mistake_is_named(change: tuple[str, str], expected: str):
    assert change[0] in EXAMPLE
    with pytest.raises(InputError) as refused:
        _site(EXAMPLE.replace(*change, 1))
    assert expected in str(refused.value)


def with_addresses(more: str, *others: str) -> str:
    """The example, its node with more keys and others beside it."""
    nodes = "".join(f"\n  - {{{other}}}" for other in others)
    return EXAMPLE.replace("memory_gib: 8}", f"memory_gib: 8, {more}}}{nodes}")


@pytest.mark.parametrize(
    ("keys", "grpc", "uds"),
    [
        ("grpc: 8001", "127.0.0.1:8001", None),
        ('grpc: "0.0.0.0:8001"', "0.0.0.0:8001", None),
        ('grpc: "unix:run/g"', "unix:{folder}/run/g", None),
        ('grpc: "unix:/run/g", uds: s', "unix:/run/g", {"path": "{folder}/s", "mode": "0600"}),
        ('uds: {path: /run/s, mode: "0660"}', None, {"path": "/run/s", "mode": "0660"}),
        ("hardware: l4", None, None),
    ],
)
def test_a_node_answers_grpc_and_at_a_socket_where_the_document_says_so(
    keys: str, grpc: str | None, uds: dict[str, str] | None, tmp_path: Path
):
    text = with_addresses(keys) if "hardware" not in keys else EXAMPLE
    ((gateway, _),) = _resolved(text, tmp_path)
    assert gateway["grpc"] == (None if grpc is None else grpc.format(folder=tmp_path))
    expected = None if uds is None else {key: value.format(folder=tmp_path) for key, value in uds.items()}
    assert gateway["uds"] == expected
    check_settings(convert(gateway, Settings), where="gateway")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("grpc: 70000", "nodes[0].grpc: port 70000 does not exist; 0 to 65535 are right"),
        ("grpc: 0", "nodes[0]: grpc takes no free port here, since no client would know it; name one, for example 8001"),
        ("grpc: x", "nodes[0].grpc: wants [HOST:]PORT, such as 8001 or 0.0.0.0:8001, or unix:PATH"),
        ("grpc: 8080", "nodes[0]: http and grpc are both at 127.0.0.1:8080; each needs a port of its own"),
        (f"grpc: unix:/{'a' * 107}", "at most 107 bytes; this one has 108"),
        (f"uds: /{'a' * 107}", "nodes[0].uds.path: the path of a Unix socket has at most 107 bytes; this one has 108"),
        ('uds: {path: s, mode: "0999"}', "nodes[0].uds.mode: "),
        ("uds: {}", "nodes[0].uds.path is missing; add it"),
        ("udss: s", "nodes[0].udss is not known; did you mean 'uds'?"),
    ],
)
def test_an_address_that_cannot_be_is_one_line(keys: str, expected: str):
    with pytest.raises(InputError) as refused:
        _site(with_addresses(keys))
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_nodes_on_one_host_need_addresses_of_their_own():
    elsewhere = 'id: n2, http: "10.0.0.2:8080", grpc: "unix:/run/g", uds: /run/s'
    _site(with_addresses('grpc: "unix:/run/g", uds: /run/s', elsewhere))
    beside = 'id: n2, http: "127.0.0.1:8081"'
    for keys, says in {
        'grpc: "unix:/run/g"': "two nodes answer gRPC at 'unix:/run/g, of 127.0.0.1'",
        "grpc: 8001": "two nodes answer gRPC at '127.0.0.1:8001, of 127.0.0.1'",
        "uds: /run/s": "two nodes have the uds '/run/s, of 127.0.0.1'",
    }.items():
        with pytest.raises(InputError) as refused:
            _site(with_addresses(keys, f"{beside}, {keys}"))
        assert says in str(refused.value)


def test_a_path_that_its_folder_makes_too_long_is_told(tmp_path: Path):
    with pytest.raises(InputError, match=r"site.yaml: nodes\[0\].uds: .* is too long for a Unix socket; name a path that is"):
        _resolved(with_addresses(f"uds: {'d' * 100}/s"), tmp_path)


@pytest.mark.parametrize(
    ("http", "says"), [('"127.0.0.1:70000"', "nodes[0].http: port 70000 does not exist"), ("x", "nodes[0].http: wants")]
)
def test_a_service_port_that_is_none_is_told(http: str, says: str):
    with pytest.raises(InputError) as refused:
        _site(EXAMPLE.replace('"127.0.0.1:8080"', http))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("change", "expected"), [(("sdm630", "sdm999"), "no meter profile"), (('/1"', '/999"'), "not the address of a meter")]
)
def test_a_meter_that_cannot_be_is_told_before_anything_starts(change: tuple[str, str], expected: str, tmp_path: Path):
    with pytest.raises(InputError, match=expected):
        _resolved(EXAMPLE.replace(*change, 1), tmp_path)


def _resolved(text: str, state: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every node's settings of gateway and agent."""
    site = _site(text)
    document = state / "site.yaml"
    return [resolve(site, n, document, node_state(site, n, state), repository=state, tls=None) for n in site.nodes]


def test_each_node_has_its_session_its_folder_and_one_of_them_the_meters(tmp_path: Path):
    two = EXAMPLE.replace("memory_gib: 8}", 'memory_gib: 8}\n  - {id: n2, hardware: l4, http: "10.0.0.2:8080"}')
    (gateway, agent), (other_gateway, other) = _resolved(two, tmp_path)
    assert [gateway["node"], other_gateway["node"]] == ["shop-01/n1", "shop-01/n2"]
    assert [agent["site"], other["site"]] == ["shop-01", "shop-01.n2"]
    assert (other["host"], other["port"], other_gateway["host"]) == ("10.0.0.2", 8080, "10.0.0.2")
    assert [agent["state_dir"], other["state_dir"]] == [str(tmp_path), str(tmp_path / "n2")]
    assert [[meter["id"] for meter in one["meters"]] for one in (agent, other)] == [["feed"], []]
    nodes = [{"id": "n1", "hardware": "mlperf:v2.1/Orin_TRT_MaxQ"}, {"id": "n2", "hardware": "l4"}]
    assert [one["about"]["nodes"] for one in (agent, other)] == [nodes, nodes]
    assert [one["about"]["node"] for one in (agent, other)] == ["n1", "n2"]
    assert other["about"]["site"] == "shop-01"
    of_the_site = {"meters", "envelope", "ups"}
    assert of_the_site <= agent["about"].keys()
    assert not of_the_site & other["about"].keys(), "what is the site's is told once"
    assert other["workloads"] == agent["workloads"], "each serves all"
    ((_, alone),) = _resolved(EXAMPLE, tmp_path)
    assert alone["about"] | {"nodes": nodes} == agent["about"]
