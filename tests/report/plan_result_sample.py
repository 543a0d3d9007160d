"""A plan's result as a retail chain would get it: every part of the contract, with plausible figures."""

from __future__ import annotations

from math import erf, exp, log, sqrt
from typing import Any

ASSUMED = {"kind": "assumed", "source": "at its weakest: defaults of the planner", "date": "2026-11"}
MLPERF = {"kind": "vendor", "source": "MLPerf Inference Power v2.1, Orin_TRT_MaxQ", "date": "2022-09"}
NORM = {"kind": "standard", "source": "IEC 60898-1, curve B"}
MODELLED = {"kind": "simulated", "source": "10,000 samples of the plan's model, seed 42"}


def spread(p50: float, width: float = 1.25) -> dict[str, float]:
    """P10, P50, P90 and P99 of a log-normal."""
    low, high = sorted((p50 / width, p50 * width))
    return {"p10": low, "p50": p50, "p90": high, "p99": p50 * width ** (2.326 / 1.2816)}


def _cdf(p50: float, sigma: float, floor: float) -> dict[str, list[float]]:
    times = [floor + p50 * exp(sigma * (i - 30) / 12) for i in range(75)]
    return {"ms": times, "share": [0.5 * (1 + erf(log((t - floor) / p50) / sigma / sqrt(2))) for t in times]}


def _answers(site: str, at: str, *, is_hub: bool, network: float, service: float, sigma: float, limit: float) -> dict[str, Any]:
    return {
        "site": site,
        "at": at,
        "is_hub": is_hub,
        "network_ms": network,
        "queue_ms": service * 0.2,
        "steady_wait_ms": service * 0.01,
        "service_ms": service,
        "p99_ms": {
            "p50": network + service * exp(2.3 * sigma),
            "p90": network + service * exp(2.9 * sigma),
            "deciding": network + service * exp(3.2 * sigma),
        },
        "limit_ms": limit,
        "cdf": _cdf(service, sigma, network),
    }


def _workload(
    name: str, kind: str, model: str, limit: float, residency: str, *, service: float, placed: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": name,
        "kind": kind,
        "model": model,
        "slo": {"of": "ttft" if kind == "llm" else "latency", "limit_ms": limit},
        "residency": residency,
        "rate_per_s": {"p50": 30, "p90": 45},
        "placed": placed,
        "latency": [
            _answers(site, at, is_hub=is_hub, network=network, service=service * faster, sigma=0.35, limit=limit)
            for site in ("shop-city", "shop-large")
            for at, is_hub, network, faster in ((site, False, 0.8, 1.0), ("frankfurt", True, 22.0, 0.4))
        ],
        "per_thousand": {
            "local": {"energy_kwh": spread(0.0021), "usd": spread(0.011)},
            "hub": {"energy_kwh": spread(0.0013), "usd": spread(0.032)},
        },
    }


def _placed(site: str, count: int, at: str, verdict: str, why: str, p_slo: float) -> dict[str, Any]:
    own = {
        "at": site,
        "is_hub": False,
        "allowed": True,
        "p_slo": p_slo,
        "p99_ms": {"p50": 11.0, "p90": 15.0, "deciding": 16.0},
        "against": [],
        "usd_per_year": {"p50": 212.0},
    }
    hub = {
        "at": "frankfurt",
        "is_hub": True,
        "allowed": at == "frankfurt",
        "p_slo": 0.71,
        "p99_ms": {"p50": 39.0, "p90": 61.0, "deciding": 70.0},
        "against": [] if at == "frankfurt" else ["residency: its data may not leave the site"],
        "usd_per_year": {"p50": 388.0},
    }
    return {"site": site, "count": count, "at": at, "verdict": verdict, "why": why, "p_slo": p_slo, "alternatives": [own, hub]}


