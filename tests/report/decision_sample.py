"""A decision as it would be written after three pilots of one kind of site and one of another."""

from __future__ import annotations

from typing import Any


def _spread(p50: float, width: float) -> dict[str, float]:
    return {"p10": p50 / width, "p50": p50, "p90": p50 * width}


def _quantity(
    site_class: str, name: str, words: str, unit: str, *, prior: float, data: float | None, **more: Any
) -> dict[str, Any]:
    now = prior if data is None else data
    return {
        "site_class": site_class,
        "name": name,
        "words": words,
        "unit": unit,
        "prior": _spread(prior, 1.6),
        "data": None if data is None else {"value": data, "n_sites": 3, "n_blocks": 2016},
        "posterior": _spread(now, 1.6 if data is None else 1.08),
        "new_site": _spread(now, 1.6 if data is None else 1.2),
        "z": None if data is None else (data - prior) / (0.25 * prior),
        "conflict": False,
        "widened": False,
        "accepted": data is not None,
        "too_short": False,
        "form": "share" if name.startswith("slo") else "pue" if name == "pue" else "log",
        "refused": "",
        "notes": [],
        "kind": "assumed" if data is None else "measured",
        **more,
    }


def _quantities() -> list[dict[str, Any]]:
    return [
        _quantity("device", "it_power_w", "mean IT power", "W", prior=34.0, data=41.0),
        _quantity("device", "pue", "PUE over a year", "1", prior=1.49, data=1.42, notes=["interim: less than 12 months"]),
        _quantity(
            "device", "line_bytes", "bytes a day on the line", "B", prior=1.3e10, data=6.9e8, conflict=True, widened=True, z=-5.7
        ),
        _quantity(
            "device",
            "slo:visitors",
            "share of blocks in which visitors keeps its SLO",
            "1",
            prior=0.97,
            data=0.99,
            posterior=None,
        ),
        _quantity("micro", "it_power_w", "mean IT power", "W", prior=44.0, data=84.0, kind="simulated"),
        _quantity("micro", "pue", "PUE over a year", "1", prior=3.0, data=None, refused="mall-01: coverage 71 %, 90 % needed"),
    ]


def _gate(name: str, words: str, probability: float | None, needed: float | None, *, holds: bool, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "words": words,
        "probability": probability,
        "needed": needed,
        "holds": holds,
        "stops": False,
        "counts": True,
        **more,
    }


def _classes() -> list[dict[str, Any]]:
    return [
        {
            "class": "device",
            "verdict": "SCALE",
            "stamp": "MEASURED",
            "sentence": "SCALE: every condition holds of a new site",
            "reasons": ["three pilots for 3 weeks, all accepted"],
            "gates": [
                _gate("pilots", "3 of 3 pilot sites accepted", None, 3, holds=True, count=3, needed_words="3 pilot sites"),
                _gate("npv", "a new site gains over the hub with probability 91%, 80% needed", 0.91, 0.8, holds=True),
                _gate("slo", "a new site keeps the SLO of visitors in 98.7% of blocks, 95% needed", 0.987, 0.95, holds=True),
                _gate("hub:kiosk", "no comparison for kiosk: the hub may not answer it", None, None, holds=False, counts=False),
            ],
            "conflicts": ["line_bytes"],
            "p_npv_positive": {"prior": 0.62, "posterior": 0.91},
            "npv_usd": {
                "prior": {"p10": -4_210.0, "p50": 3_100.0, "p90": 14_800.0},
                "posterior": {"p10": 240.0, "p50": 5_200.0, "p90": 12_400.0},
            },
        },
        {
            "class": "micro",
            "verdict": "STOP",
            "stamp": "REHEARSED",
            "sentence": "STOP: a gain is unlikely",
            "reasons": ["1 of 3 pilot sites accepted", "mall-01: virtual meters", "mall-01: virtual meters"],
            "gates": [
                _gate("pilots", "1 of 3 pilot sites accepted", None, 3, holds=False),
                _gate("npv", "a new site gains over the hub with probability 9%, 80% needed", 0.09, 0.8, holds=False, stops=True),
            ],
            "conflicts": [],
            "p_npv_positive": {"prior": 0.44, "posterior": 0.09},
        },
    ]


def decision() -> dict[str, Any]:
    """The document, new each time."""
    quantities = _quantities()
    evidence: dict[str, Any] = {}
    for index, row in enumerate(quantities):
        evidence[f"/quantities/{index}/prior"] = {"kind": "assumed", "source": "the plan's defaults"}
        for part in ("data", "posterior", "new_site"):
            evidence[f"/quantities/{index}/{part}"] = {"kind": row["kind"], "source": "registers of shop-01, shop-02 and shop-03"}
    return {
        "schema": "nearhall/decision/v1",
        "plan": "Shops with cameras and a kiosk",
        "software": "nearhall 0.3.0",
        "stamp": "PARTLY MEASURED",
        "horizon_years": 5.0,
        "discount_rate": 0.08,
        "notes": ["Quantities are drawn independently of each other."],
        "site_classes": _classes(),
        "quantities": quantities,
        "next": [
            {
                "site_class": "device",
                "what": "hub_price",
                "words": "ask the hub for a quote",
                "why": "it moves the return most",
                "days": 1.0,
                "evppi_usd": 410.0,
                "usd_per_day": 410.0,
                "blocking": False,
            },
            {
                "site_class": "micro",
                "what": "pue",
                "words": "meter PUE over a year at a site",
                "why": "coverage 71 %, 90 % needed",
                "days": 60.0,
                "evppi_usd": None,
                "usd_per_day": None,
                "blocking": True,
            },
            *(
                {
                    "site_class": "micro",
                    "what": what,
                    "words": f"meter {what}",
                    "why": "assumed",
                    "days": 14.0,
                    "evppi_usd": worth,
                    "usd_per_day": worth / 14.0,
                    "blocking": False,
                }
                for what, worth in (("the bytes sent", 0.0), ("the requests", 0.4))
            ),
        ],
        "pilots": [
            {
                "file": "november/pilot.json",
                "site": "shop-01",
                "site_class": "device",
                "seconds": 1_814_400.0,
                "rehearsal": False,
                "too_short": "",
                "accepted": True,
                "used": ["it_power_w", "pue", "line_bytes"],
                "refused": [],
            },
            {
                "file": "november/pilot.json",
                "site": "mall-01",
                "site_class": "micro",
                "seconds": 23.0,
                "rehearsal": True,
                "too_short": "lasted 23 s: a pilot lasts a day at least",
                "accepted": False,
                "used": ["it_power_w"],
                "refused": [{"why": "coverage 71 %, 90 % needed", "for": ["pue", "line_bytes"]}],
            },
        ],
        "evidence": evidence,
        "counts": {"measured": 4, "simulated": 1, "vendor": 0, "standard": 0, "assumed": 1},
    }
