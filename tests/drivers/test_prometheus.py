"""A Prometheus as its API answers: what becomes of it, where the secret goes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from nearhall.core.errors import InputError, TemporaryError
from nearhall.core.evidence import Kind
from nearhall.documents.mapping import MappingDocument
from nearhall.drivers.clock import ManualClock
from nearhall.drivers.prometheus import ANSWER_S, POINTS_MAX, prometheus_returns

START_S = 1_790_000_000.0
DOCUMENT: dict[str, Any] = {
    "schema": "nearhall/mapping/v1",
    "sites": [{"id": "shop-01", "label": "berlin-1"}],
    "meters": [{"id": "main", "position": "feed", "series": 'kwh{site="$site"}', "commissioned": "A. Meyer, 2026"}],
    "workloads": [{"id": "cams", "good": {"series": "good"}, "total": {"series": "total"}}],
}
MAPPING = MappingDocument.model_validate(DOCUMENT)
Query = dict[str, str]
Answer = tuple[int, dict[str, str], bytes]


class Prometheus:
    """A server that answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Query, dict[str, str]]] = []
        self.answer: Callable[[Query], Answer] = lambda query: matrix(query, rate=1.0)
        self.utc_s: float | None = START_S
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                query = {name: values[0] for name, values in parse_qs(body).items()}
                outer.asked.append((self.path, query, {name.lower(): value for name, value in self.headers.items()}))
                status, headers, content = outer.answer(query)
                self.send_response_only(status)
                if outer.utc_s is not None:
                    self.send_header("Date", formatdate(outer.utc_s, usegmt=True))
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


