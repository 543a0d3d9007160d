"""The control socket: counters out, models in and out, a clean stop; and nothing that is not there yet."""

from __future__ import annotations

import asyncio
import json

import msgspec

from gateway.plane_rig import Answer, rig
from nearhall.gateway.http.control import Control
from nearhall.wire.telemetry import GatewayStats


async def ask(control, method, path, body=b""):
    sent = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await control({"type": "http", "method": method, "path": path, "headers": []}, receive, send)
    return Answer(sent)


def test_what_the_agent_may_ask(tmp_path):
    async def tell():
        stopped = []
        async with rig(tmp_path, models=["double"], control_socket=str(tmp_path / "ctl")) as site:
            control = Control(site.composed.plane, stop=lambda: stopped.append(True))
            await site.infer("double", [1, 2, 3, 4])
            stats = msgspec.json.decode((await ask(control, "GET", "/control/stats")).body, type=GatewayStats)
            assert stats.workloads["model:double"].local == 1
            assert [(model.name, model.state) for model in stats.models] == [("double", "ready")]
            assert stats.hub_reachable is None
            through_the_port = await site.ask("POST", "/v2/repository/models/double/unload", {})
            assert "model_repository" not in (await ask(site.composed.app, "GET", "/v2")).json["extensions"]
            assert (through_the_port.status, through_the_port.reason) == (400, "unsupported")
            assert (await ask(control, "POST", "/v2/repository/models/double/unload")).status == 200
            assert (await ask(control, "POST", "/v2/repository/models/double/load")).status == 200
            nothing = await ask(control, "GET", "/nothing")
            assert (nothing.status, nothing.reason) == (404, "path_unknown")
            assert "/control/cap" in nothing.json["error"]
            wrong = await ask(control, "GET", "/control/drain")
            assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
            wrong = await ask(control, "DELETE", "/control/cap")
            assert (wrong.status, wrong.headers["allow"]) == (405, "GET, POST")
            assert wrong.json == {"error": "/control/cap is asked with GET or POST, not with DELETE"}
            odd = json.dumps({"parameters": {"config": "{}"}}).encode()
            assert (await ask(control, "POST", "/v2/repository/models/double/load", odd)).reason == "unsupported"
            assert (await ask(control, "POST", "/v2/repository/double/load")).status == 404
            assert stopped == []
            assert (await ask(control, "POST", "/control/drain")).status == 200
            assert stopped == [True]

    asyncio.run(tell())


def test_a_power_cap_is_taken_told_and_ended(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            plane = site.composed.plane
            control = Control(plane, stop=lambda: None)
            now = plane.clock.utc()

            async def post(wish):
                return await ask(control, "POST", "/control/cap", json.dumps(wish).encode())

            assert (await ask(control, "GET", "/control/cap")).json["step_down"] == 0
            capped = await post({"step_down": 0.5, "until_s": now + 60})
            assert (capped.status, capped.json["step_down"], capped.json["until_s"]) == (200, 0.5, now + 60)
            assert "no variant here saves anything: fewer joules must be known" in capped.json["says"]
            by_watts = await post({"watts": 40})
            assert (by_watts.json["step_down"], by_watts.json["watts"]) == (1.0, 40)
            assert "no meter has told what is drawn; as much is saved" in by_watts.json["says"]
            assert b"nearhall_power_cap_ratio 1.0" in (await site.ask("GET", "/metrics")).body
            for wrong in (
                {},
                {"step_down": 0.5, "watts": 3},
                {"step_down": 1.5},
                {"watts": -1},
                {"step_down": 0.5, "of": "servers"},
                {"watts": 100, "of": "house"},
                {"step_down": 1, "until_s": now - 1},
                {"step_down": 1, "until_s": now + 1e6},
                {"step_down": 1, "for_s": 3},
                [],
            ):
                refused = await post(wrong)
                assert (refused.status, refused.reason) == (400, "bad_request"), wrong
                assert "right is" in refused.json["error"]
            assert (await ask(control, "GET", "/control/cap")).json["step_down"] == 1.0
            assert (await post({"step_down": 0})).json["says"] == "no cap"
            kinds = [event.kind for event in plane.stats.snapshot(models=[], hub_reachable=None).events]
            assert kinds[-4:] == ["capped", "capped", "cap_blind", "cap_ended"]

    asyncio.run(tell())


def test_a_power_cap_ends_by_itself(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            plane = site.composed.plane
            control = Control(plane, stop=lambda: None)
            await ask(control, "POST", "/control/cap", json.dumps({"step_down": 1, "until_s": plane.clock.utc() + 60}).encode())
            assert plane.choosing.step_down(plane.clock.monotonic() + 59) == 1
            assert plane.choosing.step_down(plane.clock.monotonic() + 61) == 0
            assert (await ask(control, "GET", "/control/cap")).json["step_down"] == 0

    asyncio.run(tell())
