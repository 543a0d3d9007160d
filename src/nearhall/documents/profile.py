"""profile.json: what one variant of a model takes on one machine, and how well it agrees with another (`nearhall/profile/v1`).

Programs write it beside the model's file, `<repository>/<model>/<version>/<variant>/profile.json`, whole or not at all. It holds
for the file with its SHA-256, on its device: of another file or device it says nothing.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nearhall.core.errors import InputError
from nearhall.core.histogram import SAMPLES_NEEDED
from nearhall.documents.model import Name
from nearhall.documents.strict import Strict
from nearhall.documents.whole_file import write_whole
from nearhall.documents.yaml_file import read_document

SCHEMA = "nearhall/profile/v1"
FILE_NAME = "profile.json"
POINTS_MAX = 32
"""Batch sizes of one curve: doublings up to the largest that any server takes are 16."""
BATCH_MAX = 65_536

KindName = Literal["measured", "vendor", "standard", "simulated", "assumed"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Figure(Strict):
    """One number and why it may be believed."""

    value: float = Field(ge=0)
    kind: KindName
    source: str = Field(min_length=1)


class Host(Strict):
    """The machine it ran on."""

    cpu: str
    """The CPU's name, as the operating system has it."""
    cores: int = Field(ge=1)
    quota: float | None = Field(default=None, gt=0)
    """Cores that the control group grants; null for no limit."""
    software: dict[str, str] = Field(default_factory=dict[str, str])
    """Version by name: nearhall, python, and the runtime's."""


class Samples(Strict):
    """What the variant ran on."""

    source: str
    """The file, or the data set, in words."""
    n: int = Field(ge=1)
    sha256: Sha256
    """Of names, types, shapes and bytes of all of them, in order: who has the same samples can repeat the profile."""
    kind: KindName
    """`assumed` where they were drawn and are no data of anybody's: agreement on them tells little."""


class LatencyPoint(Strict):
    """One batch size; milliseconds of the wall clock for a run of the whole batch, in process, the model warm."""

    batch: int = Field(ge=1, le=BATCH_MAX)
    n: int = Field(ge=1)
    """Runs."""
    p50: float = Field(gt=0)
    p90: float | None = None
    """Null below 100 runs."""
    p99: float | None = None
    """Null below 1,000 runs."""
    cpu_ms: float | None = Field(default=None, ge=0)
    """Of all threads, for one run; null where it ran in another machine's process."""
    kind: KindName

    @model_validator(mode="after")
    def _quantiles_are_ordered_and_founded(self) -> LatencyPoint:
        for q, value in ((0.9, self.p90), (0.99, self.p99)):
            if value is not None and self.n < SAMPLES_NEEDED[q]:
                message = f"p{round(q * 100)} of {self.n} runs tells nothing; leave it null below {SAMPLES_NEEDED[q]}"
                raise ValueError(message)
        known = [value for value in (self.p50, self.p90, self.p99) if value is not None]
        if any(later < earlier for earlier, later in pairwise(known)):
            message = f"p50, p90 and p99 fall: {', '.join(f'{value:g}' for value in known)}"
            raise ValueError(message)
        return self


class Joules(Strict):
    """Energy of one item at batch 1, by where it was measured; null where nothing could be said."""

    cpu: Figure | None = None
    """The processor's packages, without fans, network card, drives or what the supply loses."""
    gpu: Figure | None = None
    it: Figure | None = None
    """At the plug of the server, idle power taken off: what counts."""


class Agreement(Strict):
    """How often, or how closely, it says what the reference variant says of the same samples; no accuracy, for want of labels."""

    reference: Name
    """The variant that it was held against."""
    reference_sha256: Sha256 | None = None
    """Of that variant's file: of another one this says nothing."""
    score: float = Field(ge=0, le=1)
    how: str
    """`top1`, `boxes`, `cosine`, `close` or `tokens`, then in words what was compared and why so."""
    n: int = Field(ge=1)
    """Samples compared; of a language model: prompts."""
    positions: int | None = Field(default=None, ge=1)
    """Tokens compared, of a language model; null for others."""
    spread: float | None = Field(default=None, ge=0)
    """Half of the 95 % interval about the score, since samples are drawn; null where it was not reckoned."""
    itself: float | None = Field(default=None, ge=0, le=1)
    """What the reference scores against itself where half of each answer is read to it and not said by it: so much of what a
    variant lacks is rounding of the runtime. Null where it was not measured."""
    worst: float = Field(ge=0, le=1)
    """The score of the sample that agreed least."""
    kind: KindName


class ChatStreams(Strict):
    """A language model that answers several at once."""

    streams: int = Field(ge=1, le=1024)
    n: int = Field(ge=1)
    """Answers."""
    tokens_per_s: float = Field(gt=0)
    """Of all streams together, over the time from the first question to the last token."""
    ttft_p50_ms: float = Field(gt=0)
    cpu_ms_per_token: float | None = Field(default=None, ge=0)
    kind: KindName


class Profile(Strict):
    """The whole of profile.json."""

    schema_: Literal["nearhall/profile/v1"] = Field(alias="schema")
    model: Name
    version: Name
    variant: Name
    runtime: Literal["onnxruntime", "openvino", "genai", "upstream"]
    sha256: Sha256 | None = None
    """Of the model's file; null for `upstream`, which has none."""
    device: str = Field(pattern=r"^(cpu|cuda:.+|elsewhere)$")
    """`cpu`, `cuda:<name of the GPU>`, or `elsewhere` for an upstream server."""
    threads: int = Field(ge=1, le=256)
    """That the runtime computed with."""
    host: Host
    date: str
    """UTC, ISO 8601."""
    samples: Samples | None = None
    """Null for upstream models, and for a language model that was compared with none."""
    latency_ms: list[LatencyPoint] = Field(default_factory=list[LatencyPoint], max_length=POINTS_MAX)
    """By batch, rising. Empty for a language model, which has `chat` instead."""
    chat: list[ChatStreams] = Field(default_factory=list[ChatStreams], max_length=POINTS_MAX)
    load_s: Figure | None = None
    """From opening the file to the end of the first run."""
    memory_mib: Figure | None = None
    """What loading and running it, at the largest batch measured, added to its process."""
    joules_per_item: Joules = Joules()
    """For a language model: of one token of its answer."""
    agreement: Agreement | None = None
    """Null for the reference variant itself, and where nothing was compared."""
    notes: list[str] = Field(default_factory=list[str])
    """What a reader of these figures must know."""

    @model_validator(mode="after")
    def _batches_rise(self) -> Profile:
        for name, sizes in (
            ("latency_ms", [point.batch for point in self.latency_ms]),
            ("chat", [streams.streams for streams in self.chat]),
        ):
            if sizes != sorted(set(sizes)):
                message = f"the sizes in {name} do not rise: {', '.join(map(str, sizes))}"
                raise ValueError(message)
        return self


def read_profile(folder: Path) -> Profile | None:
    """The profile of the variant whose folder this is; None without one. Raises InputError for a file that is none."""
    path = folder / FILE_NAME
    return read_document(path, Profile) if path.is_file() else None


def write_profile(folder: Path, profile: Profile) -> Path:
    """Puts the profile beside the variant's file, whole or not at all; raises InputError where the folder takes none."""
    path = folder / FILE_NAME
    text = json.dumps(profile.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)  # an upstream variant has none
        write_whole(path, text.encode())
    except OSError as error:
        right = "make room there, or give yourself the right to write"
        raise InputError(f"cannot be written ({error.strerror})", where=str(path), right=right) from error
    return path
