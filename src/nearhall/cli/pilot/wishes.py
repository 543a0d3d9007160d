"""From the command line to a pilot's document: what the user asked for, on top of the default or of a pilot.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from nearhall.core.errors import InputError
from nearhall.documents.up import Hub, Link, Meter, Site, Up, Workload
from nearhall.drivers.modbus_meter import find_profile, parse_meter_url, read_commissioning

CAMERA_RATE_PER_S = 5.0
CAMERA_SLO_MS = 100.0
"""A user's own model is of unknown size; these suit most detectors on one core and are written into pilot.yaml to be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The options of `nearhall up` that change what is run."""

    seconds: float | None
    seed: int | None
    light: bool
    link: Link | None
    hub_url: str | None
    credentials: Path | None
    camera: str | None
    model: str | None
    meters: Sequence[str]


def with_wishes(up: Up, wishes: Wishes) -> Up:
    """The document with the command line's options in it; raises InputError for what does not go together."""
    changes: dict[str, object] = {}
    if wishes.seconds is not None:
        changes["seconds"] = wishes.seconds
    if wishes.seed is not None:
        changes["seed"] = wishes.seed
    if wishes.link is not None:
        changes["link"] = wishes.link
    if wishes.light:
        changes["light"] = True
    if wishes.hub_url is not None:
        changes["hub"] = _hub_elsewhere(up, wishes)
    elif wishes.credentials is not None:
        raise InputError("needs the hub's address", where="--credentials", right="add --hub https://HOST:PORT")
    sites = list(up.sites)
    if wishes.camera is not None or wishes.model is not None:
        sites[0] = _with_camera(sites[0], wishes.camera, wishes.model)
    if wishes.meters:
        sites[0] = sites[0].model_copy(update={"meters": [parse_meter(text) for text in wishes.meters]})
    changes["sites"] = sites
    for site in sites:
        check_meters(site)
    return up.model_copy(update=changes)


def check_meters(site: Site) -> None:
    """Refuses before anything starts what a site's agent would refuse: an address, a profile, a commissioning record.

    Raises InputError; also for two meters at one position or of one id, of which one would be read in silence.
    """
    for meter in site.meters:
        parse_meter_url(meter.url)
        find_profile(meter.profile)
        if meter.commissioning is not None:
            read_commissioning(Path(meter.commissioning))
    for what, names in (("position", [m.position for m in site.meters]), ("id", [m.id for m in site.meters])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"two meters of {site.id} have the {what} {twice[0]!r}", where="--meter", right="leave one out")


def parse_meter(text: str) -> Meter:
    """Reads `POSITION=modbus://HOST:PORT/UNIT[,profile=NAME][,commissioning=FILE]`."""
    head, *rest = text.split(",")
    position, equals, url = head.partition("=")
    fields: dict[str, str] = {"id": f"real-{position.replace('_', '-')}", "position": position, "url": url}
    for part in rest:
        key, sign, value = part.partition("=")
        if not sign or key not in {"profile", "commissioning", "id"}:
            raise InputError(
                f"{part!r} is not known",
                where="--meter",
                right="use profile=NAME, commissioning=FILE or id=NAME after the address",
            )
        fields[key] = str(Path(value).resolve()) if key == "commissioning" else value
    try:
        if not equals:
            raise ValueError(head)
        return Meter.model_validate(fields)
    except ValueError as error:
        right = "e.g. --meter feed=modbus://192.0.2.7:502/1,profile=sdm630,commissioning=feed.json"
        what = f"{text!r} does not name a meter" if not isinstance(error, ValidationError) else _first(error)
        raise InputError(what, where="--meter", right=right) from error


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    return f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"


def _hub_elsewhere(up: Up, wishes: Wishes) -> Hub:
    if wishes.credentials is None:
        right = "add --credentials DIR with the bundles that the hub wrote (nearhall hub credentials --site ID --out DIR)"
        raise InputError("a hub elsewhere knows its sites by certificate", where="--hub", right=right)
    url = wishes.hub_url or ""
    if not url.startswith("https://"):
        raise InputError(f"{url!r} is not an https:// address", where="--hub", right="e.g. https://hub.example:8443")
    return up.hub.model_copy(update={"url": url.rstrip("/"), "credentials": str(wishes.credentials)})


def _with_camera(site: Site, camera: str | None, model: str | None) -> Site:
    """The first workload replaced by the user's own stream and model."""
    first = site.workloads[0]
    name = model or first.model
    source = camera or first.source
    if camera is not None and "://" not in camera and not Path(camera).exists():
        raise InputError(
            f"there is no file or folder {camera!r}",
            where="--camera",
            right="name a video file, a folder of images, or an rtsp:// address",
        )
    own = Workload(
        id="camera",
        kind="video" if name == first.model else "camera",
        model=name,
        rate_per_s=first.rate_per_s if name == first.model else CAMERA_RATE_PER_S,
        residency="site",
        priority=first.priority,
        slo_p99_ms=first.slo_p99_ms if name == first.model else CAMERA_SLO_MS,
        source=source if camera is None or "://" in camera else str(Path(camera).resolve()),
        raw_baseline="the camera's own encoded stream, whole",
    )
    models = [*([name] if name not in site.models else []), *site.models]
    return site.model_copy(update={"workloads": [own, *site.workloads[1:]], "models": models})
