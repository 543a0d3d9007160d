"""What one server gives a workload: measured runs before the roofline, watts of the model's own run, and what batches cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cabinet_sample import SAMPLES, ledger
from nearhall.core.evidence import Kind
from nearhall.documents.catalogue_models import load_models
from nearhall.documents.defaults import all_defaults
from nearhall.documents.hardware import load_catalogue
from nearhall.documents.plan_place import Hardware
from nearhall.documents.plan_work import Workload
from nearhall.planner.samples.draws import Draws
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.fit import Memory, fit_memory
from nearhall.planner.serving.load import Rack, site_load
from nearhall.planner.serving.pool import Lane, pool_of
from nearhall.planner.serving.server import Server, resolve_server
from nearhall.planner.serving.service import Service, batched, serve_on

CATALOGUE, MODELS = load_catalogue(), load_models()


def on(system: str, **said: object) -> Server:
    hardware = Hardware.model_validate({"id": "box", "ref": system, **said})
    return resolve_server(hardware, CATALOGUE.system(system), ledger())


def work(model: str, *, kind: str = "llm", slo: dict[str, float] | None = None, **wish: object) -> Workload:
    return Workload.model_validate(
        {
            "id": "w",
            "model": {"kind": kind, "ref": model, **wish},
            "arrivals": {"rate_per_s": 1.0},
            "slo": slo or ({"ttft_p99_ms": 1000} if kind == "llm" else {"p99_ms": 1000}),
            "data": {"in_kb": 1, "out_kb": 1},
        }
    )


def served(workload: Workload, server: Server, bits: int = 8) -> Service:
    book, model = ledger(), MODELS.model(workload.wish.ref or "")
    names = ("runtime_gib", "fragmentation", "activations_gib")
    memory = Memory(
        usable_bytes=server.memory_bytes,
        accelerators=server.system.accelerators,
        **{name: book.take("x", None, f"memory.{name}") for name in names},
    )
    wish = workload.wish
    fit = fit_memory(model, memory, bits=bits, ctx=wish.ctx, concurrent=wish.concurrent)
    return serve_on(workload, model, server, fit, book, catalogue=CATALOGUE)


def middle(values: np.ndarray) -> float:
    return float(np.median(values))


def test_a_language_model_takes_rate_and_watts_of_its_own_run():
    """MLPerf v4.1, eight H200, llama2-70b: Server 80.1 a second at 6,280 W; ResNet-50 draws 4,954 W on the same."""
    short = work("llama-2-70b", prompt_tokens=100, output_tokens=100)
    found = served(short, on("h200-sxm-8x"))
    assert middle(found.per_s) == pytest.approx(80.1, rel=0.01)
    assert middle(found.busy_w) == pytest.approx(6280.21, rel=0.01)
    assert found.how.startswith("MLPerf Inference v4.1/H200-SXM-141GBx8_TRT_MaxQ llama2-70b-99 Server: 80.1/s at full batches;")
    assert found.kind == Kind.VENDOR
    assert not found.missing


def test_longer_prompts_longer_answers_and_wider_weights_take_of_the_measured_rate():
    server = on("h200-sxm-8x")
    plain = work("llama-2-70b", prompt_tokens=160, output_tokens=294)
    twice = work("llama-2-70b", prompt_tokens=160, output_tokens=588)
    read = work("llama-2-70b", prompt_tokens=614, output_tokens=294)
    rates = [middle(served(workload, server).per_s) for workload in (plain, twice, read)]
    np.testing.assert_allclose(rates, [80.1, 40.05, 40.05], rtol=0.01)
    wide = served(plain, server, bits=16)
    assert middle(wide.per_s) == pytest.approx(40.05, rel=0.01)
    assert "times 0.50 for its tokens and 16 bits" in wide.how
    assert wide.kind == Kind.ASSUMED


def test_without_a_run_of_the_model_the_roofline_tells_and_the_hungriest_run_draws():
    found = served(work("llama-3.1-8b", concurrent=4), on("h200-sxm-8x"))
    assert found.how.startswith("roofline of prefill and decode")
    assert middle(found.busy_w) == pytest.approx(6280.21, rel=0.01)
    seen = served(work("yolo-n", kind="vision"), on("orin-maxq"))
    assert seen.how.startswith("roofline")
    assert middle(seen.busy_w) == pytest.approx(34.53, rel=0.01), "as its speech run, not its pictures"


def test_every_language_model_with_runs_has_its_runs_tokens():
    named = {model.mlperf for model in MODELS.models if model.kind == "llm" and model.mlperf}
    assert {f"llm.run_{which}_tokens.{name}" for name in named for which in ("prompt", "output")} <= all_defaults().keys()


@pytest.mark.parametrize("system", [system.id for system in CATALOGUE.systems])
def test_no_server_is_reckoned_below_any_of_its_runs(system: str):
    server = on(system)
    assert middle(server.busy_w) >= max(row.mean_w for row in server.system.benchmarks) * 0.999
    assert middle(server.nameplate_w) >= middle(server.busy_w)


def test_the_plans_own_watts_count_for_every_model():
    server = on("h200-sxm-8x", busy_w=7000)
    for workload in (work("llama-2-70b"), work("resnet50", kind="vision"), work("llama-3.1-8b")):
        np.testing.assert_allclose(served(workload, server).busy_w, 7000.0)


def test_a_system_brings_its_own_highest_seconds():
    """HPE e920d with four AIC100: 509 W at the 99th of a hundred seconds, 451 W in the mean."""
    server = on("hpe-e920d-4xaic100")
    service = served(work("resnet50", kind="vision"), server)
    ones = np.ones(SAMPLES)
    lane = Lane(workload=work("resnet50", kind="vision"), service=service, rate_per_s=ones * 1000.0, network_p99_ms=ones)
    book = Ledger(Draws(seed=1, samples=SAMPLES), all_defaults(), {"sites.s.it_scale": ones})
    load = site_load("s", [Rack(server=server, pool=pool_of([lane], 1, seed=1))], book)
    own = max(row.p99_w / row.mean_w for row in server.system.benchmarks)
    assert own > 1.1
    np.testing.assert_allclose((load.burst_w - load.own_w) / (load.busiest_w - load.own_w), own)
    entry = next(entry for entry in book.entries() if entry.name == "hardware.box.within_run")
    assert entry.quantity.p50 == pytest.approx(own)
    assert not entry.is_default


def test_an_offline_rate_is_reached_by_batches_that_take_their_time():
    """Orin: 1.575 ms alone, 3,525.9 a second offline. In 10 ms a batch may take 3.3: rate for latency, never both."""
    tight, loose = (served(work("resnet50", kind="vision", slo={"p99_ms": ms}), on("orin-maxq")) for ms in (10, 1000))
    for found in (tight, loose):
        assert "an Offline run" in found.how
        assert middle(found.per_s) < 3525.9
        assert middle(found.first_s) > 1.575e-3
    assert middle(tight.per_s) < middle(loose.per_s)
    assert middle(tight.first_s) < middle(loose.first_s)
    assert middle(tight.first_s) == pytest.approx(3.3e-3, rel=0.03)
    assert middle(loose.per_s) == pytest.approx(0.8 * 3525.9, rel=0.05)


@given(
    alone_ms=st.floats(0.1, 100.0),
    per_s=st.floats(1.0, 1e5),
    accelerators=st.integers(1, 8),
    longest_ms=st.floats(0.1, 1000.0),
    share=st.floats(0.1, 0.95),
)
def test_batches_never_beat_the_run(alone_ms: float, per_s: float, accelerators: int, longest_ms: float, share: float):
    batch_s, rate = batched(
        alone_s=alone_ms / 1e3, per_s=per_s, accelerators=accelerators, longest_s=longest_ms / 1e3, share=share
    )
    assert rate <= per_s
    assert batch_s >= alone_ms / 1e3
    slower_s, more = batched(
        alone_s=alone_ms / 1e3, per_s=per_s, accelerators=accelerators, longest_s=2 * longest_ms / 1e3, share=share
    )
    assert (slower_s, more) >= (batch_s, rate)
