"""The control socket: counters out, models in and out, a clean stop; and nothing that is not there yet."""

from __future__ import annotations

import asyncio
import json

import msgspec

from gateway.plane_rig import Answer, rig
from nearhall.gateway.control import Control
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
            assert (through_the_port.status, through_the_port.reason) == (400, "unsupported")
            assert (await ask(control, "POST", "/v2/repository/models/double/unload")).status == 200
            assert (await ask(control, "POST", "/v2/repository/models/double/load")).status == 200
            assert (await ask(control, "POST", "/control/cap")).status == 501
            assert (await ask(control, "GET", "/nothing")).status == 400
            odd = json.dumps({"parameters": {"config": "{}"}}).encode()
            assert (await ask(control, "POST", "/v2/repository/models/double/load", odd)).reason == "unsupported"
            assert (await ask(control, "POST", "/v2/repository/double/load")).status == 400
            assert stopped == []
            assert (await ask(control, "POST", "/control/drain")).status == 200
            assert stopped == [True]

    asyncio.run(tell())
