"""What comes with the mains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.planner.grid.restart import Restart, backlog_s, pickup

SITE = Restart(
    count=100, normal_w=150.0, boot_w=250.0, boot_s=120.0, busy_w=220.0, backlog_s=600.0, recharge_w=100.0, recharge_wh=50.0
)


def test_a_fleet_boots_then_works_off_what_waited_then_is_as_before():
    back = pickup([SITE], minutes=120)
    assert back.w[0] == 100 * (250 + 100)
    assert back.peak_w == back.w[0]
    assert back.w[5] == pytest.approx(100 * (220 + 100))
    assert back.w[-1] == pytest.approx(back.normal_w, rel=1e-3)
    assert back.ratio == pytest.approx(350 / 150)
    assert back.minutes.tolist() == list(range(120))


def test_a_battery_takes_back_what_it_gave():
    alone = Restart(count=1, normal_w=0.0, boot_w=0.0, boot_s=0.0, busy_w=0.0, recharge_w=100.0, recharge_wh=50.0)
    back = pickup([alone], minutes=600)
    assert back.w.sum() / 60 == pytest.approx(50.0, rel=0.03)
    assert back.w.max() == 100.0
    assert back.ratio == np.inf


def test_a_spread_restart_brings_the_peak_down_and_starts_from_nothing():
    at_once, spread = pickup([SITE]), pickup([SITE], spread_min=30.0)
    assert spread.peak_w < 0.9 * at_once.peak_w
    assert spread.w[0] < 0.05 * at_once.w[0]
    assert spread.w[-1] == pytest.approx(spread.normal_w, rel=1e-3)
    energy = [float(np.sum(back.w - back.normal_w)) for back in (at_once, spread)]
    assert energy[1] == pytest.approx(energy[0] - 30 * at_once.normal_w / 2, rel=0.1), "what waits in the dark draws nothing"


@given(spread=st.floats(0, 60), more=st.floats(0, 60), boot_s=st.floats(0, 600), backlog=st.floats(0, 3000))
def test_a_wider_spread_never_has_a_higher_peak_and_order_changes_nothing(
    spread: float, more: float, boot_s: float, backlog: float
):
    kinds = [
        Restart(
            count=10,
            normal_w=100.0,
            boot_w=180.0,
            boot_s=boot_s,
            busy_w=150.0,
            backlog_s=backlog,
            recharge_w=50.0,
            recharge_wh=20.0,
        ),
        SITE,
    ]
    less, wider = (pickup(kinds, minutes=200, spread_min=minutes) for minutes in (spread, spread + more))
    assert wider.peak_w <= less.peak_w * (1 + 1e-9)
    assert np.allclose(less.w, pickup(kinds[::-1], minutes=200, spread_min=spread).w)


def test_what_waits_takes_longer_to_work_off_the_busier_the_servers_are():
    assert backlog_s(outage_s=600.0, load=0.5) == 600.0
    assert backlog_s(outage_s=600.0, load=0.8, kept_share=0.1) == pytest.approx(240.0)
    assert backlog_s(outage_s=600.0, load=0.8, kept_share=0.0) == 0.0
    assert backlog_s(outage_s=600.0, load=1.0) == float("inf")


@pytest.mark.parametrize("said", [{"minutes": 0}, {"minutes": 20_000}, {"spread_min": -1.0}], ids=str)
def test_impossible_times_are_refused(said: dict[str, float]):
    with pytest.raises(InputError, match="restart"):
        pickup([SITE], **said)  # type: ignore[arg-type]
    assert pickup([], minutes=1).w.tolist() == [0.0]
