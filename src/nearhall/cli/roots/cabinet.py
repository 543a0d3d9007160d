"""The virtual cabinet: `python -m nearhall.cli.roots.cabinet SETTINGS.json`."""

from __future__ import annotations

from pathlib import Path

from nearhall.cabinet.program import Cabinet
from nearhall.cabinet.settings import Settings
from nearhall.cli.roots.program import read_settings, run_program, say_ready, stop_event
from nearhall.documents.whole_file import write_whole
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.processes import ProcessCpu


async def main(path: str) -> None:
    """Runs until told to stop."""
    settings = read_settings(path, Settings)
    stop = stop_event(with_stdin=settings.exit_with_stdin)
    cpu = ProcessCpu([Path(name) for name in settings.follow])
    cabinet = Cabinet(settings, cpu=cpu, clock=SystemClock(), save=write_whole)
    await cabinet.run(stop, lambda port: say_ready(port=port))


if __name__ == "__main__":
    run_program(main)
