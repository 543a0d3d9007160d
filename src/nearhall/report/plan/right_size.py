"""What is planned larger than a site needs, so that nobody buys it so."""

from __future__ import annotations

from nearhall.report.evidence_marks import Figure
from nearhall.report.formats import chance, listed, ratio, significant, watts
from nearhall.report.result_reader import ResultReader

LARGE = 0.5
"""What needs less than this share of what is planned is worth a word."""
PUE_HIGH = 2.0
PRICED_BY_KW = "default:enclosure.usd_per_kw"


def oversized(reader: ResultReader) -> list[Figure]:
    """For each kind of site that is built larger than it needs: what would do, and what it costs to be so large."""
    told = [(pointer, _site(reader, pointer, str(site.get("id", "?")))) for pointer, site in reader.items("/sites")]
    return [reader.texts(pointer, words) for pointer, words in told if words]


def _site(reader: ResultReader, pointer: str, name: str) -> str:
    """What is too large there, in a sentence; nothing where nothing is."""
    parts = [
        *_part(reader, f"{pointer}/it_w/p99", f"{pointer}/it_budget_w", 1.0, "servers and their switch"),
        *_part(reader, f"{pointer}/ups/kw_needed", f"{pointer}/ups/kw", 1e3, "the UPS"),
        *_part(reader, f"{pointer}/cooling/needed_kw/p99", f"{pointer}/cooling/capacity_kw", 1e3, "cooling"),
    ]
    if not parts:
        return ""
    told = f"built larger than it needs even in a bad case (P99): {listed(parts)}"
    why: list[str] = []
    pue = reader.number(f"{pointer}/pue/annual/p50")
    if pue is not None and pue > PUE_HIGH:
        why.append(f"that is why its PUE, the energy of the whole site over that of its servers, is {ratio(pue)}")
    if _by_kilowatt(reader, name):
        share = (reader.number(f"{pointer}/it_w/p99") or 0.0) / (reader.number(f"{pointer}/it_budget_w") or 1.0)
        why.append(f"its cabinet is priced by the kilowatt, so that about {chance(share)} of that price might do")
    told = f"{name} is {'; '.join([told, *why])}"
    return f"{told}. Ask for a smaller one before you order, for the pilot too; the plan has it as it_budget_kw, ups and cooling."


def _part(reader: ResultReader, needed: str, there: str, to_w: float, what: str) -> list[str]:
    """`120 W would do for cooling, 800 W are planned`; nothing where it is used, or not known."""
    need, has = reader.number(needed), reader.number(there)
    if need is None or not has or need <= 0 or need >= LARGE * has:
        return []
    return [f"{what} {watts(float(significant(need * to_w, 2).replace(',', '')))} of {watts(has * to_w)}"]


def _by_kilowatt(reader: ResultReader, name: str) -> bool:
    return any(
        row.get("site") == name and str(row.get("source") or "").startswith(PRICED_BY_KW)
        for _, row in reader.items("/bill_of_materials")
    )
