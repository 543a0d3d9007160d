"""site.yaml: DESIGN's example reads; a mistake in it is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearhall.cli.commands.site import resolve
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
    gateway, agent = resolve(_site(), tmp_path / "site.yaml", tmp_path, repository=tmp_path, tls=tls)
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
        resolve(_site(EXAMPLE.replace(*change, 1)), tmp_path / "site.yaml", tmp_path, repository=tmp_path, tls=None)
