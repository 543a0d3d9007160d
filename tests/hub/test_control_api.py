"""What a site may ask of the hub, and what it is told when it asks wrongly."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from hub.asgi_client import Client
from hub.hub_rig import batch, hello, rig
from hub.small_site import START_S, meters, probe, record, video
from nearhall.core.errors import TemporaryError
from nearhall.drivers.store_memory import MemoryStore
from nearhall.hub.api import control_api
from nearhall.wire.session import BODY_BYTES_MAX, Reported
from nearhall.wire.telemetry import MeterWindow, PathStats, ProbePair, Record, Sketch, WorkloadStats

HELLO = "/api/v1/sites/shop-01/hello"
TELEMETRY = "/api/v1/sites/shop-01/telemetry"
DESIRED = "/api/v1/sites/shop-01/desired"
REPORTED = "/api/v1/sites/shop-01/reported"


def test_a_site_is_greeted_and_told_where_to_go_on():
    async def story() -> None:
        hub = rig()
        site = hub.site()
        first = await site.ask("POST", HELLO, hello())
        assert (first.status, first.json["acknowledged"], first.json["hub_id"]) == (200, 0, "hub-1")
        assert (await site.ask("POST", TELEMETRY, batch((1, record(0)), (2, record(1))))).json["acknowledged"] == 2
        assert (await site.ask("POST", HELLO, hello())).json["acknowledged"] == 2
        assert (await site.ask("POST", HELLO, hello(outbox_id="another disk"))).json["acknowledged"] == 0

    asyncio.run(story())


@pytest.mark.parametrize(
    ("certificate", "uris", "status"),
    [
        ("shop-01", None, 200),
        ("plant-02", None, 403),
        (None, None, 403),
        ("shop-01", (), 403),
        ("shop-01", ("nearhall:hub",), 403),
        ("shop-01", ("nearhall:site:plant-02",), 403),
    ],
    ids=["its own", "another site's", "none", "a name and no URI", "the hub's", "another site's URI"],
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", HELLO, hello()),
        ("POST", TELEMETRY, batch((1, record(0)))),
        ("GET", DESIRED, b""),
        ("PUT", REPORTED, msgspec.json.encode(Reported(boot_id="b", sequence=1, document={}))),
    ],
)
def test_a_site_is_who_its_certificate_says(
    method: str, path: str, body: bytes, certificate: str | None, uris: tuple[str, ...] | None, status: int
):
    async def story() -> None:
        hub = rig()
        answer = await Client(hub.site().app, certificate=certificate, uris=uris).ask(method, path, body)
        allowed = {200, 304} if status == 200 else {status}
        assert answer.status in allowed
        if status == 403:
            assert answer.json["reason"] == "identity"
            assert hub.store.sites() == []
            assert list(hub.store.records(0, 1e12)) == []

    asyncio.run(story())


@pytest.mark.parametrize(
    ("certificate", "status"),
    [("shop-01", 200), ("shop-01.n2", 403), ("plant-02", 403), ("shop", 403), (None, 403)],
    ids=["the site's", "a name of its own", "another site's", "the beginning of its name", "none"],
)
def test_a_site_s_certificate_speaks_for_its_nodes(certificate: str | None, status: int):
    async def story() -> None:
        hub = rig()
        client = Client(hub.site().app, certificate=certificate)
        assert (await client.ask("POST", "/api/v1/sites/shop-01.n2/hello", hello())).status == status
        assert (await client.ask("POST", "/api/v1/sites/shop-01.n2/telemetry", batch((1, record(0))))).status == status
        assert [row.site for row in hub.store.sites()] == (["shop-01.n2"] if status == 200 else [])
        assert [site.id for site in hub.hub.live().sites] == (["shop-01.n2"] if status == 200 else []), "a row of its own"

    asyncio.run(story())


def test_without_a_common_version_the_hub_says_which_it_speaks():
    async def story() -> None:
        answer = await rig().site().ask("POST", HELLO, hello(protocols=[7]))
        assert (answer.status, answer.json["protocols"]) == (409, [1])

    asyncio.run(story())


BOMB = gzip.compress(b" " * (BODY_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"", {}, 400, "bad_request"),
        (b"{", {}, 400, "bad_request"),
        (b"[]", {}, 400, "bad_request"),
        (b'{"outbox_id": 5}', {}, 400, "bad_request"),
        (b"[" * 100_000, {}, 400, "bad_request"),
        (b'"\xff"', {}, 400, "bad_request"),
        (b"not gzip", {"content-encoding": "gzip"}, 400, "bad_request"),
        (batch((1, record(0))), {"content-encoding": "br"}, 400, "bad_request"),
        (b" " * (BODY_BYTES_MAX + 1), {}, 413, "too_large"),
        (BOMB, {"content-encoding": "gzip"}, 413, "too_large"),
        (gzip.compress(batch((1, record(0))))[:-12], {"content-encoding": "gzip"}, 400, "bad_request"),
    ],
    ids=["empty", "cut", "a list", "a wrong type", "deep", "no UTF-8", "no gzip", "br", "large", "a bomb", "cut gzip"],
)
def test_bad_bodies_get_a_reason_and_change_nothing(body: bytes, headers: dict[str, str], status: int, reason: str):
    async def story() -> None:
        hub = rig()
        answer = await hub.site().ask("POST", TELEMETRY, body, headers)
        assert (answer.status, answer.json["reason"]) == (status, reason)
        assert len(answer.json["error"]) < 400
        assert list(hub.store.records(0, 1e12)) == []
        good = await hub.site().ask("POST", TELEMETRY, gzip.compress(batch((1, record(0)))), {"content-encoding": "gzip"})
        assert (good.status, good.json["acknowledged"]) == (200, 1)

    asyncio.run(story())


def test_a_bomb_is_small_on_the_wire():
    assert len(BOMB) < 20_000
    assert len(zlib.decompress(BOMB, wbits=31)) > BODY_BYTES_MAX


def test_long_answers_are_packed_for_who_can_unpack_them():
    async def story() -> None:
        hub = rig()
        await hub.hub.wish("shop-01", msgspec.json.encode({"schema": "nearhall/desired/v1", "x": "y" * 1000}), expected=0)
        packed = await hub.site().ask("GET", f"{DESIRED}?after=0", headers={"accept-encoding": "gzip"})
        plain = await hub.site().ask("GET", f"{DESIRED}?after=0")
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body

    asyncio.run(story())


def test_a_repeated_batch_counts_once():
    async def story() -> None:
        hub = rig()
        site = hub.site()
        await site.ask("POST", HELLO, hello())
        for _ in range(3):
            answer = await site.ask("POST", TELEMETRY, batch((1, record(0)), (2, record(1))))
            assert answer.json["acknowledged"] == 2
        await site.ask("POST", TELEMETRY, batch((2, record(1)), (3, record(2))))
        state = hub.hub.live()
        assert state.sites[0].workloads[0].local == 30
        assert len(state.sites[0].points) == 3

    asyncio.run(story())


NAN = float("nan")
_ODD_SKETCH = WorkloadStats(local=1, paths={"local": PathStats(latency=Sketch(i=[1, 2], c=[1]))})
MALFORMED: dict[str, Record] = {
    "histogram of unequal length": record(0, workloads={"video": _ODD_SKETCH}),
    "histogram with a negative count": record(
        0, workloads={"v": WorkloadStats(paths={"hub": PathStats(queue=Sketch(i=[1], c=[-1]))})}
    ),
    "histogram of impossible values": record(
        0, workloads={"v": WorkloadStats(paths={"hub": PathStats(queue=Sketch(i=[10**9], c=[1]))})}
    ),
    "negative count": record(0, workloads={"video": video(local=-1)}),
    "unknown evidence": record(0, meters={"feed": MeterWindow(virtual=False, kind="believed", polls=1)}),
    "a virtual meter that claims to be measured": record(0, meters={"feed": MeterWindow(virtual=True, kind="measured", polls=1)}),
    "one register": record(0, meters={"feed": MeterWindow(virtual=True, kind="simulated", register_kwh=[1.0])}),
    "a window that ends before it begins": record(0, start_s=100.0, end_s=50.0),
    "a window of a week": record(0, start_s=0.0, end_s=604_800.0),
    "too many names": record(0, workloads={f"w{n}": WorkloadStats(local=1) for n in range(300)}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_record_that_makes_no_sense_is_noted_and_blocks_nothing(name: str):
    async def story() -> None:
        hub = rig()
        site = hub.site()
        await site.ask("POST", HELLO, hello())
        answer = await site.ask("POST", TELEMETRY, batch((1, MALFORMED[name]), (2, record(1))))
        assert (answer.status, answer.json["acknowledged"]) == (200, 2)
        state = hub.hub.live()
        assert state.sites[0].workloads[0].local == 10
        assert len([event for _, event in state.events if event.kind == "record_refused"]) == 1
        # The same after a restart, from what was kept.
        again = rig(hub.store)
        await again.hub.recall(START_S)
        assert again.hub.live().sites[0].workloads[0].local == 10

    asyncio.run(story())


def test_what_is_not_a_number_cannot_be_written_in_json():
    """JSON has no NaN; msgspec writes null, and null is no number to the reader."""

    async def story() -> None:
        broken = record(0, workloads={"video": video(probes=[ProbePair(at_s=NAN, local_ms=NAN, hub_ms=1.0)])})
        assert (await rig().site().ask("POST", TELEMETRY, batch((1, broken)))).status == 400

    asyncio.run(story())


def test_the_desired_document_is_waited_for():
    async def story() -> None:
        hub = rig()
        site = hub.site()
        assert (await site.ask("GET", f"{DESIRED}?after=0&wait_s=0.01")).status == 304
        waiting = asyncio.create_task(site.ask("GET", f"{DESIRED}?after=0&wait_s=20"))
        other = asyncio.create_task(hub.site("plant-02").ask("GET", "/api/v1/sites/plant-02/desired?wait_s=0.05"))
        await asyncio.sleep(0)
        written = await hub.hub.wish("shop-01", b'{"models": {"faces": "loaded"}}', expected=0)
        answer = await asyncio.wait_for(waiting, 2)
        assert answer.json == {"version": written.version, "document": {"models": {"faces": "loaded"}}}
        assert (await other).status == 304, "another site's wishes are not its own"
        assert (await site.ask("GET", f"{DESIRED}?after=0")).status == 200
        assert (await site.ask("GET", f"{DESIRED}?after=1&wait_s=0.01")).status == 304
        # A hub whose store is new has a lower version than the site remembers: that is news too.
        assert (await site.ask("GET", f"{DESIRED}?after=9")).status == 200

    asyncio.run(story())


@pytest.mark.parametrize("query", ["wait_s=31", "wait_s=-1", "after=-1", "after=x", "wait_s=nan"])
def test_a_query_beyond_its_limits_is_refused(query: str):
    async def story() -> None:
        answer = await rig().site().ask("GET", f"{DESIRED}?{query}")
        assert (answer.status, answer.json["reason"]) == (400, "bad_request")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("reports", "kept"),
    [
        ([("a", 1), ("a", 2)], ("a", 2)),
        ([("a", 2), ("a", 1)], ("a", 2)),
        ([("a", 2), ("a", 2)], ("a", 2)),
        ([("a", 9), ("b", 1)], ("b", 1)),
    ],
    ids=["in order", "overtaken", "repeated", "a new boot"],
)
@pytest.mark.parametrize("restart", [False, True], ids=["one hub", "the hub restarts"])
def test_a_late_report_does_not_replace_a_newer_one(reports: Sequence[tuple[str, int]], kept: tuple[str, int], restart: bool):
    async def story() -> None:
        hub = rig()
        for boot, sequence in reports:
            body = msgspec.json.encode(Reported(boot_id=boot, sequence=sequence, document={"said": [boot, sequence]}))
            assert (await hub.site().ask("PUT", REPORTED, body)).status == 200
            hub = rig(hub.store) if restart else hub
        found = hub.store.read("shop-01", "reported")
        assert found is not None
        assert msgspec.json.decode(found.document)["document"] == {"said": list(kept)}

    asyncio.run(story())


class _FullDisk(MemoryStore):
    def add(self, site: str, outbox_id: str, records: Any) -> int:
        raise TemporaryError("the hub's store cannot keep this: database or disk is full")


def test_a_full_disk_is_a_503_and_nothing_is_acknowledged():
    async def story() -> None:
        hub = rig(_FullDisk())
        answer = await hub.site().ask("POST", TELEMETRY, batch((1, record(0))))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert "disk is full" in answer.json["error"]
        assert hub.hub.live().sites == [], "what is not kept is not shown"
        assert (await hub.site().ask("POST", HELLO, hello())).json["acknowledged"] == 0

    asyncio.run(story())


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("GET", TELEMETRY, 405), ("DELETE", DESIRED, 405)])
def test_what_is_not_there_is_told_in_the_same_form(method: str, path: str, status: int):
    async def story() -> None:
        answer = await rig().site().ask(method, path)
        assert answer.status == status

    asyncio.run(story())


def test_only_on_this_machine_may_a_site_come_without_a_certificate():
    async def story() -> None:
        hub = rig()
        answer = await Client(control_api(hub.hub, peer=None)).ask("POST", HELLO, hello())
        assert answer.status == 200

    asyncio.run(story())


def test_probes_and_meters_reach_the_live_state():
    async def story() -> None:
        hub = rig()
        await hub.site().ask("POST", HELLO, hello())
        first = record(0, workloads={"video": video(probes=[probe(5.0, 45.0)])}, meters=meters(0))
        await hub.site().ask("POST", TELEMETRY, batch((1, first)))
        (site,) = hub.hub.live().sites
        assert site.workloads[0].probe_p50_ms == pytest.approx(45.0, rel=0.006)
        assert {meter.id: meter.power_w for meter in site.meters}["feed"] == 360.0
        assert site.pue == pytest.approx(360 / 252, rel=1e-6)

    asyncio.run(story())
