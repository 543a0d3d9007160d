"""Which of a site's nodes a request goes to: the one that is expected to have answered first.

Between two reports of a node the front keeps its own books: what it has sent since then waits there too, and what the node had
waiting drains as time passes. A node that stays silent while something is due from it is in doubt, and is left for any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from nearhall.core.reasons import Reason
from nearhall.policy.able import By

TIE_MS = 0.5
TIE_SHARE = 0.20
"""Nodes whose expected finishes are as near as this take turns: round trips and estimates are not known better."""
TEST_MS = 250.0
TESTS_SHARE = 20.0
"""See `untested_ms`."""
GRACE_MS = 10.0
"""A node may be silent this long beyond what was expected before it is in doubt: a busy host stalls for some milliseconds."""
SIGN_MS = 6.0
"""A node is asked for a sign of life so long before a request is given away for its silence: one that works on a long request is
silent too, but still answers that."""
REPORT_GRACE_MS = 40.0
"""The same for its report: it shares an event loop with all else that the node does."""
MARGIN_MS = 1.5
"""Kept for the way of an answer, or of the refusal, to the client."""
TIMER_MS = 1.0
"""A timer of the event loop may be as late as this."""
RETRY_SOON_MS = 1000
"""A model loads, and a node comes back, in seconds."""


class Standing(Enum):
    """How far a node is trusted."""

    UP = "up"
    TRIAL = "trial"
    """It was away and reports again: one request at a time until one is answered."""
    AWAY = "away"
    """It refuses connections, has dropped one, or has been silent for too long: nothing is sent there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of one node for one model."""

    standing: Standing
    draining: bool = False
    known: bool = True
    """The model was in its last report."""
    by: By = By.ANY
    """Who there may answer this request; where it is an engine alone, the figures are that engine's."""
    tried: bool = False
    """The request has been given to it before."""
    ready: bool = True
    """It is loaded there, or a request has it loaded, which is then part of the backlog."""
    backlog_ms: float = 0.0
    own_ms: float = 0.0
    slots: int = 1
    free: int = 1
    """Slots that the report called free."""
    report_age_ms: float = 0.0
    rtt_ms: float = 0.0
    sent_since: int = 0
    """Requests for the model that this front has sent since the report was asked for, and that are not answered."""
    sent_since_ms: float = 0.0
    """For how long they keep others waiting, all together, were they served one by one."""
    in_flight: int = 0
    """Of any model."""
    overdue_ms: float = 0.0
    """For how long the node has been silent beyond its grace while something was due from it; 0 where nothing is."""
    unused_ms: float = 0.0
    """Since the front sent it something last."""
    last_turn: int = 0
    """When it was chosen last: a number that grows."""


@dataclass(frozen=True, slots=True)
class SendTo:
    """Send it to this node."""

    index: int
    expected_ms: float


@dataclass(frozen=True, slots=True)
class RefuseAll:
    """No node may be asked."""

    reason: Reason
    retry_after_ms: int | None
    """None: retrying is futile."""


def expected_ms(seen: Seen) -> float:
    """From now until the node's answer is back here (chat: its first token)."""
    waiting = max(0.0, seen.backlog_ms - seen.report_age_ms) if seen.backlog_ms else 0.0
    ahead = seen.sent_since and seen.sent_since - max(0, seen.free - 1)
    if ahead > 0:
        waiting += seen.sent_since_ms * ahead / seen.sent_since / max(1, seen.slots)
    return seen.rtt_ms + waiting + seen.own_ms + max(0.0, seen.overdue_ms)


def untested_ms(seen: Seen) -> float:
    """How much of a node's own service estimate has aged away since it was used last.

    A node that was slow once would not be chosen, and so never be found quick again. Half of the estimate lasts a quarter of a
    second, or twenty times as long as the service itself, so that what tests cost in vain stays a small share.
    """
    half_life_ms = max(TEST_MS, TESTS_SHARE * seen.own_ms)
    return seen.own_ms * (1.0 - 0.5 ** (seen.unused_ms / half_life_ms))


def in_doubt(seen: Seen) -> bool:
    """Whether it is asked only where nobody else can be: silent while something is due, or on trial with its one request."""
    return seen.overdue_ms > 0 or (seen.standing is Standing.TRIAL and seen.in_flight > 0)


