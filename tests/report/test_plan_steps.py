"""What is signed: one amount, told alike wherever it stands; what waits apart; and whom to ask."""

from __future__ import annotations

from typing import Any

from nearhall.report.evidence_marks import in_text
from nearhall.report.plan import losses, money, open_checks, steps
from nearhall.report.plan.page import plan_words, render_plan
from nearhall.report.plan.tables import next_steps
from nearhall.report.result_reader import ResultReader
from report.html_texts import Page
from report.plan_result_sample import plan_result


def waiting() -> dict[str, Any]:
    """The sample, whose large shops wait for what a desk is asked first."""
    result = plan_result()
    pilot, *_ = result["money"]["rollout"]
    pilot |= {"which": "3 x shop-city", "by_kind": {"shop-city": 3}, "capex": {"p10": 8000, "p50": 9300, "p90": 11_000}}
    later = pilot | {"phase": "pilot, if the answers are good", "which": "3 x shop-large", "by_kind": {"shop-large": 3}}
    later |= {"waits": True, "capex": {"p10": 40_000, "p50": 42_600, "p90": 45_000}}
    result["money"]["rollout"].insert(1, later)
    result["verdict"]["settles"] = [{"by": "desk", "what": ["Ask the hub for a quote per server hour"], "days": 1, "share": 0.4}]
    return result


def rows(result: dict[str, Any]) -> list[list[str]]:
    return [
        [" ".join(part for part in (cell.text, cell.figure.text if cell.figure else "") if part) for cell in row.cells]
        for row in steps.step_sheet(ResultReader(result)).rows
    ]


def test_one_amount_is_signed_and_what_waits_is_told_apart() -> None:
    ask, now, later, rest, whole = rows(waiting())
    assert ask == ["first", "ask", "nothing", "1 day at a desk"]
    assert now[:3] == ["then", "pilot: 3 × shop-city", "$9,300"]  # noqa: RUF001  a multiplication
    assert now[3] == "As known today a site pays in 93 % of the cases; order it once the answers leave that at 80 % or more."
    assert later[:3] == ["not yet", "pilot: 3 × shop-large", "+$42.6 k"]  # noqa: RUF001  a multiplication
    assert later[3].endswith("it is signed only if the answers lift that to 80 %.")
    assert rest[:3] == ["from month 6 on", "the other 117 sites, in 2 waves", "+$638 k"], "what is left of the whole"
    assert whole[1:3] == ["all 120 sites", "$690 k"]


def test_the_amount_is_the_same_wherever_it_stands() -> None:
    text = " ".join(Page(render_plan(waiting())).text.split())
    assert (
        "Nothing is ordered today Up to $11.0 k A (P90: one case in ten costs more; $9,300 A in the middle case) for the pilot"
        in text
    )
    assert (
        "is released once these are in: the answers (whoever runs the hub), quotes and the 2 open checks of the pilot's" in text
    )
    assert "Nothing is ordered today. First comes the pilot, $9,300 A for 3 × shop-city, once answers, quotes and checks" in text  # noqa: RUF001
    assert "of it the pilot $9,300" in text
    told = " ".join(plan_words(waiting()).split())
    first = "To sign: nothing today; up to $11.0 k ($9,300 in the middle) for 3 × shop-city once asked; "  # noqa: RUF001
    assert f"{first}$42.6 k more for 3 × shop-large if the answers are good" in told  # noqa: RUF001


def test_a_pilot_that_is_not_preceded_by_a_question_is_signed_as_it_is() -> None:
    now, rest, _ = rows(plan_result())
    assert now[:3] == ["sign now", "pilot: 2 × shop-city, 1 × shop-large", "$20.4 k"]  # noqa: RUF001
    assert now[3] == "As known today a site pays in 93 % and 48 % of the cases."
    assert rest[1] == "the other 117 sites, in 2 waves"


def test_where_every_kind_waits_nothing_is_signed_yet() -> None:
    result = waiting()
    del result["money"]["rollout"][0]
    found = steps.to_sign(ResultReader(result))
    assert (found["now"], found["nothing"]) == (None, "")
    text = " ".join(Page(render_plan(result)).text.split())
    assert "Nothing yet until the questions are answered" in text
    assert "Nothing is signed yet: first the questions are answered" in text
    assert "nothing yet; $42.6 k for 3 × shop-large if the answers are good" in " ".join(plan_words(result).split())  # noqa: RUF001


