"""What a phone call settles and what a pilot does, and in which order."""

from __future__ import annotations

import numpy as np
import pytest

from nearhall.planner.results.plan import result_document
from nearhall.planner.results.settles import asks_first, order_words, settled
from nearhall.planner.sensitivity.measurements import HOW, Measurement
from nearhall.planner.sensitivity.worth import conditional_mean, evppi_usd
from planner.planned import example, made, small


def m(what: str, *, days: float, usd: float, share: float) -> Measurement:
    return Measurement(what=what, words="", inputs=("x",), days=days, usd=usd, share=share)


DESK = m("ask the service desk", days=2, usd=900.0, share=0.5)
METER = m("meter IT power", days=7, usd=600.0, share=0.3)
TRIFLE = m("read the bill", days=1, usd=1.0, share=0.001)


def test_what_is_worth_more_a_day_comes_first_and_trifles_are_not_named():
    order = settled([DESK, METER, TRIFLE])
    assert [one.by for one in order] == ["desk", "pilot"]
    assert order[0].what == ("ask the service desk",)
    assert order[0].days == 2
    assert order[0].share == pytest.approx(0.501)
    words = order_words(order)
    assert words.startswith("Ask first (2 days at a desk): the service desk.")
    assert "explains 50\u00a0%" in words
    assert "what a pilot measures explains 30\u00a0%" in words


def test_a_pilot_comes_first_where_it_settles_more():
    order = settled([METER, DESK])
    assert not asks_first(order)
    assert order_words(order).startswith("A pilot settles most: meter IT power. What it measures explains 30\u00a0%")
    assert order_words(settled([METER])).endswith("return.")


def test_where_nothing_is_left_to_find_out_nothing_is_said():
    assert settled([]) == ()
    assert order_words(()) == ""
    assert not asks_first(settled([m("read the bill", days=1, usd=0.0, share=0.0)]))
    assert order_words(settled([DESK])).count("a pilot measures none of it") == 1


def test_every_way_of_measuring_is_at_a_desk_or_a_pilot_s():
    desk = {what for _, what, _, _ in HOW if m(what, days=1, usd=0, share=0).at_a_desk}
    assert desk == {
        "ask what the answers are worth",
        "ask the hub",
        "ask for a quote",
        "ask the service desk",
        "read the bill",
        "read the contract",
    }


def test_knowing_two_inputs_is_worth_at_least_what_knowing_one_is():
    random = np.random.default_rng(1)
    x, y = random.standard_normal((2, 4000))
    returns = x + y + 0.5
    assert evppi_usd(returns, x, y) > evppi_usd(returns, x) > 0
    assert np.var(conditional_mean(returns, x, y)) == pytest.approx(2.0, rel=0.05)
    assert evppi_usd(returns, np.ones(4000)) == 0.0


def test_the_retail_chain_asks_before_it_pilots_and_its_shares_are_the_tornado_s():
    found = result_document(example("retail"), software="test")
    assert found["verdict"]["sentence"].startswith("Ask first, ")
    assert found["verdict"]["settles"][0]["by"] == "desk"
    shares = {bar["name"]: bar["share"] for bar in found["money"]["tornado"]}
    worth = next(step for step in found["next"] if step["what"] == "ask what the answers are worth")
    assert worth["share"] == pytest.approx(sum(share for name, share in shares.items() if name.endswith(".value")))
    assert worth["usd"] > 0.02 * found["money"]["capex"]["p50"], "the longest bar of the picture is worth asking for"


def test_what_no_hub_may_answer_is_told_with_its_worth_and_who_says_so():
    told = result_document(example("retail"), software="test")["verdict"]["reasons"][0]
    assert "nobody" not in told
    assert "No hub may answer crowds and visitors (their data may not leave the site)" in told
    assert (
        "The plan values visitors at $2,100 a year to each site (what a counting service at the door costs a shop now)." in told
    )
    silent = result_document(made(small("site")), software="test")["money"]["without"]
    assert "What cams would add is not said." in silent


def test_a_hub_that_is_too_late_is_told_in_a_few_words_and_the_details_with_each_workload():
    found = result_document(example("factory"), software="test")
    assert "No hub can answer inspection (answers would come too late): without a site" in found["verdict"]["reasons"][0]
    assert "an answer would come after up to" in found["workloads"][0]["placed"][0]["why"]


def test_the_staged_case_comes_before_all_at_once_and_says_how_often_money_never_comes_back():
    money = result_document(example("retail"), software="test")["money"]
    staged, all_of_it = money["rollout"][-2:]
    assert staged["phase"] == "pilot, then the rest if it is good"
    assert 0 < staged["p_stop"] < 1
    assert staged["npv"]["p10"] > all_of_it["npv"]["p10"]
    assert money["payback_years"]["never"] == pytest.approx(1 - money["p_npv_positive"], abs=0.02)


def test_a_share_beside_what_is_asked_shows_on_which_side_it_lies():
    for name in ("retail", "factory", "pilot"):
        for kind in result_document(example(name), software="test")["verdict"]["by_kind"]:
            least = 0.8
            if kind["verdict"] in {"pilot", "open"}:
                told = float(kind["words"].split("pays in ")[1].split("\u00a0")[0].strip("<> "))
                assert (told >= 100 * least) is (kind["p_npv_positive"] >= least), kind["words"]
