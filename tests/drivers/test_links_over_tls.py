"""Both ways from a site to its hub, over real TLS: who is let in, what is asked again, and what a fault is called."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.tls_hub import HANG_UP, OK, SAY_NOTHING, TlsHub, expired, hub_bundle, make_authority, site_bundle
from nearhall.core.errors import InputError, TemporaryError
from nearhall.drivers.authority import Bundle
from nearhall.drivers.fallback_https import HttpsFallback
from nearhall.drivers.uplink_https import HttpsUplink
from nearhall.ports.runtime import ForwardRequest
from nearhall.wire.session import BODY_BYTES_MAX
from waiting import until_async

INFER, CHAT = "/v2/models/faces/infer", "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class ByUplink:
    """The agent's way."""

    def __init__(self, url: str, tls: tuple[str, str, str] | None) -> None:
        self._link = HttpsUplink(url, tls)
        self.pool = self._link._pool  # pyright: ignore[reportPrivateUsage]

    async def ask(self, method: str, path: str, *, timeout_s: float = 5.0) -> Answer:
        reply = await self._link.exchange(method, path, b"{}", timeout_s=timeout_s)
        return Answer(status=reply.status, headers={}, body=reply.body)

    async def close(self) -> None:
        await self._link.close()


class ByFallback:
    """The gateway's way."""

    def __init__(self, url: str, tls: tuple[str, str, str] | None) -> None:
        self.link = HttpsFallback(url, tls)
        self.pool = self.link._work  # pyright: ignore[reportPrivateUsage]

    async def ask(self, method: str, path: str, *, timeout_s: float = 5.0) -> Answer:
        request = ForwardRequest(method=method, path=path, headers=[(b"host", b"x")], body=b"{}", timeout_s=timeout_s)
        answer = await self.link.forward(request)
        body = b"".join([part async for part in answer.body])
        return Answer(status=answer.status, headers=dict(answer.headers), body=body)

    async def close(self) -> None:
        await self.link.close()


Way = type[ByUplink] | type[ByFallback]
both = pytest.mark.parametrize("way", [ByUplink, ByFallback])


