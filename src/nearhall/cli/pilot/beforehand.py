"""What is looked at before a pilot starts, so that a slip is one line now and not a puzzle later: streams, models, the hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from nearhall.cli.pilot.prepare import held_model
from nearhall.core.addresses import LOGIN, filled, taken_out
from nearhall.core.errors import InputError, TemporaryError, without_login
from nearhall.documents.addresses import SOCKET_PATH_MAX, UNIX
from nearhall.documents.model import ModelDocument
from nearhall.documents.up import Site, Up
from nearhall.documents.yaml_file import read_document
from nearhall.drivers.uplink_https import HttpsUplink

Tell = Callable[[str], None]
ANSWER_S = 5.0
PICTURE_KINDS = frozenset({"video", "camera"})


def check_streams(up: Up, environment: Mapping[str, str], *, tell: Tell) -> None:
    """Reads one picture of each of the user's own streams; raises InputError for one that cannot be read."""
    from nearhall.drivers.media import check_pictures

    for site in up.sites:
        for workload in site.workloads:
            if workload.source is None:
                continue
            where = f"source of workload {workload.id} at {site.id}"
            if taken_out(workload.source)[1]:
                right = f"write ${{{LOGIN}}} in its place, and export {LOGIN}=user:password"
                raise InputError("holds a login, which no document should", where=where, right=right)
            address = filled(workload.source, environment, where=where)
            if workload.kind in PICTURE_KINDS and ("://" in address or Path(address).exists()):
                tell(f"looking at {without_login(address)}")
                check_pictures(address)


def check_models(up: Up, repository: Path) -> None:
    """Each site's models are held, and what a camera is shown to takes a picture; raises InputError where that is not so."""
    from nearhall.sim.players.camera import ImageInput

    for site in up.sites:
        for name in site.models:
            held_model(site, repository, name)
        for workload in site.workloads:
            about = repository / workload.model / "model.yaml"
            if workload.kind != "camera" or not about.exists():
                continue  # the hub alone may have it, or a Triton repository says what it takes; then its gateway is asked
            model = read_document(about, ModelDocument)
            inputs = [{"name": one.name, "datatype": one.dtype, "shape": one.shape} for one in model.inputs]
            ImageInput({"name": workload.model, "inputs": inputs})


def with_whole_paths(up: Up, folder: Path) -> Up:
    """The document with its sockets' paths, which are relative to its own folder, made whole; raises InputError for one too long.

    So the pilot.yaml that is written beside the results means the same.
    """
    sites: list[Site] = []
    for site in up.sites:
        changes: dict[str, object] = {}
        for key, path in site.sockets.items():
            whole = str((folder / Path(path).expanduser()).resolve())
            longer = len(whole.encode()) - SOCKET_PATH_MAX
            if longer > 0:
                right = f"name a path that is {longer} bytes shorter"
                raise InputError(f"{whole} is too long for a Unix socket", where=f"{key} of site {site.id}", right=right)
            changes[key] = f"{UNIX}{whole}" if site.uds is None or key == "grpc" else site.uds.model_copy(update={"path": whole})
        sites.append(site.model_copy(update=changes))
    return up.model_copy(update={"sites": sites})


def check_hub(up: Up, *, tell: Tell) -> None:
    """Asks a hub elsewhere, as each site, whether it knows it; raises InputError for one that does not answer or refuses."""
    if up.hub.url is None:
        return
    for site in up.sites:
        folder = Path(up.hub.credentials or ".") / site.id
        files = tuple(str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))
        if not all(Path(file).is_file() for file in files):
            continue  # told by name when the sites are laid out
        status = asyncio.run(_ask(up.hub.url, site.id, (files[0], files[1], files[2])))
        if status in {401, 403}:
            right = f"let it write them anew: nearhall hub credentials --state ITS_STATE --site {site.id} --out DIR"
            raise InputError(f"the hub at {up.hub.url} does not take {site.id}'s certificate", where="--credentials", right=right)
    tell(f"the hub at {up.hub.url} knows {', '.join(site.id for site in up.sites)}")


async def _ask(url: str, site: str, files: tuple[str, str, str]) -> int:
    uplink = HttpsUplink(url, files)
    try:
        path = f"/api/v1/sites/{site}/desired?after=0&wait_s=0"
        return (await uplink.exchange("GET", path, b"", timeout_s=ANSWER_S)).status
    except TemporaryError as error:
        right = "start it there (nearhall hub ...), or check the address, its --name and the way to it"
        raise InputError(f"{url}: {error}", where="--hub", right=right) from error
    finally:
        await uplink.close()