def matrix(query: Query, *, rate: float, series: int = 1, text: Callable[[float], str] = repr) -> Answer:
    """What a counter of so many a second gives at each step of the query."""
    start, end, step = (float(query[name]) for name in ("start", "end", "step"))
    times = [start + step * i for i in range(int((end - start) // step) + 1)]
    row = {"metric": {}, "values": [[at, text((at - START_S) * rate + 7.0)] for at in times]}
    return 200, {}, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": [row] * series}}).encode()


def rows(result: object) -> Answer:
    """An answer whose result is no series, or not quite one."""
    return 200, {}, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


def test_sites_asked_by_the_same_queries_are_refused():
    two = [{"id": "shop-01", "label": "a"}, {"id": "shop-02", "label": "b"}]
    same = {**DOCUMENT, "sites": two, "meters": []}
    with pytest.raises(InputError, match="sites shop-01 and shop-02 have the same queries"):
        prometheus_returns("http://127.0.0.1:9", MappingDocument.model_validate(same), start_s=START_S, end_s=START_S + 9000.0)


def error(status: int, text: str) -> Answer:
    return status, {}, json.dumps({"status": "error", "errorType": "bad_data", "error": text}).encode()


@contextmanager
def running() -> Iterator[Prometheus]:
    prometheus = Prometheus()
    thread = Thread(target=prometheus.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield prometheus
    finally:
        prometheus.server.shutdown()
        thread.join()
        prometheus.server.server_close()


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with running() as server:
        yield server


def returns(
    url: str, mapping: MappingDocument = MAPPING, *, hours: float = 2.0, secret: str | None = None, utc_s: float = START_S
):
    return prometheus_returns(
        url, mapping, start_s=START_S, end_s=START_S + hours * 3600.0, secret=secret or None, clock=ManualClock(utc_s + 0.5)
    )


def test_series_at_the_ends_of_blocks(prometheus: Prometheus):
    (found,) = returns(prometheus.url)
    assert len(found.blocks) == 7, "whole blocks alone"
    assert found.start_s % 900 == 0
    assert found.blocks[0].kwh("main") == pytest.approx(900.0)
    assert found.blocks[0].slo == {"cams": (900, 900)}
    assert (found.coverage, found.register_coverage) == (1.0, 1.0)
    assert found.clock_error_ms == 0.0
    assert found.meters[0].kind is Kind.MEASURED
    path, query, headers = prometheus.asked[0]
    assert path == "/api/v1/query_range"
    assert query["query"] == 'kwh{site="berlin-1"}'
    assert query["step"] == "900"
    assert "authorization" not in headers


def test_a_year_is_asked_in_parts_that_the_server_allows(prometheus: Prometheus):
    (found,) = returns(prometheus.url, hours=24 * 365)
    assert len(found.blocks) == 35_039
    assert found.register_coverage == 1.0
    for _, query, _ in prometheus.asked:
        assert (float(query["end"]) - float(query["start"])) / 900 + 1 <= POINTS_MAX


def test_a_clock_that_is_off_is_told_and_one_that_says_nothing_is_unknown(prometheus: Prometheus):
    (found,) = returns(prometheus.url, utc_s=START_S + 60.0)
    assert found.clock_error_ms == pytest.approx(-60_000.0)
    prometheus.utc_s = None
    assert returns(prometheus.url)[0].clock_error_ms is None


def test_points_that_are_no_numbers_are_missing(prometheus: Prometheus):
    prometheus.answer = lambda query: matrix(query, rate=1.0, text=lambda v: "NaN" if v > 3000 else repr(v))
    (found,) = returns(prometheus.url)
    assert found.blocks[0].kwh("main") == pytest.approx(900.0)
    assert found.blocks[-1].kwh("main") is None
    assert 0 < found.register_coverage < 1


@pytest.mark.parametrize(
    ("login", "secret", "sent"),
    [
        ({"bearer_env": "TOKEN"}, "abc", "Bearer abc"),
        ({"basic_env": "LOGIN"}, "user:pass", "Basic dXNlcjpwYXNz"),
    ],
)
def test_a_secret_goes_into_the_head_and_nowhere_else(prometheus: Prometheus, login: dict[str, str], secret: str, sent: str):
    mapping = MappingDocument.model_validate({**DOCUMENT, "login": login})
    (found,) = returns(prometheus.url, mapping, secret=secret)
    assert prometheus.asked[0][2]["authorization"] == sent
    assert secret not in repr(found)
    prometheus.answer = lambda _: error(400, "parse error")
    with pytest.raises(InputError) as caught:
        returns(prometheus.url, mapping, secret=secret)
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "login", "secret", "what"),
    [
        ("http://127.0.0.1:1", {"bearer_env": "TOKEN"}, None, "the variable TOKEN is empty or not set"),
        ("http://localhost:1", {"bearer_env": "TOKEN"}, "a\nb", "holds a line's end"),
        ("http://monitor.example:9090", {"bearer_env": "TOKEN"}, "abc", "over plain HTTP"),
        ("http://user:hidden@127.0.0.1:1", None, None, "the address holds a login"),
        ("ftp://127.0.0.1", None, None, "is no address of a Prometheus"),
        ("http://127.0.0.1:1/?x=1", None, None, "is no address of a Prometheus"),
    ],
)
def test_what_is_refused_before_anything_is_sent(url: str, login: dict[str, str] | None, secret: str | None, what: str):
    mapping = MappingDocument.model_validate({**DOCUMENT, "login": login})
    with pytest.raises(InputError) as caught:
        returns(url, mapping, secret=secret or "")
    assert what in caught.value.what
    assert "hidden" not in str(caught.value)
    assert caught.value.right


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda _: (302, {"Location": "http://127.0.0.1:9/elsewhere"}, b""), "a redirect, which is not followed"),
        (lambda _: (401, {}, b""), "wants a login (401)"),
        (lambda _: error(400, "parse error: unexpected\n }"), "the query of meter:main is refused: parse error: unexpected }"),
        (lambda _: (422, {}, b"<html>"), "it does not say why"),
        (lambda query: matrix(query, rate=1.0, series=3), "the query of meter:main gives 3 series"),
        (lambda _: (200, {}, b"<html>"), "is no answer of a Prometheus"),
        (lambda _: (200, {}, b"[]"), "is no answer of a Prometheus"),
        (lambda _: (200, {}, b""), "is no answer of a Prometheus"),
        (lambda _: (200, {}, b"[" * 100_000), "is no answer of a Prometheus"),
        (lambda _: rows([{}]), "gives no series of points"),
        (lambda _: rows(["x"]), "gives no series of points"),
        (lambda _: rows([{"values": None}]), "gives no series of points"),
        (lambda _: rows([{"values": [[1]]}]), "gives no series of points"),
        (lambda _: rows([{"values": [[START_S, "much"]]}]), "gives no series of points"),
        (lambda _: rows([{"values": [[float("inf"), "1"]]}]), "gives no series of points"),
        (lambda query: matrix(query, rate=1.0, series=0), "no query of site 'shop-01' gives anything"),
        (lambda _: (200, {}, b" " * (17 * 1024 * 1024)), "answers with more than"),
    ],
)
def test_answers_that_are_none(prometheus: Prometheus, answer: Callable[[Query], Answer], what: str):
    prometheus.answer = answer
    with pytest.raises(InputError) as caught:
        returns(prometheus.url)
    assert what in caught.value.what
    assert caught.value.right
    prometheus.answer = lambda query: matrix(query, rate=1.0)
    assert returns(prometheus.url)


