"""What could go wrong with a plan, read from its own figures, and what it does not contain at all."""

from __future__ import annotations

from nearhall.report.evidence_marks import Words, said
from nearhall.report.formats import capital, chance, chance_beside, listed, money
from nearhall.report.plan.tables import led
from nearhall.report.reader import elements
from nearhall.report.result_reader import ResultReader, path_words

DRIVERS = 3
UNSURE_BELOW = 0.98
"""A chance below this is worth a sentence."""
LEAD_ACID_YEARS = 5
"""After which a VRLA battery is usually replaced (Eurobat: 3 to 5 years for the standard class, 10 and more for long life)."""


BOUGHT: tuple[str, ...] = (
    "Quotes: prices marked as assumed are guesses until a supplier has named one.",
    "Spare parts in the bill: they are in the yearly upkeep, as a share of the hardware's price.",
)
"""Of a plan that buys something."""


def risks(reader: ResultReader) -> list[Words]:
    """Sentences with their figures, the dearest first."""
    return [*_money(reader), *_limits(reader), *_hold(reader), *_failures(reader), *_checks(reader)]


def _money(reader: ResultReader) -> list[Words]:
    told: list[Words] = []
    base = led(reader)
    how = ", built in steps," if base != "/money" else ""
    low = reader.number(f"{base}/npv/p10")
    if low is not None and low < 0:
        figure = reader.figure(f"{base}/npv/p10", lambda v: money(-v))
        told.append(said("In one case of ten the fleet{how} loses {usd} or more over the plan's years.", how=how, usd=figure))
    elif low is not None:
        figure = reader.figure(f"{base}/npv/p10", money)
        told.append(said("Even in one case of ten, a bad one, the fleet{how} returns {usd}.", how=how, usd=figure))
    return [*told, *_drivers(reader)]


def _drivers(reader: ResultReader) -> list[Words]:
    """What takes most off the return, as bad as in one case of ten."""
    told: list[Words] = []
    mean = reader.number("/money/npv/mean")
    for pointer, bar in reader.items("/money/tornado")[:DRIVERS]:
        low, high = (reader.number(f"{pointer}/{end}") for end in ("low", "high"))
        if low is None or high is None or mean is None:
            continue
        name = str(bar.get("words") or bar.get("name") or "?")
        name = path_words(name) if name == bar.get("name") else name
        figure = reader.texts(pointer, money(max(0.0, mean - min(low, high))))
        words = "{name}, as {which} as in one case of ten: that takes {usd} off the average return of all sites, {mean}."
        which = "low" if low < high else "high"
        whole = reader.figure("/money/npv/mean", money)
        told.append(said(words, name=capital(name), which=which, usd=figure, mean=whole))
    return told


def _limits(reader: ResultReader) -> list[Words]:
    told: list[Words] = []
    asked = reader.number("/verdict/thresholds/min_p_slo")
    allowed = None if asked is None else 1 - asked
    for pointer, workload in reader.items("/workloads"):
        name = str(workload.get("id", "?"))
        for place, placed in reader.items(f"{pointer}/placed"):
            sure = reader.number(f"{place}/p_slo")
            if sure is not None and sure < UNSURE_BELOW:
                figure = reader.figure(f"{place}/p_slo", lambda v: chance_beside(1 - v, allowed))
                told.append(
                    said(
                        "{name} at {site} misses its time limit in {p} of the cases.",
                        name=capital(name),
                        site=str(placed.get("site", "?")),
                        p=figure,
                    )
                )
    return told


def _hold(reader: ResultReader) -> list[Words]:
    told: list[Words] = []
    for pointer, site in reader.items("/sites"):
        likely = reader.number(f"{pointer}/hold/p_hold")
        if likely is not None and likely < UNSURE_BELOW:
            figure = reader.figure(f"{pointer}/hold/p_hold", lambda v: chance(1 - v))
            minutes = reader.number(f"{pointer}/hold/required_min")
            wanted = f"{minutes:g} minutes" if minutes is not None else "the time"
            told.append(
                said(
                    "Without mains {site} stops before the {wanted} that are asked for in {p} of the cases.",
                    site=str(site.get("id", "?")),
                    wanted=wanted,
                    p=figure,
                )
            )
    return told


def _failures(reader: ResultReader) -> list[Words]:
    """What stops when one thing breaks; counted, not drawn."""
    told: list[Words] = []
    for pointer, site in reader.items("/sites"):
        name = str(site.get("id", "?"))
        servers = sum(reader.number(f"{rack}/count") or 0 for rack, _ in reader.items(f"{pointer}/hardware"))
        here = [str(w) for w in elements(site.get("workloads"))]
        if site.get("built") and servers == 1 and here:
            stop = "stops" if len(here) == 1 else "stop"
            told.append(
                (f"{name} has one server: when it fails, {listed(here)} {stop} there until somebody comes with the spare.",)
            )
    away = sorted({str(w) for _, link in reader.items("/placement/links") for w in elements(link.get("workloads"))})
    if away:
        told.append((f"A site's internet line fails: what is answered elsewhere stops there ({listed(away)}).",))
    return told


def _checks(reader: ResultReader) -> list[Words]:
    told: list[Words] = []
    for pointer, site in reader.items("/sites"):
        failing = [str(c.get("name", "?")) for _, c in reader.items(f"{pointer}/checks") if c.get("state") == "fails"]
        if failing:
            told.append((f"{site.get('id', '?')} fails {listed(failing)}: mend it before anything is ordered.",))
    left = checked(reader)["not_checked"]
    if left:
        told.append(
            (f"{left} checks are" if left > 1 else "One check is", " not made yet: Who checks what, below, says whom to ask.")
        )
    return told


def missing(reader: ResultReader) -> list[str]:
    """What no figure here contains."""
    horizon = reader.number("/plan/horizon_years") or 0
    vrla = any("vrla" in str(row.get("what", "")).casefold() for _, row in reader.items("/bill_of_materials"))
    built = bool(reader.items("/bill_of_materials"))
    told: list[str] = [
        *(BOUGHT if built else []),
        "What sends the requests (cameras, kiosks, sensors) and the site's own network; of the cabinet only what the bill names."
        if built
        else "What sends the requests (cameras, kiosks, sensors) and the site's own network.",
        "Taxes, duties, insurance, permits, building work, licences of software and models.",
        "Prices that rise or fall over the years, and what hardware is worth at the end.",
        "Weekends and holidays: every day is like the one that the plan describes.",
        "People of your own beyond visits and upkeep, and what a stop costs you.",
    ]
    if vrla and horizon >= LEAD_ACID_YEARS:
        told.insert(4, f"A second set of lead-acid batteries: they last 3 to 5 years, the plan runs {horizon:g}.")
    return told


def checked(reader: ResultReader) -> dict[str, int]:
    """How many of all sites' checks are in which state."""
    found = {"fails": 0, "not_checked": 0, "ok": 0}
    for pointer, _ in reader.items("/sites"):
        for _, check in reader.items(f"{pointer}/checks"):
            state = str(check.get("state"))
            found[state if state in found else "not_checked"] += 1
    return found
