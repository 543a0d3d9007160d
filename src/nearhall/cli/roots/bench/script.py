"""What the scripts in bench/ share: their options, who runs on which core, and how they end."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from nearhall.cli.output import console, notes, run, wide_console
from nearhall.cli.roots.bench import built_in
from nearhall.cli.roots.bench.goals import Verdict
from nearhall.cli.roots.bench.machine import Cores, available_cores, describe_machine, on_cores, split_cores, warnings
from nearhall.cli.roots.bench.screen import verdict_table, warned


@dataclass(slots=True, kw_only=True)
class Script:
    """One run of a script."""

    name: str
    options: argparse.Namespace
    cores: Cores
    folder: Path
    begun_s: float
    told: str = ""
    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    warnings: list[str] = field(default_factory=list[str])
    data: dict[str, Any] = field(default_factory=dict[str, Any])

    def loaded_cores(self) -> frozenset[int]:
        """Where a server runs that is asked for more than one core can do.

        Of two cores it gets both: reading and refusing fill one while the model fills the other, and the open loop's client
        needs little. With `--disjoint` it stays where it is.
        """
        if len(self.cores.server) > 1 or self.options.disjoint:
            return self.cores.server
        self.warnings.append("the server has both cores, and the client shares its own with it; --disjoint keeps them apart")
        return self.cores.server | self.cores.client

    @property
    def models(self) -> Path:
        """A repository with the test models."""
        place = self.folder / "models"
        if not place.exists():
            built_in.write_models(place)
        return place

    def file_of(self, model: str) -> Path:
        """A test model's file."""
        return self.models / model / "1" / "cpu" / "m.onnx"

    def tell(self, text: str) -> None:
        """Says what is being done, once for each round."""
        stage = text.partition(":")[0]
        if stage != self.told:
            self.told = stage
            notes().print(f"  {self.name}: {stage}", style="dim", markup=False)

    def show(self, what: RenderableType) -> None:
        """Shows a table, or a line."""
        if not self.options.json:
            wide_console().print(what)


def main(
    name: str, doc: str, work: Callable[[Script], None], more: Callable[[argparse.ArgumentParser], None] = lambda _: None
) -> None:
    """Runs a script: options, cores, a folder of its own, verdicts at the end. Exit 1 only where it could not measure."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--disjoint", action="store_true", help="keep a loaded server off the client's core even where that leaves it one core"
    )
    parser.add_argument("--no-pin", action="store_true", help="let client and server share all cores")
    more(parser)
    options = parser.parse_args()

    def go() -> None:
        with _script(name, options) as script:
            work(script)
            _end(script)

    sys.exit(run(go))


@contextmanager
def _script(name: str, options: argparse.Namespace) -> Generator[Script]:
    cores = split_cores(available_cores(), pinned=not options.no_pin)
    doubts = warnings(cores)
    if not options.json:
        console().print(warned(doubts))
    with on_cores(cores.client), tempfile.TemporaryDirectory(prefix="nh-bench-") as folder:
        yield Script(
            name=name, options=options, cores=cores, folder=Path(folder), begun_s=time.monotonic(), warnings=list(doubts)
        )


def _end(script: Script) -> None:
    took_s = time.monotonic() - script.begun_s
    if script.options.json:
        sys.stdout.write(json.dumps(_plain(script, script.verdicts, took_s), ensure_ascii=False) + "\n")
        return
    if script.verdicts:
        wide_console().print(verdict_table(script.verdicts))
    if script.warnings:
        console().print(warned(script.warnings))
    console().print(f"[dim]{script.name}: {took_s:.0f} s[/dim]\n")


def _plain(script: Script, verdicts: Sequence[Verdict], took_s: float) -> Mapping[str, Any]:
    return {
        "bench": script.name,
        "machine": describe_machine(),
        "cores": {"client": sorted(script.cores.client), "server": sorted(script.cores.server)},
        "evidence": "measured",
        "warnings": script.warnings,
        "took_s": round(took_s, 1),
        "goals": [one.plain() for one in verdicts],
        **script.data,
    }
