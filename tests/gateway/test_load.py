"""What a gateway tells a front of its load, and to whom."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.plane_rig import Answer, rig
from nearhall.gateway.load import load_report, may_tell_load
from nearhall.policy.storm import Budget
from nearhall.wire.load import decode_load
from waiting import until_async


def test_it_tells_what_waits_and_what_a_request_takes(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double", "other"], chats=["parrot"]) as site:
            await site.infer("double", [1, 2, 3, 4])
            load = {line.name: line for line in decode_load(load_report(site.composed.plane)).models}
            assert (load["double"].ready, load["double"].chat, load["double"].free) == (True, False, 1)
            assert load["double"].own_ms > 0
            assert 5 in load["double"].own_by_size_ms
            assert (load["parrot"].chat, load["parrot"].slots, load["parrot"].free) == (True, 4, 4)
            assert load["parrot"].hold_ms > load["parrot"].own_ms > 0
            site.runtimes["double"].go.clear()
            asking = [asyncio.create_task(site.infer("double", [1, 2, 3, 4])) for _ in range(3)]
            lane = site.composed.plane.models.find("double").served.lane
            await until_async(lambda: lane.waiting == 2, what="two wait")
            held = {line.name: line for line in decode_load(load_report(site.composed.plane)).models}
            assert (held["double"].waiting, held["double"].free) == (2, 0)
            assert held["double"].backlog_ms > held["other"].backlog_ms == 0
            site.runtimes["double"].go.set()
            await asyncio.gather(*asking)
            await site.composed.plane.models.unload("other")
            away = {line.name: line for line in decode_load(load_report(site.composed.plane)).models}["other"]
            assert (away.ready, away.state, away.free) == (False, "unloaded", 0)

    asyncio.run(tell())


class Transport:
    """Of a client at this address; of a Unix socket without one."""

    def __init__(self, peer):
        self._peer = peer

    def get_extra_info(self, _name):
        return self._peer

    def is_closing(self):
        return False


def scope_of(peer, **more):
    extensions = {"nearhall": {"transport": Transport(peer)}, **more}
    return {"type": "http", "method": "GET", "path": "/control/load", "headers": [], "extensions": extensions}


@pytest.mark.parametrize(
    ("scope", "wherever", "may"),
    [
        (scope_of(("127.0.0.1", 1)), False, True),
        (scope_of(("::1", 1, 0, 0)), False, True),
        (scope_of(""), False, True),
        (scope_of(("10.0.0.9", 1)), False, False),
        (scope_of(("10.0.0.9", 1)), True, True),
        (scope_of(("10.0.0.9", 1), tls={}), False, True),
    ],
)
def test_it_tells_callers_of_this_machine_those_with_a_certificate_or_all(scope, wherever, may):
    assert may_tell_load(scope, wherever=wherever) is may


def test_through_the_service_port(tmp_path):
    async def tell(peer, **settings):
        async with rig(tmp_path / str(settings), models=["double"], **settings) as site:
            sent = []

            async def send(message):
                sent.append(message)

            await site.composed.app(scope_of(peer), lambda: asyncio.sleep(0), send)
            return Answer(sent)

    near = asyncio.run(tell(("127.0.0.1", 1)))
    assert decode_load(near.body).node == "s/n"
    assert asyncio.run(tell(("10.0.0.9", 1))).reason == "path_unknown"
    assert asyncio.run(tell(("10.0.0.9", 1), load_report=True)).status == 200


def test_a_front_holds_retries_back_itself(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"], limits={"queue_length": 1}) as site:
            site.runtimes["double"].go.clear()
            lane = site.composed.plane.models.find("double").served.lane
            asking = [asyncio.create_task(site.infer("double", [1, 2, 3, 4]))]
            await until_async(lambda: lane.running and not lane.waiting, what="one runs")
            asking.append(asyncio.create_task(site.infer("double", [1, 2, 3, 4])))
            await until_async(lambda: lane.waiting == 1, what="it is full")
            site.composed.app._budget = Budget(tokens=-1e12, at_s=0.0)
            took = {}
            for name, headers in (("client", {}), ("front", {"x-nearhall-front": "1"})):
                notes: dict[str, float] = {}
                for _ in range(2):
                    begun = time.monotonic()
                    assert (await site.infer("double", [1, 2, 3, 4], headers, connection=notes)).reason == "queue_full"
                    took[name] = time.monotonic() - begun
            assert took["client"] > 0.045
            assert took["front"] < 0.045
            site.runtimes["double"].go.set()
            await asyncio.gather(*asking)

    asyncio.run(tell())
