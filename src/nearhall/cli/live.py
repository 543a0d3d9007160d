"""The terminal's live view of a pilot: what each site does now, in a screen of 80 x 24 and in more when there is more."""

from __future__ import annotations

from collections import deque

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nearhall.report.evidence_marks import MARKS, kind_named
from nearhall.report.formats import NO_VALUE, celsius, clock, count, ms, plain, ratio, seconds, size, watts
from nearhall.wire.live import LiveMeter, LiveSite, LiveState, LiveWorkload
from nearhall.wire.telemetry import Event

STATUS_SECONDS = 5.0
"""Without a terminal: one line this often, by the hub's clock, so that a log stays readable."""
EVENTS_KEPT = 50
LINES_SPARED = 2
"""The cursor's line, and one so that the view never scrolls itself."""
_LEVEL_STYLE = {"warning": "yellow", "error": "bold red"}


class LiveView:
    """Shows the live state, again and again, in place. Where the output is no terminal it prints a status line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._told_s: float | None = None
        self._events: deque[tuple[str, Event]] = deque(maxlen=EVENTS_KEPT)

    def show(self, state: LiveState) -> None:
        """Replaces what is shown by `state`."""
        self._remember(state.events)
        if not self._console.is_terminal:
            self._tell(state)
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(view(state, list(self._events), lines=self._console.height - LINES_SPARED), refresh=True)

    def close(self) -> None:
        """Ends the view and gives the terminal back; safe to call twice."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _tell(self, state: LiveState) -> None:
        if self._told_s is not None and 0 <= state.at_s - self._told_s < STATUS_SECONDS:
            return
        self._told_s = state.at_s
        self._console.print(status_line(state), markup=False, soft_wrap=True)

    def _remember(self, events: list[tuple[str, Event]]) -> None:
        """Keeps events once: a snapshot holds the last hundred, a server-sent event only the new ones."""
        known = set(self._events)
        self._events.extend(pair for pair in events if pair not in known)


def view(state: LiveState, events: list[tuple[str, Event]], *, lines: int) -> RenderableType:
    """The whole screen, at most `lines` high: the sites with their power, then as many events as there is room for."""
    parts: list[RenderableType] = [_head(state)]
    used = 1
    for site in state.sites:
        table = _workloads(site)
        parts += [_site_line(site), table, _power_line(site)]
        used += 2 + len(site.workloads) + 1
    room = lines - used - 1
    if room >= 1:
        recent = sorted(events, key=lambda pair: pair[1].at_s)[-room:]
        parts += [_event_line(site, event) for site, event in recent] or [Text("no events yet", style="dim")]
    parts.append(Text("M measured  S simulated  A assumed  ·  p50/p99 in ms, chat to the first token", style="dim", no_wrap=True))
    return Group(*parts)


def status_line(state: LiveState) -> str:
    """All sites in one line, for logs."""
    told: list[str] = []
    for site in state.sites:
        mark, all_here = _letter(site, "counts"), site.workloads
        sums = {
            "local": sum(w.local for w in all_here),
            "hub": sum(w.hub for w in all_here),
            "refused": sum(sum(w.rejected.values()) for w in all_here),
            "failed": sum(w.failed for w in all_here),
        }
        numbers = " ".join(f"{name} {count(value)}[{mark}]" for name, value in sums.items())
        told.append(f"{site.id}{'' if site.online else ' OFFLINE'}: {numbers}, {_feed(site)}")
    return f"{clock(state.at_s)} {seconds(max(0.0, state.at_s - state.started_s))}  " + (
        "  |  ".join(told) or "waiting for sites"
    )


def _head(state: LiveState) -> Text:
    running = seconds(max(0.0, state.at_s - state.started_s))
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("nearhall", style="bold")
    line.append(f"  {clock(state.at_s)} UTC, running {running}", style="dim")
    if not state.sites:
        line.append("  waiting for the first site", style="yellow")
    return line


