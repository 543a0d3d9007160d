"""Are the intervals honest? Simulate a truth, pilot a few sites of it, learn, and look where the next site falls.

In every run the typical site, the spread between sites and each site's truth are drawn anew from the plan's prior; the pilots are
15-minute blocks with a day's cycle, days that differ, neighbours that are alike and meters off by what their class allows. The
estimates are the product's own. A nominal 80 % interval for a site that nobody has measured must hold it in 75 to 85 % of runs.

    python bench/calibration.py [--runs 400] [--seed 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from nearhall.core.evidence import Evidence, Kind
from nearhall.documents.site_returns import MeterReturn, SiteReturns, WorkloadReturn
from nearhall.planner.learning.accept import Measure
from nearhall.planner.learning.beliefs import Belief, learn
from nearhall.planner.learning.pue_regression import SLOPE_PER_K, SLOPE_PER_LOAD, Curve, PueBlocks, year_of_pue
from nearhall.planner.learning.site_blocks import SiteBlocks
from nearhall.planner.learning.site_estimates import Season, pue_blocks, ratio_estimate
from nearhall.planner.learning.slo_blocks import CONCENTRATIONS, MEANS, Kept, share_kept
from nearhall.planner.learning.update import BETWEEN_SHARE, Prior, update
from nearhall.planner.serving.day import year_of_temperatures

NOMINAL = (0.1, 0.9)
LIMITS = (0.75, 0.85)
BLOCK_S, DAY_BLOCKS, YEAR_BLOCKS = 900.0, 96, 35_040
CLASS_PERCENT = 1.0
YEAR = year_of_temperatures(mean_c=10.0, season_c=10.0, day_c=4.0)
SEASON = Season(year_c=YEAR, it_budget_w=800.0, year_load=0.5)
Blocks = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How often the next site fell into its interval, and on either side of it."""

    name: str
    runs: int
    inside: float
    below: float
    above: float

    @property
    def holds(self) -> bool:
        """Whether that is as often as claimed."""
        return LIMITS[0] <= self.inside <= LIMITS[1]


def alike(random: np.random.Generator, size: int, *, likeness: float, sd: float) -> Blocks:
    """Noise whose neighbours are alike: first-order autoregressive, of this standard deviation; shape (size,)."""
    steps = random.normal(0.0, sd * (1.0 - likeness**2) ** 0.5, size)
    steps[0] = random.normal(0.0, sd)
    return lfilter([1.0], [1.0, -likeness], steps)


def metered(name: str, *, start_block: int = 0, kwh: dict[str, Blocks], outdoor_c: Blocks, sent: Blocks) -> SiteBlocks:
    """A site's arrays as its returns would give them."""
    size = len(outdoor_c)
    meters = tuple(MeterReturn(id=p, position=p, class_percent=CLASS_PERCENT, kind=Kind.MEASURED) for p in kwh)
    returns = SiteReturns(
        id=name,
        site_class="micro",
        jurisdiction=None,
        origin="simulation",
        start_s=start_block * BLOCK_S,
        end_s=(start_block + size) * BLOCK_S,
        coverage=1.0,
        register_coverage=1.0,
        clock_error_ms=0.0,
        meters=meters,
        energy_kwh={position: float(energy.sum()) for position, energy in kwh.items()},
        blocks=(),
        workloads=(WorkloadReturn(id="cams", total=1, local=1, late=0),),
        kinds=dict.fromkeys(("energy", "requests", "bytes", "outdoor"), Kind.MEASURED),
    )
    start_s = (start_block + np.arange(size)) * BLOCK_S
    return SiteBlocks(
        returns=returns,
        start_s=start_s,
        seconds=np.full(size, BLOCK_S),
        kwh=kwh,
        outdoor_c=outdoor_c,
        sent_bytes=sent,
        good={},
        total={},
    )


def off(random: np.random.Generator) -> float:
    """By what a meter of the class is off, anywhere within it."""
    return 1.0 + random.uniform(-CLASS_PERCENT, CLASS_PERCENT) / 100.0


