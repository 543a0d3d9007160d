"""What the person at the terminal sees while a pilot runs: where the page is, what happens, the live figures."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console

from nearhall.cli.live import LiveView
from nearhall.cli.pilot.layout import Layout
from nearhall.wire.live import LiveState


class Screen:
    """Lines before the work begins, the live view during it. Everything goes to standard error: `--json` keeps its output."""

    def __init__(self, console: Console, layout: Layout, seconds: float | None) -> None:
        self._console = console
        self._layout = layout
        self._seconds = seconds
        self._view = LiveView(console)
        self._shown = False

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shown:
            self._view.close()

    @property
    def page(self) -> str | None:
        """The page's address, with its token; None when the hub is elsewhere."""
        hub = self._layout.hub
        return None if hub is None else f"http://127.0.0.1:{hub.page_port}/?token={hub.token}"

    def tell(self, line: str) -> None:
        """Prints one line, above the live view if that is shown."""
        self._console.print(f"· {line}", markup=False)
        if line == "work begins":
            self._introduce()

    def show(self, state: LiveState) -> None:
        """Shows the live state."""
        self._shown = True
        self._view.show(state)

    def _introduce(self) -> None:
        if self.page is not None:
            self._console.print(f"  page      {self.page}", markup=False, soft_wrap=True)
        sites = {site.id: site for site in self._layout.up.sites}
        for name, places in self._layout.sites.items():
            self._console.print(
                f"  {name:<9} http://127.0.0.1:{places.service_port}  (v2 and OpenAI; try /v1/models)", markup=False
            )
            site = sites[name]
            beside = [] if site.grpc_at is None else [f"gRPC at {site.grpc_at}"]
            beside += [] if site.uds is None else [f"HTTP at the Unix socket {site.uds.path}"]
            for told in beside:
                self._console.print(f"  {'':<9} {told}", markup=False, soft_wrap=True)
        ends = (
            f"it stops by itself after {self._seconds:.0f} s"
            if self._seconds is not None
            else "Ctrl-C ends it and writes the report"
        )
        self._console.print(f"  {ends}", markup=False)
