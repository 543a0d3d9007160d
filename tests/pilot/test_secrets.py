"""A camera's password, given on the command line, is on no screen and in no file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nearhall.core.addresses import LOGIN

PASSWORD, TOKEN = "pass-4c71e0", "tok-88ad2f"
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("pilot"),
]


def up(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nearhall", "up", "--light", "--seconds", "5", *arguments]
    whole = {**os.environ, **environment}
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=150, check=False, env=whole)


def _document(folder: Path, source: str) -> Path:
    document = folder / "pilot.yaml"
    document.write_text(
        "schema: nearhall/up/v1\nsites:\n- id: shop-01\n  models: [faces]\n  workloads:\n"
        f"  - {{id: video, kind: video, model: faces, rate_per_s: 5, source: '{source}'}}\n"
    )
    return document


def holding(folder: Path, *texts: str) -> list[str]:
    """Files that hold one of the texts."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [str(path.relative_to(folder)) for path in found if any(text.encode() in path.read_bytes() for text in texts)]


def test_a_camera_s_password_is_on_no_screen_and_in_no_file(tmp_path: Path, free_port: Callable[[], int]):
    host = f"127.0.0.1:{free_port()}"
    done = up("--camera", f"rtsp://user:{PASSWORD}@{host}/1?token={TOKEN}", "--out", str(tmp_path / "out"))
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert host.encode() in said, "where it could not be read is told"
    assert b"Traceback" not in said
    for secret in (PASSWORD, TOKEN):
        assert secret.encode() not in said
    assert holding(tmp_path, PASSWORD, TOKEN) == []
    assert not (tmp_path / "out").exists(), "nothing half-done"


def test_a_repeated_pilot_asks_for_the_login_by_its_name(tmp_path: Path):
    document = _document(tmp_path, f"rtsp://${{{LOGIN}}}@127.0.0.1:9/1")
    done = up(str(document), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert f"needs the environment variable {LOGIN}, which is not set; export {LOGIN}='user:password'" in done.stderr.decode()
    given = up(str(document), "--out", str(tmp_path / "out"), **{LOGIN: f"user:{PASSWORD}"})
    assert given.returncode == 2
    assert "no stream can be read (Connection refused)" in given.stderr.decode()
    assert PASSWORD not in given.stderr.decode()
    assert not (tmp_path / "out").exists(), "nothing half-done"


def test_a_document_with_a_password_is_refused(tmp_path: Path):
    done = up(str(_document(tmp_path, f"rtsp://user:{PASSWORD}@127.0.0.1:9/1")), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    told = done.stderr.decode()
    assert "source of workload video at shop-01: holds a login, which no document should" in told
    assert PASSWORD not in told