def _workloads() -> list[dict[str, Any]]:
    return [
        _workload(
            "visitors",
            "vision",
            "SSD-MobileNet",
            50,
            "site",
            service=6.0,
            placed=[
                _placed("shop-city", 80, "shop-city", "edge", "residency: pictures of people may not leave the shop", 0.998),
                _placed("shop-large", 40, "shop-large", "edge", "residency: pictures of people may not leave the shop", 0.997),
            ],
        ),
        _workload(
            "kiosk",
            "llm",
            "Llama 3.1 8B",
            1500,
            "jurisdiction:DE",
            service=320.0,
            placed=[
                _placed("shop-city", 80, "frankfurt", "hub", "power: 61 W more than the 400 W that shop-city may draw", 0.981),
                _placed("shop-large", 40, "shop-large", "either", "cost: the a2-server stands there anyway", 0.94),
            ],
        ),
        _workload(
            "shelf",
            "vision",
            "ResNet-50",
            400,
            "any",
            service=4.0,
            placed=[
                _placed("shop-city", 80, "shop-city", "edge", "uplink: 2.9 Mbit/s of pictures would need the next step", 0.999),
                {
                    "site": "shop-large",
                    "count": 40,
                    "at": None,
                    "verdict": "infeasible",
                    "p_slo": None,
                    "alternatives": [],
                    "why": "breaker B1: 25.7 A > 24 A on line 2",
                },
            ],
        ),
    ]


def _memory() -> list[dict[str, Any]]:
    def row(workload: str, hardware: str, bits: int, weights: float, kv: float, p95: float, usable: float) -> dict[str, Any]:
        return {
            "workload": workload,
            "hardware": hardware,
            "bits": bits,
            "quality": 0.98,
            "parts_gib": {"weights": weights, "kv": kv, "activations": 0.2, "runtime": 1.0},
            "p95_gib": p95,
            "usable_gib": usable,
            "fits": p95 <= usable,
            "words": f"{p95:g} GiB of {usable:g} GiB at P95",
            "smaller": [],
        }

    chat = row("kiosk", "a2-server", 8, 8.0, 2.0, 12.4, 15.0)
    chat["smaller"] = [
        {"bits": 4, "p95_gib": 8.1, "fits": True, "quality": 0.95, "words": "4 bits: 4.3 GiB less, about 3 % worse answers"}
    ]
    return [
        row("visitors", "orin", 8, 0.02, 0.0, 1.8, 28.0),
        row("shelf", "orin", 8, 0.03, 0.0, 1.9, 28.0),
        chat,
        row("kiosk", "a2-server at 16 bits", 16, 15.0, 4.0, 21.9, 15.0),
    ]


def _checks(unbalanced: bool) -> list[dict[str, Any]]:
    return [
        {"name": "breaker load", "state": "ok", "words": "3.4 A of 16 A", "value": 3.4, "limit": 16, "unit": "A"},
        {
            "name": "inrush",
            "state": "fails" if unbalanced else "ok",
            "words": "peak against the lower bound of the magnetic trip",
            "value": 63 if unbalanced else 41,
            "limit": 48,
            "unit": "A",
        },
        {"name": "leakage", "state": "ok", "words": "of 30 mA, a third allowed", "value": 1.4, "limit": 10, "unit": "mA"},
        {
            "name": "short-circuit rating",
            "state": "not_checked",
            "words": "the prospective current is not known",
            "ask": "the landlord or the operator of the power grid",
            "value": None,
            "limit": None,
            "unit": None,
        },
        {
            "name": "selectivity",
            "state": "not_checked",
            "words": "needs the makers' tables",
            "ask": "a licensed electrician or engineer",
            "value": None,
            "limit": None,
            "unit": "",
        },
    ]


