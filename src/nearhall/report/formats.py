"""Figures as people read them: three significant digits, a unit, thousands apart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import floor, isfinite, log10

from nearhall.core.shares import percent_beside

NO_VALUE = "\u2013"
"""An en dash."""
LINES_MAX = 40
"""Of a summary on a terminal."""
WIDTH = 79
"""Whole lines on a terminal of 80."""


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits (two below 1), no exponent, thousands apart: 0.042, 3.20, 40.0, 1,234."""
    if value == 0 or not isfinite(value):
        return "0" if value == 0 else NO_VALUE
    digits = digits if abs(value) >= 1 else min(digits, 2)
    places = max(0, digits - 1 - floor(log10(abs(value))))
    return f"{value:,.{min(places, 6)}f}"


def ms(value: float) -> str:
    """Milliseconds."""
    return f"{significant(value)} ms"


def signed_ms(value: float) -> str:
    """Milliseconds with their sign, for differences."""
    sign = "+" if value > 0 else "\u2212" if value < 0 else "±"
    return f"{sign}{ms(abs(value))}"


def count(value: float) -> str:
    """A number of things."""
    return f"{value:,.0f}"


def percent(share: float) -> str:
    """A share from 0 to 1 as percent; never rounds to 0 or 100 what is not."""
    hundredths = share * 100
    if 0 < hundredths < 0.1:
        return "< 0.1 %"
    if 99.9 < hundredths < 100:
        return "> 99.9 %"
    return f"{hundredths:.0f} %" if hundredths in {0, 100} else f"{hundredths:.1f} %"


def size(value: float) -> str:
    """Bytes in decimal units, as networks are billed."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= limit:
            return f"{significant(value / limit)} {unit}"
    return f"{value:,.0f} B"


def watts(value: float) -> str:
    """Power."""
    return f"{value / 1000:,.2f} kW" if abs(value) >= 10_000 else f"{value:,.0f} W" if abs(value) >= 100 else f"{value:,.1f} W"


def energy(kwh: float) -> str:
    """Energy: kWh, or Wh where kWh would be mostly noughts."""
    return f"{significant(kwh)} kWh" if abs(kwh) >= 0.1 else f"{significant(kwh * 1000)} Wh"


def joules(value: float) -> str:
    """Energy of one request."""
    return f"{significant(value)} J"


def usd(value: float) -> str:
    """Money in US dollars, the documents' currency."""
    return f"${value:,.2f}" if abs(value) >= 1 else f"${significant(value, 2)}"


def money(value: float) -> str:
    """US dollars, whole or in three digits, with a minus sign where money is lost."""
    sign, dollars = "\u2212" if value < 0 else "", abs(value)
    for limit, unit in ((1e9, " bn"), (1e6, " M"), (1e3, " k")):
        if dollars >= max(limit * 0.9995, 9_999.5):
            return f"{sign}${significant(float(f'{dollars / limit:.3g}'))}{unit}"
    return f"{sign}${dollars:,.0f}" if dollars >= 10 or dollars == 0 else f"{sign}${significant(dollars, 2)}"


def chance(probability: float) -> str:
    """A probability in whole percent; near certainty it says how near, and nothing that was drawn is ever quite certain."""
    if 0.01 <= probability <= 0.99:
        return f"{probability * 100:.0f} %"
    return "> 99.9 %" if probability > 0.999 else "< 0.1 %" if probability < 0.001 else percent(probability)


def chance_beside(probability: float, asked: float | None) -> str:
    """A probability told finely enough to see on which side of what is asked it lies: 79.7 % where 80 % are asked."""
    if asked is None or not 0.01 <= probability <= 0.99:
        return chance(probability)
    return f"{percent_beside(probability, asked)} %"


MONEY_STEPS = ((1.0, ""), (1e3, " k"), (1e6, " M"), (1e9, " bn"))
COLUMN_DIGITS = 1e5
"""From so many steps on a column is told in larger ones."""


def money_step(amounts: Sequence[float]) -> tuple[float, str]:
    """In which steps a column of money is told so that it adds up as it is printed (dollars, thousands, ..), and their unit."""
    most = max(map(abs, amounts), default=0.0)
    return next((step for step in MONEY_STEPS if most < COLUMN_DIGITS * step[0]), MONEY_STEPS[-1])


def adding_up(amounts: Sequence[float], step: float) -> list[int]:
    """The amounts in whole steps whose sum is the sum in whole steps: what rounding leaves goes to the largest remainders."""
    whole = [floor(amount / step) for amount in amounts]
    left = round(sum(amounts) / step) - sum(whole)
    by_remainder = sorted(range(len(whole)), key=lambda i: whole[i] - amounts[i] / step)
    for index in by_remainder[:left]:
        whole[index] += 1
    return whole


def money_in(steps: int, unit: str) -> str:
    """Whole steps of money with their unit: \u2212$1,452 k."""
    sign = "\u2212" if steps < 0 else ""
    return f"{sign}${abs(steps):,}{unit}"


def capital(words: str) -> str:
    """A sentence's beginning."""
    return words[:1].upper() + words[1:]


def full_stop(sentence: str) -> str:
    """A sentence with an end."""
    return sentence if not sentence or sentence.endswith((".", "!", "?", ":")) else f"{sentence}."


def years(value: float) -> str:
    """A number of years."""
    return f"{value:,.1f} years"


def minutes(value: float) -> str:
    """A number of minutes."""
    return f"{significant(value, 2)} min"


def amperes(value: float) -> str:
    """A current."""
    return f"{value:,.1f} A"


def volt_amperes(value: float) -> str:
    """Apparent power, which is what breakers and UPS carry."""
    return watts(value).replace("W", "VA")


def kilowatts(value: float) -> str:
    """Power given in kW."""
    return watts(value * 1000)


def gib(value: float) -> str:
    """Memory in GiB."""
    return f"{significant(value, 2 if abs(value) < 10 else 3)} GiB"


def celsius(value: float) -> str:
    """Temperature."""
    return f"{value:.1f} °C"


def mbps(value: float) -> str:
    """Bandwidth; 0 means unlimited."""
    return "unlimited" if value == 0 else f"{significant(value)} Mbit/s"


def ratio(value: float) -> str:
    """A ratio such as PUE."""
    return f"{value:.2f}"


def seconds(value: float) -> str:
    """A length of time."""
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(value: object) -> datetime | None:
    """A time from seconds since 1970 or ISO 8601; None when it is neither."""
    try:
        found = datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def clock(value: object) -> str:
    """Time of day, UTC."""
    found = moment(value)
    return found.astimezone(UTC).strftime("%H:%M:%S") if found else NO_VALUE


def date_and_time(value: object) -> str:
    """Date and time, UTC."""
    found = moment(value)
    return found.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if found else NO_VALUE


def plain(name: str) -> str:
    """A machine's word as people write it: `queue_full` is `queue full`."""
    return name.replace("_", " ")


LISTED_MAX = 6
"""More names than this nobody reads in a sentence."""


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`, or the first few `and 5 more`."""
    if len(names) > LISTED_MAX:
        names = [*names[: LISTED_MAX - 1], f"{len(names) - LISTED_MAX + 1} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
