"""Joules shared out: no joule is lost or made, and what cannot be told is not told."""

from __future__ import annotations

from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.evidence import Kind
from nearhall.policy.energy_split import Drawn, Use, each, marginal_kind, quiet_power_w, split, with_overhead

seconds = st.floats(min_value=0.0, max_value=1e6)
joules = st.floats(min_value=0.0, max_value=1e9)
used = st.builds(Use, cpu_s=seconds, device_s=seconds, requests=st.integers(min_value=0, max_value=10**6))
uses_of = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), used, max_size=4)
drawn_by = st.builds(
    Drawn,
    seconds=st.floats(min_value=1e-3, max_value=1e6),
    it_j=st.none() | joules,
    idle_w=st.none() | st.floats(min_value=0.0, max_value=1e5),
    site_j=st.none() | joules,
    devices_j=joules,
)


@given(drawn=drawn_by, uses=uses_of)
def test_every_joule_of_the_meters_is_in_one_place(drawn: Drawn, uses: dict[str, Use]):
    found = split(drawn, uses)
    marginal = [share.marginal_j for share in found.shares.values() if share.marginal_j is not None]
    full = [share.full_j for share in found.shares.values() if share.full_j is not None]
    if drawn.it_j is not None and drawn.idle_w is not None:
        assert found.idle_j is not None
        assert found.nobodys_marginal_j is not None
        assert fsum([*marginal, found.idle_j, found.nobodys_marginal_j]) == pytest.approx(drawn.it_j, rel=1e-9, abs=1e-9)
    else:
        assert (marginal, found.idle_j, found.nobodys_marginal_j) == ([], None, None)
    if drawn.site_j is not None:
        assert found.nobodys_j is not None
        assert fsum([*full, found.nobodys_j]) == pytest.approx(drawn.site_j, rel=1e-9, abs=1e-9)
    else:
        assert (full, found.nobodys_j) == ([], None)


@given(drawn=drawn_by, uses=uses_of)
def test_no_share_is_negative_and_none_is_for_who_used_nothing(drawn: Drawn, uses: dict[str, Use]):
    for name, share in split(drawn, uses).shares.items():
        for figure in (share.marginal_j, share.full_j):
            assert figure is None or figure >= 0
        if uses[name].cpu_s + uses[name].device_s == 0:
            assert share.marginal_j in {None, 0.0}
            assert share.full_j in {None, 0.0}


@given(drawn=drawn_by, uses=uses_of)
def test_the_work_itself_is_never_more_than_the_whole(drawn: Drawn, uses: dict[str, Use]):
    if drawn.it_j is None or drawn.site_j is None or drawn.it_j > drawn.site_j:
        return  # an IT meter that says more than the feed: then one of them is wrong, and the books say so elsewhere
    for share in split(drawn, uses).shares.values():
        if share.marginal_j is not None and share.full_j is not None:
            assert share.marginal_j <= share.full_j * (1 + 1e-9) + 1e-9


@given(uses=uses_of, cpu_s=seconds)
def test_what_the_programs_around_the_models_used_is_shared_by_answers(uses: dict[str, Use], cpu_s: float):
    after = with_overhead(uses, cpu_s)
    added = fsum(use.cpu_s for use in after.values()) - fsum(use.cpu_s for use in uses.values())
    answered = any(use.requests for use in uses.values())
    assert added == pytest.approx(cpu_s if answered else 0.0, rel=1e-6, abs=1e-5)
    assert {name: use.device_s for name, use in after.items()} == {name: use.device_s for name, use in uses.items()}


def test_twice_the_cpu_time_is_twice_the_marginal_energy():
    found = split(Drawn(seconds=10, it_j=130, idle_w=10, site_j=260), {"a": Use(cpu_s=2), "b": Use(cpu_s=1)})
    assert (found.shares["a"].marginal_j, found.shares["b"].marginal_j, found.idle_j) == (20, 10, 100)
    assert found.shares["a"].full_j == pytest.approx(260 * 2 / 3)


def test_what_the_device_drew_goes_to_who_held_it():
    drawn = Drawn(seconds=10, it_j=1100, idle_w=10, site_j=2000, devices_j=900)
    found = split(drawn, {"on cpu": Use(cpu_s=3), "on device": Use(cpu_s=1, device_s=5)})
    assert (found.shares["on cpu"].marginal_j, found.shares["on device"].marginal_j) == (75, 925)
    assert found.shares["on device"].full_j == pytest.approx(2000 * 0.925)


def test_a_device_that_was_not_metered_apart_shares_by_time():
    found = split(Drawn(seconds=10, it_j=200, idle_w=10), {"on cpu": Use(cpu_s=1), "on device": Use(cpu_s=0, device_s=3)})
    assert (found.shares["on cpu"].marginal_j, found.shares["on device"].marginal_j) == (25, 75)


def test_a_device_that_others_used_is_shared_as_the_rest():
    found = split(Drawn(seconds=10, it_j=200, idle_w=10, devices_j=50), {"a": Use(cpu_s=1), "b": Use(cpu_s=3)})
    assert (found.shares["a"].marginal_j, found.shares["b"].marginal_j) == (25, 75)


def test_without_idle_power_the_whole_is_still_shared_by_use():
    found = split(Drawn(seconds=10, it_j=130, site_j=200), {"a": Use(cpu_s=3), "b": Use(cpu_s=1)})
    assert (found.shares["a"].marginal_j, found.shares["a"].full_j) == (None, 150)


def test_a_site_that_did_nothing_is_nobodys():
    found = split(Drawn(seconds=10, it_j=130, idle_w=10, site_j=200), {"a": Use(cpu_s=0)})
    assert (found.nobodys_marginal_j, found.nobodys_j) == (30, 200)
    assert (found.shares["a"].marginal_j, found.shares["a"].full_j) == (0, None)


@pytest.mark.parametrize(("joules", "requests", "expected"), [(10.0, 4, 2.5), (10.0, 0, None), (None, 4, None), (0.0, 4, 0.0)])
def test_for_each_request_or_not_at_all(joules: float | None, requests: int, expected: float | None):
    assert each(joules, requests) == expected


@pytest.mark.parametrize(
    ("meter", "idle", "models", "kind"),
    [
        (Kind.MEASURED, Kind.MEASURED, 1, Kind.MEASURED),
        (Kind.MEASURED, Kind.VENDOR, 1, Kind.VENDOR),
        (Kind.SIMULATED, Kind.VENDOR, 1, Kind.SIMULATED),
        (Kind.MEASURED, Kind.MEASURED, 2, Kind.ASSUMED),
    ],
)
def test_a_share_is_as_weak_as_what_it_rests_on(meter: Kind, idle: Kind, models: int, kind: Kind):
    assert marginal_kind(meter, idle, models) is kind


@pytest.mark.parametrize(
    ("windows", "watts"),
    [([], None), ([(50.0, 0.5)], None), ([(50.0, 0.5), (20.0, 0.01), (22.0, 0.0)], 21.0)],
)
def test_idle_power_is_what_quiet_windows_draw(windows: list[tuple[float, float]], watts: float | None):
    assert quiet_power_w(windows) == watts