def _site(name: str, count: int, lat: float, lon: float, *, it_w: float, large: bool) -> dict[str, Any]:
    factor = 0.95 if large else 0.5
    losses = {"UPS loss": 0.09, "distribution": 0.02, "fans": 0.06, "compressor": 0.22 if large else 0.0, "other": 0.1}
    stages = {"IT": it_w, **{stage: it_w * share for stage, share in losses.items()}}
    feed = sum(stages.values())
    return {
        "id": name,
        "count": count,
        "class": "micro" if large else "device",
        "jurisdiction": "DE",
        "lat": lat,
        "lon": lon,
        "hardware": [
            {
                "id": "a2-server" if large else "orin",
                "name": "Dell XR12, 1 x A2" if large else "NVIDIA Jetson AGX Orin",
                "count": 2 if large else 1,
                "supply": "server" if large else "brick",
            }
        ],
        "workloads": ["visitors", "kiosk"] if large else ["visitors", "shelf"],
        "waterfall": [{"stage": stage, "w": spread(w, 1.15)} for stage, w in {**stages, "feed": feed}.items() if w],
        "it_w": {"mean": it_w * 0.8, **spread(it_w, 1.15)},
        "va": spread(feed / factor, 1.15),
        "nameplate_va": it_w * 2.6,
        "breaker": {
            "code": "IEC",
            "given_a": 16,
            "needed_a": 6,
            "design_a": 3.4,
            "factor": 1.0,
            "margin_percent": 78.8,
            "words": "a 16 A breaker carries 3.4 A (P99); 6 A would do",
        },
        "lines_a": [spread(a, 1.15) for a in ((5.1, 3.2, 3.1) if large else (3.4,))],
        "unbalance_percent": 34.2 if large else None,
        "neutral_a": 4.4 if large else None,
        "inrush": {"at_once": 1, "n": 2 if large else 1, "steps": 2 if large else 1, "words": "switch the outlets on one by one"},
        "ups": {
            "kw_needed": feed / 800,
            "kva_needed": feed / 800 / factor,
            "kw": 2.7 if large else 0.5,
            "kva": 3 if large else 0.75,
            "words": "holds the watts and the volt-amperes",
        },
        "hold": {
            "required_min": 10,
            "battery_min": spread(14, 1.4),
            "battery_new_min": spread(18, 1.4),
            "needed_kwh": {"end_of_life": 0.3, "new": 0.38},
            "needed_words": "0.38 kWh new, 0.3 kWh at the end of its life (nominal), hold 10 min of 0.26 kW",
            "thermal_min": spread(9 if large else 40, 1.3),
            "hold_min": spread(9 if large else 14, 1.3),
            "p_hold": 0.38 if large else 0.89,
            "words": "heat ends it first: the fans are on the UPS, the compressor is not",
        },
        "cooling": {
            "needed_kw": spread(it_w / 800, 1.15),
            "capacity_kw": 3.5 if large else 0.6,
            "airflow_m3_h": it_w * 0.31,
            "class": "A2" if large else "A3",
            "words": "3.5 kW at 36 °C carries it",
        },
        "pue": {
            "annual": {"p10": 1.31, "p50": 1.46, "p90": 1.64},
            "interim": False,
            "by_hour": [1.4 + 0.006 * min(hour, 30 - hour) for hour in range(24)],
            "by_category": {"1": 1.41, "2": 1.44, "3": 1.46},
            "by_month": [1.38, 1.38, 1.4, 1.44, 1.48, 1.53, 1.57, 1.56, 1.5, 1.45, 1.4, 1.38],
        },
        "checks": _checks(large),
        "energy_kwh_per_year": spread(feed * 7, 1.2),
    }


def _fleet() -> dict[str, Any]:
    curve = [
        {"n": n, "common": common, "p10": k - 0.05, "p50": k, "p90": min(k + 0.05, 1.0)}
        for common in (0.0, 0.5, 0.9)
        for n in (1, 3, 10, 30, 120)
        for k in [0.62 + 0.35 * common + (0.38 - 0.35 * common) / n**0.5]
    ]
    minutes = list(range(0, 121, 2))
    day = [18, 18, 17, 17, 18, 19, 21, 24, 27, 30, 32, 34, 35, 34, 33, 34, 36, 38, 36, 30, 24, 20, 19, 18]
    existing = [38, 36, 35, 35, 36, 40, 52, 70, 88, 95, 98, 100, 100, 98, 96, 95, 96, 98, 92, 80, 66, 54, 46, 41]
    return {
        "sites": 120,
        "coincidence": curve,
        "restart": {
            "minutes": minutes,
            "kw": [38 + 44 * exp(-m / 25) for m in minutes],
            "kw_spread": [38 + 12 * exp(-((m - 30) ** 2) / 600) for m in minutes],
            "normal_peak_kw": 38.0,
            "words": "all at once draw 2.2 times the normal peak; spread over 30 minutes 1.3 times",
        },
        "feeders": [
            {
                "id": "high-street",
                "headroom_kva": 30,
                "existing_kva": existing,
                "fleet_kva": day,
                "shaved_kva": [min(v, 29) for v in day],
                "over_hours": 9,
                "words": "9 hours of the day beyond the headroom",
            },
            {
                "id": "mall",
                "headroom_kva": 160,
                "existing_kva": None,
                "fleet_kva": day,
                "shaved_kva": None,
                "over_hours": 0,
                "words": "stays within its headroom",
            },
        ],
    }


