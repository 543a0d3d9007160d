"""How a virtual cabinet behaves: its meters agree, it settles, it never counts backwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.cabinet.plant import COOLING, FEED, IT, UNITS, UPS_IN, UPS_OUT, Plant, fresh, step
from nearhall.cabinet.settings import Room, Server, Settings, Ups
from nearhall.core.errors import InputError
from nearhall.documents.hardware import load_catalogue

DEFAULT = load_catalogue().system(load_catalogue().default)
SERVER = Server(
    id=DEFAULT.id, idle_w=DEFAULT.idle_w, busy_w=DEFAULT.busy_w, power_factor=DEFAULT.power_factor, source=DEFAULT.source
)
SETTINGS = Settings(site="shop-01", port=0, follow=(), server=SERVER, state_file=str(Path("cabinet.json")), host_cores=2)


def _run(plant: Plant, *, load: float, seconds: float, settings: Settings = SETTINGS) -> Plant:
    for _ in range(round(seconds / settings.step_s)):
        plant = step(plant, settings, load=load, seconds=settings.step_s)
    return plant


def test_idle_and_busy_are_the_catalogues():
    assert _run(fresh(SETTINGS), load=0.0, seconds=1).power_w[IT] == DEFAULT.idle_w
    assert _run(fresh(SETTINGS), load=1.0, seconds=1).power_w[IT] == DEFAULT.busy_w
    assert _run(fresh(SETTINGS), load=7.0, seconds=1).power_w[IT] == DEFAULT.busy_w


def test_a_fresh_cabinet_is_steady():
    plant = fresh(SETTINGS)
    later = _run(plant, load=0.0, seconds=600)
    assert later.inlet_c == pytest.approx(plant.inlet_c, abs=1e-6)
    assert later.power_w == pytest.approx(plant.power_w)
    assert plant.energy_kwh == dict.fromkeys(UNITS, 0.0)


def test_work_warms_the_cabinet_and_cooling_settles_it():
    plant = fresh(SETTINGS)
    warm = _run(plant, load=1.0, seconds=3600)
    assert plant.inlet_c + 0.5 < warm.inlet_c < 27.0, "within ASHRAE's recommended range"
    assert warm.outlet_c > warm.inlet_c
    assert _run(warm, load=1.0, seconds=60).inlet_c == pytest.approx(warm.inlet_c, abs=1e-3)


def test_without_cooling_heat_eats_the_thermal_mass():
    bare = replace(
        SETTINGS, cooling=replace(SETTINGS.cooling, capacity_w=0.0), room=replace(SETTINGS.room, conductance_w_per_k=0.0)
    )
    plant = fresh(bare)
    minute = _run(plant, load=1.0, seconds=60, settings=bare)
    heat_w = DEFAULT.busy_w + 0.04 * 800 + 0.05 * DEFAULT.busy_w
    assert minute.inlet_c - plant.inlet_c == pytest.approx(heat_w * 60 / 100_000, rel=1e-6)


def test_cooling_works_harder_on_a_hot_day():
    hot = replace(SETTINGS, room=Room(outdoor_c=38.0))
    assert fresh(hot).power_w[COOLING] > fresh(SETTINGS).power_w[COOLING]


def test_a_long_pause_is_taken_in_short_steps():
    leap = step(fresh(SETTINGS), SETTINGS, load=1.0, seconds=36_000.0)
    settled = _run(fresh(SETTINGS), load=1.0, seconds=7200)
    assert leap.inlet_c == pytest.approx(settled.inlet_c, abs=0.01)
    assert leap.energy_kwh[IT] == pytest.approx(DEFAULT.busy_w * 10 / 1000)


@given(
    loads=st.lists(st.tuples(st.floats(0, 1.5), st.floats(0, 30)), max_size=20),
    rating=st.floats(100, 10_000),
    outdoor=st.floats(-20, 45),
)
def test_meters_agree_and_never_count_backwards(loads: list[tuple[float, float]], rating: float, outdoor: float):
    settings = replace(SETTINGS, ups=Ups(rating_w=rating), room=Room(outdoor_c=outdoor))
    plant = fresh(settings)
    for load, seconds in loads:
        before = plant.energy_kwh
        plant = step(plant, settings, load=load, seconds=seconds)
        assert all(plant.energy_kwh[unit] >= before[unit] for unit in UNITS)
    watts, energy = plant.power_w, plant.energy_kwh
    for books in (watts, energy):
        assert books[FEED] == pytest.approx(books[UPS_IN] + books[COOLING], rel=1e-9, abs=1e-12)
        assert books[UPS_IN] >= books[UPS_OUT] >= books[IT] >= 0
    assert watts[UPS_IN] - watts[UPS_OUT] == pytest.approx(0.04 * rating + 0.05 * watts[UPS_OUT])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"port": -1}, "port is -1"),
        ({"host_cores": 0}, "host_cores is 0"),
        ({"step_s": 0.0}, "step_s is 0"),
        ({"step_s": 60.0}, "at most 10"),
        ({"server": replace(SERVER, busy_w=10.0)}, "busy_w above idle_w"),
        ({"ups": Ups(power_factor=0.0)}, "power factor"),
        ({"scale_error": {"10": 1.1}}, "unit '10'"),
        ({"scale_error": {"4": 0.0}}, "unit 4 is 0"),
        ({"scale_error": {"4": float("nan")}}, "unit 4 is nan"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, object], said: str):
    with pytest.raises(InputError, match=said):
        replace(SETTINGS, **change)  # type: ignore[arg-type]
    assert replace(SETTINGS, scale_error={"4": 1.1}).scale_error == {"4": 1.1}
