"""The site's half of the wire session against a hub and a link that do their worst."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.wire.session import BATCH_BYTES_MAX, PROTOCOL, Ack, Batch, Hello, HubError, Welcome
from nearhall.wire.site_session import (
    Acknowledged,
    Complaint,
    DesiredVersion,
    HubClock,
    Outgoing,
    SiteIdentity,
    SiteSession,
)
from nearhall.wire.telemetry import Record

IDENTITY = SiteIdentity(site="shop-01", software="nearhall 0", boot_id="b1", outbox_id="o1", about={"class": "micro"})


def _body(number: int, padding: int = 0) -> bytes:
    return msgspec.json.encode(Record(start_s=float(number), end_s=number + 1.0, boot_id="b1" + "x" * padding))


class Box:
    """An outbox as a list."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = []
        self.made = 0

    def add(self) -> None:
        self.made += 1
        self.records.append((self.made, _body(self.made)))

    def forget(self, number: int) -> None:
        self.records = [record for record in self.records if record[0] > number]

    def drop_oldest(self) -> None:
        self.records = self.records[1:]


class Hub:
    """A hub that keeps to the contract: a record's number is its identity, holes hold the acknowledgement back."""

    def __init__(self, name: str = "h1") -> None:
        self.name = name
        self.stored: dict[int, float] = {}
        self.first_kept = 1
        self.stores = 0

    @property
    def acknowledged(self) -> int:
        number = self.first_kept - 1
        while number + 1 in self.stored:
            number += 1
        return number

    def answer(self, sent: Outgoing) -> tuple[int, bytes]:
        if sent.path.endswith("/hello"):
            hello = msgspec.json.decode(sent.body, type=Hello)
            assert PROTOCOL in hello.protocols
            self.first_kept = max(self.first_kept, hello.oldest_pending)
            welcome = Welcome(protocol=PROTOCOL, hub_id=self.name, acknowledged=self.acknowledged, desired_version=3, now_s=100.0)
            return 200, msgspec.json.encode(welcome)
        batch = msgspec.json.decode(sent.body, type=Batch)
        numbers = [item.number for item in batch.records]
        assert numbers == sorted(set(numbers)), "in order, each once"
        assert batch.first_kept == numbers[0]
        self.first_kept = max(self.first_kept, batch.first_kept)
        for item in batch.records:
            if item.number not in self.stored:
                self.stored[item.number] = item.record.start_s
                self.stores += 1
        return 200, msgspec.json.encode(Ack(acknowledged=self.acknowledged, desired_version=3, now_s=100.0, took_ms=1.0))


def _session() -> SiteSession:
    return SiteSession(IDENTITY)


def _greeted() -> SiteSession:
    session = _session()
    hello = session.next([], next_number=1)
    assert hello is not None
    session.answered(hello, *Hub().answer(hello))
    assert session.greeted
    return session


def test_the_first_word_is_a_hello_that_says_all():
    sent = _session().next([(4, _body(4)), (5, _body(5))], next_number=6)
    assert sent is not None
    assert (sent.method, sent.path) == ("POST", "/api/v1/sites/shop-01/hello")
    hello = msgspec.json.decode(sent.body, type=Hello)
    assert (hello.oldest_pending, hello.next_number, hello.outbox_id, hello.about) == (4, 6, "o1", {"class": "micro"})


def test_an_empty_outbox_says_hello_once_and_then_nothing():
    assert _greeted().next([], next_number=1) is None


def test_a_welcome_forgets_what_the_hub_has_and_sets_the_clock():
    session, hub = _session(), Hub()
    hub.stored = {1: 1.0, 2: 2.0}
    hello = session.next([(1, _body(1)), (2, _body(2)), (3, _body(3))], next_number=4)
    assert hello is not None
    effects = session.answered(hello, *hub.answer(hello))
    assert list(effects) == [Acknowledged(2), HubClock(now_s=100.0, took_ms=0.0), DesiredVersion(3)]


def test_records_travel_as_they_lie_in_the_outbox():
    sent = _greeted().next([(7, _body(7)), (8, _body(8))], next_number=9)
    assert sent is not None
    assert sent.last_number == 8
    assert [(item.number, item.record.start_s) for item in msgspec.json.decode(sent.body, type=Batch).records] == [
        (7, 7.0),
        (8, 8.0),
    ]


def test_a_batch_keeps_to_its_bound_but_takes_one_record_whatever_its_size():
    session = _greeted()
    half, whole = _body(1, BATCH_BYTES_MAX // 2 - 200), _body(1, BATCH_BYTES_MAX * 2)
    two = session.next([(1, half), (2, half), (3, half)], next_number=4)
    one = session.next([(1, whole), (2, half)], next_number=3)
    assert two is not None
    assert one is not None
    assert (two.last_number, one.last_number) == (2, 1)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 500, 502, 503])
def test_a_refusal_is_a_complaint_and_the_next_word_is_hello(status: int):
    session = _greeted()
    sent = session.next([(1, _body(1))], next_number=2)
    assert sent is not None
    (effect,) = session.answered(sent, status, msgspec.json.encode(HubError(error="no common protocol")))
    assert isinstance(effect, Complaint)
    assert "no common protocol" in effect.text
    assert str(status) in effect.text
    again = session.next([(1, _body(1))], next_number=2)
    assert again is not None
    assert again.path.endswith("/hello")


