"""The shadow's two halves and the difference between them; and a refusal as HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nearhall.core.errors import Refusal
from nearhall.core.reasons import FAILURES, SENT_TO_HUB, SERVED_HERE, Reason
from nearhall.wire.refusal import STATUS, refusal_response
from nearhall.wire.shadow import DesiredSite, ReportedSite, difference, parse_desired


def test_a_desired_document_is_read():
    desired = parse_desired({"schema": "nearhall/desired/v1", "models": {"faces": "loaded", "smollm2": "unloaded"}})
    assert desired.models == {"faces": "loaded", "smollm2": "unloaded"}
    assert parse_desired({}).models is None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"schema": "nearhall/desired/v9"}, "v9"),
        ({"models": {"faces": "on"}}, "models.faces"),
        ({"models": ["faces"]}, "models"),
        ({"modles": {}}, "modles"),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        parse_desired(document)


@pytest.mark.parametrize(
    ("wanted", "has", "todo"),
    [
        ("loaded", "ready", {}),
        ("loaded", "loading", {}),
        ("loaded", "unloaded", {"m": "loaded"}),
        ("loaded", "failed", {"m": "loaded"}),
        ("loaded", None, {"m": "loaded"}),
        ("unloaded", "ready", {"m": "unloaded"}),
        ("unloaded", "unloaded", {}),
        ("unloaded", None, {}),
    ],
)
def test_only_what_differs_is_done(wanted: str, has: str | None, todo: dict[str, str]):
    reported = ReportedSite(models={} if has is None else {"m": has})
    assert difference(DesiredSite(models={"m": wanted}), reported) == todo


def test_what_is_not_wished_is_left():
    assert difference(DesiredSite(), ReportedSite(models={"m": "ready"})) == {}


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason in STATUS])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v2/models/faces/infer"])
def test_a_refusal_names_its_reason_and_when_to_come_back(reason: Reason, path: str):
    status, headers, body = refusal_response(Refusal(reason, "no", retry_after_ms=1200), path)
    found = dict(headers)
    assert status == STATUS[reason]
    assert found[b"x-nearhall-reason"] == reason.value.encode()
    assert (found[b"retry-after"], found[b"retry-after-ms"]) == (b"2", b"1200")
    assert int(found[b"content-length"]) == len(body)
    said = json.loads(body)["error"]
    assert (said["message"] if path.startswith("/v1/") else said) == "no"


def test_every_reason_to_refuse_has_a_status():
    assert set(STATUS) == set(Reason) - SERVED_HERE - SENT_TO_HUB
    assert set(STATUS) >= FAILURES


def test_where_a_retry_is_futile_it_is_said():
    status, headers, _ = refusal_response(Refusal(Reason.MODEL_UNKNOWN, "no such model"), "/v2/models/x")
    assert status == 404
    assert dict(headers)[b"x-should-retry"] == b"false"
    assert b"retry-after" not in dict(headers)


def test_what_was_admitted_and_ran_out_of_time_is_504():
    assert refusal_response(Refusal(Reason.DEADLINE, "late"), "/v2/x", expired=True)[0] == 504