def _site_line(site: LiveSite) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(site.id, style="bold")
    line.append("  online" if site.online else "  OFFLINE", style="green" if site.online else "bold red")
    if not site.gateway_up:
        line.append("  gateway down", style="bold red")
    if not site.link_up:
        line.append(f"  link cut, {size(site.spooled_bytes)} waiting", style="yellow")
    line.append(f"  rtt {_marked(site, 'rtt', None if site.rtt_ms is None else ms(site.rtt_ms))}")
    loading = [f"{model.name} {model.state}" for model in site.models if model.state != "ready"]
    if loading:
        line.append(f"  {', '.join(loading)}", style="yellow")
    return line


def _workloads(site: LiveSite) -> Table:
    """One row a workload; the letters of evidence stand in the head, once, because they hold for the whole column."""
    counts, here, hub = (_letter(site, figure) for figure in ("counts", "latency_local", "latency_hub"))
    raw, sent = (_letter(site, figure) for figure in ("bytes_raw", "bytes_sent"))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", expand=False)
    table.add_column("workload", no_wrap=True, overflow="ellipsis", max_width=12)
    heads = (f"/s {counts}", f"local {counts}", f"hub {counts}", f"refused {counts}", f"local ms {here}", f"hub ms {hub}")
    heads += (f"raw {raw}", f"sent {sent}")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for workload in site.workloads:
        table.add_row(*_cells(workload))
    return table


def _cells(workload: LiveWorkload) -> list[Text | str]:
    refused = sum(workload.rejected.values())
    # What the hub took for requests sent to it; else what it would have taken, by probes.
    hub = workload.hub_p50_ms if workload.hub_p50_ms is not None else workload.probe_p50_ms
    failed = Text(f" {workload.failed} failed", style="bold red") if workload.failed else Text("")
    return [
        Text(workload.id) + failed,
        f"{workload.requests_per_s:.1f}",
        count(workload.local),
        count(workload.hub),
        Text(count(refused), style="yellow" if refused else ""),
        Text(_pair(workload.local_p50_ms, workload.local_p99_ms), style="cyan"),
        Text(_pair(hub, workload.hub_p99_ms), style="dark_orange3"),
        _short_size(workload.raw_bytes),
        _short_size(workload.sent_bytes),
    ]


def _pair(p50: float | None, p99: float | None) -> str:
    return f"{_short(p50)}/{_short(p99)}"


def _short(value: float | None) -> str:
    if value is None:
        return NO_VALUE
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def _short_size(value: float) -> str:
    """Bytes in at most six characters."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f}{unit}"
    return f"{value:.0f}"


def _power_line(site: LiveSite) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    known = [meter for meter in site.meters if meter.power_w is not None]
    ends = [meter for position in ("feed", "it") for meter in known if meter.position == position]
    line.append("  ".join(f"{meter.id} {_watts(meter)}" for meter in ends or known) or "no meter read yet")
    line.append(f"  PUE {_marked(site, 'pue', None if site.pue is None else ratio(site.pue))}")
    inlet = next((meter for meter in site.meters if "inlet_c" in meter.values), None)
    if inlet is not None:
        line.append(f"  inlet {celsius(inlet.values['inlet_c'])}[{_letter(site, 'temperature')}]")
    # Between feed and servers only where the line is long enough.
    line.append("".join(f"  {meter.id} {_watts(meter)}" for meter in known if ends and meter not in ends))
    missed = [meter.id for meter in site.meters if meter.missed]
    if missed:
        line = Text(f"not answering: {', '.join(missed)}  ", style="bold red", no_wrap=True, overflow="ellipsis") + line
    return line


def _watts(meter: LiveMeter) -> str:
    return NO_VALUE if meter.power_w is None else f"{watts(meter.power_w)}[{MARKS[kind_named(meter.kind)].letter}]"


def _feed(site: LiveSite) -> str:
    feed = next((meter for meter in site.meters if meter.position == "feed"), None)
    return f"feed {NO_VALUE if feed is None else _watts(feed)}"


def _event_line(site: str, event: Event) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{clock(event.at_s)} ", style="dim")
    line.append(f"{site} ", style="dim")
    line.append(event.text or plain(event.kind), style=_LEVEL_STYLE.get(event.level, ""))
    return line


def _letter(site: LiveSite, figure: str) -> str:
    return MARKS[kind_named(site.kinds.get(figure))].letter


def _marked(site: LiveSite, figure: str, text: str | None) -> str:
    return NO_VALUE if text is None else f"{text}[{_letter(site, figure)}]"
