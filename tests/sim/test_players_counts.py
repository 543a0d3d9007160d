"""Whatever becomes of a request, it is counted once: the players are a check on the gateway's own counts."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.cli.pilot.processes import STOP_SECONDS_MAX
from nearhall.drivers.clock import SystemClock
from nearhall.sim.players.arrivals import steady
from nearhall.sim.players.client import GatewayClient
from nearhall.sim.players.player import CANCEL_S, LAST_ANSWERS_S, Player, Stream
from nearhall.sim.players.seen import NAMES_MAX, SPANS_MAX, Seen
from nearhall.sim.players.work import Answer, Found, Request
from sim.scripted_server import ANSWERS, ScriptedServer, scripted_server
from waiting import until_async

CLOCK = SystemClock()
OUTCOMES = {
    "whole": "answered",
    "last": "answered",
    "stream": "answered",
    "refused": "refused",
    "stream-error": "cut_short",
    "stream-open": "cut_short",
    "large": "broken",
    "huge": "broken",
    "endless-event": "broken",
    "half": "broken",
    "half-stream": "broken",
    "garbage": "broken",
    "reset": "broken",
    "hang": "unanswered",
}
"""What each behaviour of the server must be counted as."""
OWN = {"unready": "unready", "idle": "idle", "misread": "answered"}
"""What the application itself does wrong or has not."""


class Scripted:
    """Asks what it is told to."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self.closed = False

    def next(self) -> Request | None:
        name = self._names.pop(0)
        if name == "unready":
            raise KeyError("no picture")
        if name == "idle":
            return None
        streamed = "stream" in name or "event" in name
        return Request(path=f"/{name}", headers=[], body=b"q", streamed=streamed, context=name)

    def take(self, request: Request, answer: Answer) -> list[Found]:
        if request.context == "misread":
            raise ValueError("no tensor")
        return [Found("faces", 1, 2.0)]

    def close(self) -> None:
        self.closed = True