@pytest.mark.parametrize("body", [b"", b"<html>a captive portal</html>", b"[]", b'{"acknowledged": "many"}', b"\xff\xfe"])
def test_an_answer_that_is_not_understood_forgets_nothing(body: bytes):
    session = _greeted()
    sent = session.next([(1, _body(1))], next_number=2)
    assert sent is not None
    for status in (200, 502):
        (effect,) = session.answered(sent, status, body)
        assert isinstance(effect, Complaint)
    assert not session.greeted


def test_another_version_of_the_session_is_refused():
    session = _session()
    hello = session.next([], next_number=1)
    assert hello is not None
    welcome = Welcome(protocol=PROTOCOL + 1, hub_id="h", acknowledged=0, desired_version=0, now_s=0.0)
    (effect,) = session.answered(hello, 200, msgspec.json.encode(welcome))
    assert isinstance(effect, Complaint)
    assert not session.greeted


def test_a_hub_that_acknowledges_what_it_was_not_sent_is_not_believed():
    session = _greeted()
    sent = session.next([(1, _body(1))], next_number=3)
    assert sent is not None
    (effect,) = session.answered(sent, 200, msgspec.json.encode(Ack(acknowledged=2, desired_version=0, now_s=0.0)))
    assert isinstance(effect, Complaint)


def test_an_old_copy_of_the_outbox_is_noticed_before_a_record_is_lost():
    session = _session()
    hello = session.next([(5, _body(5))], next_number=6)
    assert hello is not None
    welcome = Welcome(protocol=PROTOCOL, hub_id="h", acknowledged=9, desired_version=0, now_s=0.0)
    (effect,) = session.answered(hello, 200, msgspec.json.encode(welcome))
    assert isinstance(effect, Complaint)
    assert "old copy" in effect.text
    assert not session.greeted


def test_what_is_new_of_the_site_is_told_again_until_the_hub_has_it():
    session, hub = _greeted(), Hub()
    assert not session.introduce({"class": "micro"})
    assert session.next([], next_number=1) is None
    assert session.introduce({"class": "micro", "meters": [1]})
    first = session.next([], next_number=1)
    session.lost()
    second = session.next([(1, _body(1))], next_number=2)
    assert first is not None
    assert second is not None
    assert msgspec.json.decode(second.body, type=Hello).about == {"class": "micro", "meters": [1]}
    assert session.introduce({"class": "micro", "meters": [1, 2]}), "news while the hello is on its way"
    session.answered(second, *hub.answer(second))
    third = session.next([], next_number=1)
    assert third is not None
    session.answered(third, *hub.answer(third))
    assert session.next([], next_number=1) is None


Fault = str
FAULTS: Sequence[Fault] = (
    "fine",
    "fine",
    "lost on the way there",
    "lost on the way back",
    "answered twice",
    "500",
    "401",
    "nonsense",
    "another hub",
    "oldest dropped",
    "agent starts again",
)


class Story:
    """A site and a hub, and every way in which an exchange between them can end."""

    def __init__(self) -> None:
        self.box, self.hub, self.session = Box(), Hub(), _session()
        self.gone: set[int] = set()
        """Records that the site is allowed to have lost: dropped by its bound, or held by a hub that is no more."""

    def befalls(self, fault: Fault) -> None:
        if fault == "another hub":
            self.gone |= set(self.hub.stored)
            self.hub = Hub(self.hub.name + "'")
        elif fault == "oldest dropped" and self.box.records:
            self.gone.add(self.box.records[0][0])
            self.box.drop_oldest()
        elif fault == "agent starts again":
            self.session = _session()

    def exchange(self, fault: Fault) -> bool:
        sent = self.session.next(self.box.records, next_number=self.box.made + 1)
        if sent is None:
            assert not self.box.records, "nothing to say although records wait"
            return False
        answer = self._answer(sent, fault)
        if answer is None:
            self.session.lost()
            return True
        for _ in range(2 if fault == "answered twice" else 1):
            self._take(sent, *answer)
        return True

    def _answer(self, sent: Outgoing, fault: Fault) -> tuple[int, bytes] | None:
        if fault == "lost on the way there":
            return None
        if fault in {"500", "401"}:
            return int(fault), b"{}"
        status, body = self.hub.answer(sent)
        if fault == "lost on the way back":
            return None
        return status, b"nonsense" if fault == "nonsense" else body

    def _take(self, sent: Outgoing, status: int, body: bytes) -> None:
        for effect in self.session.answered(sent, status, body):
            if isinstance(effect, Acknowledged):
                durable = set(self.hub.stored) | self.gone
                assert durable >= set(range(1, effect.number + 1)), "forgotten before it was durable"
                self.box.forget(effect.number)


@given(faults=st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 3)), max_size=40))
def test_whatever_happens_all_arrive_once_in_order_and_none_is_forgotten_too_early(faults: list[tuple[Fault, int]]):
    story = Story()
    for fault, new in faults:
        for _ in range(new):
            story.box.add()
        story.befalls(fault)
        story.exchange(fault)
    exchanges = 0
    while story.exchange("fine"):
        exchanges += 1
        assert exchanges <= 6, "a healthy link needs a hello, a batch, and at most one round more"
    hub = story.hub
    assert not story.box.records
    assert set(hub.stored) | story.gone >= set(range(1, story.box.made + 1))
    assert hub.stores == len(hub.stored), "nothing twice"
    assert all(start_s == number for number, start_s in hub.stored.items())
