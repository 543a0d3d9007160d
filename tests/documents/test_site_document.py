"""site.yaml: DESIGN's example reads; a mistake in it is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nearhall.cli.commands.site import node_state, resolve
from nearhall.core.errors import InputError
from nearhall.documents.site import SiteDocument
from nearhall.documents.yaml_file import parse_document

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
