"""What leaves a cloud, against published tiers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.core.evidence import Evidence, Kind
from nearhall.planner.money.egress import AWS, AZURE, FREE_GB, Tiers, egress_usd, mean_usd_per_gb, tiers_named
from planner.planned import made, small

EVIDENCE = Evidence(kind=Kind.ASSUMED, source="test")
SOUTH = {"    slo: {p99_ms: 400}": "    sites: [south]\n    slo: {p99_ms: 400}"}


@pytest.mark.parametrize(("provider", "usd"), [("aws", 900.0), ("azure", 870.0), ("none", 0.0)])
def test_case_26_ten_terabytes(provider: str, usd: float):
    assert egress_usd(10_000.0, tiers_named(provider)) == pytest.approx(usd, abs=1e-9)


def test_case_26_the_first_hundred_gigabytes_free_take_nine_dollars_off():
    assert egress_usd(10_000.0, AWS, free_gb=FREE_GB) == pytest.approx(900.0 - 9.0, abs=1e-9)
    assert egress_usd(80.0, AWS, free_gb=FREE_GB) == 0.0


def test_each_gigabyte_has_its_own_tiers_price():
    volumes = np.array([50_000.0, 150_000.0, 151_000.0])
    assert egress_usd(volumes, AWS).tolist() == pytest.approx([4300.0, 11_300.0, 11_350.0])


@given(gb=st.floats(0, 1e6), more=st.floats(0, 1e6), free=st.floats(0, 1000))
def test_more_bytes_are_never_cheaper(gb: float, more: float, free: float):
    for tiers in (AWS, AZURE):
        assert egress_usd(gb + more, tiers, free_gb=free) >= egress_usd(gb, tiers, free_gb=free) - 1e-9


def test_google_has_no_tiers_here_but_a_plan_may_bring_them():
    with pytest.raises(InputError, match="tiers of your own"):
        tiers_named("gcp")
    own = Tiers(provider="gcp", upto_gb=(1000.0, float("inf")), usd_per_gb=(0.12, 0.11), evidence=EVIDENCE)
    assert egress_usd(2000.0, own) == pytest.approx(230.0)


@pytest.mark.parametrize(
    ("upto", "prices"),
    [
        ((1.0,), (0.1,)),
        ((5.0, 3.0, float("inf")), (1.0, 1.0, 1.0)),
        ((float("inf"),), (0.1, 0.2)),
        ((float("inf"),), (-0.1,)),
        ((), ()),
    ],
)
def test_tiers_with_holes_are_refused(upto: tuple[float, ...], prices: tuple[float, ...]):
    with pytest.raises(InputError, match="hole"):
        Tiers(provider="own", upto_gb=upto, usd_per_gb=prices, evidence=EVIDENCE)


def test_every_price_says_where_it_comes_from():
    for tiers in (AWS, AZURE):
        assert tiers.evidence.source
        assert tiers.evidence.date


@given(gb=st.lists(st.floats(0, 1e6), min_size=1, max_size=4))
def test_parts_of_one_bill_add_up_to_it(gb: list[float]):
    price = mean_usd_per_gb(sum(gb), AWS)
    assert sum(part * float(price) for part in gb) == pytest.approx(float(egress_usd(sum(gb), AWS)))
    assert AWS.usd_per_gb[-1] <= float(price) <= AWS.usd_per_gb[0] + 1e-12


def test_the_fleet_has_one_bill_and_a_site_without_the_workload_adds_nothing_to_it():
    """Answers of 300 kB: all workloads of all sites climb the tiers together."""
    text = {"out_kb: 1}": "out_kb: 300}", "  - id: north\n": "  - id: north\n    count: 30\n"}
    everywhere, only_south = made(small("any", **text)), made(small("any", **text, **SOUTH))
    volumes: list[float] = []
    for planned in (everywhere, only_south):
        volume = np.sum([s.answers_gb_per_month * s.point.site.count for s in planned.served if s.hub.allowed], axis=0)
        billed = sum(site.accounts.hub.egress_usd * site.site.count for site in planned.sites)
        assert billed == pytest.approx(egress_usd(volume, AWS) * 12)
        volumes.append(float(np.median(volume)))
    assert volumes[0] == pytest.approx(31 * volumes[1])
    south = [next(s for s in p.sites if s.site.id == "south").accounts.hub.egress_usd for p in (everywhere, only_south)]
    assert np.all(south[0] < south[1]), "the others' bytes bring the price down"