def test_what_is_not_to_be_built_is_not_signed() -> None:
    for state, why in steps.NOTHING.items():
        result = plan_result()
        result["verdict"]["state"] = state
        assert steps.to_sign(ResultReader(result))["nothing"] == why
        assert rows(result) == []
        assert f"nothing: {why}" in " ".join(plan_words(result).split())


def test_what_is_left_out_is_in_no_total() -> None:
    result = plan_result()
    for row in result["money"]["rollout"]:
        if not row["which"]:
            row |= {"sites": 80, "capex": {"p10": 200_000, "p50": 248_000, "p90": 300_000}}
    result["bill_of_materials"] = [row for row in result["bill_of_materials"] if row["site"] == "shop-city"]
    text = " ".join(Page(render_plan(result)).text.split())
    assert "all 80 sites $248 k" in text
    assert "the whole fleet $248 k" in text
    assert "that 80 sites return more over" in text
    assert "all 80 sites take $248 k" in " ".join(plan_words(result).split())


def test_where_asking_comes_first_no_word_of_what_is_signed_says_now() -> None:
    told = [" ".join(row) for row in rows(waiting())] + [row.cells[1].text for row in money.rollout(ResultReader(waiting())).rows]
    assert [words for words in told if "now" in words.split()] == []
    assert "Ask first" in Page(render_plan(waiting())).text
    assert "Pilot first" in Page(render_plan(plan_result())).text


def test_steps_and_phases_say_when_in_the_same_words() -> None:
    def told(result: dict[str, Any]) -> list[str]:
        return [row.cells[1].text.replace("\u00a0", " ") for row in money.rollout(ResultReader(result)).rows]

    assert told(waiting()) == ["then", "not yet", "after 6 months", "after 18 months", ""]
    assert told(plan_result()) == ["sign now", "after 6 months", "after 18 months", ""]


def test_only_the_checks_of_the_pilots_kinds_are_waited_for() -> None:
    result = waiting()
    kinds, n = steps.pilot_checks(ResultReader(result))
    assert (kinds, n) == (["shop-city"], 2)
    result["money"]["rollout"][0]["by_kind"] = {"shop-city": 2, "shop-large": 1}
    assert steps.pilot_checks(ResultReader(result)) == (["shop-city", "shop-large"], 4)
    assert "2 concern shop-city, which the pilot builds" in " ".join(Page(render_plan(waiting())).text.split())


def test_no_price_is_quoted_where_each_needs_a_quote() -> None:
    result = plan_result()
    priced = [row for row in result["bill_of_materials"] if row.get("unit_usd")]
    for quoted, words in ((0, "No price is quoted yet"), (1, "Not every price is quoted yet"), (len(priced), "")):
        for n, row in enumerate(priced):
            row["needs_quote"] = n >= quoted
        assert steps.to_sign(ResultReader(result))["unquoted"] == words


def test_what_could_be_lost_is_told_by_the_pilot_and_by_all_steps() -> None:
    alone, off, out, who = (in_text(words) for words in losses.losses(ResultReader(waiting())))
    assert (
        alone == "The pilot alone, if it runs on: one case in ten loses more than $13.5 k [A] over 5 years [A], after all costs."
    )
    assert off.endswith("its whole price, $9,300 [A] in the middle case, $11.0 k [A] in a dear one (P90).")
    assert "is $420 k [A] in the middle case, at the end of year 2 [A]" in out
    assert who.startswith("Who decides: you, first when the answers are in, again after 6 months [A] of the pilot: SCALE buys")
    result = plan_result()
    result["money"]["rollout"][0]["npv"]["p10"] = 500
    assert "even in a bad case, one in ten, it returns $500" in in_text(losses.losses(ResultReader(result))[0])
    assert "first when" not in in_text(losses.losses(ResultReader(result))[-1])


def test_nothing_is_said_to_be_lost_where_nothing_is_bought_or_money_never_is_out() -> None:
    assert losses.losses(ResultReader({})) == []
    result = plan_result()
    result["money"]["in_steps"]["cash_by_year"] = {name: [1.0] * 8 for name in ("p10", "p50", "p90")}
    assert not any("out at one time" in in_text(words) for words in losses.losses(ResultReader(result)))
    once = plan_result()
    once["money"].pop("in_steps")
    once["money"]["rollout"] = once["money"]["rollout"][:1]
    (out,) = (in_text(words) for words in losses.losses(ResultReader(once)))
    assert out.startswith("All at once: the most money that is out at one time is $690 k [A] in the middle case, at the start")