def usable(seen: Seen) -> bool:
    """Whether it may be asked at all."""
    return seen.known and seen.ready and not seen.draining and not seen.tried and seen.standing is not Standing.AWAY


def choose(nodes: Sequence[Seen], left_ms: float, *, sticky: bool = False) -> SendTo | RefuseAll:
    """The node to ask. `left_ms` is what is left of the deadline; `sticky` keeps a stateful model's requests with one node.

    Whether a deadline can be met is the node's own decision, since it alone knows its queue exactly: the one that is expected
    first is asked even where it is expected late. A node that cannot do what the request asks for is asked only where no other
    one can or might: it says then what is wrong.
    """
    for seen in nodes:
        if seen.by is By.NONE:
            nodes = _those_that_can(nodes)
            break
    able = [(index, seen) for index, seen in enumerate(nodes) if usable(seen)]
    if not able:
        return _nobody(nodes)
    trusted = [(index, seen) for index, seen in able if not in_doubt(seen)] or able
    if sticky or len(trusted) == 1:
        index, seen = trusted[0]
        return SendTo(index, expected_ms(seen))
    finishes = [(expected_ms(seen), index, seen) for index, seen in trusted]
    in_time = [finish for finish in finishes if finish[0] + MARGIN_MS <= left_ms] or finishes
    near = min(in_time)[0]
    near += max(TIE_MS, TIE_SHARE * near)
    tied = [(seen.last_turn, index, expected) for expected, index, seen in in_time if expected - untested_ms(seen) <= near]
    _, chosen, expected = min(tied)
    return SendTo(chosen, expected)


def _those_that_can(nodes: Sequence[Seen]) -> Sequence[Seen]:
    """The same nodes; those that cannot do what is asked for count as without the model while another one can or might."""
    if not any(seen.by is not By.NONE if seen.known else seen.standing is Standing.AWAY for seen in nodes):
        return nodes
    return [replace(seen, known=False) if seen.by is By.NONE else seen for seen in nodes]


def _nobody(nodes: Sequence[Seen]) -> RefuseAll:
    having = [seen for seen in nodes if seen.known]
    if not having:
        blind = any(seen.standing is Standing.AWAY for seen in nodes)  # it might have the model
        return RefuseAll(Reason.NODES_AWAY, RETRY_SOON_MS) if blind else RefuseAll(Reason.MODEL_UNKNOWN, None)
    there = [seen for seen in having if seen.standing is not Standing.AWAY and not seen.tried]
    if not there:
        return RefuseAll(Reason.NODES_AWAY, RETRY_SOON_MS)
    if all(seen.draining for seen in there):
        return RefuseAll(Reason.DRAINING, RETRY_SOON_MS)
    return RefuseAll(Reason.MODEL_NOT_READY, RETRY_SOON_MS)


def allowed_silence_ms(expected: float) -> float:
    """How long a node may be silent after a request before it is in doubt."""
    return expected + GRACE_MS


def first_look_ms(*, expected: float, left_ms: float) -> float:
    """When a request that was just sent is first looked after: `move_in_ms` never says less than this of it."""
    return max(expected, min(allowed_silence_ms(expected), (left_ms - MARGIN_MS) / 2.0) - SIGN_MS)


def move_in_ms(*, silent_ms: float, expected: float, left_ms: float, other_ms: float) -> float | None:
    """When a request that may be repeated is given to another node too: in so many ms (0: now), or no more (None).

    `silent_ms` ago the node was last heard, or the request was sent, if later; `expected` ms it was to take; the other node is
    expected to take `other_ms`. It is given away once the silence is longer than allowed. Where that would be too late for the
    other node, it is given away at the last moment, if the node has then been silent for as long as all of it should have taken.
    """
    last_call = left_ms - other_ms - MARGIN_MS
    if last_call < -TIMER_MS:
        return None
    silence_left = allowed_silence_ms(expected) - silent_ms
    if silence_left <= max(0.0, last_call):
        return max(0.0, silence_left)
    if silent_ms + last_call < expected:
        return None
    return 0.0 if last_call < TIMER_MS else last_call