class InOrder(Scripted):
    """The same, one at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.skipped: list[int] = []

    def skip(self, arrivals: int) -> None:
        self.skipped.append(arrivals)


def at_once(count: int) -> Iterator[float]:
    return iter([0.0] * count)


def adds_up(seen: dict[str, Any]) -> None:
    """The sums of seen.py."""
    assert seen["arrivals"] == seen["sent"] + seen["dropped"] + seen["idle"] + seen["unready"]
    ends = ("answered", "refused", "cut_short", "broken", "unanswered")
    assert seen["sent"] == sum(seen[end] for end in ends)
    assert sum(seen["by_status"].values()) == seen["answered"] + seen["refused"] + seen["cut_short"]
    assert seen["by_status"].get("200", 0) == seen["answered"] + seen["cut_short"]
    assert seen["misread"] <= seen["answered"]


async def play(
    server: ScriptedServer,
    works: dict[str, Any],
    *,
    count: int,
    in_flight_max: int = 64,
    last_answers_s: float = 10.0,
    answer_bytes_max: int = 50_000,
) -> dict[str, Any]:
    """Plays `count` arrivals at once of each work; the report."""
    streams = [
        Stream(
            id=name,
            work=work,
            arrivals=at_once(count),
            client=GatewayClient(server.origin, CLOCK, answer_bytes_max=answer_bytes_max),
        )
        for name, work in works.items()
    ]
    player = Player(clock=CLOCK, results_socket=None, in_flight_max=in_flight_max, last_answers_s=last_answers_s)
    report = await player.play(streams, asyncio.Event(), None)
    for stream in streams:
        await stream.client.close()
    return json.loads(json.dumps(report))


@pytest.mark.parametrize(("name", "counted"), [*OUTCOMES.items(), *OWN.items()])
def test_each_end_of_a_request_has_its_own_count(name: str, counted: str):
    async def story() -> dict[str, Any]:
        async with scripted_server() as server:
            most = 4_000_000 if name == "endless-event" else 50_000
            last_s = 0.3 if name == "hang" else 10.0
            return await play(server, {"w": Scripted([name])}, count=1, last_answers_s=last_s, answer_bytes_max=most)

    report = asyncio.run(story())
    seen = report["workloads"]["w"]
    adds_up(seen)
    assert seen[counted] == 1
    assert seen["misread"] == (name == "misread")
    assert report["totals"][counted] == 1
    assert bool(seen["by_error"]) is (name not in {"whole", "last", "stream", "refused", "idle", "hang"}), (
        "every fault has a name"
    )


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from([*(set(OUTCOMES) - {"hang", "endless-event", "huge"}), *OWN]), max_size=30),
    st.integers(0, 2),
    st.integers(1, 40),
    st.booleans(),
)
def test_the_sums_hold_whatever_happens(names: list[str], hangs: int, in_flight_max: int, in_order: bool):
    names = [*names, *["hang"] * hangs]

    async def story() -> tuple[dict[str, Any], Scripted, ScriptedServer]:
        async with scripted_server() as server:
            work = InOrder(names) if in_order else Scripted(names)
            last_s = 0.2 if hangs else 10.0
            report = await play(server, {"w": work}, count=len(names), in_flight_max=in_flight_max, last_answers_s=last_s)
            return report, work, server

    report, work, server = asyncio.run(story())
    seen = report["workloads"]["w"]
    adds_up(seen)
    assert seen["arrivals"] == len(names)
    assert work.closed
    assert seen["answered"] <= sum(server.asked[name] for name in ("whole", "last", "stream", "misread"))
    if in_flight_max >= len(names) and not hangs:
        for counted in ("answered", "refused", "cut_short", "broken", "unready", "idle"):
            assert seen[counted] == sum({**OUTCOMES, **OWN}[name] == counted for name in names), counted
        assert seen["misread"] == names.count("misread")
        assert seen["found"].get("faces", {"value": 0})["value"] == 2 * sum(
            names.count(name) for name in ("whole", "last", "stream")
        )


def test_a_stalled_workload_does_not_delay_another():
    """More stalled requests than a pool has connections, and beside them a workload that is answered at once."""

    async def story() -> dict[str, Any]:
        async with scripted_server() as server:
            works = {"stalled": Scripted(["hang"] * 64), "brisk": Scripted(["whole"] * 64)}
            return await play(server, works, count=64, last_answers_s=3.0)

    workloads = asyncio.run(story())["workloads"]
    assert workloads["brisk"]["answered"] == 64
    assert workloads["stalled"]["unanswered"] == 64


def test_work_in_order_asks_one_thing_at_a_time_and_skips_what_was_dropped():
    async def story() -> tuple[dict[str, Any], InOrder, ScriptedServer]:
        async with scripted_server() as server:
            work = InOrder(["held", "whole", "whole", "whole", "whole"])
            client = GatewayClient(server.origin, CLOCK)
            player = Player(clock=CLOCK, results_socket=None, in_flight_max=2)
            times = iter([0.0, 0.0, 0.0, 0.0, 0.0, 0.4])
            stream = Stream(id="w", work=work, arrivals=times, client=client)
            playing = asyncio.create_task(player.play([stream], asyncio.Event(), None))
            await until_async(lambda: stream.seen.dropped == 2, what="a full queue")
            server.gate.set()
            report = await playing
            await client.close()
            return json.loads(json.dumps(report)), work, server

    report, work, server = asyncio.run(story())
    seen = report["workloads"]["w"]
    adds_up(seen)
    assert seen["answered"] == 4
    assert server.at_once_max == 1
    assert work.skipped == [2], "the two that were dropped lie between the third and the last"


def test_waiting_for_its_turn_shows_in_the_time_from_the_intended_arrival():
    async def story() -> Seen:
        async with scripted_server() as server:
            client = GatewayClient(server.origin, CLOCK)
            stream = Stream(id="w", work=InOrder(["held", *["whole"] * 11]), arrivals=at_once(12), client=client)
            playing = asyncio.create_task(
                Player(clock=CLOCK, results_socket=None, in_flight_max=20).play([stream], asyncio.Event(), None)
            )
            await until_async(lambda: server.asked["held"], what="the first question")
            held_from = CLOCK.monotonic()
            await until_async(lambda: CLOCK.monotonic() - held_from > 0.3)
            server.gate.set()
            await playing
            await client.close()
            return stream.seen

    seen = asyncio.run(story())
    from_intended, took = seen.from_intended.quantile(0.5), seen.took.quantile(0.5)
    assert from_intended is not None
    assert took is not None
    assert from_intended > 300 > took, "only the first was held; the others waited behind it"


def test_what_is_open_at_the_stop_is_cancelled_in_time_and_counted():
    assert LAST_ANSWERS_S + CANCEL_S + 1.0 <= STOP_SECONDS_MAX, "the pilot kills players that take longer"

    async def story() -> tuple[dict[str, Any], float]:
        async with scripted_server() as server:
            client = GatewayClient(server.origin, CLOCK)
            player = Player(clock=CLOCK, results_socket=None, in_flight_max=64, last_answers_s=0.2)
            names = itertools.chain(["whole"], itertools.repeat("hang", 2000))
            stream = Stream(id="w", work=Scripted(list(names)), arrivals=steady(100, 1), client=client)
            stop = asyncio.Event()
            playing = asyncio.create_task(player.play([stream], stop, None))
            await until_async(lambda: stream.seen.answered == 1 and server.asked["hang"] > 3)
            began = CLOCK.monotonic()
            stop.set()
            report = await playing
            took_s = CLOCK.monotonic() - began
            await client.close()
            return json.loads(json.dumps(report)), took_s

    report, took_s = asyncio.run(story())
    seen = report["workloads"]["w"]
    adds_up(seen)
    assert seen["answered"] == 1
    assert seen["unanswered"] == seen["sent"] - 1 > 3
    assert took_s < 0.2 + CANCEL_S


def test_a_source_that_fails_ends_alone_and_the_report_still_comes():
    def failing() -> Iterator[float]:
        yield 0.0
        raise OSError("the camera is gone")

    class Unclosable(Scripted):
        def close(self) -> None:
            raise RuntimeError("stuck")

    async def story() -> dict[str, Any]:
        async with scripted_server() as server:
            client, other = GatewayClient(server.origin, CLOCK), GatewayClient(server.origin, CLOCK)
            streams = [
                Stream(id="failing", work=Unclosable(["whole"]), arrivals=failing(), client=client),
                Stream(id="well", work=Scripted(["whole"] * 20), arrivals=at_once(20), client=other),
            ]
            report = await Player(clock=CLOCK, results_socket=None, in_flight_max=64).play(streams, asyncio.Event(), None)
            await client.close()
            await other.close()
            return json.loads(json.dumps(report))

    workloads = asyncio.run(story())["workloads"]
    assert workloads["failing"]["by_error"] == {"arrivals OSError": 1, "close RuntimeError": 1}
    assert workloads["failing"]["answered"] == 1
    assert workloads["well"]["answered"] == 20


def test_an_error_is_counted_each_time_and_logged_once_a_kind(caplog: pytest.LogCaptureFixture):
    async def story() -> dict[str, Any]:
        async with scripted_server() as server:
            return await play(server, {"w": Scripted(["misread"] * 5 + ["unready"] * 3 + ["reset"] * 4)}, count=12)

    with caplog.at_level(logging.WARNING, logger="nearhall.sim.players"):
        seen = asyncio.run(story())["workloads"]["w"]
    assert seen["by_error"] == {"take ValueError": 5, "next KeyError": 3, "ask RemoteProtocolError": 4}
    ours = [record for record in caplog.records if record.name.startswith("nearhall.")]
    assert len(ours) == 3


def test_nobody_listening_is_a_broken_request_and_no_exception():
    async def story() -> Seen:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            client = GatewayClient(f"http://127.0.0.1:{unused.getsockname()[1]}", CLOCK)
            seen = Seen()
            assert not await client.warm()
            assert await client.ask(Request(path="/whole", headers=[], body=b""), seen, intended_s=0.0) is None
            await client.close()
            return seen

    seen = asyncio.run(story())
    assert (seen.sent, seen.broken, seen.by_error) == (1, 1, {"ask ConnectError": 1})


def test_an_answer_that_is_too_large_is_not_read_to_its_end():
    async def story() -> tuple[Seen, Seen]:
        async with scripted_server() as server:
            request = Request(path="/large", headers=[], body=b"")
            refused, taken = Seen(), Seen()
            small, wide = GatewayClient(server.origin, CLOCK, answer_bytes_max=99_999), GatewayClient(server.origin, CLOCK)
            assert await small.ask(request, refused, intended_s=0.0) is None
            assert await small.ask(Request(path="/whole", headers=[], body=b""), refused, intended_s=0.0) is not None
            answer = await wide.ask(request, taken, intended_s=0.0)
            assert answer is not None
            assert len(answer.body) == 100_000
            assert server.connections == 3, "the connection of an answer that was given up is closed"
            await small.close()
            await wide.close()
            return refused, taken

    refused, taken = asyncio.run(story())
    assert refused.by_error == {"ask TooLargeError": 1}
    assert (refused.broken, refused.answered, taken.answered) == (1, 1, 1)


def test_a_warm_connection_is_used_by_the_first_question_and_warming_is_not_counted():
    async def story() -> tuple[Seen, int]:
        async with scripted_server() as server:
            client, seen = GatewayClient(server.origin, CLOCK), Seen()
            assert await client.warm()
            await client.ask(Request(path="/whole", headers=[], body=b""), seen, intended_s=CLOCK.monotonic())
            await client.close()
            return seen, server.connections

    seen, connections = asyncio.run(story())
    assert (seen.sent, seen.took.n, connections) == (1, 1, 1)


def test_the_stopwatch_stops_before_the_client_s_own_work():
    """Building the request and reading the answer take 50 ms each here; neither is in the times of this or another request."""

    class Busy(Scripted):
        def next(self) -> Request | None:
            _busy_s(0.05)
            return super().next()

        def take(self, request: Request, answer: Answer) -> list[Found]:
            _busy_s(0.05)
            return super().take(request, answer)

    async def story() -> Seen:
        async with scripted_server() as server:
            client = GatewayClient(server.origin, CLOCK)
            await client.warm()
            stream = Stream(id="w", work=Busy(["whole"] * 5), arrivals=iter([0.2 * n for n in range(5)]), client=client)
            await Player(clock=CLOCK, results_socket=None, in_flight_max=9).play([stream], asyncio.Event(), None)
            await client.close()
            return stream.seen

    seen = asyncio.run(story())
    took, from_intended = seen.took.quantile(0.5), seen.from_intended.quantile(0.5)
    assert took is not None
    assert from_intended is not None
    assert took < 40
    assert from_intended > 50, "the user has waited for the building, too"


@pytest.mark.parametrize("where", ["next", "take"])
def test_large_pictures_are_worked_on_where_they_hold_up_nobody(where: str):
    """The application of one workload is held until all of the other's requests are answered."""
    go = threading.Event()

    class Held(Scripted):
        def next(self) -> Request | None:
            assert where != "next" or go.wait(30)
            return super().next()

        def take(self, request: Request, answer: Answer) -> list[Found]:
            assert where != "take" or go.wait(30)
            return super().take(request, answer)

    async def story() -> dict[str, Any]:
        async with scripted_server() as server:
            with ThreadPoolExecutor(1) as executor:
                held = Stream(
                    id="held",
                    work=Held(["whole"] * 3),
                    arrivals=at_once(3),
                    client=GatewayClient(server.origin, CLOCK),
                    executor=executor,
                )
                free = Stream(
                    id="free", work=Scripted(["whole"] * 20), arrivals=at_once(20), client=GatewayClient(server.origin, CLOCK)
                )
                playing = asyncio.create_task(
                    Player(clock=CLOCK, results_socket=None, in_flight_max=64).play([held, free], asyncio.Event(), None)
                )
                await until_async(lambda: free.seen.answered == 20, what="the other's answers")
                assert not held.seen.found
                go.set()
                report = await playing
            for stream in (held, free):
                await stream.client.close()
            return json.loads(json.dumps(report))

    workloads = asyncio.run(story())["workloads"]
    adds_up(workloads["held"])
    assert workloads["held"]["found"]["faces"]["count"] == 3