def test_a_server_that_fails_or_is_away_may_be_asked_again(prometheus: Prometheus):
    prometheus.answer = lambda _: (503, {}, b"")
    with pytest.raises(TemporaryError, match="answers 503"):
        returns(prometheus.url)
    with pytest.raises(TemporaryError, match="does not answer"):
        returns("http://127.0.0.1:9")


def test_an_answer_that_takes_without_end_is_given_up(prometheus: Prometheus):
    clock = ManualClock(START_S)

    def late(query: Query) -> Answer:
        clock.pass_by(ANSWER_S + 1.0)
        return matrix(query, rate=1.0)

    prometheus.answer = late
    with pytest.raises(TemporaryError, match="takes more than 120 s to answer"):
        prometheus_returns(prometheus.url, MAPPING, start_s=START_S, end_s=START_S + 7200.0, clock=clock)
    prometheus.answer = lambda query: matrix(query, rate=1.0)
    assert prometheus_returns(prometheus.url, MAPPING, start_s=START_S, end_s=START_S + 7200.0, clock=clock)


@pytest.mark.parametrize("hours", [0.1, 24 * 500])
def test_a_period_without_blocks_or_with_too_many_is_refused(hours: float):
    with pytest.raises(InputError, match="whole blocks of 15 minutes"):
        returns("http://127.0.0.1:9", hours=hours)


def test_latency_is_asked_for_at_the_ends_of_blocks(prometheus: Prometheus):
    """A percentile and each bucket's counter are queries like others; what the server has no value for is left out."""
    workloads = [
        {"id": "cams", "limit_ms": 50, "p99": {"series": "q99"}},
        {"id": "talk", "limit_ms": 20, "histogram": {"series": 'b{site="$site", le="$le"}', "le": ["0.02", "+Inf"]}},
    ]
    mapping = MappingDocument.model_validate({**DOCUMENT, "meters": [], "workloads": workloads})

    def answer(query: Query) -> Answer:
        if query["query"] == "q99":
            return matrix(query, rate=0.0, text=lambda _: "0.04")
        return matrix(query, rate=0.9 if "0.02" in query["query"] else 1.0)

    prometheus.answer = answer
    (found,) = returns(prometheus.url, mapping)
    assert {query["query"] for _, query, _ in prometheus.asked} == {
        "q99",
        'b{site="berlin-1", le="0.02"}',
        'b{site="berlin-1", le="+Inf"}',
    }
    assert [block.p99_ms["cams"] for block in found.blocks] == [40.0] * 7
    assert [block.slo["talk"] for block in found.blocks] == [(810, 900)] * 7
    prometheus.answer = lambda query: matrix(query, rate=0.0, text=lambda _: "NaN") if query["query"] == "q99" else answer(query)
    (found,) = returns(prometheus.url, mapping)
    assert all(not block.p99_ms for block in found.blocks), "no request, no percentile"
