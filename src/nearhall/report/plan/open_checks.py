"""What nobody has checked yet, by whom to ask."""

from __future__ import annotations

from typing import Any

from nearhall.report.formats import capital, listed
from nearhall.report.plan.cabinet import signs
from nearhall.report.result_reader import ResultReader

ENGINEER = "a licensed electrician or engineer"
"""Who is asked where the document names nobody."""


def by_whom(reader: ResultReader) -> list[dict[str, Any]]:
    """For each person: what is open, at which sites, and why; who has most to answer comes first."""
    groups: dict[str, dict[tuple[str, str], list[str]]] = {}
    for pointer, site in reader.items("/sites"):
        for place, check in reader.items(f"{pointer}/checks"):
            if str(check.get("state")) not in {"ok", "fails"}:
                whom = reader.text(f"{place}/ask") or ENGINEER
                what = (str(check.get("name", "?")), signs(str(check.get("words") or "")))
                groups.setdefault(whom, {}).setdefault(what, []).append(str(site.get("id", "?")))
    found = [
        {
            "whom": capital(whom),
            "n": sum(len(sites) for sites in rows.values()),
            "rows": [{"name": name, "words": words, "sites": listed(sites)} for (name, words), sites in rows.items()],
        }
        for whom, rows in groups.items()
    ]
    return sorted(found, key=lambda group: -group["n"])
