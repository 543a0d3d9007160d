"""Standard output belongs to the command, whatever its libraries write there."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAID = """
import ctypes, os, sys
from nearhall.cli.output import libraries_aside
c = ctypes.CDLL(None)
print("before")
{ASIDE}
    c.printf(b"held back by C, ")
    os.write(1, b"written at once")
print("after")
"""


def run(aside: str) -> tuple[str, str]:
    program = SAID.replace("{ASIDE}", aside)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    return ended.stdout, ended.stderr


def test_what_a_library_writes_by_itself_goes_to_standard_error():
    out, err = run("with libraries_aside():")
    assert out == "before\nafter\n"
    assert "held back by C" in err
    assert "written at once" in err


def test_without_that_it_would_be_in_the_way():
    out, err = run("if True:")
    assert "written at once" in out
    assert "held back by C" in out
    assert err == ""


@pytest.mark.parametrize(
    ("where", "code", "told"),
    [
        (">&-", 0, ""),
        (">/dev/full", 1, "failed: standard output cannot be written (No space left on device)"),
        ("| head -n 1", 0, ""),
        ("", 0, ""),
    ],
)
def test_an_output_that_nobody_can_read_costs_no_traceback(where: str, code: int, told: str):
    line = f"{sys.executable} -m nearhall plan --defaults {where}"
    ended = subprocess.run(["bash", "-c", line], check=False, capture_output=True, text=True, timeout=50)
    assert ended.returncode == code
    assert ended.stderr.strip() == told