@pytest.mark.parametrize(("where", "counted"), [("next", "dropped"), ("take", "misread")])
def test_an_application_that_never_ends_is_counted_too(where: str, counted: str):
    go = threading.Event()

    class Stuck(Scripted):
        def next(self) -> Request | None:
            assert where != "next" or go.wait(30)
            return super().next()

        def take(self, request: Request, answer: Answer) -> list[Found]:
            go.wait(30)
            return []

    async def story() -> dict[str, Any]:
        async with scripted_server() as server:
            with ThreadPoolExecutor(1) as executor:
                client = GatewayClient(server.origin, CLOCK)
                stream = Stream(id="w", work=Stuck(["whole"]), arrivals=at_once(1), client=client, executor=executor)
                player = Player(clock=CLOCK, results_socket=None, in_flight_max=64, last_answers_s=0.3)
                report = await player.play([stream], asyncio.Event(), None)
                go.set()
                await client.close()
                return json.loads(json.dumps(report))

    seen = asyncio.run(story())["workloads"]["w"]
    adds_up(seen)
    assert seen[counted] == 1


def _busy_s(seconds: float) -> None:
    ends = CLOCK.monotonic() + seconds
    while CLOCK.monotonic() < ends:
        pass


def test_findings_go_to_the_agent_nought_too(short_folder: Path):
    class Counting(Scripted):
        def take(self, request: Request, answer: Answer) -> list[Found]:
            return [Found("faces", 1, 0.0), Found("segments", 1, 1.0, (0.5, 1.0))]

    async def story() -> tuple[list[Any], dict[str, Any]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as results:
            results.bind(str(short_folder / "r"))
            results.setblocking(False)
            async with scripted_server() as server:
                client = GatewayClient(server.origin, CLOCK)
                stream = Stream(id="w", work=Counting(["whole"] * 3), arrivals=at_once(3), client=client)
                player = Player(clock=CLOCK, results_socket=str(short_folder / "r"), in_flight_max=4)
                report = await player.play([stream], asyncio.Event(), None)
                await client.close()
            told = []
            while True:
                try:
                    told.append(json.loads(results.recv(2048)))
                except BlockingIOError:
                    return told, json.loads(json.dumps(report))

    told, report = asyncio.run(story())
    faces, segments = ({"workload": "w", "name": n, "count": 1, "value": v} for n, v in (("faces", 0.0), ("segments", 1.0)))
    assert sorted(told, key=lambda one: one["name"]) == [faces] * 3 + [segments] * 3, "numbers only: no times of speech"
    seen = report["workloads"]["w"]
    assert seen["found"] == {"faces": {"count": 3, "value": 0.0}, "segments": {"count": 3, "value": 3.0}}
    assert seen["spans"] == [{"name": "segments", "start_s": 0.5, "end_s": 1.0}] * 3


def test_names_and_stretches_are_kept_within_limits():
    seen = Seen()
    for number in range(200):
        headers = {"x-nearhall-served-by": f"place-{number}", "x-nearhall-reason": f"reason-{number}"}
        seen.count(Answer(status=200, headers=headers, body=b""), intended_s=0.0)
        seen.keep(Found(f"name-{number}", 1, 1.0, (number, number + 1)))
    assert len(seen.by_place) == len(seen.by_reason) == len(seen.found) == NAMES_MAX + 1
    assert sum(seen.by_reason.values()) == 200
    assert len(seen.spans) == SPANS_MAX
    assert seen.spans[-1][2] == 200


def test_every_behaviour_of_the_server_has_an_outcome():
    assert set(OUTCOMES) == set(ANSWERS)


def test_every_field_of_the_report_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "pilot-json.md").read_text()
    assert [name for name in Seen().plain() if f"`{name}`" not in text] == []
