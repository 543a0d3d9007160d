"""Reads pilot.json (schema `nearhall/pilot/v1`) into what a decision needs of each site, with the evidence of every part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.documents.site_returns import POSITIONS, SITE_CLASSES, BlockReturn, MeterReturn, SiteReturns, WorkloadReturn

SCHEMA = "nearhall/pilot/v1"
FILE_BYTES_MAX = 512 * 1024 * 1024
"""A year of blocks is some 15 MB a site."""
SITES_MAX = 1000
NUMBER_MOST = 1e15
"""No reading or count of a site comes near it; beyond, sums lose what they add."""
SHOWN_MOST = 60
"""Characters of what was given, in a message."""
CLASS_MOST = 10.0
"""Percent: no instrument of a worse class is one."""
EPOCH_YEAR, YEAR_LAST = 1970, 2200
"""A clock that says otherwise is not set."""
_POINTERS = {"energy": "energy", "outdoor": "blocks", "requests": "blocks/0/slo", "bytes": "blocks/0/bytes"}
"""Where a part's evidence stands, below its site."""


def read_pilots(paths: Sequence[Path]) -> tuple[SiteReturns, ...]:
    """The sites of all files, in their order. Raises InputError for a file that is none, and for a site whose periods overlap."""
    found: list[SiteReturns] = []
    for path in paths:
        try:
            size = path.stat().st_size
            if size > FILE_BYTES_MAX:
                raise InputError(f"is {size} bytes long", where=str(path), right=f"at most {FILE_BYTES_MAX} bytes")
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read ({error.strerror})", where=str(path), right="name a pilot.json") from error
        found.extend(parse_pilot(data, name=str(path)))
    _distinct(found)
    return tuple(found)


def parse_pilot(data: bytes, *, name: str) -> tuple[SiteReturns, ...]:
    """The sites of one document; `name` stands in messages. Raises InputError with the path of the first thing that is wrong."""
    try:
        whole: Any = json.loads(data)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        told = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
        raise InputError(
            f"is not JSON ({told})", where=name, right="name a pilot.json that nearhall up or report wrote"
        ) from error
    top = _Part(whole, name, "")
    if top.value("schema") != SCHEMA:
        shown = top.value("schema") or "none"
        raise InputError(f"schema is {shown!r}", where=name, right=f"name a document of schema {SCHEMA}")
    evidence = top.part("evidence", optional=True).members()
    sites = list(top.parts("sites"))
    if not 0 < len(sites) <= SITES_MAX:
        raise InputError(f"holds {len(sites)} sites", where=f"{name}: sites", right=f"1 to {SITES_MAX}")
    return tuple(_site(site, index, evidence, name) for index, site in enumerate(sites))


def _distinct(found: Sequence[SiteReturns]) -> None:
    """Energy that two documents both count would be counted twice."""
    ordered = sorted(found, key=lambda site: (site.id, site.start_s))
    for one, other in pairwise(ordered):
        if one.id == other.id and other.start_s < one.end_s:
            raise InputError(
                f"site {one.id!r} is in two documents with overlapping periods ({one.origin} and {other.origin})",
                right="give each period once",
            )


def _site(site: _Part, index: int, evidence: Mapping[str, Any], name: str) -> SiteReturns:
    pointer = f"/sites/{index}"
    period, energy = site.part("period"), site.part("energy", optional=True)
    start_s, end_s = period.time("start"), period.time("end")
    if end_s <= start_s:
        period.refuse("end", "lies before start", "give a period that lasts")
    meters = tuple(_meter(meter) for meter in site.parts("meters"))
    kwh = {position: energy.amount(f"{'facility' if position == 'feed' else position}_kwh") for position in POSITIONS}
    metered = {meter.position for meter in meters}
    for what, names in (
        ("meters", [meter.id for meter in meters]),
        ("workloads", [one.text("id") for one in site.parts("workloads")]),
    ):
        if len(set(names)) < len(names):
            site.refuse(what, "holds one id twice", "each once: what is counted twice is counted double")
    blocks = tuple(sorted((_block(block) for block in site.parts("blocks")), key=lambda block: block.start_s))
    if any(earlier.end_s > later.start_s for earlier, later in pairwise(blocks)):
        site.refuse("blocks", "overlap each other", "each time once: what is counted twice would make the pilot surer than it is")
    return SiteReturns(
        id=site.text("id"),
        site_class=site.one_of("class", SITE_CLASSES),
        jurisdiction=site.text("jurisdiction", optional=True) or None,
        origin=name,
        start_s=start_s,
        end_s=end_s,
        coverage=site.share("coverage"),
        register_coverage=energy.share("register_coverage", 0.0),
        clock_error_ms=site.number("clock_error_ms", None),
        meters=meters,
        energy_kwh={position: value for position, value in kwh.items() if value is not None and position in metered},
        blocks=blocks,
        workloads=tuple(_workload(workload) for workload in site.parts("workloads")),
        kinds={part: _kind(evidence, f"{pointer}/{below}") for part, below in _POINTERS.items()},
        silent=tuple(node.text("id") for node in site.parts("nodes", optional=True) if node.value("heard") is False),
    )


