"""What applications saw from outside, beside what the sites counted themselves: two clocks and two counters that must agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nearhall.report.evidence_marks import Figure
from nearhall.report.formats import NO_VALUE, count, ms
from nearhall.report.reader import PilotReader, WorkloadView, escaped

OTHERWISE: dict[str, str] = {
    "refused": "refused with a reason",
    "broken": "connection lost",
    "cut_short": "stream cut short",
    "unanswered": "open at the end",
    "dropped": "not sent, too many were open",
    "idle": "no new picture",
    "unready": "could not be made",
    "misread": "could not be read",
}
"""What the application's other counts mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """One workload of one site, seen from both sides."""

    label: str
    site: str
    figures: list[Figure]
    """Sent, answered outside, answered by the site's count, median outside, median by the gateway."""
    agrees: bool
    """Whether both counted the same answers."""
    otherwise: list[tuple[str, Figure]]
    """What became of the rest, in words, where there is any."""


def from_outside(reader: PilotReader) -> list[Outside]:
    """A row for each workload whose application reported; none where the requests came from elsewhere."""
    return list(_rows(reader))


def _rows(reader: PilotReader) -> Iterator[Outside]:
    for workload in reader.workloads:
        seen = f"/players/{escaped(workload.site)}/workloads/{escaped(workload.id)}"
        answered = reader.number(f"{seen}/answered")
        if answered is None:
            continue
        counted = (workload.number("requests/local") or 0) + (workload.number("requests/hub") or 0)
        yield Outside(
            label=workload.id,
            site=workload.site,
            figures=[
                reader.figure(f"{seen}/sent", count),
                reader.figure(f"{seen}/answered", count),
                reader.texts(f"{workload.pointer}/requests", count(counted)),
                reader.figure(f"{seen}/{'first_token_p50_ms' if workload.chat else 'p50_ms'}", ms, missing="too few answers"),
                _gateways(workload),
            ],
            agrees=answered == counted,
            otherwise=[
                (said, reader.figure(f"{seen}/{name}", count))
                for name, said in OTHERWISE.items()
                if reader.number(f"{seen}/{name}")
            ],
        )


def _gateways(workload: WorkloadView) -> Figure:
    """The gateway's median where all answers came from one place; two medians cannot be put together."""
    used = [place for place in ("local", "hub") if workload.number(f"requests/{place}")]
    if len(used) != 1:
        return Figure(text=NO_VALUE, missing="answers came from here and from the hub; their medians stand above")
    return workload.figure(f"{workload.times}/{used[0]}/p50", ms, missing="too few answers")
