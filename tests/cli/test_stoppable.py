"""The first Ctrl-C of a search keeps the best so far; everything else ends."""

from __future__ import annotations

import signal

import pytest

from nearhall.cli.stoppable import Stoppable


def test_the_first_signal_asks_and_the_second_ends():
    before = signal.getsignal(signal.SIGINT)
    with Stoppable() as stop:
        stop.armed = True
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_where_nothing_can_be_kept_it_ends_at_once():
    with Stoppable() as stop, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not stop.asked
