"""Who stays in memory: never over the budget, nobody at work or pinned leaves, and two that take turns do not thrash."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.memory import (
    DEVICE_RESERVE_MIB,
    RESIDENCE_LOADS,
    RESIDENCE_S_MIN,
    NoRoom,
    Resident,
    Room,
    Rooms,
    Shelf,
    device_budget_mib,
    load_worth,
    make_room,
    make_rooms,
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


places = st.sampled_from(["", "cuda:0", "cuda:1"])
Holders = dict[str, tuple[dict[str, tuple[float, float]], bool, bool, float]]
holders = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.tuples(st.dictionaries(places, st.tuples(st.floats(0, 200), st.floats(0, 5))), flags, flags, st.floats(0, 100)),
)


def shelves_of(held: Holders, budgets: dict[str, float], ages: dict[str, float]) -> dict[str, Shelf]:
    return {
        place: Shelf(
            budget_mib=budget,
            age=ages.get(place, 0.0),
            residents=[
                Resident(id=name, mib=mib, worth=worth, pinned=pinned, busy=busy, stays_until_s=stays)
                for name, (holds, pinned, busy, stays) in held.items()
                for mib, worth in (holds[at] for at in holds if at == place)
            ],
        )
        for place, budget in budgets.items()
    }


@given(
    st.dictionaries(places, st.floats(0.1, 500), min_size=1),
    holders,
    st.dictionaries(places, st.floats(1, 600), min_size=1),
    st.dictionaries(places, st.floats(0, 5)),
    flags,
)
def test_no_memory_is_passed_and_nobody_leaves_one_in_vain(
    needed: dict[str, float], held: Holders, budgets: dict[str, float], ages: dict[str, float], ordered: bool
):
    shelves = shelves_of(held, budgets, ages)
    asked = [place for place in needed if place in shelves]
    found = make_rooms(needed, shelves, now_s=50, ordered=ordered)

    def would_leave(each: Resident) -> bool:
        return not each.pinned and not each.busy and (ordered or each.stays_until_s <= 50)

    def over(place: str, gone: set[str]) -> float:
        shelf = shelves[place]
        return sum(r.mib for r in shelf.residents if r.id not in gone) + needed[place] - shelf.budget_mib

    everybody = {r.id for shelf in shelves.values() for r in shelf.residents if would_leave(r)}
    if isinstance(found, NoRoom):
        assert found.place in asked
        assert over(found.place, everybody) > -1e-3, "it would have fitted"
        return
    leave = set(found.leave)
    assert leave <= everybody
    for place in asked:
        assert over(place, leave) <= 1e-3
        assert found.ages[place] >= ages.get(place, 0.0)
    for name in leave:
        others = leave - {name}
        assert any(over(place, others) > -1e-3 for place in asked), "it left in vain"


@given(st.floats(0, 500), shelves, st.floats(1, 600), st.floats(0, 5), flags)
def test_of_one_memory_alone_it_is_the_same_policy(needed: float, said: Said, budget: float, age: float, ordered: bool):
    residents = shelf(said)
    alone = make_room(needed, residents, budget_mib=budget, age=age, now_s=50, ordered=ordered)
    found = make_rooms({"": needed}, {"": Shelf(budget_mib=budget, residents=residents, age=age)}, now_s=50, ordered=ordered)
    if isinstance(alone, NoRoom):
        assert found == alone
    else:
        assert isinstance(found, Rooms)
        assert set(found.leave) <= set(alone.leave)
        assert sum(r.mib for r in residents if r.id in alone.leave and r.id not in found.leave) <= 1e-3


def test_who_leaves_a_device_leaves_main_memory_too_and_nobody_else_needs_to():
    both = [of("gpu", 30, 0.1), of("cpu", 60, 0.05)]
    shelves = {
        "": Shelf(budget_mib=100, residents=both),
        "cuda:0": Shelf(budget_mib=1000, residents=[of("gpu", 900, 0.2)], age=0.1),
    }
    found = make_rooms({"": 30, "cuda:0": 500}, shelves, now_s=0)
    assert found == Rooms(leave=("gpu",), ages={"": 0.1, "cuda:0": 0.2})


def test_who_was_to_leave_for_little_stays_where_another_one_leaves_for_much():
    shelves = {
        "": Shelf(budget_mib=100, residents=[of("small", 20, 0.1), of("large", 80, 0.5)]),
        "cuda:0": Shelf(budget_mib=1000, residents=[of("large", 900, 0.3)]),
    }
    assert make_rooms({"": 15}, shelves, now_s=0) == Rooms(leave=("small",), ages={"": 0.1})
    found = make_rooms({"": 15, "cuda:0": 110}, shelves, now_s=0)
    assert found == Rooms(leave=("large",), ages={"": 0.5, "cuda:0": 0.3})


def test_a_memory_that_nobody_counts_is_in_nobodys_way_and_one_that_is_full_is_named():
    assert make_rooms({"cuda:3": 1e9}, {}, now_s=0) == Rooms()
    shelves = {"cuda:0": Shelf(budget_mib=100, residents=[of("face", 30, pinned=True), of("door", 20, busy=True)])}
    assert make_rooms({"cuda:0": 80}, shelves, now_s=0) == NoRoom(
        why="needs 80 MiB of cuda:0; the budget for models there is 100 MiB, of which pinned models hold 30 MiB",
        retry_s=None,
        place="cuda:0",
    )
    now = make_rooms({"cuda:0": 60}, shelves, now_s=0)
    assert isinstance(now, NoRoom)
    assert (now.retry_s, now.place) == (1.0, "cuda:0")
    assert "what else is loaded there is at work" in now.why


def test_a_devices_budget_leaves_what_others_hold_and_a_reserve():
    assert device_budget_mib(16384, 2000) == 16384 - 2000 - DEVICE_RESERVE_MIB
    assert device_budget_mib(1000, 500) == 0.0


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
