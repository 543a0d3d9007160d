"""`nearhall hub`: a hub on a machine of its own, for sites on other machines."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from nearhall.cli.hub_place import Laid, Wanted, issue_site, lay_out_hub, parse_address
from nearhall.cli.output import emit, notes
from nearhall.cli.pilot.processes import Running, stop_all
from nearhall.core.errors import InputError
from nearhall.drivers.clock import SystemClock

EPILOG = (
    "Example:  nearhall hub --state hub --listen 0.0.0.0:8443 --page 8080 "
    "--repository ~/.cache/nearhall/models --name hub.example, then "
    "nearhall hub credentials --state hub --site shop-01 --out credentials, and at the site "
    "nearhall up --hub https://hub.example:8443 --credentials credentials"
)

app = typer.Typer(add_completion=False, help="Run the hub: gateway, control API and page.", rich_markup_mode=None)

State = Annotated[Path, typer.Option(help="The hub's folder: certificates, store, logs. Made if it is not there.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.callback(invoke_without_command=True, epilog=EPILOG)
def hub(
    context: typer.Context,
    state: Annotated[Path | None, typer.Option(help="The hub's folder: certificates, store, logs.")] = None,
    listen: Annotated[str, typer.Option(help="[HOST:]PORT that sites dial, mutual TLS: gateway and control API.")] = "8443",
    page: Annotated[str, typer.Option(help="[HOST:]PORT of the page, plain HTTP behind a token: keep it on 127.0.0.1.")] = "8444",
    repository: Annotated[Path | None, typer.Option(help="The hub's model repository.")] = None,
    jurisdiction: Annotated[str, typer.Option(help="Where this machine stands: an ISO 3166 code.")] = "DE",
    name: Annotated[list[str] | None, typer.Option(help="A DNS name or address by which sites reach it; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the hub until Ctrl-C: both its programs, each started again if it ends. 127.0.0.1 unless a host is named."""
    if context.invoked_subcommand is not None:
        return
    wanted = Wanted(
        state=_needed(state, "--state", "the hub's folder").resolve(),
        listen=parse_address(listen, option="--listen"),
        page=parse_address(page, option="--page"),
        repository=_needed(repository, "--repository", "the hub's model repository").expanduser().resolve(),
        jurisdiction=jurisdiction,
        names=name or [],
    )
    laid = lay_out_hub(wanted, started_s=SystemClock().utc())
    asyncio.run(_run(wanted, laid, as_json=as_json))


@app.command(epilog="Example:  nearhall hub credentials --state hub --site shop-01 --out credentials")
def credentials(
    state: State,
    site: Annotated[str, typer.Option(help="The site's id.")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle; it goes into a folder named after the site.")],
    as_json: AsJson = False,
) -> None:
    """Issue the certificate with which a site on another machine shows who it is."""
    bundle = issue_site(state, site, out)
    data = {"site": site, "ca": str(bundle.ca), "cert": str(bundle.cert), "key": str(bundle.key)}
    summary = f"{bundle.cert.parent}: ca.pem, cert.pem, key.pem\nBring them to {site} by a way you trust; key.pem is its secret."
    emit(escape(summary), data, as_json=as_json)


def _needed(path: Path | None, option: str, what: str) -> Path:
    if path is None:
        raise InputError("is missing", where=option, right=f"name {what}")
    return path


async def _run(wanted: Wanted, laid: Laid, *, as_json: bool) -> None:
    """Both programs, until SIGINT or SIGTERM; each is started again when it ends, and both end with this process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def tell(line: str) -> None:
        notes().print(escape(line))

    running = [Running(program, tell) for program in laid.programs]
    try:
        for program in running:
            program.start()
        ready = asyncio.gather(*(program.until_ready() for program in running))
        halt = asyncio.create_task(stop.wait())
        await asyncio.wait({ready, halt}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
            _announce(wanted, laid, as_json=as_json)
        else:
            ready.cancel()
        await halt
    finally:
        await stop_all(running)


def _announce(wanted: Wanted, laid: Laid, *, as_json: bool) -> None:
    url = f"https://{wanted.listen.url_host}:{wanted.listen.port}"
    lines = [f"sites dial {url}"]
    if not any((wanted.listen.everywhere, wanted.names)):
        lines.append("sites on other machines cannot reach it: name --listen and --name for that")
    summary = escape("\n".join([*lines, f"page       {laid.page_url}", f"state      {wanted.state}", "Ctrl-C ends"]))
    emit(summary, {"hub": url, "page": laid.page_url, "state": str(wanted.state)}, as_json=as_json)
    sys.stdout.flush()