def days(random: np.random.Generator, count: int) -> Blocks:
    """A load's shape over some days: the day's cycle, days that differ, neighbours that are alike; its long-run mean is 1."""
    cycle = 1.0 + 0.4 * np.sin(np.arange(DAY_BLOCKS) / DAY_BLOCKS * 2.0 * np.pi)
    each = np.exp(random.normal(-0.005, 0.1, count))
    noise = alike(random, count * DAY_BLOCKS, likeness=0.8, sd=0.15)
    return np.outer(each, cycle).ravel() * np.exp(noise - 0.5 * 0.15**2)


def positive(
    random: np.random.Generator, measure: Measure, *, prior_sd: float, between_sd: float, believed: float | None = None
) -> float:
    """One run of a positive figure: where the next site's truth falls in its predictive distribution, 0 to 1.

    `believed` is the spread between sites that the method is told, where it is not the true one.
    """
    prior = Prior(mean=np.log(300.0), sd=prior_sd, between_sd=between_sd)
    truths = random.normal(
        random.normal(prior.mean, prior.sd), abs(random.normal(0.0, prior.between_sd)), random.integers(2, 6) + 1
    )
    seen = []
    for number, truth in enumerate(truths[1:]):
        shape = days(random, int(random.integers(7, 29)))
        watts = np.exp(truth) * shape
        outdoor = np.zeros(len(shape))
        site = metered(str(number), kwh={"it": watts * off(random) / 4000.0}, outdoor_c=outdoor, sent=watts * BLOCK_S / 86_400.0)
        found = ratio_estimate([site], measure)
        if isinstance(found, str):
            raise TypeError(found)
        seen.append(found.seen)
    told = Prior(mean=prior.mean, sd=prior.sd, between_sd=between_sd if believed is None else believed)
    return update(told, seen).new_site_below(float(truths[0]))


def power(random: np.random.Generator) -> float:
    """IT power, by a meter."""
    return positive(random, Measure(of="it_power_w"), prior_sd=0.25, between_sd=BETWEEN_SHARE["it_power_w"])


def egress(random: np.random.Generator) -> float:
    """Bytes on the link, by counters: sites differ more."""
    return positive(random, Measure(of="sent_bytes_per_day"), prior_sd=0.6, between_sd=BETWEEN_SHARE["sent_bytes_per_day"])


def pue(random: np.random.Generator) -> float:
    """A year's PUE, of pilots of two to eight weeks in one season; its slope is drawn anew, and no curve is planned."""
    prior = Prior(mean=np.log(0.6), sd=0.35, between_sd=BETWEEN_SHARE["pue"])
    slope = random.normal(*SLOPE_PER_K)

    def shape(outdoor_c: Blocks) -> Blocks:
        return slope * (outdoor_c - YEAR.mean())

    level = random.normal(prior.mean, prior.sd) - float(np.log(np.exp(shape(YEAR)).mean()))
    pilots = weather_pilots(random, lambda outdoor_c: level + shape(outdoor_c))
    sites = [pue_blocks([one], SEASON) for one in pilots.sites]
    return fall_of_year(sites, pilots.next_site + level + float(np.log(np.exp(shape(YEAR)).mean())), prior, None)


def compressor_pue(random: np.random.Generator, *, by_curve: bool = True) -> float:
    """The same where outdoor air cools up to a temperature and a compressor beyond, which the plan knows with error.

    Without `by_curve` the method is not told the plan's curve, as a plan of another kind of cooling would not.
    """
    truth = Cooling.drawn(random)
    pilots = weather_pilots(random, truth.log_overhead)
    sites = [pue_blocks([one], SEASON) for one in pilots.sites]
    return fall_of_year(sites, pilots.next_site + truth.year, PLANNED.prior, PLANNED.curve if by_curve else None)


