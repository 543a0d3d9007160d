"""The example in the README runs as it stands there, against the product."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from nearhall.cli.roots import models

README = (Path(__file__).parents[2] / "README.md").read_text()
ADDRESS = "127.0.0.1:8080"


def _example() -> str:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def test_it_has_at_most_fifteen_lines():
    assert len([line for line in _example().splitlines() if line.strip()]) <= 15


@pytest.mark.timeout(120)
def test_it_prints_the_right_digit_and_where_it_was_read(tmp_path: Path):
    models._add_digits(tmp_path / "models", Console(quiet=True))
    serve = [sys.executable, "-m", "nearhall", "serve", "--repository", str(tmp_path / "models"), "--http", "0", "--json"]
    server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = json.loads(server.stdout.readline())["url"]
        assert ADDRESS in _example()
        code = _example().replace(f"http://{ADDRESS}", url)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()
    first, second = done.stdout.splitlines()
    assert first == "it is a 0 and should be a 0"
    assert second.startswith("serve/n1 queue;dur=")
