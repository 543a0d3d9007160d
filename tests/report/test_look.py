"""The look: readable in light and in dark, and figures written one way."""

from __future__ import annotations

import pytest

from nearhall.report import formats
from nearhall.report.look import DARK, LIGHT, contrast, style, theme_script

TEXT_ON: list[tuple[str, str]] = [
    *((text, ground) for text in ("ink", "soft", "good", "warn", "bad", "local", "hub") for ground in ("paper", "card")),
    *((tone, f"{tone}-wash") for tone in ("good", "warn", "bad")),
    *(("ink", ground) for ground in ("code", "good-wash", "warn-wash", "bad-wash")),
    ("card", "good"),
    ("card", "bad"),
]
AA_TEXT = 4.5
AA_GRAPHICS = 3.0


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_has_enough_contrast(colours: dict[str, str]) -> None:
    faint = [(a, b, round(contrast(colours[a], colours[b]), 2)) for a, b in TEXT_ON if contrast(colours[a], colours[b]) < AA_TEXT]
    assert faint == []


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_and_bars_stand_out(colours: dict[str, str]) -> None:
    tones = ("local", "hub", "refused", "raw", "other", "cooling", "ups", "ink")
    assert [tone for tone in tones if contrast(colours[tone], colours["card"]) < AA_GRAPHICS] == []


def test_contrast_is_the_standards() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_both_schemes_have_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert all(f"var(--{name})" not in style() or name in LIGHT for name in ("paper", "card"))
    assert DARK["paper"] in theme_script()


def test_long_lists_end_in_a_count() -> None:
    assert formats.listed([]) == ""
    assert formats.listed(["a"]) == "a"
    assert formats.listed(["a", "b", "c"]) == "a, b and c"
    assert formats.listed(list("abcdefghij")) == "a, b, c, d, e and 5 more"


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (formats.ms, 0.4, "0.40 ms"),
        (formats.ms, 0.0213, "0.021 ms"),
        (formats.ms, 3.2, "3.20 ms"),
        (formats.ms, 40.44, "40.4 ms"),
        (formats.ms, 1234.5, "1,234 ms"),
        (formats.ms, 0, "0 ms"),
        (formats.signed_ms, 38.0, "+38.0 ms"),
        (formats.signed_ms, -0.5, "\u22120.50 ms"),
        (formats.percent, 0.99951, "> 99.9 %"),
        (formats.percent, 1, "100 %"),
        (formats.percent, 0.00001, "< 0.1 %"),
        (formats.size, 999, "999 B"),
        (formats.size, 6_400_000, "6.40 MB"),
        (formats.energy, 0.0113, "11.3 Wh"),
        (formats.energy, 2.5, "2.50 kWh"),
        (formats.watts, 343.4, "343 W"),
        (formats.watts, 12_340, "12.34 kW"),
        (formats.usd, 0.0123, "$0.012"),
        (formats.seconds, 125, "2 min 05 s"),
        (formats.clock, "2026-11-23T19:00:05Z", "19:00:05"),
        (formats.clock, "nonsense", "\u2013"),
        (formats.mbps, 0, "unlimited"),
    ],
)
def test_figures_are_written_one_way(form: object, value: float | str, text: str) -> None:
    assert callable(form)
    assert form(value) == text
