"""Joules of a request in pilot.json: they add up to the meters, and say what they rest on."""

from __future__ import annotations

from typing import Any

import pytest

from hub.small_site import START_S, WINDOW_S, about, meters, path, record, store_with, video
from nearhall.hub.pilot import build_pilot
from nearhall.wire.telemetry import MeterWindow, ModelState, Record, WorkloadStats

N = 30
FEED_J, IT_J, IDLE_W = 360.0 * N * WINDOW_S, 252.0 * N * WINDOW_S, 180.0
CHAT = WorkloadStats(local=1, paths={"local": path(1, queue=0.0, service=200.0, network=0.0, ttft=50.0)})
WORK = {"video": video(service_cpu_ms=30.0, busy_ms=30.0), "chat": CHAT}


def site(records: list[Record], **said: Any) -> dict[str, Any]:
    end_s = START_S + WINDOW_S * len(records)
    return build_pilot(store_with(records, said=about(**said)), start_s=START_S, end_s=end_s, seed=1)


def records(**more: Any) -> list[Record]:
    return [record(n, **({"workloads": WORK} | more)) for n in range(N)]


def each(document: dict[str, Any], workload: int, figure: str) -> float | None:
    return document["sites"][0]["workloads"][workload]["energy_j_per_request"][figure]


def total(document: dict[str, Any], figure: str) -> float:
    return sum(w["energy_j_per_request"][figure] * w["requests"]["local"] for w in document["sites"][0]["workloads"])


def evidence(document: dict[str, Any], figure: str, workload: int = 0) -> tuple[str, str]:
    pointer = f"/sites/0/workloads/{workload}/energy_j_per_request"
    entry = document["evidence"].get(f"{pointer}/{figure}") or document["evidence"][pointer]
    return entry["kind"], entry["source"]


def test_full_joules_add_up_to_the_feed_and_marginal_ones_to_what_is_above_idle():
    found = site(records())
    assert total(found, "full") == pytest.approx(FEED_J, rel=1e-6)
    assert total(found, "marginal") == pytest.approx(IT_J - IDLE_W * N * WINDOW_S, rel=1e-6)


def test_a_share_of_several_is_assumed_and_the_whole_is_what_the_meters_are():
    found = site(records())
    assert evidence(found, "marginal") == (
        "assumed",
        "energy at the it meter above server's idle power by the catalogue, by CPU time",
    )
    kind, source = evidence(found, "full")
    assert (kind, source) == ("simulated", "the feed's metered energy, shared as what each workload caused above idle power")


def test_alone_on_its_site_a_workload_needs_no_assumption():
    found = site(records(workloads={"video": WORK["video"]}))
    assert evidence(found, "marginal")[0] == "simulated"
    assert each(found, 0, "full") == pytest.approx(FEED_J / (10 * N), rel=1e-5)


def test_a_language_models_own_process_says_what_its_answers_took():
    few = site(records(children_cpu_s=0.2, cpu_share=0.25))
    many = site(records(children_cpu_s=0.4, cpu_share=0.25))
    before, after = each(few, 1, "marginal"), each(many, 1, "marginal")
    assert before is not None
    assert after is not None
    assert after == pytest.approx(before * (0.4 + (0.5 - 0.43) / 11) / (0.2 + (0.5 - 0.23) / 11), rel=1e-3)


def test_the_idle_power_that_the_meter_itself_showed_goes_before_the_catalogues():
    quiet = [record(n, workloads={}, meters=meters(n), cpu_share=0.01) for n in range(12)]
    busy = [record(n, workloads=WORK, meters=meters(n)) for n in range(12, N)]
    found = site(quiet + busy)
    assert total(found, "marginal") == pytest.approx(0.0)  # the meter says the same 252 W with and without work
    assert "what it read while nothing was asked" in evidence(found, "marginal")[1]


