"""The load client: raw sockets, HTTP/1.1 kept alive, as little work for one request as can be.

One client in a closed loop (blocking), several at once (epoll), and an open loop that sends when it meant to, whatever became
of earlier requests: latency there runs from the intended moment, so a server that stalls cannot hide what it kept waiting
("coordinated omission", Gil Tene). Only answers with 200 count as served.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from nearhall.cli.roots.bench.measured import Outcome, Slice, quantile
from nearhall.core.errors import TemporaryError

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

ANSWER_S_MAX = 30.0
"""A server that says nothing for so long has hung; the slowest peer's worst answer under overload took five."""
CONNECTIONS_MAX = 900
"""Below the gateway's own limit of 1024 and a common limit of open files."""
CONNECTIONS_FIRST = 256
LOOK_S = 0.05
"""The longest wait for events; only bounds how late the end of a run is seen."""
DRAIN_S = 2.0
"""Given to answers that are still out when the last request has been sent."""
SENT = 0
"""Instead of a status: the rest of a request that had its answer already."""
_READ = 1 << 18


def connect(address: Address) -> socket.socket:
    """A connection; raises TemporaryError."""
    try:
        if isinstance(address, str):
            return _connect_unix(address)
        made = socket.create_connection(address, timeout=ANSWER_S_MAX)
    except OSError as error:
        raise TemporaryError(f"{shown(address)} cannot be reached ({error.strerror or error})") from error
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _connect_unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(ANSWER_S_MAX)
    try:
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made


def _begin_connecting(address: Address) -> socket.socket:
    """A connection that is being made: a full backlog holds a blocking `connect` up for a second."""
    if isinstance(address, str):
        return connect(address)  # a Unix socket is connected at once or not at all
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setblocking(False)
    made.connect_ex(address)
    return made


def shown(address: Address) -> str:
    """The address as people write it."""
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


def whole_answer(buffer: bytes | bytearray) -> tuple[int, int] | None:
    """Status and length of the answer at the buffer's beginning, once it is whole."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[:end]).lower()
    status = int(head[9:12])
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        size = end + 4 + int(head[at + 17 :].partition(b"\r\n")[0])
        return (status, size) if len(buffer) >= size else None
    if b"chunked" in head:
        size = _chunked_end(buffer, end + 4)
        return None if size is None else (status, size)
    return status, end + 4


def _chunked_end(buffer: bytes | bytearray, at: int) -> int | None:
    while True:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(bytes(buffer[at:line]).partition(b";")[0], 16)
        at = line + 2 + size + 2
        if at > len(buffer):
            return None
        if size == 0:
            return at


def ask(connection: socket.socket, request: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and body of one answer; raises TemporaryError when there is none."""
    try:
        connection.sendall(request)
        buffer = connection.recv(_READ)
        while (found := whole_answer(buffer)) is None:
            more = connection.recv(_READ)
            if not more:
                raise TemporaryError(f"the server closed the connection after {len(buffer)} bytes")
            buffer += more
    except OSError as error:
        raise TemporaryError(f"no answer ({error})") from error
    status, size = found
    head, _, body = buffer[:size].partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        body = b"".join(_chunks(body))
    return status, head, body


def _chunks(body: bytes) -> Generator[bytes]:
    while body:
        line, _, rest = body.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        yield rest[:size]
        body = rest[size + 2 :] if size else b""


def one_client(address: Address, request: bytes, seconds: float) -> Slice:
    """One client that sends its next request when it has the answer."""
    with connect(address) as connection, undisturbed():
        latencies: list[float] = []
        refused = 0
        begun = now = time.perf_counter()
        while now - begun < seconds:
            sent = now
            connection.sendall(request)
            buffer = connection.recv(_READ)
            while (found := whole_answer(buffer)) is None:
                more = connection.recv(_READ)
                if not more:
                    raise TemporaryError("the server closed the connection")
                buffer += more
            now = time.perf_counter()
            if found[0] == 200:
                latencies.append((now - sent) * 1e3)
            else:
                refused += 1
        return Slice(latencies_ms=sorted(latencies), took_s=now - begun, refused=refused)


@dataclass(slots=True)
class _Connection:
    """One connection of several."""

    raw: socket.socket
    number: int
    received: bytearray
    left: memoryview | None = None
    """What has not been sent yet."""
    since: float = 0.0
    kind: int = 0
    answered: bool = False
    """A server may refuse a request by its head, before all of it is sent; the rest must go before the next one may."""