def _meter(meter: _Part) -> MeterReturn:
    kind = meter.one_of("kind", tuple(kind.value for kind in Kind), Kind.ASSUMED.value)
    virtual = meter.value("virtual") is True
    return MeterReturn(
        id=meter.text("id"),
        position=meter.one_of("position", POSITIONS),
        class_percent=meter.percent_of_class("class_percent"),
        kind=Kind.SIMULATED if virtual and kind == Kind.MEASURED.value else Kind(kind),
        serial=meter.text("serial", optional=True) or None,
    )


def _block(block: _Part) -> BlockReturn:
    start_s, end_s = block.time("start"), block.time("end")
    if end_s <= start_s:
        block.refuse("end", "lies before start", "give blocks that last")
    moved = block.part("bytes", optional=True)
    return BlockReturn(
        start_s=start_s,
        end_s=end_s,
        register_kwh={name: (low, high) for name, (low, high) in block.part("register_kwh", optional=True).pairs()},
        outdoor_c=block.number("outdoor_c", None),
        slo=_slo(block.part("slo", optional=True)),
        sent_bytes=moved.number("sent", None),
        raw_bytes=moved.number("raw", None),
    )


def _slo(counts: _Part) -> dict[str, tuple[int, int]]:
    """Requests in time, and all, by workload."""
    found: dict[str, tuple[int, int]] = {}
    for name, (good, total) in counts.pairs():
        if not 0.0 <= good <= total:
            counts.refuse(name, f"has {good:g} in time of {total:g}", "[in time, all]: from 0, and no more in time than all")
        found[name] = (int(good), int(total))
    return found


def _workload(workload: _Part) -> WorkloadReturn:
    requests = workload.part("requests")
    limit_ms = workload.number("slo_p99_ms", None)
    local = workload.part("latency_ms", optional=True).part("local", optional=True)
    return WorkloadReturn(
        id=workload.text("id"),
        total=requests.count("total"),
        local=requests.count("local"),
        late=requests.count("late"),
        p99_ms=local.number("p99", None),
        limit_ms=limit_ms,
        # A chat's blocks are judged by the time to the first token, and that is what its limit is to.
        first_token=None if limit_ms is None else workload.value("chat") is True,
        joules_full=workload.part("energy_j_per_request", optional=True).number("full", None),
    )


def _kind(evidence: Mapping[str, Any], pointer: str) -> Kind:
    """Of the nearest entry at or above a pointer; what nobody vouches for is assumed."""
    while pointer:
        entry: Any = evidence.get(pointer)
        if isinstance(entry, Mapping):
            named = cast("Mapping[str, Any]", entry).get("kind")
            return next((kind for kind in Kind if kind.value == named), Kind.ASSUMED)
        pointer = pointer.rpartition("/")[0]
    return Kind.ASSUMED


def _is_number(held: Any) -> bool:
    return isinstance(held, int | float) and not isinstance(held, bool) and -NUMBER_MOST <= held <= NUMBER_MOST


