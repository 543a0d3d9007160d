"""Routing as a table of named cases, and what must hold whatever the state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.reasons import SENT_TO_HUB, SERVED_HERE, Reason
from nearhall.core.residency import Residency
from nearhall.policy.route import Ask, AwaitModel, ForwardToHub, HubState, LocalState, Refuse, ServeLocal, may_leave, route

ANY, SITE, DE = (Residency.parse(text) for text in ("any", "site", "jurisdiction:DE"))
READY = LocalState(present=True, ready=True, expected_ms=2.0)
SLOW = LocalState(present=True, ready=True, expected_ms=200.0)
FULL = LocalState(present=True, ready=True, queue_full=True, expected_ms=900.0)
DOWN = LocalState(present=True, ready=False)
ABSENT = LocalState(present=False)
COMING = LocalState(present=True, answers_in_ms=400, wait_ms_max=30_000)
NOT_READY = Reason.MODEL_NOT_READY
HUB = HubState(jurisdiction="DE", reachable=True, expected_ms=45.0)
FRENCH = HubState(jurisdiction="FR", reachable=True, expected_ms=45.0)
CUT = HubState(jurisdiction="DE", reachable=False, expected_ms=45.0)

CASES = {
    "local first": (Ask(residency=ANY, deadline_ms=100), READY, HUB, ServeLocal(Reason.LOCAL_FIRST)),
    "local without any limit": (Ask(residency=ANY), SLOW, HUB, ServeLocal(Reason.LOCAL_FIRST)),
    "local although the hub is cut": (Ask(residency=ANY), READY, CUT, ServeLocal(Reason.LOCAL_FIRST)),
    "a tight target is tried": (Ask(residency=SITE, target_ms=3), READY, HUB, ServeLocal(Reason.LOCAL_FIRST)),
    "overflow goes to the hub": (Ask(residency=ANY, target_ms=100), SLOW, HUB, ForwardToHub(Reason.HUB_DEADLINE)),
    "overflow with a hard deadline": (Ask(residency=DE, deadline_ms=100), SLOW, HUB, ForwardToHub(Reason.HUB_DEADLINE)),
    "overflow stays for residency site": (Ask(residency=SITE, target_ms=100), SLOW, HUB, ServeLocal(Reason.LOCAL_LATE)),
    "overflow stays in the jurisdiction": (Ask(residency=DE, target_ms=100), SLOW, FRENCH, ServeLocal(Reason.LOCAL_LATE)),
    "late here is sooner than at the hub": (
        Ask(residency=ANY, target_ms=10),
        LocalState(present=True, ready=True, expected_ms=30),
        HUB,
        ServeLocal(Reason.LOCAL_LATE),
    ),
    "no place meets a hard deadline": (Ask(residency=ANY, deadline_ms=20), SLOW, HUB, Refuse(Reason.DEADLINE, 180)),
    "a full queue overflows": (Ask(residency=ANY), FULL, HUB, ForwardToHub(Reason.HUB_DEADLINE)),
    "a full queue that may not overflow": (Ask(residency=SITE), FULL, HUB, Refuse(Reason.QUEUE_FULL, 900)),
    "the model is absent": (Ask(residency=ANY), ABSENT, HUB, ForwardToHub(Reason.HUB_MODEL_ABSENT)),
    "absent, and the data must stay": (Ask(residency=SITE), ABSENT, HUB, Refuse(Reason.RESIDENCY, None)),
    "absent, and the hub is abroad": (Ask(residency=DE), ABSENT, FRENCH, Refuse(Reason.RESIDENCY, None)),
    "absent, and the link is cut": (Ask(residency=ANY), ABSENT, CUT, Refuse(Reason.HUB_UNREACHABLE, 1000)),
    "absent, and there is no hub": (Ask(residency=ANY), ABSENT, None, Refuse(Reason.MODEL_UNKNOWN, None)),
    "absent, and the hub is too slow": (Ask(residency=ANY, deadline_ms=20), ABSENT, HUB, Refuse(Reason.DEADLINE, 1000)),
    "the runtime is down": (Ask(residency=DE), DOWN, HUB, ForwardToHub(Reason.HUB_RUNTIME_DOWN)),
    "down, and the data must stay": (Ask(residency=SITE), DOWN, HUB, Refuse(Reason.MODEL_NOT_READY, 1000)),
    "down, and there is no hub": (Ask(residency=ANY), DOWN, None, Refuse(Reason.MODEL_NOT_READY, 1000)),
    "loading, and the hub answers meanwhile": (Ask(residency=ANY), COMING, HUB, ForwardToHub(Reason.HUB_RUNTIME_DOWN)),
    "loading, and the data must stay": (Ask(residency=SITE, deadline_ms=900), COMING, HUB, AwaitModel(NOT_READY, 400)),
    "loading, and the link is cut": (Ask(residency=ANY, deadline_ms=900), COMING, CUT, AwaitModel(NOT_READY, 400)),
    "loading, and the hub is too slow": (
        Ask(residency=ANY, deadline_ms=900),
        COMING,
        HubState(jurisdiction="DE", reachable=True, expected_ms=2000),
        AwaitModel(NOT_READY, 400),
    ),
    "loading takes longer than the deadline": (Ask(residency=SITE, deadline_ms=402), COMING, HUB, Refuse(NOT_READY, 1000)),
    "loading, without a deadline": (Ask(residency=ANY), COMING, None, AwaitModel(NOT_READY, 400)),
    "loading takes longer than anybody waits": (
        Ask(residency=ANY),
        LocalState(present=True, answers_in_ms=40_000, wait_ms_max=30_000),
        None,
        Refuse(NOT_READY, 40_000),
    ),
    "no room for it yet": (Ask(residency=ANY), LocalState(present=True, retry_after_ms=7000), None, Refuse(NOT_READY, 7000)),
    "no room for it ever": (Ask(residency=SITE), LocalState(present=True, retry_after_ms=None), HUB, Refuse(NOT_READY, None)),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str):
    ask, local, hub, expected = CASES[name]
    assert route(ask, local, hub) == expected


milliseconds = st.floats(0, 10_000, allow_nan=False)
residencies = st.sampled_from([ANY, SITE, DE, Residency.parse("jurisdiction:FR"), Residency.parse("jurisdiction:US")])
asks = st.builds(Ask, residency=residencies, deadline_ms=st.none() | milliseconds, target_ms=st.none() | milliseconds)
locals_ = st.builds(
    LocalState,
    present=st.booleans(),
    ready=st.booleans(),
    queue_full=st.booleans(),
    expected_ms=milliseconds,
    answers_in_ms=st.none() | milliseconds,
    wait_ms_max=milliseconds,
)
hubs = st.none() | st.builds(
    HubState, jurisdiction=st.sampled_from(["DE", "FR", "US-CA"]), reachable=st.booleans(), expected_ms=milliseconds
)


@given(asks, locals_, hubs)
def test_a_forbidden_place_is_never_chosen(ask: Ask, local: LocalState, hub: HubState | None):
    decision = route(ask, local, hub)
    if isinstance(decision, ForwardToHub):
        assert hub is not None
        assert hub.reachable
        assert may_leave(ask.residency, hub)
        assert decision.reason in SENT_TO_HUB
    if isinstance(decision, ServeLocal):
        assert local.present
        assert local.ready
        assert not local.queue_full
        assert decision.reason in SERVED_HERE
    if isinstance(decision, AwaitModel):
        assert not local.ready
        assert decision.answers_in_ms <= (local.wait_ms_max if ask.deadline_ms is None else ask.deadline_ms)
    if isinstance(decision, Refuse):
        assert decision.reason not in SENT_TO_HUB | SERVED_HERE


@given(asks, locals_, hubs, milliseconds)
def test_more_backlog_never_turns_a_refusal_into_local_service(ask: Ask, local: LocalState, hub: HubState | None, more: float):
    busier = LocalState(
        present=local.present, ready=local.ready, queue_full=local.queue_full, expected_ms=local.expected_ms + more
    )
    if isinstance(route(ask, local, hub), Refuse):
        assert not isinstance(route(ask, busier, hub), ServeLocal)


@given(asks, locals_, hubs)
def test_a_hard_deadline_that_no_place_can_meet_is_refused(ask: Ask, local: LocalState, hub: HubState | None):
    if ask.deadline_ms is None or local.expected_ms <= ask.deadline_ms:
        return
    comes = local.present and not local.ready and local.answers_in_ms is not None and local.answers_in_ms <= ask.deadline_ms
    if not comes and (hub is None or hub.expected_ms > ask.deadline_ms):
        assert isinstance(route(ask, local, hub), Refuse)