class _Crowd:
    """Connections under one epoll."""

    def __init__(self, address: Address, count: int) -> None:
        self.address = address
        self.poll = select.epoll()
        self.all: dict[int, _Connection] = {}
        try:
            for _ in range(count):
                self.open()
        except TemporaryError:
            self.close()
            raise

    def open(self, *, wait: bool = True) -> _Connection:
        """One more; without `wait` it may still be being made, and what is sent meanwhile goes when it is."""
        raw = connect(self.address) if wait else _begin_connecting(self.address)
        raw.setblocking(False)
        made = _Connection(raw, raw.fileno(), bytearray())
        self.all[made.number] = made
        self.poll.register(made.number, select.EPOLLIN)
        return made

    def send(self, one: _Connection, request: bytes | memoryview) -> None:
        """Sends what fits; the rest goes when there is room."""
        try:
            sent = one.raw.send(request)
        except BlockingIOError:
            sent = 0
        except OSError:  # it broke; its end is read next
            return
        if sent < len(request):
            if one.left is None:
                self.poll.modify(one.number, select.EPOLLIN | select.EPOLLOUT)
            one.left = memoryview(request)[sent:]
        elif one.left is not None:
            one.left = None
            self.poll.modify(one.number, select.EPOLLIN)

    def receive(self, one: _Connection) -> int | None:
        """The status of an answer that has become whole; -1 when the connection broke."""
        try:
            data = one.raw.recv(_READ)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self.drop(one)
            return -1
        one.received += data
        found = whole_answer(one.received)
        if found is None:
            return None
        one.received.clear()
        return found[0]

    def events(self, seconds: float) -> Generator[tuple[_Connection, int]]:
        """Connections with an answer (its status), a broken one (-1), or a refused request that has gone at last (`SENT`)."""
        for number, event in self.poll.poll(seconds):
            one = self.all[number]
            if event & select.EPOLLOUT and self._sent_rest(one) and one.answered:
                yield one, SENT
            elif event & ~select.EPOLLOUT and (status := self.receive(one)) is not None:
                one.answered = True
                yield one, status

    def _sent_rest(self, one: _Connection) -> bool:
        if one.left is not None:
            self.send(one, one.left)
        return one.left is None

    def drop(self, one: _Connection) -> None:
        self.poll.unregister(one.number)
        del self.all[one.number]
        one.raw.close()

    def close(self) -> None:
        for one in self.all.values():
            one.raw.close()
        self.poll.close()


@contextmanager
def _crowd(address: Address, count: int) -> Generator[_Crowd]:
    crowd = _Crowd(address, count)
    try:
        with undisturbed():
            yield crowd
    finally:
        crowd.close()


