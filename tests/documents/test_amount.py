"""Any number of a plan: four forms, each with its evidence; what is wrong is said with what would be right."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from nearhall.core.evidence import Kind
from nearhall.core.quantity import Exact, LogNormal, Normal, Quantity, Triangular, Uniform
from nearhall.documents.amount import InUnit
from nearhall.documents.amount_forms import THE_PLAN, written
from nearhall.documents.defaults import all_defaults, default_named
from nearhall.documents.plain import Plain, rated_in

WATTS = InUnit("W", above=0.0, most=5000.0)


@pytest.mark.parametrize(
    ("said", "p50", "spread"),
    [
        (250, 250.0, Exact),
        ({"value": 250}, 250.0, Exact),
        ({"p50": 250, "p90": 310}, 250.0, LogNormal),
        ({"p50": 3.0, "p10": 2.3}, 3.0, LogNormal),
        ({"dist": "normal", "mean": 250, "sd": 10}, 250.0, Normal),
        ({"dist": "normal", "mean": 250, "sd": 10, "low": 200, "high": 300}, 250.0, Normal),
        ({"dist": "lognormal", "p50": 250, "sigma": 0.1}, 250.0, LogNormal),
        ({"dist": "uniform", "low": 200, "high": 300}, 250.0, Uniform),
        ({"dist": "triangular", "low": 200, "mode": 250, "high": 300}, 250.0, Triangular),
        ({"ref": "default:site.own_power_w"}, 25.0, LogNormal),
    ],
    ids=str,
)
def test_each_form_is_read_and_written_again(said: Any, p50: float, spread: type):
    read = WATTS.read(said)
    assert read.p50 == pytest.approx(p50)
    assert isinstance(read.spread, spread)
    assert WATTS.read(written(read)) == read
    assert WATTS.read(read) is read


def test_a_p10_spreads_downwards_as_a_p90_does_upwards():
    read = InUnit("1").read({"p50": 3.0, "p10": 2.3})
    assert read.p10 == pytest.approx(2.3)


def test_evidence_is_what_is_said_of_it():
    assert WATTS.read(250).evidence.source == THE_PLAN
    assert WATTS.read(250).evidence.kind is Kind.ASSUMED
    read = WATTS.read({"value": 250, "kind": "vendor", "source": "data sheet", "date": "2026-03", "unit": "W"})
    assert (read.evidence.kind, read.evidence.source, read.evidence.date) == (Kind.VENDOR, "data sheet", "2026-03")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("250 W", "is in W, the field in W; write 250"),
        ("0.25 kW", "'0.25 kW' is in kW, the field in W; write 250"),
        ("250 bar", "is text; write a number in W"),
        ("much", "is no number; write one in W"),
        (True, "is no number"),
        (float("nan"), "is no number"),
        (0, "0 W is not above 0"),
        (6000, "6000 W is not between -inf and 5000"),
        ({"p50": 4000, "p90": 6000}, "p90 6000 W is not between"),
        ({"p50": 250, "p90": 200}, "p90 200 is below p50 250"),
        ({"p50": 250, "p10": 300}, "p10 300 is above p50 250"),
        ({"p50": 250, "p10": 200, "p90": 300}, "give one of them"),
        ({"p50": 250}, "p90 is missing"),
        ({"p50": -1, "p90": 2}, "above 0"),
        ({"valu": 250}, "has neither value, p50, dist nor ref"),
        ({"value": 250, "sorce": "x"}, "'sorce' is not known here; did you mean 'source'?"),
        ({"value": 250, "bar": 1}, "known: value"),
        ({"value": 250, "kind": "guessed"}, "kind 'guessed' is not known"),
        ({"value": 250, "kind": "vendor"}, "kind vendor needs a source"),
        ({"value": 0.25, "unit": "kW"}, "unit kW does not fit: the field is in W; multiply by 1000"),
        ({"value": 0.25, "unit": "V"}, "convert it"),
        ({"dist": "norml", "mean": 1, "sd": 1}, "did you mean 'normal'?"),
        ({"dist": "normal", "mean": 250, "sd": -1}, "needs sd >= 0"),
        ({"dist": "lognormal", "p50": 250, "sigma": -1}, "sigma >= 0"),
        ({"dist": "uniform", "low": 3, "high": 2}, "needs low <= high"),
        ({"dist": "triangular", "low": 3, "mode": 2, "high": 4}, "low <= mode <= high"),
        ({"dist": "uniform", "low": 3}, "high is missing"),
        ({"ref": "default:hub.pu"}, "did you mean 'hub.pue'?"),
        ({"ref": "default:zzzzzz"}, "lists them"),
        ({"ref": "default:hub.pue"}, "is in 1, the field in W"),
        ({"ref": "table:5"}, "write default:NAME"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_with_what_would_be_right(said: Any, told: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (what it says is looked at below)
        WATTS.read(said)
    assert told in str(caught.value)


def test_every_default_has_words_a_source_and_a_kind():
    for name, default in all_defaults().items():
        assert default.words, name
        assert isinstance(default.amount, Quantity)
        assert default.amount.evidence.source != THE_PLAN, name
        assert default.amount.p10 <= default.amount.p50 <= default.amount.p90
    assert default_named("hub.pue").amount.p50 == 1.4


class Rating(BaseModel):
    kw: Annotated[float, Plain("kW")] = Field(gt=0, le=10)


@pytest.mark.parametrize(
    ("written", "value", "spread", "source"),
    [
        ({"value": 2, "kind": "vendor", "source": "quote", "date": "2026-01"}, 2.0, False, "quote"),
        ({"p50": 2, "p90": 3}, 2.0, True, "the plan's author"),
        ({"dist": "uniform", "low": 1, "high": 3}, 2.0, True, "the plan's author"),
        ({"ref": "default:ups.recharge_h"}, None, False, ""),
    ],
)
def test_a_rating_takes_any_form_at_its_median_and_keeps_what_was_said(
    written: dict[str, object], value: float | None, spread: bool, source: str
):
    if value is None:
        with pytest.raises(ValidationError, match="is in h, the field in kW"):
            Rating.model_validate({"kw": written})
        return
    read = Rating.model_validate({"kw": written})
    assert (read.kw, read.kw * 2) == (value, 2 * value)
    ((path, said),) = rated_in(read)
    assert (path, said.p50, said.is_exact) == ("kw", value, True)
    assert said.evidence.source == source + ("; taken at its median" if spread else "")
    assert Rating.model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("2000 W", "the field in kW; write 2"),
        ("2 parsecs", "write a number in kW"),
        ({"value": 11}, "less than or equal to 10"),
        ({"p50": 2, "p90": 1}, "p90 1 is below p50 2"),
        ("2kW", "unable to parse"),
        (-1, "greater than 0"),
    ],
)
def test_a_rating_that_cannot_be_is_told_as_any_number(written: object, told: str):
    with pytest.raises(ValidationError, match=told):
        Rating.model_validate({"kw": written})
    assert list(rated_in(Rating(kw=2.0))) == []
