"""What a decision takes for granted besides the plan's own numbers: each with its value, its kind and its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearhall.core.evidence import Kind
from nearhall.planner.learning.beliefs import SLO_SHARE, WIDEN
from nearhall.planner.learning.decide import Verdict
from nearhall.planner.learning.gates import NPV_STOP, P_BEYOND_LIMIT, P_WITHIN_LIMIT
from nearhall.planner.learning.pue_regression import SLOPE_OF_CURVE_SD, SLOPE_PER_LOAD
from nearhall.planner.learning.site_estimates import DAY_SD, REQUESTS_SD, WEEKDAY_SD, WORK_SD
from nearhall.planner.learning.update import CONFLICT_Z

Json = dict[str, Any]

CHOICES: tuple[tuple[str, str], ...] = (
    ("min_p_npv_positive", "probability that a new site pays, for SCALE"),
    ("min_p_slo", "mean share of quarters of an hour that keep the SLO, for SCALE"),
    ("min_p_per_request", "probability that a request in time takes no more joules and costs no more than by the hub, for SCALE"),
    ("pilots_min", "pilot sites behind every figure that counts, for SCALE and for STOP"),
)
"""Fields of the plan's `decision`."""

LEARNING: tuple[tuple[str, float, str, str], ...] = (
    ("slo_share", SLO_SHARE, "of a quarter's requests in time, for it to keep its SLO", "SLOs are of the 99th percentile"),
    ("p_within_limit", P_WITHIN_LIMIT, "probability that a new site stays within a limit, for SCALE", "a choice"),
    ("p_beyond_limit", P_BEYOND_LIMIT, "probability that it lies beyond, for STOP", "a choice"),
    ("npv_stop", NPV_STOP, "probability that it pays, below which is STOP", "a choice"),
    ("conflict_z", CONFLICT_Z, "standard deviations between pilots and plan, beyond which nothing is scaled", "a choice"),
    ("widen", WIDEN, "times the plan's own spread, where returns contradict themselves", "a choice"),
    ("day_sd", DAY_SD, "by how much days differ, as a share, where a pilot has too few to tell", "two weeks of a meter tell"),
    (
        "weekday_sd",
        WEEKDAY_SD,
        "by how much weekdays differ, as a share, of which a pilot has not seen all",
        "a whole week tells",
    ),
    ("work_sd", WORK_SD, "error of a workload's energy that the plan's expected work shares out", "joules of each workload tell"),
    ("requests_sd", REQUESTS_SD, "the same where numbers of requests alone share it out", "joules of each workload tell"),
    ("pue_slope_of_curve_sd", SLOPE_OF_CURVE_SD, "by how much PUE may rise with a kelvin other than planned", "two seasons tell"),
    (
        "pue_slope_per_load",
        SLOPE_PER_LOAD[0],
        "how the overhead's logarithm moves from no IT load to full",
        "pilots at two loads tell",
    ),
    ("pue_slope_per_load_sd", SLOPE_PER_LOAD[1], "how sure that is: its standard deviation", "pilots at two loads tell"),
)
"""(name, value, words, source) of what learning rests on."""


def assumptions(verdicts: Sequence[Verdict], choices: Mapping[str, Any]) -> list[Json]:
    """The plan's thresholds, what learning rests on, and by kind of site what is taken of each belief."""
    said = set(choices.get("said", ()))
    rows = [
        _row(
            f"decision.{name}",
            choices[name],
            words,
            source="the plan says it" if name in said else "nobody said it: the plan's field takes this where it is left out",
        )
        for name, words in CHOICES
        if name in choices
    ]
    rows += [_row(name, value, words, source=source) for name, value, words, source in LEARNING]
    for verdict in verdicts:
        for item in verdict.quantities:
            belief, at = item.belief, f"{verdict.kind}: {item.belief.name}"
            if belief.form == "share":
                words = f"as many sites as the plan's own word counts for: {belief.words}"
                rows.append(_row(f"{at}: prior_sites", belief.prior_sites, words, source="a choice: default decide.prior_sites"))
            else:
                words = f"by how much sites differ in {belief.words}, as a share, before any was measured"
                rows.append(_row(f"{at}: between_share", belief.prior.between_sd, words, source="three and more pilots tell"))
            rows.append(
                _row(f"{at}: days", belief.days, f"days of metering that tell {belief.words}", source="default decide.days_*")
            )
    return rows


def _row(name: str, value: float, words: str, *, source: str) -> Json:
    return {"name": name, "value": value, "words": words, "kind": Kind.ASSUMED.value, "source": source}