def clients(address: Address, request: bytes, count: int, seconds: float) -> Slice:
    """So many clients at once, each sending its next request the moment it has an answer, a refusal too."""
    latencies: list[float] = []
    refused = 0
    with _crowd(address, count) as crowd:
        begun = time.perf_counter()
        for one in list(crowd.all.values()):
            one.since = time.perf_counter()
            crowd.send(one, request)
        last = begun
        while (now := time.perf_counter()) - begun < seconds:
            if now - last > ANSWER_S_MAX:
                raise TemporaryError(f"{shown(address)} has not answered for {ANSWER_S_MAX:g} s")
            for one, status in crowd.events(min(0.5, seconds)):
                last = now = time.perf_counter()
                if status == 200:
                    latencies.append((now - one.since) * 1e3)
                else:
                    refused += status != SENT
                free = crowd.open() if status < 0 else one
                if free.left is None:
                    free.since, free.answered = now, False
                    crowd.send(free, request)
        took = time.perf_counter() - begun
    return Slice(latencies_ms=sorted(latencies), took_s=took, refused=refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of request in an open loop."""

    name: str
    request: bytes
    deadline_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """What an open loop gave."""

    outcomes: Sequence[Outcome]
    client_busy: float
    """Share of a core that this client used: near 1 it is measured, and not the server."""
    client_late_p99_ms: float
    """How late this client itself was in sending, with a connection at hand: above a millisecond or so, it is measured."""
    connections: int
    waited: int
    """Requests that found no free connection at their moment; their time runs all the same."""


class _Tally:
    """One kind's answers."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.offered = 0
        self.good: list[float] = []
        self.refusals: list[float] = []

    def outcome(self, seconds: float) -> Outcome:
        good, refusals = sorted(self.good), sorted(self.refusals)
        return Outcome(
            kind=self.kind.name,
            offered=self.offered,
            answered=len(good),
            in_deadline=sum(ms <= self.kind.deadline_ms for ms in good),
            refused=len(refusals),
            lost=self.offered - len(good) - len(refusals),
            seconds=seconds,
            latencies_ms=good,
            refusal_p50_ms=quantile(refusals, 0.5) if refusals else None,
        )


def open_loop(
    address: Address, every: Sequence[Kind], arrivals: Sequence[float], which: Sequence[int], seconds: float
) -> OpenLoop:
    """Sends each request at its moment (`arrivals`, seconds from the start; `which` names its kind), whatever happens."""
    with _crowd(address, CONNECTIONS_FIRST) as crowd:
        loop = _OpenLoop(crowd, every, arrivals, which)
        last = loop.begun + seconds + DRAIN_S
        while loop.unfinished and time.perf_counter() < last:
            loop.send_due()
            loop.wait()
            loop.receive()
        return loop.result(seconds)


class _OpenLoop:
    """An open loop under way."""

    def __init__(self, crowd: _Crowd, every: Sequence[Kind], arrivals: Sequence[float], which: Sequence[int]) -> None:
        self._crowd, self._every, self._which = crowd, every, which
        self._tallies = [_Tally(kind) for kind in every]
        self._free = list(crowd.all.values())
        self._late: list[float] = []
        self._waited, self._missed = 0, -1
        self._held_s = 0.0
        """When last no connection was free: the server held this client up then, and what follows is not its own delay."""
        self._inside = self._at = 0
        self._cpu_s = time.thread_time()
        self.begun = time.perf_counter() + 0.02
        self._due = [self.begun + moment for moment in arrivals]

    @property
    def unfinished(self) -> bool:
        """Whether something is to be sent or to come."""
        return self._at < len(self._due) or self._inside > 0

    def send_due(self) -> None:
        """Sends what is due, as far as there are connections."""
        now = time.perf_counter()
        while self._at < len(self._due) and self._due[self._at] <= now:
            if not self._free and len(self._crowd.all) < CONNECTIONS_MAX:
                self._free.append(self._crowd.open(wait=False))
            if not self._free:
                self._waited += self._missed != self._at
                self._missed, self._held_s = self._at, now
                return
            one = self._free.pop()
            one.since, one.kind, one.answered = self._due[self._at], self._which[self._at], False
            self._tallies[one.kind].offered += 1
            self._at += 1
            self._inside += 1
            self._crowd.send(one, self._every[one.kind].request)
            now = time.perf_counter()
            self._late.append((now - max(one.since, self._held_s)) * 1e3)

    def wait(self) -> None:
        """Until something comes or is due: epoll's own timeout is rounded up to a millisecond, select's is not."""
        may_send = self._at < len(self._due) and (self._free or len(self._crowd.all) < CONNECTIONS_MAX)
        pause = self._due[self._at] - time.perf_counter() if may_send else LOOK_S
        select.select([self._crowd.poll.fileno()], [], [], max(0.0, min(LOOK_S, pause)))

    def receive(self) -> None:
        """Takes what has come."""
        for one, status in self._crowd.events(0):
            self._take(one, status)

    def _take(self, one: _Connection, status: int) -> None:
        self._inside -= one.since > 0
        if status > 0:
            tally = self._tallies[one.kind]
            (tally.good if status == 200 else tally.refusals).append((time.perf_counter() - one.since) * 1e3)
        one.since = 0.0
        if status < 0:
            if one in self._free:
                self._free.remove(one)
        elif one.left is None:
            self._free.append(one)

    def result(self, seconds: float) -> OpenLoop:
        """The outcomes; what was never sent was offered all the same."""
        for left in self._which[self._at :]:
            self._tallies[left].offered += 1
        return OpenLoop(
            outcomes=[tally.outcome(seconds) for tally in self._tallies],
            client_busy=(time.thread_time() - self._cpu_s) / (time.perf_counter() - self.begun),
            client_late_p99_ms=quantile(sorted(self._late), 0.99),
            connections=len(self._crowd.all),
            waited=self._waited,
        )


@contextmanager
def undisturbed() -> Generator[None]:
    """Without Python's collector of garbage, which would stop the client now and then."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
