"""Who stays in memory: never over the budget, nobody at work or pinned leaves, and two that take turns do not thrash."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.memory import (
    RESIDENCE_LOADS,
    RESIDENCE_S_MIN,
    NoRoom,
    Resident,
    Room,
    load_worth,
    make_room,
    stays_until,
)


def of(name: str, mib: float, worth: float = 0.0, **more: object) -> Resident:
    return Resident(id=name, mib=mib, worth=worth, **more)  # pyright: ignore[reportArgumentType]


def test_nobody_leaves_while_there_is_room():
    assert make_room(40, [of("a", 60)], budget_mib=100, age=0.5, now_s=0) == Room(leave=(), age=0.5)


def test_the_one_worth_least_leaves_and_the_shelf_ages_by_it():
    residents = [of("dear", 50, 0.9), of("cheap", 50, 0.2)]
    assert make_room(40, residents, budget_mib=100, age=0.1, now_s=0) == Room(leave=("cheap",), age=0.2)


def test_of_equal_worth_the_least_recently_used_leaves():
    residents = [of("new", 50, 0.2, used_s=9.0), of("old", 50, 0.2, used_s=3.0)]
    assert make_room(40, residents, budget_mib=100, age=0, now_s=10) == Room(leave=("old",), age=0.2)


def test_nobody_leaves_in_vain():
    residents = [of("small", 5, 0.1), of("large", 90, 0.3)]
    assert make_room(50, residents, budget_mib=100, age=0, now_s=0) == Room(leave=("large",), age=0.3)


def test_what_can_never_fit_is_said_with_its_figures():
    found = make_room(80, [of("face", 30, pinned=True), of("door", 20)], budget_mib=100, age=0, now_s=0)
    assert found == NoRoom(why="needs 80 MiB; the budget for models is 100 MiB, of which pinned models hold 30 MiB", retry_s=None)
    assert make_room(101, [], budget_mib=100, age=0, now_s=0) == NoRoom(
        why="needs 101 MiB; the budget for models is 100 MiB", retry_s=None
    )


def test_when_to_come_back_is_said():
    def retry(*residents: Resident, now_s: float = 10.0) -> float | None:
        found = make_room(80, residents, budget_mib=100, age=0, now_s=now_s)
        assert isinstance(found, NoRoom)
        assert "only just been loaded" in found.why
        return found.retry_s

    assert retry(of("new", 60, stays_until_s=14.0)) == 4.0
    assert retry(of("busy", 60, busy=True)) == 1.0
    assert retry(of("busy", 60, busy=True), of("free", 10)) == 1.0
    assert retry(of("new", 60, stays_until_s=1e9)) == 600.0
    assert retry(of("new", 60, stays_until_s=10.1)) == 1.0


def test_an_operators_wish_ends_the_stay_of_a_newcomer_but_of_nobody_at_work():
    new = of("new", 60, stays_until_s=14.0)
    assert make_room(80, [new], budget_mib=100, age=0, now_s=10, ordered=True) == Room(leave=("new",), age=0.0)
    assert isinstance(make_room(80, [of("busy", 60, busy=True)], budget_mib=100, age=0, now_s=10, ordered=True), NoRoom)


def test_a_stay_is_long_where_loading_is_dear():
    assert stays_until(100.0, 0.1) == 100.0 + RESIDENCE_S_MIN
    assert stays_until(100.0, 3.0) == 100.0 + 3.0 * RESIDENCE_LOADS
    assert load_worth(2.0, 100.0) == 0.02
    assert load_worth(2.0, 0.0) == 2.0


flags = st.booleans()
shelves = st.lists(
    st.tuples(st.floats(0, 200), st.floats(0, 5), st.floats(0, 100), st.floats(0, 100), flags, flags),
    max_size=8,
)
Said = list[tuple[float, float, float, float, bool, bool]]


def shelf(said: Said) -> list[Resident]:
    return [
        Resident(id=str(i), mib=mib, worth=worth, used_s=used, stays_until_s=stays, pinned=pinned, busy=busy)
        for i, (mib, worth, used, stays, pinned, busy) in enumerate(said)
    ]


@given(st.floats(0, 500), shelves, st.floats(1, 600), st.floats(0, 5), flags)
def test_the_budget_holds_and_only_who_may_leave_leaves(needed: float, said: Said, budget: float, age: float, ordered: bool):
    residents = shelf(said)
    found = make_room(needed, residents, budget_mib=budget, age=age, now_s=50, ordered=ordered)
    if isinstance(found, NoRoom):
        free = sum(r.mib for r in residents if not r.pinned and not r.busy and (ordered or r.stays_until_s <= 50))
        assert sum(r.mib for r in residents) - free + needed > budget - 1e-3
        return
    stay = [r for r in residents if r.id not in found.leave]
    assert sum(r.mib for r in stay) + needed <= budget + 1e-3 or not found.leave
    assert found.age >= age
    for each in residents:
        if each.id in found.leave:
            assert not each.pinned
            assert not each.busy
            assert ordered or each.stays_until_s <= 50
            assert sum(r.mib for r in stay) + each.mib + needed > budget - 1e-3, "it left in vain"


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0.01, 3.0)), min_size=1, max_size=120))
def test_models_in_turn_never_pass_the_budget_nor_spend_the_node_on_loading(asked: list[tuple[int, float]]):
    """Any sequence of wishes: loading takes at most a twentieth of the time, and the first loads."""
    sizes, loads, budget = [60.0, 50.0, 45.0, 80.0, 20.0], [1.0, 2.0, 0.2, 4.0, 0.1], 100.0
    loaded: dict[int, Resident] = {}
    now, age, spent = 0.0, 0.0, 0.0
    for which, pause in asked:
        now += pause
        if which in loaded:
            used = age + load_worth(loads[which], sizes[which])
            loaded[which] = Resident(
                id=str(which), mib=sizes[which], worth=used, used_s=now, stays_until_s=loaded[which].stays_until_s
            )
            continue
        found = make_room(sizes[which], list(loaded.values()), budget_mib=budget, age=age, now_s=now)
        if isinstance(found, NoRoom):
            assert found.retry_s is not None
            continue
        for name in found.leave:
            del loaded[int(name)]
        age = found.age
        now += loads[which]
        spent += loads[which]
        worth = age + load_worth(loads[which], sizes[which])
        until = stays_until(now, loads[which])
        loaded[which] = Resident(id=str(which), mib=sizes[which], worth=worth, used_s=now, stays_until_s=until)
        assert sum(r.mib for r in loaded.values()) <= budget + 1e-6
    assert spent <= sum(loads) + now / RESIDENCE_LOADS * 2


def test_two_that_take_turns_do_not_thrash():
    now, age, reloads = 0.0, 0.0, 0
    here: Resident | None = None
    for turn in range(2_000):
        now += 0.05
        name = "ab"[turn % 2]
        if here is not None and here.id == name:
            continue
        found = make_room(80, [] if here is None else [here], budget_mib=100, age=age, now_s=now)
        if isinstance(found, Room):
            now += 0.5
            reloads += 1
            age = found.age
            here = of(name, 80, age + load_worth(0.5, 80), used_s=now, stays_until_s=stays_until(now, 0.5))
    assert 2 <= reloads <= 12


def test_what_is_unused_leaves_in_the_end_however_dear_it_was():
    dear = of("dear", 50, load_worth(30.0, 50), used_s=0.0)
    age, now = 0.0, 100.0
    for _ in range(200):
        now += 100
        residents = [dear, of("x", 50, age + load_worth(1.0, 50), used_s=now)]
        found = make_room(50, residents, budget_mib=100, age=age, now_s=now)
        assert isinstance(found, Room)
        age = found.age
        if "dear" in found.leave:
            return
    raise AssertionError("it stays for ever")