_STEPS = {
    "p10": [-380_000, -250_000, -120_000, 20_000, 100_000],
    "p50": [-180_000, -20_000, 120_000, 240_000, 290_000],
    "p90": [10_000, 220_000, 420_000, 600_000, 640_000],
}


def _money() -> dict[str, Any]:
    edges = [-400_000 + 50_000 * i for i in range(33)]
    weights = [exp(-(((e - 310_000) / 260_000) ** 2) / 2) for e in edges[:-1]]
    years = range(6)
    names = ("value", "purchase", "energy", "demand", "operations", "uplink", "requests", "egress")
    site = dict(zip(names, (0, 620, 180, 0, 610, 720, 0, 0), strict=True))
    hub = dict(zip(names, (0, 0, 0, 0, 0, 1440, 1480, 12), strict=True))
    small, large = (
        {"site": site, "hub": hub},
        {"site": {k: v * 4 for k, v in site.items()}, "hub": {k: v * 3 for k, v in hub.items()}},
    )
    fleet = {side: {name: 4.15 * (80 * small[side][name] + 40 * large[side][name]) for name in names} for side in ("site", "hub")}
    return {
        "npv": {"p10": -22_000, "p50": 312_000, "p90": 640_000, "mean": 305_000},
        "without": "Without these sites the hub answers visitors, kiosk and shelf.",
        "fleet": fleet,
        "capex": {"p10": 560_000, "p50": 690_000, "p90": 860_000},
        "p_npv_positive": 0.87,
        "npv_histogram": {"edges": edges, "share": [w / sum(weights) for w in weights]},
        "by_site": [
            {
                "site": "shop-city",
                "count": 80,
                "npv": {"p10": 900, "p50": 3900, "p90": 7000, "mean": 3910},
                "years_factor": 4.15,
                "p_npv_positive": 0.93,
                "capex": spread(3100),
                "yearly": small,
            },
            {
                "site": "shop-large",
                "count": 40,
                "npv": {"p10": -4800, "p50": -200, "p90": 4100, "mean": -210},
                "years_factor": 4.15,
                "p_npv_positive": 0.48,
                "capex": spread(14_200),
                "yearly": large,
            },
        ],
        "in_steps": {
            "npv": {"p10": 100_000, "p50": 290_000, "p90": 640_000, "mean": 320_000},
            "p_npv_positive": 0.91,
            "npv_histogram": {"edges": edges, "share": [w / sum(weights) for w in weights]},
            "cash_by_year": {name: [-20_400, -200_000, -420_000, *ends] for name, ends in _STEPS.items()},
            "years": [0, 1, 2, 3, 4, 5, 6, 6.5],
            "payback_years": {"p10": 3.1, "p50": 4.2, "p90": None, "never": 0.09},
            "p_stop": 0.15,
            "by_kind": {
                "shop-city": {
                    "sites": 80,
                    "capex": spread(390_000),
                    "npv": {"p10": -9000, "p50": 180_000, "p90": 420_000},
                    "p_npv_positive": 0.93,
                    "p_scale": 0.84,
                },
                "shop-large": {
                    "sites": 40,
                    "capex": spread(300_000),
                    "npv": {"p10": 0, "p50": 0, "p90": 150_000},
                    "p_npv_positive": 0.3,
                    "p_scale": 0.31,
                },
            },
        },
        "cash_by_year": {
            "p10": [-860_000 + 165_000 * y for y in years],
            "p50": [-690_000 + 215_000 * y for y in years],
            "p90": [-560_000 + 262_000 * y for y in years],
        },
        "payback_years": {"p10": 2.4, "p50": 3.3, "p90": None},
        "tornado": [
            {
                "name": "default:hub.usd_per_server_hour",
                "words": "one server of the hub for an hour, all in, per 1000 USD of price",
                "low": 40_000,
                "high": 690_000,
                "share": 0.44,
            },
            {
                "name": "default:operations.usd_per_visit",
                "words": "a visit, travel included",
                "low": 460_000,
                "high": 130_000,
                "share": 0.21,
            },
            {
                "name": "workloads.visitors.arrivals.rate_per_s",
                "words": "visitors: requests in the busiest hour",
                "low": 220_000,
                "high": 480_000,
                "share": 0.12,
            },
            {
                "name": "sites.shop-city.tariff.energy_usd_per_kwh",
                "words": "shop-city: price of energy",
                "low": 350_000,
                "high": 260_000,
                "share": 0.03,
            },
        ],
        "rollout": [
            _phase("pilot", 3, 0, 20_400, -9000, which={"shop-city": 2, "shop-large": 1}),
            _phase("wave 1", 35, 0.5, 218_000, 92_000, which={"shop-city": 23, "shop-large": 12}),
            _phase("wave 2", 82, 1.5, 452_000, 220_000, which={"shop-city": 55, "shop-large": 27}),
            _phase(
                "pilot, then the rest if it is good",
                120,
                None,
                690_000,
                290_000,
                words="the rest of a kind is built only where it is sure enough",
            )
            | {"p_stop": 0.15, "npv": {"p10": 100_000, "p50": 290_000, "p90": 640_000}},
            _phase("all, whatever the pilot says", 120, None, 690_000, 303_000, words="later sites count less as of today"),
        ],
    }


