"""Makes the int8 variant of an ONNX model, measures it beside what it was made from, and keeps it only where it is worth keeping.

Static (QDQ, weights per channel) where there are samples to calibrate with; dynamic where there are none and the model is mostly
products of matrices. Which is faster, and what it costs in quality, no table says: int8 was 1.3 times slower on one model and
missed a fifth of the boxes on another. So both are run, here, on data that it was not calibrated with.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from nearhall.cli.profiling.feeds import Feed, Feeds
from nearhall.cli.profiling.int8 import CONVOLUTIONS, MATRICES, Way, kinds_of, make_int8
from nearhall.cli.profiling.measure import BUSY, Tell, Wish, found_feeds, measure
from nearhall.cli.profiling.place import Place
from nearhall.cli.profiling.worker import Worker
from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.documents.model import Measured, ModelDocument, Variant
from nearhall.documents.profile import Profile, write_profile
from nearhall.documents.whole_file import write_whole
from nearhall.documents.yaml_file import dump_document
from nearhall.drivers.packages import sha256_of

CALIBRATION_MAX = 128
"""Samples: ranges of activations settle within some tens of them."""
CALIBRATION_SHARE = 1 / 3
"""Of the samples at most; the rest judges."""
JUDGED_MIN = 16
"""Fewer samples than this could not tell 98 % from 94 %."""
FASTER_MIN = 1.05
"""Times as fast: less is within what two measurements of one thing differ, and another variant to look after is no gain."""
RIGHT = {
    "openvino": "a TFLite model is quantised where it is made: TFLiteConverter with a representative_dataset; then add the file",
    "genai": "a GGUF is quantised already, in blocks: take another of its quantisations (Q8_0, Q4_K_M) from who made it",
    "upstream": "it runs on another server: quantise it there",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What to make, as the command line says."""

    source: str
    """The variant it is made from."""
    name: str = "int8"
    quality_min: float = 0.98
    way: Way | None = None
    """None: chosen by the data and the model."""
    keep_slower: bool = False
    make_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came of it."""

    kept: bool
    said: str
    """In one or two sentences, why it was kept or not."""
    way: Way
    before: Profile
    after: Profile
    bytes_before: int
    bytes_after: int
    document: ModelDocument | None = None
    """model.yaml as it is now, where the variant was kept."""

    @property
    def speedup(self) -> float:
        """How many times as fast as what it was made from, at batch 1; below 1: slower."""
        return faster(self.before, self.after)[0]


def check(place: Place, ask: Ask) -> None:
    """Raises InputError where no int8 variant can be made of it, saying what would be right."""
    variant = place.variants[ask.source]
    if variant.runtime != "onnxruntime":
        what = f"{place.document.name}/{ask.source} is not an ONNX model ({variant.runtime})"
        raise InputError(what, where="MODEL", right=RIGHT[variant.runtime])
    if ask.name in place.variants:
        right = f"give another --name, or take {ask.name!r} out of {place.path} and remove its folder"
        raise InputError(f"{place.document.name} has a variant {ask.name!r} already", where="--name", right=right)
    if place.folder(ask.name).exists():
        what = f"{place.folder(ask.name)} is there already, and not in model.yaml"
        raise InputError(what, where="--name", right="remove it, or give another --name")
    if find_spec("onnx") is None:
        right = "pip install 'nearhall[pilot]'"
        raise InputError("quantising needs the package onnx, which is not installed", right=right)


def quantise(place: Place, ask: Ask, wish: Wish, tell: Tell) -> Made:
    """Makes it, measures both in turn, and keeps or drops it; nothing is left of one that is dropped, nor of a run that fails."""
    check(place, ask)
    source = Path(place.file(ask.source).path)
    with Worker(place.file(ask.source)) as worker:
        feeds = found_feeds(place, worker.inputs, wish, worker)
    way, note = choose_way(source, feeds, ask.way)
    calibration, judged = parted(feeds, way)
    with _folder(place, ask.name) as made:
        tell(f"{ask.name}: quantising ({way})")
        target = made / f"{source.stem}.{ask.name}.onnx"
        per_channel = make_int8(source, target, way, calibration)
        before, after = _both(place, ask, target, judged, wish=wish, tell=tell)
        made_so = _words(way, calibration, feeds, per_channel=per_channel)
        after = after.model_copy(update={"notes": [made_so, *([note] if note else []), *after.notes]})
        said, kept = verdict(before, after, ask)
        result = Made(
            kept=kept,
            said=said,
            way=way,
            before=before,
            after=after,
            bytes_before=source.stat().st_size,
            bytes_after=target.stat().st_size,
        )
        if not kept:
            return result
        return replace(result, document=_keep(place, ask, target, before=before, after=after))


def verdict(before: Profile, after: Profile, ask: Ask) -> tuple[str, bool]:
    """(why, whether to keep it): the quality first, for a fast wrong answer is worth nothing."""
    agreement = after.agreement
    if agreement is None:
        return "its agreement was not measured", False
    score = f"{agreement.score:.2%} agreement with {agreement.reference}"
    if agreement.score < ask.quality_min:
        return f"refused: {score}, and the floor is {100 * ask.quality_min:g} %", False
    ratio, by = faster(before, after)
    together = _in_batches(before, after)
    if ratio < FASTER_MIN:
        slower = (f"{1 / ratio:.1f}x slower here" if ratio < 1 / FASTER_MIN else "no faster here") + by
        if not ask.keep_slower:
            return f"{slower}{together}: not worth it ({score}); --keep-slower keeps it, for its size", False
        return f"{slower}{together}, and kept because --keep-slower says so ({score})", True
    weak = "" if agreement.kind == "measured" else "; that agreement is on no data of yours: give --data before you rely on it"
    return f"{ratio:.2f}x as fast as {ask.source}{by}{together}, {score}{weak}", True


def faster(before: Profile, after: Profile) -> tuple[float, str]:
    """(how many times as fast, at batch 1; by what, where it is not the clock): on a busy machine, CPU time is what tells."""
    first, second = before.latency_ms[0], after.latency_ms[0]
    by_clock = first.p50 / second.p50
    if not first.cpu_ms or not second.cpu_ms:
        return by_clock, ""
    if not any(waited(point.p50, point.cpu_ms, profile) for point, profile in ((first, before), (second, after))):
        return by_clock, ""
    return first.cpu_ms / second.cpu_ms, " by CPU time, for the machine was busy"


def waited(took_ms: float, cpu_ms: float | None, profile: Profile) -> bool:
    """Whether one thread on a CPU waited for a core about as long as it computed."""
    return profile.threads == 1 and profile.device == "cpu" and cpu_ms is not None and took_ms > BUSY * cpu_ms


def _in_batches(before: Profile, after: Profile) -> str:
    """How the largest batch that both ran compares; nothing where there is none."""
    theirs = {point.batch: point.p50 for point in before.latency_ms}
    common = [point for point in after.latency_ms if point.batch > 1 and point.batch in theirs]
    if not common:
        return ""
    return f" one by one ({theirs[common[-1].batch] / common[-1].p50:.2f}x as fast in batches of {common[-1].batch})"


def choose_way(source: Path, feeds: Feeds, asked: Way | None) -> tuple[Way, str]:
    """How to quantise, and a note where the choice needs one; raises InputError where there is no way."""
    real = feeds.kind is Kind.MEASURED
    kinds = kinds_of(source)
    if asked == "static" and not real:
        raise InputError("there are no samples to calibrate with", where="--static", right="give --data")
    if asked is not None:
        return asked, ""
    if real:
        return "static", ""
    if kinds & CONVOLUTIONS or not kinds & MATRICES:
        what = f"the model is not mostly products of matrices ({', '.join(sorted(kinds))[:120]}), and there are no samples"
        raise InputError(what, where="--data", right="give samples to calibrate with, or ask for --dynamic")
    return "dynamic", "quantised without data, for there was none"


def parted(feeds: Feeds, way: Way) -> tuple[Sequence[Feed], Feeds]:
    """(what it is calibrated with, what judges it): never the same; raises InputError where there are too few samples."""
    if way == "dynamic":
        return (), feeds
    count = min(CALIBRATION_MAX, int(len(feeds.feeds) * CALIBRATION_SHARE))
    if count < 1 or len(feeds.feeds) - count < JUDGED_MIN:
        right = f"give at least {JUDGED_MIN + JUDGED_MIN // 2}: a third calibrates, the rest judges; or ask for --dynamic"
        raise InputError(f"{len(feeds.feeds)} samples are too few", where="--data", right=right)
    # Spread over all of them, for data is often sorted; what lies between two of them judges.
    step = len(feeds.feeds) / count
    chosen = {int(index * step) for index in range(count)}
    return [feeds.feeds[index] for index in sorted(chosen)], replace(
        feeds, feeds=[feed for index, feed in enumerate(feeds.feeds) if index not in chosen]
    )


def _words(way: Way, calibration: Sequence[Feed], feeds: Feeds, *, per_channel: bool) -> str:
    scales = "one scale a channel" if per_channel else "one scale a tensor, since by channel the library or its result failed"
    if way == "dynamic":
        return f"int8 weights, {scales}; activations are quantised as they come (dynamic)"
    return f"int8 weights, {scales}, and activations (static QDQ), calibrated with {len(calibration)} samples of {feeds.source}"


@contextmanager
def _folder(place: Place, name: str) -> Generator[Path]:
    """A folder beside the variants whose name no repository reads; what is left in it goes, whatever happens."""
    parent = place.folder(name).parent
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
    except OSError as error:
        right = "give yourself the right to write there"
        raise InputError(f"cannot be written to ({error.strerror})", where=str(parent), right=right) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _both(place: Place, ask: Ask, target: Path, judged: Feeds, *, wish: Wish, tell: Tell) -> tuple[Profile, Profile]:
    """Profiles of what it was made from and of what was made, side by side; both held against the model's reference."""
    source = place.variants[ask.source]
    fresh = Variant(runtime="onnxruntime", file=target.name, threads=source.threads, options=source.options)
    trial = place.with_trial(ask.name, fresh, target.parent)
    before, after = measure(trial, [ask.source, ask.name], wish, tell, feeds=judged)
    return before, after


