"""profile.json: written whole, read back the same, refused where its figures cannot be."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.profile import FILE_NAME, Profile, read_profile, write_profile

MEASURED = {"value": 41.8, "kind": "measured", "source": "resident memory before and after"}
PLAIN: dict[str, Any] = {
    "schema": "nearhall/profile/v1",
    "model": "door",
    "version": "1",
    "variant": "int8",
    "runtime": "onnxruntime",
    "sha256": "a" * 64,
    "device": "cpu",
    "threads": 1,
    "host": {"cpu": "Old Faithful 1000", "cores": 2, "quota": 1.5, "software": {"onnxruntime": "1.32.0"}},
    "date": "2026-11-26T05:20:00+00:00",
    "samples": {"source": "digits", "n": 719, "sha256": "b" * 64, "kind": "measured"},
    "latency_ms": [
        {"batch": 1, "n": 1000, "p50": 1.0, "p90": 1.1, "p99": 2.0, "cpu_ms": 1.0, "kind": "measured"},
        {"batch": 8, "n": 100, "p50": 4.0, "p90": 4.5, "p99": None, "cpu_ms": 4.0, "kind": "measured"},
    ],
    "load_s": {"value": 0.02, "kind": "measured", "source": "clock"},
    "memory_mib": MEASURED,
    "joules_per_item": {"cpu": {"value": 0.01, "kind": "assumed", "source": "CPU seconds x 10 W"}},
    "agreement": {"reference": "cpu", "score": 0.99, "how": "top1", "n": 719, "worst": 0.0, "kind": "measured"},
    "notes": ["an int8 form"],
}


def test_a_profile_is_read_back_as_it_was_written(tmp_path: Path):
    assert read_profile(tmp_path) is None
    profile = Profile.model_validate(PLAIN)
    path = write_profile(tmp_path, profile)
    assert path == tmp_path / FILE_NAME
    assert read_profile(tmp_path) == profile
    assert [f.name for f in tmp_path.iterdir()] == [FILE_NAME]
    assert json.loads(path.read_bytes())["schema"] == "nearhall/profile/v1"
    assert profile.joules_per_item.it is None


def test_a_folder_that_takes_no_file_is_one_line(tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        write_profile(tmp_path / "taken", Profile.model_validate(PLAIN))
    assert write_profile(tmp_path / "new", Profile.model_validate(PLAIN)).is_file()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"latency_ms": [{**PLAIN["latency_ms"][0], "n": 99}]}, "p90 of 99 runs tells nothing"),
        ({"latency_ms": [{**PLAIN["latency_ms"][0], "n": 999}]}, "p99 of 999 runs tells nothing"),
        ({"latency_ms": [{**PLAIN["latency_ms"][0], "p90": 0.5}]}, "p50, p90 and p99 fall: 1, 0.5, 2"),
        ({"latency_ms": PLAIN["latency_ms"][::-1]}, "the sizes in latency_ms do not rise: 8, 1"),
        (
            {"chat": [{"streams": 4, "n": 4, "tokens_per_s": 9, "ttft_p50_ms": 9, "kind": "measured"}] * 2},
            "the sizes in chat do not rise: 4, 4",
        ),
        ({"memory_mib": {**MEASURED, "kind": "guessed"}}, "memory_mib.kind"),
        ({"memory_mib": {"value": 1}}, "memory_mib.kind is missing"),
        ({"memory": MEASURED}, "did you mean 'memory_mib'?"),
        ({"device": "tpu"}, "device"),
        ({"agreement": {**PLAIN["agreement"], "score": 1.5}}, "agreement.score"),
    ],
)
def test_figures_that_cannot_be_are_refused_with_their_place(tmp_path: Path, change: dict[str, Any], told: str):
    (tmp_path / FILE_NAME).write_text(json.dumps(deepcopy(PLAIN)))
    assert read_profile(tmp_path) is not None
    (tmp_path / FILE_NAME).write_text(json.dumps({**PLAIN, **change}))
    with pytest.raises(InputError) as refused:
        read_profile(tmp_path)
    assert told in str(refused.value)