def _phase(
    name: str, sites: int, year: float | None, capex: float, npv: float, *, which: dict[str, int] | None = None, words: str = ""
) -> dict[str, Any]:
    return {
        "phase": name,
        "sites": sites,
        "which": ", ".join(f"{n} x {kind}" for kind, n in (which or {}).items()),
        "by_kind": which or {},
        "waits": False,
        "year": year,
        "capex": spread(capex),
        "npv": spread(npv, 1.5),
        "words": words,
    }


def _kind(site: str, count: int, verdict: str, p: float, words: str) -> dict[str, Any]:
    return {
        "site": site,
        "count": count,
        "verdict": verdict,
        "p_npv_positive": p,
        "must_be_worth": spread(1800),
        "short": f"{site} pays in {p:.0%} of the cases",
        "words": words,
    }


def _ledger() -> list[dict[str, Any]]:
    def entry(name: str, words: str, p50: float, unit: str, swing: float, kind: str, source: str) -> dict[str, Any]:
        return {
            "name": name,
            "words": words,
            **{k: v for k, v in spread(p50, 1.4).items() if k != "p99"},
            "unit": unit,
            "kind": kind,
            "source": source,
            "date": None if kind == "assumed" else "2026-07-14",
            "is_default": name.startswith("default:"),
            "used_by": ["hubs.frankfurt"],
            "swing_usd": swing,
            "share": abs(swing) / 1e6,
        }

    return [
        entry(
            "default:access.cable_ms",
            "round trip of cable access, both ends",
            10.0,
            "ms",
            18_000,
            "assumed",
            "nearhall up --hub-probe measures yours",
        ),
        entry(
            "default:hub.usd_per_server_hour",
            "one server of the hub for an hour, all in, for each 1000 USD of its price",
            0.06,
            "usd",
            650_000,
            "assumed",
            "five years of life at half the price again for power and care; ask for a quote",
        ),
        entry(
            "default:operations.usd_per_visit",
            "a visit, travel included",
            250,
            "usd",
            -330_000,
            "assumed",
            "your service desk knows",
        ),
        entry("hardware.orin.cost_usd", "", 2000, "usd", -90_000, "vendor", "quote of a distributor"),
        entry(
            "default:gateway.overhead_ms",
            "what a gateway adds to an answer",
            0.3,
            "ms",
            0,
            "measured",
            "bench/serve.py on two shared cores",
        ),
    ]


