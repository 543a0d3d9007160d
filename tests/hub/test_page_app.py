"""Who may see the page, and what it is told while it is open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hub.hub_rig import HOST, TOKEN, Rig, batch, hello, rig
from hub.small_site import START_S, event, record
from nearhall.hub.page import EVENTS_PATH, SUBSCRIBERS_MAX
from waiting import until_async

LIVE = "/api/v1/live"
DESIRED = "/api/v1/sites/shop-01/desired"


async def heard(hub: Rig, *windows: int) -> None:
    """The site says hello and reports these windows."""
    await hub.site().ask("POST", "/api/v1/sites/shop-01/hello", hello())
    for window in windows:
        told = record(window, events=[event("gateway_started", f"window {window}")])
        await hub.site().ask("POST", "/api/v1/sites/shop-01/telemetry", batch((window + 1, told)))


def test_the_token_is_given_once_and_leaves_the_address_bar():
    async def story() -> None:
        hub = rig()
        browser = hub.stranger()
        assert (await browser.ask("GET", "/")).status == 403
        first = await browser.ask("GET", f"/?token={TOKEN}")
        assert (first.status, first.headers["location"]) == (303, "/")
        cookie, _, rest = first.headers["set-cookie"].partition(";")
        assert {part.strip().lower() for part in rest.split(";")} >= {"httponly", "samesite=strict"}
        page = await browser.ask("GET", "/", headers={"cookie": cookie})
        assert (page.status, page.body) == (200, f"<p>{EVENTS_PATH} 0</p>".encode())
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-frame-options"] == "DENY"
        assert (await browser.ask("GET", LIVE, headers={"cookie": cookie})).status == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (LIVE, {"authorization": f"Bearer {TOKEN}"}, 200),
        (LIVE, {"authorization": f"Bearer {TOKEN}x"}, 403),
        (LIVE, {"authorization": "Bearer "}, 403),
        (LIVE, {}, 403),
        (f"{LIVE}?token={TOKEN}", {}, 403),
        ("/?token=guess", {}, 403),
        (LIVE, {"cookie": "nearhall=guess"}, 403),
        (LIVE, {"authorization": f"Bearer {TOKEN}", "host": "localhost:8445"}, 200),
        (LIVE, {"authorization": f"Bearer {TOKEN}", "host": "evil.example:8445"}, 403),
        (LIVE, {"authorization": f"Bearer {TOKEN}", "host": "127.0.0.1:9999"}, 403),
        (LIVE, {"authorization": f"Bearer {TOKEN}", "host": ""}, 403),
        (LIVE, {"authorization": f"Bearer {TOKEN}", "origin": f"http://{HOST}"}, 200),
        (LIVE, {"authorization": f"Bearer {TOKEN}", "origin": "http://evil.example"}, 403),
        (LIVE, {"authorization": f"Bearer {TOKEN}", "origin": "null"}, 403),
    ],
)
def test_host_origin_and_token_are_checked(path: str, headers: dict[str, str], status: int):
    async def story() -> None:
        assert (await rig().stranger().ask("GET", path, headers=headers)).status == status

    asyncio.run(story())


def test_sites_are_listed():
    async def story() -> None:
        hub = rig()
        await heard(hub)
        (site,) = (await hub.person().ask("GET", "/api/v1/sites")).json
        assert (site["site"], site["software"]) == ("shop-01", "s")

    asyncio.run(story())


def test_a_desired_document_is_written_by_who_has_read_it():
    async def story() -> None:
        hub = rig()
        person = hub.person()
        assert (await person.ask("GET", DESIRED)).status == 404
        first = await person.ask("PUT", f"{DESIRED}?expected=0", {"models": {"faces": "loaded"}})
        assert (first.status, first.json) == (200, {"version": 1})
        again = await person.ask("PUT", f"{DESIRED}?expected=0", {"models": {"faces": "unloaded"}})
        assert again.status == 409
        assert "version 1 stands" in again.json["error"]
        assert (await person.ask("GET", DESIRED)).json["document"] == {"models": {"faces": "loaded"}}
        assert (await person.ask("PUT", f"{DESIRED}?expected=1", {"models": {}})).json == {"version": 2}
        assert (await hub.stranger().ask("PUT", DESIRED, {})).status == 403

    asyncio.run(story())


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "Expecting"),
        (b"[]", "Expected `object`"),
        (b'{"models": {"faces": "lodaed"}}', "loaded or unloaded"),
        (b'{"modles": {}}', "modles"),
        (b'{"schema": "nearhall/desired/v9"}', "v9"),
        (b'{"models": {"a": "' + b"x" * 70_000 + b'"}}', "65536 bytes"),
        (b"\xff\xfe", ""),
    ],
)
def test_a_desired_document_that_no_site_would_understand_is_refused(body: bytes, told: str):
    async def story() -> None:
        hub = rig()
        answer = await hub.person().ask("PUT", DESIRED, body)
        assert answer.status == 400
        assert told in answer.json["error"]
        assert hub.store.read("shop-01", "desired") is None

    asyncio.run(story())


async def next_event(parts: AsyncIterator[bytes]) -> dict[str, Any]:
    """The next server-sent event."""
    text = b""
    async for part in parts:
        text += part
        if text.endswith(b"\n\n"):
            return json.loads(text.removeprefix(b"data: "))
    raise AssertionError("the stream ended")


def test_an_open_page_hears_what_is_new_and_only_that():
    async def story() -> None:
        hub = rig()
        await heard(hub, 0, 1)
        snapshot = (await hub.person().ask("GET", LIVE)).json
        assert len(snapshot["sites"][0]["points"]) == 2
        assert len(snapshot["events"]) == 2
        async with hub.person().open("GET", EVENTS_PATH) as (answer, parts):
            assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            waiting = asyncio.create_task(next_event(parts))
            await asyncio.sleep(0)
            await heard(hub, 2)
            first = await asyncio.wait_for(waiting, 5)
            (site,) = first["sites"]
            assert [point["at_s"] for point in site["points"]] == [START_S + 6]
            assert [told["text"] for _, told in first["events"]] == ["window 2"]
            assert site["workloads"][0]["local"] == 30
            await heard(hub, 3)
            second = await asyncio.wait_for(next_event(parts), 5)
            assert [point["at_s"] for point in second["sites"][0]["points"]] == [START_S + 8]

    asyncio.run(story())


def test_a_quiet_hub_still_says_that_it_lives():
    async def story() -> None:
        async with rig().person().open("GET", EVENTS_PATH) as (_, parts):
            assert "sites" not in await asyncio.wait_for(next_event(parts), 5)

    asyncio.run(story())


def test_there_are_only_so_many_open_pages_and_a_closed_one_makes_room():
    async def story() -> None:
        hub = rig()
        person = hub.person()
        stop = asyncio.Event()
        opened = 0

        async def look() -> None:
            nonlocal opened
            async with person.open("GET", EVENTS_PATH) as (answer, parts):
                assert answer.status == 200
                await next_event(parts)
                opened += 1
                await stop.wait()

        pages = [asyncio.create_task(look()) for _ in range(SUBSCRIBERS_MAX)]
        await until_async(lambda: opened == SUBSCRIBERS_MAX, what="all pages")
        async with person.open("GET", EVENTS_PATH) as (answer, _):
            assert answer.status == 503
        stop.set()
        await asyncio.gather(*pages)
        async with person.open("GET", EVENTS_PATH) as (answer, _):
            assert answer.status == 200

    asyncio.run(story())