def _is_text(held: str) -> bool:
    """Whether it can be written again: half of a surrogate pair cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in held)


def _shown(held: Any) -> str:
    """What was given, in one line that is not too long."""
    text = ascii(held)
    return text if len(text) <= SHOWN_MOST else f"{text[:SHOWN_MOST]}..."


class _Part:
    """An object of the document that knows its path, so that every message can name it."""

    def __init__(self, held: Any, name: str, path: str) -> None:
        self._held = held
        self._name = name
        self._path = path
        if not isinstance(held, Mapping):
            raise InputError(
                "is not an object", where=f"{name}: {path}" if path else name, right="keep the file as it was written"
            )

    def refuse(self, key: str, what: str, right: str) -> None:
        """Raises the error of one key."""
        raise InputError(what, where=f"{self._name}: {self._at(key)}", right=right)

    def members(self) -> Mapping[str, Any]:
        """All of it."""
        return cast("Mapping[str, Any]", self._held)

    def value(self, key: str) -> Any:
        """What stands there; None for nothing."""
        return self.members().get(key)

    def part(self, key: str, *, optional: bool = False) -> _Part:
        """The object there; an empty one where it may be missing or null."""
        held = self.value(key)
        return _Part({} if held is None and optional else held, self._name, self._at(key))

    def parts(self, key: str, *, optional: bool = False) -> Iterator[_Part]:
        """The objects of the list there; none where it may be missing."""
        held = self.value(key)
        if held is None and optional:
            return
        if not isinstance(held, list):
            self.refuse(key, "is not a list", "keep the file as it was written")
        for index, item in enumerate(cast("list[Any]", held)):
            yield _Part(item, self._name, f"{self._at(key)}[{index}]")

    def number(self, key: str, missing: float | None) -> float | None:
        """The finite number there; `missing` where it is null or not there."""
        held = self.value(key)
        if held is None:
            return missing
        if not _is_number(held):
            self.refuse(key, f"is no number (given: {_shown(held)})", "a number, or null for what could not be had")
        return float(held)

    def amount(self, key: str) -> float | None:
        """A number from 0; None where it is null or not there."""
        held = self.number(key, None)
        if held is not None and held < 0.0:
            self.refuse(key, f"is less than nothing (given: {held:g})", "a number from 0")
        return held

    def count(self, key: str) -> int:
        """A number of things; 0 where it is null or not there."""
        held = self.amount(key) or 0.0
        return int(held)

    def percent_of_class(self, key: str) -> float | None:
        """An instrument's class; None where nobody wrote it down."""
        held = self.number(key, None)
        if held is not None and not 0.0 < held <= CLASS_MOST:
            self.refuse(key, f"is no class (given: {held:g})", f"above 0, at most {CLASS_MOST:g} percent")
        return held

    def share(self, key: str, missing: float | None = None) -> float:
        """A number from 0 to 1."""
        held = self.number(key, missing)
        if held is None or not 0.0 <= held <= 1.0:
            self.refuse(key, f"is no share (given: {held!r})", "a number from 0 to 1")
        return held or 0.0

    def text(self, key: str, *, optional: bool = False) -> str:
        """The text there."""
        held = self.value(key)
        if held is None and optional:
            return ""
        if not isinstance(held, str) or not held or not _is_text(held):
            self.refuse(key, f"is no text (given: {_shown(held)})", "keep the file as it was written")
        return str(held)

    def one_of(self, key: str, known: Sequence[str], missing: str = "") -> str:
        """One of some words."""
        held = self.value(key) if self.value(key) is not None else missing
        if held not in known:
            self.refuse(key, f"is not known (given: {_shown(held)})", f"one of {', '.join(known)}")
        return str(held)

    def time(self, key: str) -> float:
        """Seconds since 1970 of the UTC time there."""
        held = self.text(key)
        try:
            at = datetime.fromisoformat(held)
        except ValueError:
            at = None
        if at is None or at.tzinfo is None or not EPOCH_YEAR < at.year < YEAR_LAST:
            self.refuse(key, f"is no time (given: {held!r})", "UTC, ISO 8601, such as 2026-11-03T08:00:00Z")
        return at.timestamp() if at is not None else 0.0

    def pairs(self) -> Iterator[tuple[str, tuple[float, float]]]:
        """Each name with its two numbers."""
        for name, held in self.members().items():
            both = cast("list[Any]", held) if isinstance(held, list) else []
            if len(both) != 2 or not all(_is_number(n) for n in both):
                self.refuse(name, f"is not two numbers (given: {_shown(held)})", "[first, last] or [good, total]")
            yield name, (float(both[0]), float(both[1]))

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key
