"""A camera's password, given on the command line, is on no screen and in no file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nearhall.cli.roots.models import cache_folder
from nearhall.core.addresses import LOGIN

MODELS = cache_folder(os.environ) / "models"
PASSWORD, TOKEN = "pass-4c71e0", "tok-88ad2f"
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("pilot"),
    pytest.mark.skipif(
        not (MODELS / "faces" / "model.yaml").exists(),
        reason="the default models are not in the cache; `nearhall models fetch` brings them",
    ),
]


def up(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nearhall", "up", "--light", "--seconds", "5", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=150, check=False)


def holding(folder: Path, *texts: str) -> list[str]:
    """Files that hold one of the texts."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [str(path.relative_to(folder)) for path in found if any(text.encode() in path.read_bytes() for text in texts)]


def test_a_camera_s_password_is_on_no_screen_and_in_no_file(tmp_path: Path, free_port: Callable[[], int]):
    host = f"127.0.0.1:{free_port()}"
    done = up("--camera", f"rtsp://user:{PASSWORD}@{host}/1?token={TOKEN}", "--out", str(tmp_path / "out"))
    said = done.stdout + done.stderr
    assert done.returncode in {1, 2}, said
    assert host.encode() in said, "where it could not be read is told"
    assert b"Traceback" not in said
    for secret in (PASSWORD, TOKEN):
        assert secret.encode() not in said
    assert holding(tmp_path, PASSWORD, TOKEN) == []
    assert f"${{{LOGIN}}}@{host}" in (tmp_path / "out" / "pilot.yaml").read_text()

    again = up(str(tmp_path / "out" / "pilot.yaml"), "--out", str(tmp_path / "again"))
    assert again.returncode == 2
    assert f"needs the environment variable {LOGIN}" in again.stderr.decode()
    assert not (tmp_path / "again").exists(), "nothing half-done"


def test_a_document_with_a_password_is_refused(tmp_path: Path):
    document = tmp_path / "pilot.yaml"
    document.write_text(
        "schema: nearhall/up/v1\nsites:\n- id: shop-01\n  models: [faces]\n  workloads:\n"
        f"  - {{id: video, kind: video, model: faces, rate_per_s: 5, source: 'rtsp://user:{PASSWORD}@127.0.0.1:9/1'}}\n"
    )
    done = up(str(document), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    told = done.stderr.decode()
    assert "source of workload video at shop-01: holds a login, which no document should" in told
    assert PASSWORD not in told
