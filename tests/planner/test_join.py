"""Which metered sites speak for which kind of site, and what must not be counted at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.documents.site_returns import SiteReturns
from nearhall.planner.learning.join import PlannedKind, check_distinct, joined
from planner.metered_site import WATTS, meters, site

SHOP = PlannedKind(id="shop", site_class="micro", built=True)
BIG = PlannedKind(id="shop-big", site_class="micro", built=True)
KIOSK = PlannedKind(id="kiosk", site_class="device", built=False)


def metered(name: str, scale: float = 1.0, **changes: object) -> SiteReturns:
    return site(name, blocks=8, watts=lambda _: {k: w * scale for k, w in WATTS.items()}, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "belongs"),
    [("shop", ["shop"]), ("shop-7", ["shop"]), ("shop-big-1", ["shop-big"]), ("shopping", ["shop", "shop-big"])],
)
def test_a_site_is_of_the_kind_it_is_named_after_else_of_all_of_its_class(name: str, belongs: list[str]):
    found = joined([SHOP, BIG, KIOSK], [metered(name)])
    assert [kind for kind, sites in found.by_kind.items() if sites] == belongs
    assert not found.left
    assert bool(found.notes) is (len(belongs) > 1)


def test_where_one_kind_of_the_class_is_built_no_name_is_needed():
    found = joined([SHOP, KIOSK], [metered("berlin")])
    assert [one.id for one in found.by_kind["shop"]] == ["berlin"]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (metered("x", site_class="regional"), "the plan builds no site of class regional; it builds shop (class micro)"),
        (metered("kiosk-3", site_class="device"), "the plan builds no kiosk"),
        (metered("shop-1", site_class="device"), "it is of class device, the plan's shop of class micro: give both the same"),
    ],
)
def test_what_belongs_to_nothing_that_is_built_is_told(one: SiteReturns, why: str):
    found = joined([SHOP, KIOSK], [one])
    assert found.left == ((one, why),)
    assert found.by_kind == {"shop": ()}


@given(order=st.permutations([SHOP, BIG, KIOSK]), names=st.permutations(["shop-1", "shop-big-1", "berlin"]))
def test_the_order_of_kinds_and_sites_changes_nothing(order: list[PlannedKind], names: list[str]):
    returns = {name: metered(name) for name in sorted(names)}
    one = joined([SHOP, BIG, KIOSK], list(returns.values()))
    other = joined(order, [returns[name] for name in names])
    assert {k: {s.id for s in v} for k, v in one.by_kind.items()} == {k: {s.id for s in v} for k, v in other.by_kind.items()}
    assert list(one.by_kind) == list(other.by_kind)


def test_one_sites_readings_under_two_names_are_refused_and_two_sites_are_not():
    check_distinct([metered("a"), metered("b", 1.1)])
    with pytest.raises(InputError, match="hold the same meter readings"):
        check_distinct([metered("a"), metered("b")])
    virtual = [replace(metered(name), meters=meters(Kind.SIMULATED)) for name in "ab"]
    check_distinct(virtual)


def test_one_meter_stands_at_one_site_at_a_time():
    numbered = tuple(replace(meter, serial=f"N-{meter.id}") for meter in meters())
    one, other = metered("a", meters=numbered), metered("b", 1.1, meters=numbered)
    with pytest.raises(InputError, match="meter N-cooling stands at two sites at once: a"):
        check_distinct([one, other])
    moved = replace(other, start_s=one.end_s, end_s=one.end_s + 7200.0)
    check_distinct([one, moved])


def test_a_period_is_told_once_whatever_it_is_read_from():
    one = metered("a")
    with pytest.raises(InputError, match="told twice over overlapping periods"):
        check_distinct([one, replace(metered("a", 1.1), origin="http://monitor:9090")])
    check_distinct([one, replace(one, start_s=one.end_s, end_s=one.end_s + 7200.0)])