def planned_again(random: np.random.Generator) -> float:
    """A year's energy per request at such sites, from returns to the next site as `decide` goes: accepted, learned, drawn."""
    truth, joules = Cooling.drawn(random), random.normal(np.log(400.0), 0.2)
    pilots = weather_pilots(random, truth.log_overhead)
    tau = abs(random.normal(0.0, IT_JOULES_BETWEEN))
    sites = []
    for one in pilots.sites:
        own = np.exp(random.normal(joules, tau))
        asked = one.kwh["it"] * 3.6e6 / own * np.exp(alike(random, len(one.start_s), likeness=0.8, sd=0.1) - 0.005)
        sites.append(replace(one, good={"cams": asked}, total={"cams": asked}))
    year_pue = 1.0 + np.exp(pilots.next_site + truth.year)
    next_site = float(np.exp(random.normal(joules, tau)) * year_pue)
    found = learn(ENERGY, sites, season=replace(SEASON, curve=PLANNED.curve), uniform=(np.arange(1000) + 0.5) / 1000)
    return float(np.mean(found.samples_after < next_site))


@dataclass(frozen=True, kw_only=True)
class Cooling:
    """Fans and losses always, a compressor above a temperature; overheads over IT power."""

    always: float
    compressor: float
    free_below_c: float

    @classmethod
    def drawn(cls, random: np.random.Generator) -> Cooling:
        """As far off the plan as a plan is."""
        return cls(
            always=0.15 * np.exp(random.normal(0.0, 0.25)),
            compressor=0.30 * np.exp(random.normal(0.0, 0.25)),
            free_below_c=random.normal(14.0, 1.5),
        )

    def log_overhead(self, outdoor_c: Blocks) -> Blocks:
        """log(PUE - 1); the compressor takes 2 % more for each kelvin."""
        hot = outdoor_c > self.free_below_c
        return np.log(self.always + self.compressor * hot * (1.0 + 0.02 * (outdoor_c - self.free_below_c)))

    @property
    def year(self) -> float:
        """Of the whole year."""
        return float(np.log(np.exp(self.log_overhead(YEAR)).mean()))


@dataclass(frozen=True, kw_only=True)
class PlannedCooling:
    """What the plan holds of such sites."""

    prior: Prior
    curve: Curve

    @classmethod
    def of(cls, draws: int = 2000) -> PlannedCooling:
        """The curve at the middle of what is drawn, the prior from the spread of years."""
        random = np.random.default_rng(0)
        years = np.array([Cooling.drawn(random).year for _ in range(draws)])
        at_c = np.arange(-20.0, 45.0, 0.5)
        middle = Cooling(always=0.15, compressor=0.30, free_below_c=14.0)
        prior = Prior(mean=float(years.mean()), sd=float(years.std()), between_sd=BETWEEN_SHARE["pue"])
        return cls(prior=prior, curve=Curve(outdoor_c=at_c, overhead=np.exp(middle.log_overhead(at_c))))


PLANNED = PlannedCooling.of()
IT_JOULES_BETWEEN = 0.17
"""By how much IT energy per request differs: with the overhead's it makes what the product takes for energy per request."""
ENERGY = Belief(
    name="energy",
    words="energy of a request",
    unit="J",
    form="log",
    measure=Measure(of="joules_per_request_in_slo", workload="cams"),
    p50=400.0 * (1.0 + float(np.exp(PLANNED.prior.mean))),
    p90=400.0 * (1.0 + float(np.exp(PLANNED.prior.mean))) * float(np.exp(1.2816 * np.hypot(0.2, 0.3 * PLANNED.prior.sd))),
    evidence=Evidence(kind=Kind.ASSUMED, source="the bench"),
)


@dataclass(frozen=True, kw_only=True)
class Pilots:
    """Sites in one season, and by how much the log overhead of the next one differs from the typical."""

    sites: list[SiteBlocks]
    next_site: float


