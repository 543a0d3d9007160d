"""Habits of the house that no linter checks."""

from __future__ import annotations

import ast
import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "nearhall"
PACKAGES = sorted(path for path in SOURCE.iterdir() if (path / "__init__.py").exists())
TEXT_BYTES_MAX = 2_000_000

NOT_OURS = re.compile(
    r"\b(?:pypi\.org|files\.pythonhosted\.org|registry\.npmjs\.org|deb\.debian\.org|huggingface\.co)\b|/(?:work|root|home)/[a-z]+/"
)
"""Addresses of registries, and paths of somebody's machine."""


def tracked() -> list[Path]:
    """Every file of the repository, and what is new and not ignored; of the folder where there is no repository."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def foreign_addresses(text: str) -> list[str]:
    """Registry hosts and machine paths in a text."""
    return [found.group() for found in NOT_OURS.finditer(text)]


@pytest.mark.parametrize("room", PACKAGES, ids=lambda room: room.name)
def test_a_room_states_its_rule_in_at_most_eight_lines(room: Path):
    rule = ast.get_docstring(ast.parse((room / "__init__.py").read_bytes()))
    assert rule, f"{room.name}/__init__.py says nothing"
    assert len(rule.splitlines()) <= 8
    assert "Never" in rule


@pytest.mark.parametrize("room", PACKAGES, ids=lambda room: room.name)
def test_no_file_is_longer_than_six_hundred_lines(room: Path):
    long = {str(f.relative_to(SOURCE)): n for f in room.rglob("*.py") if (n := len(f.read_bytes().splitlines())) > 600}
    assert long == {}


@pytest.mark.parametrize("name", ["utils", "util", "common", "helpers", "helper", "manager", "base", "misc"])
def test_no_file_has_a_name_that_says_nothing(name: str):
    assert [str(path) for path in SOURCE.rglob(f"{name}.py")] == []


def test_the_readme_can_be_read_in_three_minutes():
    assert len((ROOT / "README.md").read_text().split()) <= 450


def test_no_tracked_file_names_a_registry_or_a_machine():
    found = {
        str(path.relative_to(ROOT)): addresses
        for path in tracked()
        if path != Path(__file__) and path.stat().st_size < TEXT_BYTES_MAX
        if (addresses := foreign_addresses(path.read_text(errors="replace")))
    }
    assert found == {}


def test_an_address_would_be_found():
    assert foreign_addresses("see https://" + "pypi" + ".org/simple") == ["pypi" + ".org"]
    assert foreign_addresses("/home" + "/ada/nearhall") == ["/home" + "/ada/"]


def test_the_locks_are_parts_of_one_set():
    pins: dict[str, dict[str, str]] = {}
    for lock in ("build", "base", "plan", "pilot", "full", "dev", "gpu"):
        text = (ROOT / "requirements" / f"{lock}.txt").read_text()
        pins[lock] = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE))
        assert text.count("--hash=sha256:") >= len(pins[lock]) > 0
    for chain in (("build", "base", "plan", "dev"), ("build", "base", "pilot", "full", "dev")):
        for small, large in pairwise(chain):
            assert pins[small].items() <= pins[large].items()
    own = {name for name in pins["gpu"] if name == "onnxruntime-gpu" or (name.startswith("nvidia-") and name != "nvidia-ml-py")}
    assert "onnxruntime" not in pins["gpu"]  # one module, two packages: whichever is unpacked last wins
    assert {name: pin for name, pin in pins["gpu"].items() if name not in own}.items() <= pins["dev"].items()


FRAGMENT = re.compile(r"^[a-z0-9-]+\.(?:added|changed|fixed)\.md$")


def test_news_fragments_are_one_line_each():
    for path in sorted((ROOT / "changelog.d").iterdir()):
        if path.name == "template.md":
            continue
        assert FRAGMENT.match(path.name), f"{path.name}: name it <slug>.added.md, .changed.md or .fixed.md"
        lines = path.read_text().strip().splitlines()
        assert len(lines) == 1, f"{path.name} has {len(lines)} lines; one sentence for a user is enough"
        assert lines[0].endswith("."), f"{path.name}: end the sentence"
