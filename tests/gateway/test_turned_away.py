"""A request that its head alone makes hopeless is refused before its body is read, counted like any other, and nobody else is."""

from __future__ import annotations

import asyncio
import json

from gateway.plane_rig import rig
from nearhall.policy.admit import Estimate, ServiceTimes
from nearhall.policy.storm import BURST, IMPATIENT_S
from waiting import until_async

LENGTH = [(b"content-length", b"200"), (b"inference-header-content-length", b"100")]
HURRIED = [(b"x-nearhall-deadline-ms", b"20"), *LENGTH]


def head(*headers, path="/v2/models/double/infer", method="POST", notes=None):
    ours = {"first_byte_s": None, "connection": {} if notes is None else notes}
    return {"type": "http", "method": method, "path": path, "headers": list(headers), "extensions": {"nearhall": ours}}


async def crowded(site):
    """A lane in which one request runs, one waits, and each is expected to take half a second."""
    site.runtimes["double"].go.clear()
    lane = site.composed.plane.models.find("double").front.queue
    lane.times = ServiceTimes(Estimate(500.0))
    asking = [asyncio.create_task(site.infer("double", [1, 2, 3, 4])) for _ in range(2)]
    await until_async(lambda: lane.running == 1 and lane.waiting == 1)
    return lane, asking


def test_the_hopeless_are_turned_away_by_their_head(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            turn_away = site.composed.direct.turn_away
            assert turn_away(head(*HURRIED)) is None
            _, asking = await crowded(site)
            turned = turn_away(head(*HURRIED))
            headers = dict(turned.headers)
            assert (turned.status, headers[b"x-nearhall-reason"], headers[b"x-nearhall-served-by"]) == (503, b"deadline", b"s/n")
            assert turned.raw.startswith(b"HTTP/1.1 503 ")
            assert turned.raw.endswith(turned.body)
            assert "in time" in json.loads(turned.body)["error"]
            assert site.counted("model:double").rejected == {"deadline": 1}
            assert turn_away(head(*HURRIED)).status == 503
            assert site.counted("model:double").rejected == {"deadline": 2}
            assert site.counted("model:double").decisions["deadline"] == 2
            site.runtimes["double"].go.set()
            await asyncio.gather(*asking)

    asyncio.run(tell())


def test_who_may_still_be_answered_is_let_come(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            turn_away = site.composed.direct.turn_away
            _, asking = await crowded(site)
            patient = (b"x-nearhall-deadline-ms", b"5000")
            for others in (
                head(*LENGTH),
                head(patient, *LENGTH),
                head(HURRIED[0]),
                head(*HURRIED, method="GET"),
                head(*HURRIED, path="/v2/models/double"),
                head(*HURRIED, path="/v2/models/nobody/infer"),
                head(*HURRIED, path="/v2/models/double/versions/7/infer"),
                head(*HURRIED, (b"x-nearhall-probe", b"1")),
                head((b"x-nearhall-deadline-ms", b"soon"), *LENGTH),
            ):
                assert turn_away(others) is None
            assert site.counted("model:double").rejected == {}
            assert turn_away(head(*HURRIED)) is not None
            site.runtimes["double"].go.set()
            await asyncio.gather(*asking)

    asyncio.run(tell())


def test_a_refusal_holds_for_a_moment_and_not_longer(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            lane, asking = await crowded(site)
            turn_away = site.composed.direct.turn_away
            assert turn_away(head(*HURRIED)) is not None
            site.runtimes["double"].go.set()
            await asyncio.gather(*asking)
            lane.times = ServiceTimes(Estimate(0.1))
            await until_async(lambda: turn_away(head(*HURRIED)) is None, what="it is judged anew")

    asyncio.run(tell())


def test_in_a_storm_who_comes_back_at_once_is_told_later(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            _, asking = await crowded(site)
            notes = {}
            turn_away = site.composed.direct.turn_away
            delays = [turn_away(head(*HURRIED, notes=notes)).delay_s for _ in range(2 * int(BURST))]
            assert set(delays[: int(BURST)]) == {0.0}
            assert IMPATIENT_S in delays
            site.runtimes["double"].go.set()
            await asyncio.gather(*asking)

    asyncio.run(tell())


def test_what_is_remembered_is_bounded(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            _, asking = await crowded(site)
            for number in range(600):
                assert site.composed.direct.turn_away(head((b"x-nearhall-deadline-ms", b"%d.5" % (1 + number % 300)), *LENGTH))
            assert len(site.composed.direct._away) <= 256
            site.runtimes["double"].go.set()
            await asyncio.gather(*asking)

    asyncio.run(tell())