def weather_pilots(random: np.random.Generator, log_overhead: Callable[[Blocks], Blocks]) -> Pilots:
    """Two to six sites of two to eight weeks in the same weather, whose overheads differ by a factor each."""
    load_slope = random.normal(*SLOPE_PER_LOAD)
    hours = int(random.integers(14, 57)) * 24
    begin = int(random.integers(0, len(YEAR) - hours))
    outdoor = np.repeat(YEAR[begin : begin + hours], 4)
    tau = abs(random.normal(0.0, BETWEEN_SHARE["pue"]))
    values = random.normal(0.0, tau, random.integers(2, 6) + 1)
    sites = []
    for number, value in enumerate(values[1:]):
        load = np.clip(0.45 * days(random, hours // 24), 0.05, 1.0)
        logs = value + log_overhead(outdoor) + load_slope * (load - SEASON.year_load)
        overhead = np.exp(logs + alike(random, len(load), likeness=0.8, sd=0.05))
        it = load * SEASON.it_budget_w / 4000.0
        kwh = {"it": it * off(random), "feed": it * (1.0 + overhead) * off(random), "cooling": it * overhead * off(random)}
        sites.append(metered(str(number), start_block=4 * begin, kwh=kwh, outdoor_c=outdoor, sent=it))
    return Pilots(sites=sites, next_site=float(values[0]))


def fall_of_year(sites: list[PueBlocks], next_site: float, prior: Prior, curve: Curve | None) -> float:
    """Where the next site's year falls in what is predicted of it."""
    found = year_of_pue(sites, year_c=YEAR, year_load=SEASON.year_load, prior=prior, curve=curve)
    if found is None:
        raise TypeError("no usable blocks")
    return found.posterior.new_site_below(next_site)


def slo(random: np.random.Generator) -> float:
    """The share of blocks in time: blocks that fail come in spells, so that a week holds fewer trials than blocks."""
    held = 0.9
    mean = 1.0
    while not MEANS[0] < mean < MEANS[-1]:  # beyond its ends the prior holds nothing: a share of 1 to nine digits is no share
        mean = random.beta(2.0 * held, 2.0 * (1.0 - held))
    concentration = np.exp(random.uniform(*np.log([CONCENTRATIONS[0], CONCENTRATIONS[-1]])))
    shares = random.beta(max(mean * concentration, 1e-9), max((1.0 - mean) * concentration, 1e-9), random.integers(2, 6) + 1)
    sites = []
    for share in shares[1:]:
        size = int(random.integers(7, 29)) * DAY_BLOCKS
        kept = spells(random, size, float(share))
        sites.append(Kept(kept=int(kept.sum()), blocks=size))
    # A share is a count of a year's blocks: among those that round to the same count its place is drawn (Czado et al. 2009).
    after, count = share_kept(sites, prior_share=held), round(float(shares[0]) * YEAR_BLOCKS)
    low, high = (after.new_site_below(min(max((count + half) / YEAR_BLOCKS, 0.0), 1.0)) for half in (-0.5, 0.5))
    return low + (high - low) * float(random.random())


def spells(random: np.random.Generator, size: int, share: float) -> NDArray[np.bool_]:
    """Blocks that stay as they are with probability 0.7 and are drawn anew, at this share, otherwise; shape (size,)."""
    anew, drawn = random.random(size) > 0.7, random.random(size) < share
    anew[0] = True
    last = np.maximum.accumulate(np.where(anew, np.arange(size), 0))
    return drawn[last]


FIGURES: dict[str, Callable[[np.random.Generator], float]] = {
    "power": power,
    "egress": egress,
    "PUE": pue,
    "PUE, compressor": compressor_pue,
    "planned again": planned_again,
    "SLO": slo,
}


def calibrate(name: str, *, runs: int, seed: int) -> Outcome:
    """The outcome of so many runs of one figure, each with a seed of its own."""
    falls = np.array([FIGURES[name](np.random.default_rng([seed, number])) for number in range(runs)])
    below, above = float(np.mean(falls < NOMINAL[0])), float(np.mean(falls > NOMINAL[1]))
    return Outcome(name=name, runs=runs, inside=1.0 - below - above, below=below, above=above)


def main() -> int:
    """Prints the table; 1 when an interval holds less or more often than it claims."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    outcomes = [calibrate(name, runs=options.runs, seed=options.seed) for name in FIGURES]
    if options.json:
        print(json.dumps({one.name: {"inside": one.inside, "below": one.below, "above": one.above} for one in outcomes}))
    else:
        print(f"{'80 % interval of':<18}{'inside':>8}{'below':>8}{'above':>8}   ({options.runs} runs, 75 to 85 % wanted)")
        for one in outcomes:
            mark = "" if one.holds else "   NOT CALIBRATED"
            print(f"{one.name:<18}{one.inside:>8.1%}{one.below:>8.1%}{one.above:>8.1%}{mark}")
    return 0 if all(one.holds for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
