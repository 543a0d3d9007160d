"""The `nearhall` command: a table of subcommands, each imported only when it is called."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module

from rich.console import Group, RenderableType
from rich.table import Table

from nearhall import __version__
from nearhall.cli.output import console, run
from nearhall.core.errors import InputError

COMMANDS: dict[str, str] = {
    "up": "Run a pilot on this machine: a hub, two sites, real models, and a report.",
    "serve": "Serve a model repository over HTTP (Open Inference Protocol v2, OpenAI).",
    "site": "Run a site's agent from its site.yaml.",
    "hub": "Run the hub: gateway, control API and page.",
    "models": "Add, list and fetch models; show their licences.",
    "plan": "Plan a fleet: where workloads belong, how cabinets are built, what it costs.",
    "decide": "Put what pilots measured in place of what a plan assumed: scale, hold or stop.",
    "meters": "Read an instrument, real or virtual.",
    "report": "Write pilot.json and report.html from a hub's store.",
    "bench": "Measure the data plane on this machine, beside the limit and any v2 server.",
    "doctor": "Say what works on this machine, what does not, and why.",
}
"""Name and one line of help; the module is `nearhall.cli.commands.<name>`, which holds a `typer.Typer` called `app`."""


def main(arguments: list[str] | None = None) -> None:
    """Runs `nearhall ARGUMENTS` and exits: 0 success, 1 a failed run, 2 bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(lambda: dispatch(given)))


def dispatch(arguments: list[str]) -> None:
    """Imports the one command that was named and hands it the rest of the line."""
    if not arguments or arguments[0] in {"-h", "--help"}:
        console().print(_overview())
        return
    name, rest = arguments[0], arguments[1:]
    if name in {"-V", "--version"}:
        console().print(f"nearhall {__version__}")
        return
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        right = f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(COMMANDS)}"
        raise InputError(f"there is no command {name!r}", where="nearhall", right=right)
    import_module(f"nearhall.cli.commands.{name}").app(rest, prog_name=f"nearhall {name}")


def _overview() -> RenderableType:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, line in COMMANDS.items():
        table.add_row(f"[bold]{name}[/bold]", line)
    head = "[bold]nearhall[/bold]: plan, rehearse, run and prove small data centers for AI.\n"
    tail = "\nStart with [bold]nearhall up[/bold]. Each command explains itself: [bold]nearhall COMMAND --help[/bold]."
    return Group(head, table, tail)


if __name__ == "__main__":
    main()
