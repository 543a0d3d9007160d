"""The agent's import closure holds nothing heavy: it runs for years in 64 MiB."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["pydantic", "typer", "rich", "numpy", "bokeh", "fastapi", "onnxruntime", "openvino", "httpx", "sqlalchemy", "jinja2"]
LIST_LOADED = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sorted(sys.modules))"


def _loaded_by(module: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", LIST_LOADED, module], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_the_agent_loads_nothing_heavy():
    assert _loaded_by("nearhall.cli.roots.agent").isdisjoint(HEAVY)


@pytest.mark.parametrize(("module", "heavy"), [("nearhall.cli.main", "rich"), ("nearhall.documents.up", "pydantic")])
def test_what_is_heavy_would_be_seen(module: str, heavy: str):
    assert heavy in _loaded_by(module)
