"""Environments of others' software: made once from a lock, told apart by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearhall.cli.roots.bench.environments import environment, site_packages
from nearhall.core.errors import PermanentError


def test_it_is_made_once_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEARHALL_CACHE", str(tmp_path / "cache"))
    lock = tmp_path / "lock.txt"
    lock.write_text("# nothing\n")
    told: list[str] = []
    venv = environment("nothing", lock, told.append)
    assert site_packages(venv).is_dir()
    assert environment("nothing", lock, told.append) == venv
    assert told == ["installing nothing"]
    lock.write_text("--no-index\nthere-is-no-such-package==9.9.9\n")
    with pytest.raises(PermanentError, match="cannot be installed: ERROR"):
        environment("nothing", lock, told.append)
