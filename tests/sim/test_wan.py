"""`--wan`: what it sets, and what it says to a slip."""

from __future__ import annotations

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.up import Link
from nearhall.sim.wan import parse_wan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtt=40,jitter=2,mbps=50", (40.0, 2.0, 50.0)),
        ("rtt=0", (0.0, 3.0, 7.0)),
        ("mbps=0.5", (10.0, 3.0, 0.5)),
        (" jitter = 1 , rtt = 5 ", (5.0, 1.0, 7.0)),
    ],
)
def test_what_is_given_replaces_what_was(text: str, expected: tuple[float, float, float]):
    link = parse_wan(text, Link(rtt_ms=10, jitter_ms=3, mbps=7))
    assert (link.rtt_ms, link.jitter_ms, link.mbps) == expected
    assert link.source == f"given: --wan {text}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rtt", "'rtt' is not NAME=NUMBER"),
        ("", "'' is not NAME=NUMBER"),
        ("rtt=40,", "'' is not NAME=NUMBER"),
        ("rt=40", "did you mean 'rtt'?"),
        ("loss=1", "known: rtt, jitter, mbps"),
        ("rtt=40ms", "rtt is '40ms', not a number"),
        ("rtt=1,rtt=2", "rtt is given twice"),
        ("rtt=-1", "rtt_ms: input should be greater than or equal to 0 (given: -1)"),
        ("mbps=1e9", "mbps: input should be less than or equal to 10000"),
        ("rtt=nan", "rtt_ms: "),
    ],
)
def test_a_slip_is_named_in_one_line(text: str, said: str):
    with pytest.raises(InputError) as caught:
        parse_wan(text, Link())
    assert said in str(caught.value)
    assert str(caught.value).startswith("--wan: ")
    assert "\n" not in str(caught.value)
