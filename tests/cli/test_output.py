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


def ended(code: str, where: str = "") -> tuple[int, str]:
    """A command that does that, and what a person sees of its end."""
    program = f"import os, sys; from pathlib import Path; from nearhall.cli.output import *; sys.exit(run(lambda: {code}))"
    line = f'{sys.executable} -c "{program}" {where}'
    done = subprocess.run(["bash", "-c", line], check=False, capture_output=True, text=True, timeout=50)
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("open('/proc/version/x', 'w')", "/proc/version/x cannot be used (Not a directory); a part of the path is a file"),
        ("open('/proc/nobody')", "/proc/nobody cannot be used (No such file or directory); name one that exists"),
        ("Path('/proc/1/nobody').mkdir()", "/proc/1/nobody cannot be used (No such file or directory)"),
        (
            "os.link('/proc/version', '/tmp/nobody')",
            "/proc/version cannot be used (Invalid cross-device link); name one that you may use",
        ),
        ("open('/proc')", "/proc cannot be used (Is a directory); name a file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_would_be_right(code: str, told: str):
    assert ended(code)[0] == 2
    assert ended(code)[1].startswith(f"error: {told}")


def test_an_error_of_nothing_that_has_a_name_is_told_as_it_is_and_standard_output_is_not_blamed():
    assert ended("os.write(os.open('/dev/full', os.O_WRONLY), b'x')") == (1, "failed: No space left on device")
    assert ended("print('x', flush=True)", "> /dev/full") == (
        1,
        "failed: standard output cannot be written (No space left on device)",
    )
    assert ended("print('x', flush=True)", "> /dev/null") == (0, "")