def _keep(place: Place, ask: Ask, target: Path, *, before: Profile, after: Profile) -> ModelDocument:
    """Puts the variant in its place and then into model.yaml, which makes it one; takes it back where that fails."""
    source = place.variants[ask.source]
    measured = Measured(
        latency_p50_ms=after.latency_ms[0].p50,
        memory_mib=0.0 if after.memory_mib is None else after.memory_mib.value,
        runs=after.latency_ms[0].n,
        date=after.date[:10],
        host=f"{after.host.cpu}, {after.host.cores} cores",
    )
    variant = Variant(
        runtime="onnxruntime",
        file=target.name,
        sha256=sha256_of(target),
        threads=source.threads,
        options=source.options,
        measured=measured,
        quality=None if after.agreement is None or after.agreement.kind != "measured" else after.agreement.score,
    )
    document = with_variant(place.document, ask.name, variant, default=ask.make_default)
    made = target.parent
    write_profile(made, after)
    final = place.folder(ask.name)
    made.chmod(0o755)
    made.rename(final)
    try:
        write_whole(place.path, dump_document(document))
    except BaseException:
        shutil.rmtree(final, ignore_errors=True)
        raise
    if not _holds(place.profile(ask.source), before):
        write_profile(place.folder(ask.source), before)
    return document


def _holds(known: Profile | None, fresh: Profile) -> bool:
    """Whether a profile that is there already is of this file, here: it may tell more (batches, a meter) and stays."""
    if known is None:
        return False
    return (known.sha256, known.device, known.host.cpu, known.threads) == (
        fresh.sha256,
        fresh.device,
        fresh.host.cpu,
        fresh.threads,
    )


def with_variant(document: ModelDocument, name: str, variant: Variant, *, default: bool) -> ModelDocument:
    """model.yaml with one more variant in its default version."""
    plain = document.model_dump(mode="json", by_alias=True)
    variants = plain["versions"][document.default_version]["variants"]
    variants[name] = variant.model_dump(mode="json", by_alias=True)
    before = variants[document.default_variant]
    if default and before.get("quality") is None:
        before["quality"] = 1.0  # what it was held against: no longer known as the best by being the default one
    return ModelDocument.model_validate({**plain, **({"default_variant": name} if default else {})})
