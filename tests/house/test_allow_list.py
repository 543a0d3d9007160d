"""The pure rooms import what they may and nothing else; a deny-list would not notice the next library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "nearhall"

PURE = frozenset(
    {
        "__future__",
        "abc",
        "array",
        "bisect",
        "collections",
        "dataclasses",
        "enum",
        "fractions",
        "functools",
        "heapq",
        "itertools",
        "math",
        "operator",
        "re",
        "statistics",
        "string",
        "struct",
        "types",
        "typing",
    }
)
"""Of the standard library: no clock, no randomness, no files, no sockets, no logging, no processes."""
TEXT = frozenset(
    {"base64", "binascii", "datetime", "difflib", "hashlib", "html", "json", "textwrap", "unicodedata", "urllib.parse", "zlib"}
)
"""Values in, values out as well, but formats: for the rooms that speak or write them."""
STANDARD_LIBRARY = frozenset(sys.stdlib_module_names)

ALLOWED: dict[str, frozenset[str]] = {
    "core": PURE,
    "physics": PURE,
    "policy": PURE,
    "wire": PURE | TEXT | {"msgspec"},
    "ports": PURE | {"contextlib", "pathlib"},
    "documents": STANDARD_LIBRARY | {"pydantic", "pydantic_core", "yaml"},
    "planner": PURE | TEXT | {"numpy", "scipy", "highspy", "psychrolib"},
    "report": STANDARD_LIBRARY | {"bokeh", "jinja2", "markupsafe", "msgspec"},
}


def imports_of(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, in full."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


def foreign_imports(room: Path, allowed: frozenset[str]) -> list[str]:
    """What the room's files import beyond nearhall and the list, each with its file."""
    return [
        f"{file.relative_to(room)}: {module}"
        for file in sorted(room.rglob("*.py"))
        for module in imports_of(file)
        if module.partition(".")[0] != "nearhall" and not {module, module.partition(".")[0]} & allowed
    ]


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room: str):
    assert foreign_imports(SOURCE / room, ALLOWED[room]) == []


@pytest.mark.parametrize(
    ("room", "line", "module"),
    [
        ("core", "import time", "time"),
        ("physics", "import numpy as np", "numpy"),
        ("policy", "from logging import getLogger", "logging"),
        ("wire", "import socket", "socket"),
        ("wire", "import urllib.request", "urllib.request"),
        ("ports", "import asyncio", "asyncio"),
        ("documents", "import httpcore", "httpcore"),
        ("report", "def draw():\n    import matplotlib.pyplot", "matplotlib.pyplot"),
    ],
)
def test_a_planted_import_is_caught(tmp_path: Path, room: str, line: str, module: str):
    planted = tmp_path / room
    planted.mkdir()
    for file in (SOURCE / room).glob("*.py"):
        (planted / file.name).write_bytes(file.read_bytes())
    (planted / "planted.py").write_text(line + "\n")
    assert foreign_imports(planted, ALLOWED[room]) == [f"planted.py: {module}"]