class World:
    """One authority, a hub and a site of it, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ours = make_authority(folder / "ours")
        self.theirs = make_authority(folder / "theirs")
        self.hub = hub_bundle(self.ours, folder / "hub")
        self.site = site_bundle(self.ours, folder / "site")

    def tls(self, bundle: Bundle | None = None) -> tuple[str, str, str]:
        shown = bundle or self.site
        return (str(self.ours.ca), str(shown.cert), str(shown.key))

    def play(self, story: Callable[[TlsHub], Awaitable[None]], *, hub: Bundle | None = None) -> TlsHub:
        served = TlsHub(hub or self.hub, self.ours.ca)

        async def whole() -> None:
            async with served.serving():
                await story(served)

        asyncio.run(whole())
        return served


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@both
def test_the_right_peer_is_asked_on_one_connection(world: World, way: Way):
    async def story(hub: TlsHub) -> None:
        link = way(hub.url, world.tls())
        for _ in range(3):
            assert (await link.ask("POST", INFER)).body == b"{}"
        await link.close()

    hub = world.play(story)
    assert (hub.connections, hub.asked) == (1, [f"POST {INFER}"] * 3)


def _wrong_authority(world: World) -> Bundle:
    return hub_bundle(world.theirs, world.folder / "impostor")


def _out_of_date(world: World) -> Bundle:
    return expired(world.ours, world.hub, world.folder / "old.pem")


def _of_another_name(world: World) -> Bundle:
    return hub_bundle(world.ours, world.folder / "elsewhere", ip_addresses=["192.0.2.1"])


@both
@pytest.mark.parametrize(
    ("made", "why"),
    [(_wrong_authority, "issuer"), (_out_of_date, "expired"), (_of_another_name, "IP address mismatch")],
)
def test_a_hub_that_cannot_be_trusted_is_asked_nothing(world: World, way: Way, made: Callable[[World], Bundle], why: str):
    async def story(hub: TlsHub) -> None:
        link = way(hub.url, world.tls())
        with pytest.raises(TemporaryError, match=f"the hub's certificate is refused: .*{why}"):
            await link.ask("POST", INFER)
        await link.close()

    assert world.play(story, hub=made(world)).asked == []


@both
@pytest.mark.parametrize("strange", [True, False], ids=["of another authority", "expired"])
def test_a_site_that_cannot_be_trusted_is_told_so(world: World, way: Way, strange: bool):
    shown = site_bundle(world.theirs, world.folder / "stranger") if strange else world.site
    if not strange:
        shown = expired(world.ours, shown, world.folder / "old.pem")

    async def story(hub: TlsHub) -> None:
        link = way(hub.url, world.tls(shown))
        with pytest.raises(TemporaryError, match=r"(refuses|trust) this site's certificate"):
            await link.ask("GET", "/v2")
        await link.close()

    assert world.play(story).asked == []


@both
def test_without_a_certificate_nobody_is_dialled(way: Way):
    with pytest.raises(InputError, match="with certificates"):
        way("https://127.0.0.1:8443", None)


@both
def test_a_connection_that_was_closed_while_idle_costs_nothing(world: World, way: Way):
    async def story(hub: TlsHub) -> None:
        link = way(hub.url, world.tls())
        assert (await link.ask("POST", CHAT)).status == 200
        hub.hang_up()
        await until_async(lambda: all(connection.has_expired() for connection in link.pool.connections))
        assert (await link.ask("POST", CHAT)).status == 200
        await link.close()

    assert world.play(story).connections == 2


@both
@pytest.mark.parametrize(("method", "path"), [("GET", "/v2"), ("PUT", "/api/v1/x")])
def test_a_connection_closed_under_a_request_is_made_again_once(world: World, way: Way, method: str, path: str):
    async def story(hub: TlsHub) -> None:
        link = way(hub.url, world.tls())
        await link.ask(method, path)
        hub.script = [HANG_UP]
        assert (await link.ask(method, path)).status == 200
        hub.script = [HANG_UP, HANG_UP, HANG_UP]
        with pytest.raises(TemporaryError, match="the hub does not answer"):
            await link.ask(method, path)
        assert len(hub.script) == 1, "not asked a third time"
        await link.close()

    assert world.play(story).asked == [f"{method} {path}"] * 5


@both
def test_what_may_not_be_asked_twice_is_not(world: World, way: Way):
    async def story(hub: TlsHub) -> None:
        link = way(hub.url, world.tls())
        await link.ask("POST", CHAT)
        hub.script = [HANG_UP]
        with pytest.raises(TemporaryError, match="the hub does not answer"):
            await link.ask("POST", CHAT)
        await link.close()

    assert len(world.play(story).asked) == 2


@both
def test_a_fault_on_a_fresh_connection_is_no_idle_one(world: World, way: Way):
    async def story(hub: TlsHub) -> None:
        link = way(hub.url, world.tls())
        hub.script = [HANG_UP]
        with pytest.raises(TemporaryError):
            await link.ask("GET", "/v2")
        await link.close()

    assert len(world.play(story).asked) == 1


def test_inference_is_asked_twice_but_not_what_names_a_sequence(world: World):
    async def story(hub: TlsHub) -> None:
        link = ByFallback(hub.url, world.tls())
        await link.ask("POST", INFER)
        hub.script = [HANG_UP]
        assert (await link.ask("POST", INFER)).status == 200
        hub.script = [HANG_UP]
        body = b'{"parameters": {"sequence_id": 7}, "inputs": []}'
        request = ForwardRequest(method="POST", path=INFER, headers=[], body=body, timeout_s=5)
        with pytest.raises(TemporaryError):
            await link.link.forward(request)
        await link.close()

    assert len(world.play(story).asked) == 4


@both
def test_silence_ends_with_the_time_out_and_the_next_question_is_answered(world: World, way: Way):
    async def story(hub: TlsHub) -> None:
        link = way(hub.url, world.tls())
        hub.script = [SAY_NOTHING]
        with pytest.raises(TemporaryError, match="ReadTimeout"):
            await link.ask("GET", "/v2", timeout_s=0.2)
        assert (await link.ask("GET", "/v2")).status == 200
        await link.close()

    world.play(story)


@both
@pytest.mark.parametrize(
    "half",
    [b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"],
)
def test_half_an_answer_is_none(world: World, way: Way, half: bytes):
    async def story(hub: TlsHub) -> None:
        link = way(hub.url, world.tls())
        hub.script, hub.close_after_answer = [half], True
        with pytest.raises(TemporaryError, match="the hub does not answer"):
            await link.ask("GET", "/v2")
        await link.close()

    assert len(world.play(story).asked) == 1


def test_an_answer_beyond_the_bound_is_dropped_on_the_way(world: World):
    async def story(hub: TlsHub) -> None:
        link = ByUplink(hub.url, world.tls())
        size = BODY_BYTES_MAX + 1
        hub.script = [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size)]
        with pytest.raises(TemporaryError, match="too large"):
            await link.ask("GET", "/v2")
        assert (await link.ask("GET", "/v2")).body == b"{}"
        await link.close()

    world.play(story)


def test_a_large_answer_is_passed_on_as_it_comes(world: World):
    async def story(hub: TlsHub) -> None:
        link = ByFallback(hub.url, world.tls())
        hub.script = [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % BODY_BYTES_MAX + bytes(BODY_BYTES_MAX)]
        assert len((await link.ask("POST", INFER)).body) == BODY_BYTES_MAX
        await link.close()

    world.play(story)


def _busy(reason: bytes, body: bytes, more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 503 Service Unavailable\r\nx-nearhall-reason: %s\r\nretry-after: 2\r\n%scontent-length: %d\r\n\r\n"
    return head % (reason, more, len(body)) + body


def test_a_refusal_keeps_its_reason_on_the_way_to_the_client(world: World):
    async def story(hub: TlsHub) -> None:
        link = ByFallback(hub.url, world.tls())
        hub.script = [_busy(b"queue_full", b"full")]
        answer = await link.ask("POST", INFER)
        assert (answer.status, answer.body) == (503, b"full")
        assert (answer.headers[b"x-nearhall-reason"], answer.headers[b"retry-after"]) == (b"queue_full", b"2")
        assert link.link.reachable
        await link.close()

    world.play(story)


def test_a_refusal_reaches_the_agent_with_its_words_and_a_start_is_a_fault(world: World):
    async def story(hub: TlsHub) -> None:
        link = ByUplink(hub.url, world.tls())
        zipped = gzip.compress(b"the store is full")
        hub.script = [_busy(b"queue_full", zipped, b"content-encoding: gzip\r\n"), _busy(b"restarting", b"")]
        answer = await link.ask("POST", "/api/v1/telemetry")
        assert (answer.status, answer.body) == (503, b"the store is full")
        with pytest.raises(TemporaryError, match="is starting"):
            await link.ask("POST", "/api/v1/telemetry")
        await link.close()

    world.play(story)


def test_a_client_in_a_hurry_does_not_make_the_hub_unreachable_and_a_broken_line_does(world: World):
    async def story(hub: TlsHub) -> None:
        link = ByFallback(hub.url, world.tls())
        hub.script = [SAY_NOTHING]
        with pytest.raises(TemporaryError):
            await link.ask("POST", INFER, timeout_s=0.1)
        assert link.link.reachable
        hub.script = [HANG_UP, HANG_UP]
        with pytest.raises(TemporaryError):
            await link.ask("POST", INFER)
        assert not link.link.reachable
        with pytest.raises(TemporaryError, match="not reachable"):
            await link.ask("POST", INFER)
        link.link.start()
        await until_async(lambda: link.link.reachable)
        assert (await link.ask("POST", INFER)).body == b"{}"
        assert link.link.kept_warm_bytes > 0
        await link.close()

    assert OK.endswith(b"{}")
    world.play(story)
