"""Do the meters agree? A lying one is noticed wherever it is, an honest site is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.physics.balance import Balance, MeteredEnergy, energy_balance
from nearhall.physics.electrical import ups_loss_w

POSITIONS = ("feed", "ups_in", "ups_out", "it", "cooling")
RATING_W = 800.0


def _site(it_w: float = 285.0, *, hours: float = 1.0, other_w: float = 0.0) -> dict[str, float]:
    loss_w = ups_loss_w(rating_w=RATING_W, load_w=it_w)
    cooling_w = (it_w + loss_w) / 3.78 + 25.0
    watts = {
        "feed": it_w + loss_w + cooling_w + other_w,
        "ups_in": it_w + loss_w,
        "ups_out": it_w,
        "it": it_w,
        "cooling": cooling_w,
        "other": other_w,
    }
    return {position: power * hours / 1000.0 for position, power in watts.items() if power}


def _balance(site: dict[str, float], *, class_percent: float | None = 1.0, loss_known: bool = True) -> Balance:
    loss = site["ups_in"] - site["ups_out"] if "ups_in" in site and "ups_out" in site else None
    return energy_balance(_metered(site, class_percent), expected_ups_loss_kwh=loss if loss_known else None)


def _metered(site: dict[str, float], class_percent: float | None = 1.0) -> dict[str, MeteredEnergy]:
    return {position: MeteredEnergy(kwh=kwh, class_percent=class_percent) for position, kwh in site.items()}


def _lying(site: dict[str, float], position: str, factor: float) -> dict[str, float]:
    return {**site, position: site[position] * factor}


def _expected_loss(site: dict[str, float], hours: float = 1.0) -> float:
    """What the hub expects: from the UPS's rating and what its output meter says."""
    return ups_loss_w(rating_w=RATING_W, load_w=site["ups_out"] * 1000.0 / hours) * hours / 1000.0


def test_an_honest_site_closes():
    balance = _balance(_site())
    assert balance.closes is True
    assert balance.findings == ()
    assert balance.closure_percent == pytest.approx(0.0, abs=1e-9)
    assert balance.tolerance_percent is not None
    assert 1.0 < balance.tolerance_percent < 2.0


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("it_w", [190.0, 285.0, 390.0], ids=["idle", "half", "busy"])
def test_a_tenth_too_much_or_too_little_is_noticed_at_any_position(it_w: float, position: str, factor: float):
    site = _lying(_site(it_w), position, factor)
    balance = energy_balance(_metered(site), expected_ups_loss_kwh=_expected_loss(site))
    assert balance.closes is False
    assert any(position in finding for finding in balance.findings), balance.findings
    suspected = [finding for finding in balance.findings if finding.startswith("suspected")]
    assert suspected, balance.findings
    assert position in suspected[0].replace("position ", "")


@pytest.mark.parametrize("position", POSITIONS)
def test_it_is_noticed_without_knowing_the_ups_too(position: str):
    assert _balance(_lying(_site(), position, 1.1), loss_known=False).closes is False


@given(
    it_w=st.floats(50, 700),
    other_w=st.floats(0, 500),
    errors=st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6),
)
def test_errors_well_within_the_classes_are_no_findings(it_w: float, other_w: float, errors: list[float]):
    site = _site(it_w, other_w=other_w)
    read = {position: kwh * (1 + error / 100.0) for (position, kwh), error in zip(site.items(), errors, strict=False)}
    assert energy_balance(_metered(read)).closes is True


@pytest.mark.parametrize(
    "missing",
    [("cooling",), ("ups_in",), ("feed",), ("feed", "cooling"), ("it",), ("ups_out",)],
    ids="+".join,
)
def test_a_missing_meter_leaves_what_can_still_be_compared(missing: tuple[str, ...]):
    site = {position: kwh for position, kwh in _site().items() if position not in missing}
    balance = _balance(site)
    assert balance.closes is True
    needed = {"feed", "ups_in", "cooling"}
    assert (balance.closure_percent is None) == bool(needed & set(missing))


def test_nothing_to_compare_is_not_a_pass():
    for site in ({}, {"feed": 1.0}, {"feed": 1.0, "it": 0.5}):
        assert energy_balance(_metered(site)) == Balance(closure_percent=None, tolerance_percent=None, closes=None, findings=())


def test_too_little_energy_is_not_compared():
    site = {position: kwh * 1e-9 for position, kwh in _lying(_site(), "it", 2.0).items()}
    assert _balance(site).closes is None


def test_a_ups_that_gives_more_than_it_takes_is_named():
    balance = energy_balance(_metered({"ups_in": 1.0, "ups_out": 1.2}))
    assert "gives out less than it takes" in balance.findings[0]
    assert "ups_in or ups_out" in balance.findings[-1]


def test_a_ups_that_loses_more_than_any_is_named():
    balance = energy_balance(_metered({"ups_in": 1.0, "ups_out": 0.3}))
    assert "more than a UPS loses" in balance.findings[0]


def test_an_unknown_class_widens_the_tolerance():
    known, unknown = _balance(_site()), _balance(_site(), class_percent=None)
    assert known.tolerance_percent is not None
    assert unknown.tolerance_percent == pytest.approx(2 * known.tolerance_percent, rel=0.05)
