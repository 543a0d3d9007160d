"""The link between sites and hub: `python -m nearhall.cli.roots.link SETTINGS.json`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from nearhall.cli.roots.program import read_settings, run_program, say_ready, stop_event
from nearhall.sim.link import Link, Settings, new_loop
from nearhall.sim.link_control import LinkControl


async def main(path: str) -> None:
    """Runs until told to stop."""
    settings = read_settings(path, Settings)
    stop = stop_event(with_stdin=settings.exit_with_stdin)
    link = Link(settings=settings)
    control = LinkControl(link)
    try:
        await link.start()
        await control.start(settings.control)
        say_ready(control=control.address, lanes=link.addresses)
        await stop.wait()
    finally:
        await control.close()
        await link.close()


def _run(program: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(program)


if __name__ == "__main__":
    run_program(main, runner=_run)