def plan_result() -> dict[str, Any]:
    """The document, new each time."""
    return {
        "schema": "nearhall/plan-result/v1",
        "plan": {
            "name": "Shops with cameras and a kiosk",
            "seed": 42,
            "samples": 10_000,
            "horizon_years": 5,
            "discount_rate": 0.08,
            "currency": "USD",
            "sites_planned": 120,
        },
        "software": "nearhall 0.3.0",
        "stamp": "PLANNED",
        "evidence": {
            "": ASSUMED,
            "/memory": MLPERF,
            "/sites/*/breaker/given_a": NORM,
            "/sites/*/waterfall": MODELLED,
            "/workloads/*/latency": MODELLED,
        },
        "counts": {"measured": 1, "simulated": 0, "vendor": 14, "standard": 6, "assumed": 47},
        "verdict": {
            "sentence": "Build a pilot of 3 shops: the cabinet in the city shop probably pays, the large shop's does not yet",
            "reasons": [
                "Pictures of people may not leave the shops, so visitors must be counted there.",
                "In the large shops the breaker is too small for all three workloads.",
            ],
            "p_npv_positive": 0.87,
            "npv": {"p10": -22_000, "p50": 312_000, "p90": 640_000},
            "state": "pilot",
            "by_kind": [
                _kind("shop-city", 80, "pilot", 0.93, "pays in 93 % of the cases, 80 % are asked for"),
                _kind("shop-large", 40, "open", 0.48, "pays in 48 % of the cases, 80 % are asked for"),
            ],
            "thresholds": {"min_p_npv_positive": 0.8, "min_p_slo": 0.95, "pilots_min": 3},
            "warnings": ["shelf at shop-large can be answered nowhere: breaker B1: 25.7 A > 24 A on line 2"],
        },
        "workloads": _workloads(),
        "memory": _memory(),
        "sites": [
            _site("shop-city", 80, 52.52, 13.40, it_w=62, large=False),
            _site("shop-large", 40, 48.14, 11.58, it_w=980, large=True),
        ],
        "fleet": _fleet(),
        "money": _money(),
        "placement": {
            "status": "optimal",
            "objective_usd_per_year": 211_400.0,
            "bound": 211_300.0,
            "gap": 0.0005,
            "words": "proven within 0.05 % of the cheapest",
            "points": [
                {"id": "shop-city", "lat": 52.52, "lon": 13.40, "kind": "site", "count": 80, "open": True},
                {"id": "shop-large", "lat": 48.14, "lon": 11.58, "kind": "site", "count": 40, "open": True},
                {"id": "frankfurt", "lat": 50.11, "lon": 8.68, "kind": "hub", "count": 1, "open": True},
                {"id": "prague", "lat": 50.08, "lon": 14.43, "kind": "hub", "count": 1, "open": False},
            ],
            "links": [{"from": "shop-city", "to": "frankfurt", "workloads": ["kiosk"]}],
        },
        "ledger": _ledger(),
        "next": [
            {
                "what": "Ask the hub for a quote per server hour",
                "words": "one e-mail",
                "by": "desk",
                "ask": ["whoever runs the hub"],
                "why": "it moves the verdict most",
                "days": 1,
                "usd": 41_000,
                "usd_per_day": 41_000,
            },
            {
                "what": "Count one month of visits at three shops",
                "words": "the service desk's log",
                "why": "visits are guessed",
                "days": 30,
                "usd": 27_000,
                "usd_per_day": 900,
            },
            {
                "what": "Meter the feed of one city shop for a week",
                "words": "a class 1 meter",
                "by": "pilot",
                "ask": [],
                "why": "power is a vendor's figure",
                "days": 7,
                "usd": 2_170,
                "usd_per_day": 310,
            },
        ],
        "bill_of_materials": [
            {
                "site": "shop-city",
                "count": 80,
                "item": "orin",
                "what": "NVIDIA Jetson AGX Orin",
                "quantity": 1,
                "unit_usd": {"p10": 1800, "p50": 2000, "p90": 2400},
                "kind": "vendor",
                "needs_quote": False,
                "source": "quote of a distributor",
            },
            {
                "site": "shop-city",
                "count": 80,
                "item": "breaker",
                "what": "breaker 6 A, curve B, 1 pole",
                "quantity": 1,
                "unit_usd": None,
                "within": "orin",
                "kind": "assumed",
                "needs_quote": True,
                "source": "IEC 60898-1",
            },
            {
                "site": "shop-large",
                "count": 40,
                "item": "a2-server",
                "what": "Dell XR12 with an A2",
                "quantity": 2,
                "unit_usd": {"p10": 8000, "p50": 9000, "p90": 12_000},
                "kind": "assumed",
                "needs_quote": True,
                "source": "the plan's author",
            },
        ],
        "review": "For review by a licensed engineer: this sizes and compares, it does not replace an installation's design.",
    }
