"""The terminal's live view: fits, keeps its marks, and is one line now and then where there is no terminal."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from nearhall.cli.live import STATUS_SECONDS, LiveView, status_line, view
from nearhall.wire.live import LiveState
from nearhall.wire.telemetry import Event


def _drawn(state: LiveState, width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), record=True, force_terminal=True, color_system=None)
    console.print(view(state, list(state.events), lines=height - 2))
    return console.export_text().rstrip("\n").split("\n")


def test_two_sites_of_four_workloads_fit_80_by_24(live: LiveState) -> None:
    lines = _drawn(live)
    assert len(lines) <= 22
    assert max(map(len, lines)) <= 80
    assert any("gateway started" in line for line in lines)


def test_it_uses_more_room_for_events(live: LiveState) -> None:
    events = [("shop-01", Event(at_s=900.0 + n, kind="x", text=f"event number {n}")) for n in range(40)]
    state = msgspec.structs.replace(live, events=events)
    few, many = (sum("event number" in line for line in _drawn(state, height=height)) for height in (24, 50))
    assert few >= 3
    assert many > few
    assert any("event number 39" in line for line in _drawn(state))


def test_columns_and_power_carry_their_letters(live: LiveState) -> None:
    text = "\n".join(_drawn(live, width=120))
    for head in (
        "local M",
        "hub M",
        "local ms M",
        "hub ms S",
        "raw M",
        "sent M",
        "feed 343 W[S]",
        "PUE 1.35[S]",
        "rtt 40.3 ms[S]",
    ):
        assert head in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"online": False}, "OFFLINE"),
        ({"gateway_up": False}, "gateway down"),
        ({"link_up": False, "spooled_bytes": 4200}, "link cut, 4.20 kB"),
    ],
)
def test_trouble_is_said(live: LiveState, change: dict[str, object], words: str) -> None:
    assert words not in "\n".join(_drawn(live))
    troubled = msgspec.structs.replace(live, sites=[msgspec.structs.replace(live.sites[0], **change)])
    assert words in "\n".join(_drawn(troubled))


def test_names_are_not_markup(live: LiveState) -> None:
    odd = msgspec.structs.replace(live.sites[0], id="[bold]x[/bold]")
    state = msgspec.structs.replace(live, sites=[odd], events=[("[red]", Event(at_s=1.0, kind="x", text="[/nothing]"))])
    text = "\n".join(_drawn(state))
    assert "[bold]x[/bold]" in text
    assert "[/nothing]" in text


def test_without_a_terminal_it_is_one_line_every_few_seconds(live: LiveState) -> None:
    out = io.StringIO()
    view_ = LiveView(Console(file=out, width=80))
    for second in range(int(2 * STATUS_SECONDS)):
        view_.show(msgspec.structs.replace(live, at_s=live.at_s + second))
    view_.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "shop-01: local 4,800[M] hub 28[M] refused 12[M] failed 0[M], feed 343 W[S]" in lines[0]


def test_in_a_terminal_it_leaves_nothing_behind(live: LiveState) -> None:
    out = io.StringIO()
    shown = LiveView(Console(file=out, width=80, height=24, force_terminal=True))
    shown.show(live)
    shown.show(live)
    shown.close()
    shown.close()
    assert "shop-01" in out.getvalue()
    assert out.getvalue().count("\x1b[?25h") == 1  # the cursor is shown again, once


def test_no_site_yet(live: LiveState) -> None:
    empty = msgspec.structs.replace(live, sites=[], events=[])
    assert "waiting for the first site" in "\n".join(_drawn(empty))
    assert "waiting for sites" in status_line(empty)
