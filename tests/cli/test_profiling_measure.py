"""Variants are measured side by side, each in its own process; what they take depends on their inputs, and is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nearhall.cli.profiling.elsewhere import request_body
from nearhall.cli.profiling.energy import counters
from nearhall.cli.profiling.measure import Timed, Wish, check_meter, device_name, joules, measure, slices
from nearhall.cli.profiling.place import find_model
from nearhall.cli.profiling.worker import Worker
from nearhall.cli.roots.profiled import Command
from nearhall.core.errors import InputError, PermanentError, TemporaryError
from nearhall.documents.profile import Joules
from nearhall.ports.runtime import ModelFile
from profiling_meters import Counter, Plug
from profiling_rig import classifier, convolution, failing, put

pytestmark = pytest.mark.timeout(90)


def _wish(tmp_path: Path, **more: object) -> Wish:
    return Wish(**{"cache": tmp_path / "none", "seconds": 0.02, "batches": (1, 2, 8), **more})  # pyright: ignore[reportArgumentType]


def test_a_variant_alone_has_a_curve_a_size_and_assumed_joules(tmp_path: Path):
    put(tmp_path, "door", fp32=classifier())
    told: list[str] = []
    wish = _wish(tmp_path)
    (profile,) = measure(find_model(tmp_path, "door"), ["fp32"], wish, told.append)
    assert [point.batch for point in profile.latency_ms] == [1, 2, 8]
    assert all(point.kind == "measured" and point.cpu_ms is not None for point in profile.latency_ms)
    assert profile.load_s is not None
    assert profile.memory_mib is not None
    assert profile.joules_per_item.cpu is not None
    assert profile.agreement is None
    assert profile.samples is not None
    assert (profile.samples.kind, profile.device, profile.threads) == ("assumed", "cpu", 1)
    assert any("agreement on them tells little" in note for note in profile.notes)
    assert {"nearhall", "onnxruntime", "python"} <= set(profile.host.software)
    assert len(told) <= slices(1, wish)


def test_two_variants_are_held_against_each_other_on_the_users_data(tmp_path: Path):
    put(tmp_path / "repo", "door", fp32=classifier(), other=classifier(seed=1))
    np.save(tmp_path / "data.npy", np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32))
    place = find_model(tmp_path / "repo", "door")
    first, other = measure(place, ["fp32", "other"], _wish(tmp_path, data=tmp_path / "data.npy"), lambda _: None)
    assert first.agreement is None
    assert other.agreement is not None
    assert (other.agreement.reference, other.agreement.kind, other.agreement.n) == ("fp32", "measured", 40)
    assert other.agreement.score < 0.9
    (alone,) = measure(place, ["fp32"], _wish(tmp_path, data=tmp_path / "data.npy", reference="other"), lambda _: None)
    assert alone.agreement is not None
    assert alone.agreement.score == other.agreement.score


def test_a_model_of_a_fixed_batch_is_measured_at_that_alone(tmp_path: Path):
    put(tmp_path, "eye", fp32=convolution())
    (profile,) = measure(find_model(tmp_path, "eye"), ["fp32"], _wish(tmp_path, with_energy=False), lambda _: None)
    assert [point.batch for point in profile.latency_ms] == [1]
    assert "batch 1 alone: the first axis of x [1, 3, 8, 8] is not free" in profile.notes
    assert profile.joules_per_item.cpu is None
    yaml = tmp_path / "eye" / "model.yaml"
    yaml.write_text(yaml.read_text().replace(str(profile.sha256), "a" * 64))
    (other,) = measure(find_model(tmp_path, "eye"), ["fp32"], _wish(tmp_path, with_energy=False), lambda _: None)
    told = f"model.yaml names another file, so no gateway uses this profile: write sha256: {profile.sha256}"
    assert (told in other.notes, told in profile.notes) == (True, False)


def _timed(folder: Path, wish: Wish, **more: object) -> tuple[Joules, list[str]]:
    path = put(folder, "door", fp32=classifier()) / "1" / "fp32" / "model.onnx"
    with Worker(ModelFile(model="door", version="1", variant="fp32", runtime="onnxruntime", path=str(path))) as worker:
        worker.give([{"x": np.zeros((1, 8), np.float32)}])
        return joules(Timed(worker, 0.0, took_ms={1: [1.0]}, cpu_ms={1: 1.0}), replace(wish, **more))  # pyright: ignore[reportArgumentType]


def test_counters_count_and_say_what_they_leave_out(tmp_path: Path):
    rapl, nvml = Counter("rapl"), Counter("nvml")
    found: tuple[list[Counter], list[str]] = ([rapl, nvml], ["another: not here"])

    def rest(seconds: float) -> None:
        rapl.sum_j += seconds * 1.0
        nvml.sum_j += seconds * 1.0

    wish = _wish(tmp_path, energy_s=0.01)
    energy, notes = _timed(tmp_path, wish, counters=lambda _: found, rest=rest)
    assert energy.cpu is not None
    assert energy.gpu is not None
    assert (energy.cpu.kind, "fans" in energy.cpu.source) == ("assumed", True)
    assert (energy.gpu.kind, "whole device" in energy.gpu.source) == ("assumed", True)
    assert (rapl.closed, nvml.closed) == (True, True)
    assert notes == ["no counter of energy: another: not here"]


def test_a_counter_that_fails_leaves_the_assumed_figure(tmp_path: Path):
    class Broken(Counter):
        def joules(self) -> float:
            raise TemporaryError("the counter may be read by root alone")

    energy, notes = _timed(tmp_path, _wish(tmp_path, energy_s=0.01), counters=lambda _: ([Broken()], []))
    assert energy.cpu is not None
    assert energy.cpu.kind == "assumed"
    assert notes == ["no counter of energy: the counter may be read by root alone"]


def test_a_meter_at_the_plug_is_read_while_the_model_runs(tmp_path: Path):
    plug = Plug(rest_w=40.0, busy_w=90.0)
    wish = _wish(tmp_path, meter=lambda: plug, meter_name="plug", counters=lambda _: ([], []))
    check_meter(wish)
    energy, notes = _timed(tmp_path, wish, rest=plug.rest, poll_s=0.01, meter_s=0.5, energy_s=0.01)
    assert energy.it is not None, notes
    assert (energy.it.kind, energy.it.value > 0, plug.closed) == ("measured", True, 2)


def test_a_meter_that_cannot_tell_or_fails_leaves_a_note_and_no_figure(tmp_path: Path):
    plug = Plug(rest_w=40.0, busy_w=40.0)
    wish = _wish(tmp_path, meter=lambda: plug, meter_name="plug", counters=lambda _: ([], []))
    energy, notes = _timed(tmp_path, wish, rest=plug.rest, poll_s=0.01, meter_s=0.3, energy_s=0.01)
    assert (energy.it, "no joules by the meter: plug cannot tell" in notes[0]) == (None, True)
    plug.faults = True
    with pytest.raises(PermanentError, match="does not answer"):
        check_meter(wish)
    check_meter(_wish(tmp_path))


def test_variants_of_other_inputs_and_files_that_are_none_are_told(tmp_path: Path):
    put(tmp_path, "door", fp32=classifier(), wide=classifier(width=9), broken=b"none")
    place = find_model(tmp_path, "door")
    with pytest.raises(InputError, match="wide does not take the inputs that fp32 takes"):
        measure(place, ["fp32", "wide"], _wish(tmp_path), lambda _: None)
    with pytest.raises(PermanentError, match="cannot load"):
        measure(place, ["broken"], _wish(tmp_path), lambda _: None)
    put(tmp_path, "gate", fp32=classifier(), broken=failing())
    with pytest.raises(PermanentError, match="broken does not run on what fp32 runs on"):
        measure(find_model(tmp_path, "gate"), ["broken"], _wish(tmp_path), lambda _: None)
    with pytest.raises(InputError, match="broken does not run on random numbers"):
        measure(find_model(tmp_path, "gate"), ["broken"], _wish(tmp_path, reference="broken"), lambda _: None)
    (tmp_path / "door" / "1" / "wide" / "model.onnx").unlink()
    with pytest.raises(InputError, match="is missing"):
        measure(place, ["wide"], _wish(tmp_path), lambda _: None)


def test_names_that_are_not_there_are_told_with_the_nearest(tmp_path: Path):
    put(tmp_path, "door", fp32=classifier())
    with pytest.raises(InputError, match="did you mean 'door'"):
        find_model(tmp_path, "doors")
    with pytest.raises(InputError, match="it has door"):
        find_model(tmp_path, "zzz")
    with pytest.raises(InputError, match="nearhall models fetch"):
        find_model(tmp_path / "none", "door")
    place = find_model(tmp_path, "door")
    assert place.variant(None) == "fp32"
    with pytest.raises(InputError, match="did you mean 'fp32'"):
        place.variant("fp23")
    with pytest.raises(InputError, match=r"--reference.*it has fp32"):
        place.reference("zzz")


def test_a_process_that_dies_is_told_and_one_that_does_not_know_a_command_says_so(tmp_path: Path):
    path = put(tmp_path, "door", fp32=classifier()) / "1" / "fp32" / "model.onnx"
    file = ModelFile(model="door", version="1", variant="fp32", runtime="onnxruntime", path=str(path))
    with Worker(file) as worker:
        worker.give([{"x": np.zeros((1, 8), np.float32)}])
        assert worker.run_all()[0]["logits"].shape == (1, 5)
        with pytest.raises(PermanentError, match="'dance' is no command"):
            worker.do(Command(do="dance"))
        with pytest.raises(PermanentError, match="does not take this input"):
            worker.give([{"x": np.zeros((1, 7), np.float32)}])
        worker._child.kill()
        with pytest.raises(PermanentError, match="killed by signal 9"):
            worker.run_all()


def test_a_request_to_another_server_is_a_v2_request():
    body = json.loads(request_body({"x": np.zeros((1, 2), np.float32), "word": np.array(["door"], dtype=object)}))
    assert body["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 0.0]},
        {"name": "word", "datatype": "BYTES", "shape": [1], "data": ["door"]},
    ]


def test_a_device_is_called_by_its_name_or_its_number_where_nobody_knows_it():
    assert device_name("cpu") == "cpu"
    assert device_name("cuda:NVIDIA H200") == "cuda:NVIDIA H200"
    assert device_name("cuda:7") == "cuda:device 7"


def test_every_counter_counts_or_says_why_it_does_not():
    for device, number in (("cpu", 1), ("cuda:0", 2)):
        found, why = counters(device)
        for counter in found:
            counter.close()
        assert len(found) + len(why) == number
        assert all(": " in reason for reason in why)