def test_the_pictures_years_stand_beneath_it_as_numbers() -> None:
    table = losses.cash_table(ResultReader(plan_result()))
    assert [cell.text or (cell.figure.text if cell.figure else "") for cell in table.rows[0].cells] == [
        "start",
        "\u2212$20.4 k",
        "\u2212$20.4 k",
        "\u2212$20.4 k",
    ]
    assert table.rows[-1].cells[0].text == "6.5"
    assert losses.later_end(ResultReader(plan_result())) == ("6.5", "1.5")
    result = plan_result()
    result["money"].pop("in_steps")
    assert losses.later_end(ResultReader(result)) is None
    result["money"]["cash_by_year"]["p10"].pop()
    assert losses.cash_table(ResultReader(result)).rows == ()


def test_a_kind_with_fewer_pilots_than_scale_asks_for_is_named() -> None:
    told = [figure.text for figure in steps.too_few(ResultReader(plan_result()))]
    assert told == [
        "Of shop-city the pilot has 2: 1 of its own, measured, before SCALE can be said of it.",
        "Of shop-large the pilot has 1: 2 of its own, measured, before SCALE can be said of it.",
    ]
    assert steps.too_few(ResultReader(waiting())) == []
    result = plan_result()
    result["money"]["rollout"][0]["by_kind"] = {"shop-city": 3}
    (none,) = steps.too_few(ResultReader(result))
    assert none.text.startswith("Of shop-large the pilot has none: 3 of its own")


def test_open_checks_stand_by_whom_to_ask_where_the_link_leads() -> None:
    groups = open_checks.by_whom(ResultReader(plan_result()))
    assert [(group["whom"], group["n"]) for group in groups] == [
        ("The landlord or the operator of the power grid", 2),
        ("A licensed electrician or engineer", 2),
    ]
    assert groups[0]["rows"] == [
        {"name": "short-circuit rating", "words": "the prospective current is not known", "sites": "shop-city and shop-large"}
    ]
    html = render_plan(plan_result())
    assert '<a href="#to-check"><b class="no">' in html
    part = html[html.index('<section id="to-check">') : html.index('<section id="cabinets">')]
    assert "<details" not in part, "what the link leads to is not folded"
    assert "Nothing is built, so nothing has to be checked" in Page(render_plan({})).text
    result = plan_result()
    for site in result["sites"]:
        for check in site["checks"]:
            check.pop("ask", None)
    assert [group["whom"] for group in open_checks.by_whom(ResultReader(result))] == ["A licensed electrician or engineer"]


def test_a_question_at_a_desk_says_whom_to_ask() -> None:
    asked = [(step["what"], step["ask"], step["at_desk"]) for step in next_steps(ResultReader(plan_result()))]
    assert asked[0] == ("Ask the hub for a quote per server hour", "whoever runs the hub", True)
    assert "Whom: whoever runs the hub." in " ".join(Page(render_plan(plan_result())).text.split())


def test_italics_and_a_tap_are_explained_before_the_first_figure() -> None:
    html = render_plan(plan_result())
    first = html.index('<span class="fig fig-assumed"')
    for words in ("<i>Italics</i> mark a figure that is assumed", "Tap a figure, or rest the pointer on it"):
        assert html.index(words) < first


def test_the_headline_is_short_and_its_reasons_follow() -> None:
    html = render_plan(plan_result())
    assert ">Build a pilot of 3 shops&#8288;" in html.replace("\u2060", "&#8288;")
    assert "The cabinet in the city shop probably pays" in html


def test_what_stands_at_each_kind_of_site_is_told_once_for_all_that_it_answers() -> None:
    text = Page(render_plan(plan_result())).text
    assert "For all that it answers each shop-city gets" in text
    assert text.count("each shop-city gets") == 1
    empty = {**plan_result(), "sites": []}
    assert "For all that it answers" not in Page(render_plan(empty)).text


def test_each_kind_alone_says_how_often_its_rest_is_built_and_what_it_returns_so() -> None:
    page = Page(render_plan(plan_result())).text
    assert "84 of 100 cases" in page
    assert "31 of 100 cases" in page
    assert "HOLD and STOP buy nothing more" in page
    result = plan_result()
    del result["money"]["in_steps"]["by_kind"]
    assert "each kind alone" not in Page(render_plan(result)).text
