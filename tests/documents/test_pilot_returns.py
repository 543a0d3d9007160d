"""pilot.json as a decision reads it: what is there, with its evidence; and what is wrong, with its path."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.documents.pilot_returns import parse_pilot, read_pilots

Json = dict[str, Any]

DOCUMENT: Json = {
    "schema": "nearhall/pilot/v1",
    "evidence": {
        "/sites/0/energy": {"kind": "simulated", "source": "a virtual cabinet"},
        "/sites/0/blocks": {"kind": "simulated", "source": "a virtual cabinet"},
        "/sites/0/blocks/0/slo": {"kind": "measured", "source": "counters"},
    },
    "sites": [
        {
            "id": "shop-01",
            "class": "micro",
            "jurisdiction": "DE",
            "period": {"start": "2026-11-03T08:00:00Z", "end": "2026-11-03T08:30:00Z"},
            "coverage": 0.98,
            "clock_error_ms": None,
            "meters": [
                {"id": "main", "position": "feed", "class_percent": 1.0, "virtual": True, "kind": "measured"},
                {"id": "rack", "position": "it", "class_percent": None, "virtual": False, "kind": "measured"},
            ],
            "workloads": [
                {
                    "id": "cams",
                    "requests": {"total": 10, "local": 9, "late": 1},
                    "latency_ms": {"local": {"p99": 12.5}},
                    "energy_j_per_request": {"full": 3.5},
                },
                {"id": "chat", "requests": {"total": 0}, "latency_ms": None},
            ],
            "energy": {"facility_kwh": 0.4, "it_kwh": 0.3, "cooling_kwh": 0.1, "register_coverage": 0.97},
            "blocks": [
                {
                    "start": "2026-11-03T08:15:00Z",
                    "end": "2026-11-03T08:30:00Z",
                    "register_kwh": {"main": [1.2, 1.1]},
                    "outdoor_c": None,
                    "slo": {},
                    "bytes": {"sent": 5, "raw": None},
                },
                {
                    "start": "2026-11-03T08:00:00Z",
                    "end": "2026-11-03T08:15:00Z",
                    "register_kwh": {"main": [1.0, 1.2], "rack": [2.0, 2.25]},
                    "outdoor_c": 4.5,
                    "slo": {"cams": [9, 10]},
                    "bytes": {"sent": 100, "raw": 1000},
                },
            ],
        }
    ],
}


def changed(change: Callable[[Json], object]) -> bytes:
    """The document with one thing else."""
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return json.dumps(document).encode()


def test_what_a_pilot_returned():
    (site,) = parse_pilot(json.dumps(DOCUMENT).encode(), name="pilot.json")
    assert (site.id, site.site_class, site.jurisdiction, site.seconds) == ("shop-01", "micro", "DE", 1800.0)
    assert (site.coverage, site.register_coverage, site.clock_error_ms) == (0.98, 0.97, None)
    assert site.energy_kwh == {"feed": 0.4, "it": 0.3}, "what has no meter was not metered"
    first, second = site.blocks
    assert first.start_s < second.start_s
    assert first.kwh("main") == pytest.approx(0.2)
    assert second.kwh("main") is None, "a register that went back is a new meter"
    assert second.kwh("rack") is None
    assert site.block_kwh(first, "it") == 0.25
    assert site.block_kwh(second, "it") is None
    assert site.block_kwh(first, "cooling") is None
    assert first.slo == {"cams": (9, 10)}
    assert (first.sent_bytes, second.raw_bytes, first.outdoor_c) == (100.0, None, 4.5)
    cams, chat = site.workloads
    assert (cams.total, cams.local, cams.late, cams.p99_ms, cams.joules_full) == (10, 9, 1, 12.5, 3.5)
    assert (chat.total, chat.local, chat.p99_ms, chat.joules_full) == (0, 0, None, None)


def test_evidence_is_that_of_the_nearest_entry_and_a_virtual_meter_is_never_measured():
    (site,) = parse_pilot(json.dumps(DOCUMENT).encode(), name="pilot.json")
    assert site.kind("energy") is Kind.SIMULATED
    assert site.kind("outdoor") is Kind.SIMULATED
    assert site.kind("requests") is Kind.MEASURED
    assert site.kind("bytes") is Kind.SIMULATED, "as the blocks that they stand in"
    assert site.kind("something else") is Kind.ASSUMED
    assert [meter.kind for meter in site.meters] == [Kind.SIMULATED, Kind.MEASURED]
    (unsaid,) = parse_pilot(changed(lambda d: d.pop("evidence")), name="pilot.json")
    assert unsaid.kind("requests") is Kind.ASSUMED


@pytest.mark.parametrize(
    ("change", "path", "what"),
    [
        (lambda d: d.update(schema="nearhall/plan/v1"), "p.json", "schema is 'nearhall/plan/v1'"),
        (lambda d: d.pop("schema"), "p.json", "schema is 'none'"),
        (lambda d: d.update(sites={}), "p.json: sites", "is not a list"),
        (lambda d: d.update(sites=[]), "p.json: sites", "holds 0 sites"),
        (lambda d: d.update(sites=[3]), "p.json: sites[0]", "is not an object"),
        (lambda d: d["sites"][0].pop("id"), "sites[0].id", "is no text"),
        (lambda d: d["sites"][0].update({"class": "big"}), "sites[0].class", "is not known"),
        (lambda d: d["sites"][0].update(coverage=1.5), "sites[0].coverage", "is no share"),
        (lambda d: d["sites"][0].update(coverage=None), "sites[0].coverage", "is no share"),
        (lambda d: d["sites"][0].update(clock_error_ms="soon"), "sites[0].clock_error_ms", "is no number"),
        (lambda d: d["sites"][0]["period"].update(start="soon"), "sites[0].period.start", "is no time"),
        (lambda d: d["sites"][0]["period"].update(start="2026-11-03T08:00:00"), "sites[0].period.start", "is no time"),
        (lambda d: d["sites"][0]["period"].update(end="2026-11-03T07:00:00Z"), "sites[0].period.end", "lies before start"),
        (lambda d: d["sites"][0]["meters"][1].update(position="roof"), "sites[0].meters[1].position", "is not known"),
        (lambda d: d["sites"][0]["blocks"][0].update(end="2026-11-03T07:00:00Z"), "blocks[0].end", "lies before start"),
        (lambda d: d["sites"][0]["blocks"][0]["register_kwh"].update(main=[1]), "register_kwh.main", "is not two numbers"),
        (lambda d: d["sites"][0]["blocks"][0]["register_kwh"].update(main=3), "register_kwh.main", "is not two numbers"),
        (
            lambda d: d["sites"][0]["blocks"][0]["register_kwh"].update(main=[1, 10**400]),
            "register_kwh.main",
            "is not two numbers",
        ),
        (lambda d: d["sites"][0]["blocks"][0]["slo"].update(cams=[9, 8]), "slo.cams", "has 9 in time of 8"),
        (lambda d: d["sites"][0]["blocks"][0]["slo"].update(cams=[-1, 8]), "slo.cams", "has -1 in time of 8"),
        (lambda d: d["sites"][0].update(clock_error_ms=1e300), "sites[0].clock_error_ms", "is no number"),
        (lambda d: d["sites"][0]["period"].update(start="0001-01-01T00:00:00Z"), "sites[0].period.start", "is no time"),
        (lambda d: d["sites"][0]["period"].update(end="9999-12-31T23:59:59Z"), "sites[0].period.end", "is no time"),
        (lambda d: d["sites"][0].update(id="\ud800"), "sites[0].id", "is no text"),
        (lambda d: d["sites"][0]["meters"][0].update(class_percent=0), "meters[0].class_percent", "is no class"),
        (lambda d: d["sites"][0]["meters"][1].update(d["sites"][0]["meters"][0]), "sites[0].meters", "holds one id twice"),
        (lambda d: d["sites"][0]["blocks"].append(d["sites"][0]["blocks"][0]), "sites[0].blocks", "overlap each other"),
        (lambda d: d["sites"][0]["workloads"].append(d["sites"][0]["workloads"][0]), "sites[0].workloads", "holds one id twice"),
        (lambda d: d["sites"][0]["workloads"][0]["requests"].update(local=-3), "requests.local", "is less than nothing"),
        (lambda d: d["sites"][0]["energy"].update(it_kwh=-5), "energy.it_kwh", "is less than nothing"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(change: Callable[[Json], object], path: str, what: str):
    with pytest.raises(InputError) as caught:
        parse_pilot(changed(change), name="p.json")
    assert path in caught.value.where
    assert what in caught.value.what
    assert caught.value.right


def test_files(tmp_path: Path):
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_bytes(json.dumps(DOCUMENT).encode())
    other.write_bytes(changed(lambda d: d["sites"][0].update(id="shop-02")))
    assert [site.id for site in read_pilots([one, other])] == ["shop-01", "shop-02"]
    with pytest.raises(InputError, match="overlapping periods"):
        read_pilots([one, one])
    with pytest.raises(InputError, match="cannot be read"):
        read_pilots([tmp_path / "none.json"])
    (tmp_path / "text.json").write_text("no")
    with pytest.raises(InputError, match="is not JSON"):
        read_pilots([tmp_path / "text.json"])


def test_what_is_nested_too_deeply_is_one_line():
    with pytest.raises(InputError, match="is not JSON \\(nested too deeply\\)") as caught:
        parse_pilot(b"[" * 100_000, name="p.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("chat", "limit_ms", "told"), [(True, 500.0, True), (False, 500.0, False), (True, None, None)])
def test_a_chats_limit_is_to_its_first_token(chat: bool, limit_ms: float | None, told: bool | None):
    data = changed(lambda d: d["sites"][0]["workloads"][0].update(chat=chat, slo_p99_ms=limit_ms))
    (site,) = parse_pilot(data, name="p.json")
    assert site.workloads[0].first_token is told
