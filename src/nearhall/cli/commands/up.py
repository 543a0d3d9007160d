"""`nearhall up`: the pilot on one machine."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from nearhall.cli.output import emit, notes
from nearhall.cli.pilot.beforehand import check_hub, check_models, check_streams, with_whole_paths
from nearhall.cli.pilot.meters import read_meters
from nearhall.cli.pilot.prepare import claim_folder, lay_out, next_folder, write_settings
from nearhall.cli.pilot.returns import write_returns
from nearhall.cli.pilot.run import Ended, Pilot
from nearhall.cli.pilot.screen import Screen
from nearhall.cli.pilot.wishes import Wishes, with_wishes
from nearhall.cli.roots.listening import bind
from nearhall.cli.roots.models import cache_folder, ensure_clips, ensure_default_models
from nearhall.cli.roots.program import make_way
from nearhall.core.addresses import taken_out
from nearhall.core.errors import InputError
from nearhall.documents.up import JITTER_MS_MAX, RTT_MS_MAX, Link, MeasuredTrip, Up, default_pilot
from nearhall.documents.whole_file import write_whole
from nearhall.documents.yaml_file import dump_document, read_document
from nearhall.drivers.clock import SystemClock
from nearhall.gateway.settings import host_and_port
from nearhall.sim.probe import measure_round_trip
from nearhall.sim.wan import parse_wan

SECONDS_WITHOUT_TERMINAL = 60.0
"""Nobody can press Ctrl-C where there is no terminal."""

app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode="rich")


@app.command(
    epilog="Examples:  nearhall up  ·  nearhall up --seconds 60 --out pilot  ·  nearhall up --wan rtt=80,mbps=10  ·  "
    "nearhall up --camera rtsp://camera.local/stream --model faces  ·  nearhall up pilot/pilot.yaml"
)
def command(
    document: Annotated[
        Path | None, typer.Argument(help="A pilot.yaml to repeat; `up` writes one beside every result.", metavar="[PILOT.yaml]")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Stop by itself after this many seconds of work. Default: until Ctrl-C; 60 where no terminal is.", min=1
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for pilot.json, report.html, pilot.yaml. Default: ./pilot, ./pilot-2, ...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object (pilot.json) on standard output.")] = False,
    light: Annotated[bool, typer.Option(help="Leave the chat model and its runtime out.")] = False,
    wan: Annotated[str | None, typer.Option(help="The simulated link: rtt=MS,jitter=MS,mbps=N (any of them).")] = None,
    hub_probe: Annotated[
        str | None, typer.Option(help="Measure your real round trip to this URL and use it for the link.")
    ] = None,
    hub: Annotated[str | None, typer.Option(help="Join a hub elsewhere: https://HOST:PORT.")] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="Certificates that the hub elsewhere issued, a folder for each site.")
    ] = None,
    camera: Annotated[
        str | None, typer.Option(help="Your own stream in place of the first: rtsp://..., a video file, a folder of images.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Your own model for it (see `nearhall models add`).")] = None,
    meter: Annotated[
        list[str] | None,
        typer.Option(help="A real meter at the first site: POSITION=modbus://HOST:PORT/UNIT[,profile=..][,commissioning=FILE]."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of arrivals, probes and the link.", min=0)] = None,
    plant_scale_error: Annotated[list[str] | None, typer.Option(hidden=True, help="SITE:UNIT=FACTOR, a lying register.")] = None,
) -> None:
    """Run a pilot on this machine: a regional hub, two small sites, real models, real input, and a report of what it returned.

    Requests are answered on site; heavy or overflowing work falls back to the hub over a simulated link; raw data stays home.
    Power is read from a virtual cabinet and is marked simulated everywhere.
    """
    if wan is not None and hub_probe is not None:
        raise InputError("the link is either given or measured", where="--wan, --hub-probe", right="leave one of them out")
    base = default_pilot(light=light) if document is None else with_whole_paths(read_document(document, Up), document.parent)
    secrets: dict[str, str] = {}
    if camera is not None:
        camera, secrets = taken_out(camera)
    wishes = Wishes(
        seconds=seconds,
        seed=seed,
        light=light,
        link=_link(base, wan, hub_probe),
        hub_url=hub,
        credentials=credentials,
        camera=camera,
        model=model,
        meters=meter or [],
    )
    up = with_wishes(base, wishes)

    def tell(text: str) -> None:
        notes().print(text, markup=False, soft_wrap=True)

    _check_addresses(up)
    check_streams(up, {**os.environ, **secrets}, tell=tell)
    length = up.seconds
    if length is None and not sys.stdin.isatty():
        length = SECONDS_WITHOUT_TERMINAL
    read_meters(up, tell=tell)
    check_hub(up, tell=tell)
    cache = cache_folder(os.environ)
    repository = ensure_default_models(cache, light=up.light, progress=notes())
    clips = ensure_clips(cache, progress=notes())
    check_models(up, repository)
    folder = out or next_folder(Path.cwd())
    claim_folder(folder)
    tell(f"results go to {folder}")
    write_whole(folder / "pilot.yaml", dump_document(up))
    summary, pilot = _run(
        up,
        folder.resolve(),
        repository=repository,
        clips=clips,
        seconds=length,
        planted=_planted(plant_scale_error or []),
        secrets=secrets,
    )
    emit(summary, pilot, as_json=as_json)


def _run(
    up: Up,
    out: Path,
    *,
    repository: Path,
    clips: Mapping[str, Path],
    seconds: float | None,
    planted: Mapping[str, Mapping[int, float]],
    secrets: Mapping[str, str],
) -> tuple[str, Mapping[str, object]]:
    clock = SystemClock()
    layout = lay_out(up, out, repository=repository, clips=clips)
    programs = write_settings(layout, out, started_s=clock.utc(), scale_errors=planted, secrets=secrets)

    async def live() -> Ended:
        with Screen(notes(), layout, seconds) as screen:
            pilot = Pilot(layout, programs, clock, tell=screen.tell, show=screen.show)
            return await pilot.run(seconds)

    ended = asyncio.run(live())
    return write_returns(layout, out, ended)


def _check_addresses(up: Up) -> None:
    """Whether every site can have the addresses that the document names; raises InputError.

    A gateway that cannot is started again and again by its agent, and says why in a log.
    """
    for site in up.sites:
        for key, path in site.sockets.items():
            make_way(Path(path), where=f"{key} of site {site.id}")
        if site.grpc_at is not None and "grpc" not in site.sockets:
            host, port = host_and_port(site.grpc_at, where=f"grpc of site {site.id}")
            bind(host, port, what=f"grpc of site {site.id}").close()


def _link(up: Up, wan: str | None, hub_probe: str | None) -> Link | None:
    if wan is not None:
        return parse_wan(wan, up.link)
    if hub_probe is not None:
        return _probed(up, hub_probe)
    return None


def _probed(up: Up, url: str) -> Link:
    """The link with the round trip to `url`; raises InputError where that is longer than a link may be."""
    trip = measure_round_trip(url)
    if trip.p50_ms > RTT_MS_MAX:
        right = f"a server within {RTT_MS_MAX:g} ms"
        raise InputError(f"{url} takes {trip.p50_ms:.0f} ms for a round trip", where="--hub-probe", right=right)
    how = "exchanges on a warm connection" if trip.warm else "TCP connects, since it answered no HTTP"
    source = f"round trip measured by nearhall up --hub-probe {url} (median of {trip.n} {how}); the link itself is played"
    measured = MeasuredTrip(
        url=url,
        n=trip.n,
        p50_ms=round(trip.p50_ms, 2),
        jitter_ms=round(trip.jitter_ms, 2),
        connect_p50_ms=round(trip.connect_p50_ms, 2),
        warm=trip.warm,
    )
    notes().print(f"{url}: {measured.p50_ms:g} ms, jitter {measured.jitter_ms:g} ms ({trip.n} {how})", markup=False)
    changes = {"rtt_ms": measured.p50_ms, "jitter_ms": min(measured.jitter_ms, JITTER_MS_MAX), "source": source}
    return up.link.model_copy(update={**changes, "measured": measured})


def _planted(errors: list[str]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for text in errors:
        try:
            place, _, factor = text.partition("=")
            site, _, unit = place.partition(":")
            found.setdefault(site, {})[int(unit)] = float(factor)
        except ValueError as error:
            raise InputError(f"{text!r} plants nothing", where="--plant-scale-error", right="e.g. shop-01:4=1.1") from error
    return found