def test_on_a_device_the_time_that_it_was_held_counts():
    on_device = [ModelState(name="faces", version="1", variant="v", runtime="onnxruntime", state="ready", device="cuda:0")]
    quiet = [record(n, workloads={}, models=on_device, cpu_share=0.01, counters_j={"nvml": 100.0}) for n in range(12)]
    # 50 W of idle power, 66 W while it works; the meter at the servers sees 252 W throughout.
    busy = [record(n, workloads=WORK, models=on_device, cpu_share=0.25, counters_j={"nvml": 132.0}) for n in range(12, N)]
    found = site(quiet + busy, catalogue={"id": "server", "idle_w": 180.0, "source": "a data sheet"})
    assert total(found, "full") == pytest.approx(FEED_J, rel=1e-6)
    whole = build_pilot(store_with(busy, said=about()), start_s=busy[0].start_s, end_s=busy[-1].end_s, seed=1)
    assert total(whole, "marginal") == pytest.approx(72.0 * 18 * WINDOW_S, rel=1e-6)
    assert evidence(whole, "marginal")[1].endswith("by CPU time and, on accelerators, the time that they were held")


def test_a_fit_over_windows_says_how_sure_the_marginal_figure_is():
    """A processor of video draws 50 W here, one of chat 20 W, above 200 W; the watts are a whole number of mW off."""
    varied = []
    at_kwh = 1.0
    for n in range(60):
        video_s, chat_s = 0.2 * (n % 5), 0.3 * (n % 3)
        watts = 200.0 + (50.0 * video_s + 20.0 * chat_s) / WINDOW_S + 0.5 * (-1) ** n
        after = at_kwh + watts * WINDOW_S / 3.6e6
        windows = meters(n) | {"it": MeterWindow(virtual=True, kind="simulated", register_kwh=[at_kwh, after], polls=2)}
        work = {"video": video(service_cpu_ms=video_s * 1e3), "chat": WorkloadStats(local=1, busy_ms=chat_s * 1e3)}
        varied.append(record(n, workloads=work, meters=windows))
        at_kwh = after
    found = site(varied)
    fit = found["sites"][0]["workloads"][0]["energy_j_per_request"]["fit"]
    assert fit["windows"] == 60
    assert fit["low"] < 50.0 * 0.4 / 10 < fit["high"]
    assert fit["high"] - fit["low"] < 0.2
    pointer = "/sites/0/workloads/0/energy_j_per_request/fit"
    assert found["evidence"][pointer]["kind"] == "simulated"


def test_steady_load_tells_a_fit_nothing():
    found = site([record(n, workloads=WORK) for n in range(60)])
    assert found["sites"][0]["workloads"][0]["energy_j_per_request"]["fit"] is None


def counted(**counters: float) -> dict[str, Any]:
    """A site without a meter: quiet windows first, at half of what the counters say later."""
    quiet = [
        record(n, workloads={}, meters={}, cpu_share=0.01, counters_j={k: v / 2 for k, v in counters.items()}) for n in range(10)
    ]
    busy = [record(n, workloads=WORK, meters={}, counters_j=counters) for n in range(10, N)]
    return site(quiet + busy, meters=[])


def test_without_a_meter_the_processors_own_counters_tell_the_marginal_energy_and_nobody_the_whole():
    found = counted(rapl=40.0)
    assert total(found, "marginal") == pytest.approx(20 * 20.0, rel=1e-6)
    assert (each(found, 0, "full"), each(found, 1, "full")) == (None, None)
    kind, source = evidence(found, "marginal")
    assert kind == "assumed"
    assert "RAPL, without fans, network card and the supply's losses" in source


def test_an_accelerators_counter_says_nothing_of_models_on_the_processor():
    found = counted(nvml=40.0)
    assert (each(found, 0, "marginal"), each(found, 1, "marginal")) == (0.0, 0.0)
    assert "NVML, of the whole device" in evidence(found, "marginal")[1]


@pytest.mark.parametrize("said", [{"meters": [], "catalogue": {}}, {"catalogue": {}}])
def test_what_cannot_be_told_is_null(said: dict[str, Any]):
    found = site(records(**({"meters": {}} if "meters" in said else {})), **said)
    assert (each(found, 0, "marginal"), each(found, 1, "marginal")) == (None, None)
    assert evidence(found, "marginal")[0] == "assumed"
    assert (each(found, 0, "full") is None) == ("meters" in said)


def test_a_feed_alone_is_shared_by_time():
    feed = [{"id": "feed", "position": "feed", "class_percent": 1.0}]
    found = site([record(n, workloads=WORK, meters={"feed": meters(n)["feed"]}) for n in range(N)], meters=feed)
    assert each(found, 0, "marginal") is None
    assert total(found, "full") == pytest.approx(FEED_J, rel=1e-6)
    assert evidence(found, "full")[1] == "the feed's metered energy, shared as processors' time was"
