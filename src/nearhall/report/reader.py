"""Reads `pilot.json` so that no figure is shown without its evidence: a JSON pointer in, a `Figure` out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from nearhall.core.evidence import Kind
from nearhall.report.evidence_marks import EvidenceIndex, Figure
from nearhall.report.formats import NO_VALUE

NOBODYS = "model:"
"""Before the name of a model that no workload names."""
NOT_IN_DOCUMENT = "pilot.json does not hold this figure"


def members(value: Any) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def elements(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def escaped(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


class PilotReader:
    """The document and its evidence. Nothing here fails for a part that is missing or null: short runs leave gaps."""

    def __init__(self, pilot: Mapping[str, Any]) -> None:
        self.pilot = pilot
        self.evidence = EvidenceIndex({pointer: members(entry) for pointer, entry in members(pilot.get("evidence")).items()})

    def at(self, pointer: str) -> Any:
        """The value at a JSON pointer; None when any part of the way is missing."""
        value: Any = self.pilot
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list):
                rows = elements(cast("Any", value))
                value = rows[int(name)] if name.isdecimal() and int(name) < len(rows) else None
            else:
                value = members(value).get(name)
        return value

    def number(self, pointer: str) -> float | None:
        """The number at a pointer; None when there is none."""
        value = self.at(pointer)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def figure(self, pointer: str, form: Callable[[float], str], *, missing: str = NOT_IN_DOCUMENT) -> Figure:
        """The figure at a pointer, formatted, with its evidence; without a value, a dash and the reason."""
        value = self.number(pointer)
        if value is None:
            return Figure(text=NO_VALUE, missing=missing)
        return self.texts(pointer, form(value))

    def texts(self, pointer: str, text: str) -> Figure:
        """A figure whose text the caller has put together from values at and below `pointer`."""
        kind, source = self.believed(pointer)
        return Figure(text=text, kind=kind, source=source)

    def believed(self, pointer: str) -> tuple[Kind, str]:
        """How the figure at a pointer came to be, and from what."""
        return self.evidence.find(pointer)

    @property
    def sites(self) -> list[SiteView]:
        """The sites, in the document's order."""
        return [
            SiteView(reader=self, index=index, id=str(site.get("id", index))) for index, site in enumerate(self._list("/sites"))
        ]

    @property
    def workloads(self) -> list[WorkloadView]:
        """The workloads of every site. A model that clients asked for by a wrong name is none; see `asked_for`."""
        return [workload for site in self.sites for workload in site.workloads]

    @property
    def asked_for(self) -> list[WorkloadView]:
        """The workloads, and the names of models that were asked for in vain."""
        return [workload for site in self.sites for workload in site.asked_for]

    def _list(self, pointer: str) -> list[Mapping[str, Any]]:
        return [members(item) for item in elements(self.at(pointer))]

    def counts(self, pointer: str) -> dict[str, float]:
        """The numbers of the object at `pointer`, by name."""
        return {name: n for name, n in self.entries(pointer) if isinstance(n, int | float) and not isinstance(n, bool)}

    def items(self, pointer: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The objects of the list at `pointer`, each with its own pointer."""
        return [(f"{pointer}/{index}", item) for index, item in enumerate(self._list(pointer))]

    def entries(self, pointer: str) -> Iterator[tuple[str, Any]]:
        """The members of the object at `pointer`."""
        yield from members(self.at(pointer)).items()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadView:
    """One workload: where it stands in the document and what it is called."""

    reader: PilotReader
    site: str
    pointer: str
    id: str
    model: str
    residency: str
    chat: bool
    """Compared by its times to first token."""

    @property
    def in_vain(self) -> bool:
        """Whether it is no workload of the site, only a model's name that some client sent and nobody answered."""
        return self.id.startswith(NOBODYS) and not any(self.number(f"requests/{place}") for place in ("local", "hub"))

    @property
    def link_rtt_ms(self) -> float | None:
        """The round trip between its site and the hub."""
        return self.reader.number(f"{self.pointer.rpartition('/workloads/')[0]}/link/rtt_ms")

    @property
    def label(self) -> str:
        """Workload and site, for tables and pictures over several sites."""
        return f"{self.id} · {self.site}"

    def number(self, below: str) -> float | None:
        """The number at a path below this workload."""
        return self.reader.number(f"{self.pointer}/{below}")

    def counts(self, below: str) -> dict[str, float]:
        """The numbers of the object at a path below this workload, by name."""
        return self.reader.counts(f"{self.pointer}/{below}")

    def figure(self, below: str, form: Callable[[float], str], *, missing: str = NOT_IN_DOCUMENT) -> Figure:
        """The figure at a path below this workload."""
        return self.reader.figure(f"{self.pointer}/{below}", form, missing=missing)

    @property
    def times(self) -> str:
        """Which times tell how soon an answer comes: the whole answer's, or for chat the first token's."""
        return "ttft_ms" if self.chat else "latency_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """One site: where it stands in the document."""

    reader: PilotReader
    index: int
    id: str

    @property
    def pointer(self) -> str:
        """Its place in the document."""
        return f"/sites/{self.index}"

    def figure(self, below: str, form: Callable[[float], str], *, missing: str = NOT_IN_DOCUMENT) -> Figure:
        """The figure at a path below this site."""
        return self.reader.figure(f"{self.pointer}/{below}", form, missing=missing)

    @property
    def workloads(self) -> list[WorkloadView]:
        """Its workloads."""
        return [workload for workload in self.asked_for if not workload.in_vain]

    @property
    def asked_for(self) -> list[WorkloadView]:
        """Its workloads, and the names of models that were asked for in vain."""
        return [
            WorkloadView(
                reader=self.reader,
                site=self.id,
                pointer=pointer,
                id=str(item.get("id", "?")),
                model=str(item.get("model", "?")),
                residency=str(item.get("residency", "any")),
                chat=item["chat"] if isinstance(item.get("chat"), bool) else _has_times(item.get("ttft_ms")),
            )
            for pointer, item in self.reader.items(f"{self.pointer}/workloads")
        ]


def _has_times(ttft: Any) -> bool:
    """Whether `ttft_ms` holds times, here or at the hub: only chat has them. For documents that do not say `chat`."""
    return any(side is not None for side in members(ttft).values())
