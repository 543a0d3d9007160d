"""What people see of profiles: tables of variants, and of one variant's batch sizes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from math import floor

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from nearhall.cli.profiling.place import Place
from nearhall.cli.profiling.quantise import Made
from nearhall.documents.model import Variant
from nearhall.documents.profile import Agreement, Figure, Profile
from nearhall.gateway.models.profiles import curve_of
from nearhall.policy.batching import batching

COLUMNS = ("p50 ms", "MiB", "J an item", "agreement", "figures")
NONE = "-"


def cells(variant: Variant, profile: Profile | None, *, cpu: str) -> tuple[str, ...]:
    """One variant's figures in the order of `COLUMNS`; those of model.yaml where it has no profile. `cpu` is this machine's."""
    if profile is None:
        if variant.measured is None:
            return NONE, NONE, NONE, NONE, "not measured"
        measured = variant.measured
        return f"{measured.latency_p50_ms:.4g}", f"{measured.memory_mib:.4g}", NONE, NONE, "when added"
    return (
        _p50(profile),
        NONE if profile.memory_mib is None else f"{profile.memory_mib.value:.4g}",
        _joules(profile),
        _agreed(profile.agreement),
        _where(variant, profile, cpu),
    )


def variants_table(place: Place, *, cpu: str) -> Table:
    """Every variant of a model with its figures; the default one first, with a star."""
    table = Table(_left("variant"), _left("runtime"), *_columns(), box=None, pad_edge=False)
    for name in sorted(place.variants, key=lambda name: (name != place.document.default_variant, name)):
        variant = place.variants[name]
        mark = "*" if name == place.document.default_variant and len(place.variants) > 1 else ""
        table.add_row(f"{name}{mark}", variant.runtime, *cells(variant, place.profile(name), cpu=cpu))
    return table


def models_table(places: Iterable[Place], *, cpu: str, broken: Iterable[str] = ()) -> Table:
    """Every variant of every model, a row each; a model's default one first. `broken`: names of those that cannot be read."""
    table = Table(_left("model"), _left("variant"), *_columns(), box=None, pad_edge=False)
    for place in places:
        names = sorted(place.variants, key=lambda name: (name != place.document.default_variant, name))
        for index, name in enumerate(names):
            variant = place.variants[name]
            model = place.document.name if index == 0 else ""
            table.add_row(model, name, *cells(variant, place.profile(name), cpu=cpu))
    for name in broken:
        table.add_row(name, *[NONE] * len(COLUMNS), "cannot be read")
    return table


def shown(place: Place, *, cpu: str) -> RenderableType:
    """One model: what it is, its variants, and what was measured of each."""
    document = place.document
    lines = [f"{document.name}, version {document.default_version} ({document.task}), licence {document.licence}"]
    lines.append(f"  from {document.source}")
    if document.quality is not None:
        lines.append(f"  quality: {document.quality}")
    for title, shapes in (("takes", document.inputs), ("gives", document.outputs)):
        lines.extend(f"  {title} {shape.name}: {shape.dtype} {list(shape.shape)}" for shape in shapes)
    parts: list[RenderableType] = [Text("\n".join(lines)), Text(""), variants_table(place, cpu=cpu)]
    for name in place.variants:
        profile = place.profile(name)
        if profile is not None:
            parts += [Text(""), details(profile)]
    if all(place.profile(name) is None for name in place.variants):
        at = shlex.quote(str(place.repository))
        parts += [Text(""), Text(f"Measure it here: nearhall models profile {document.name} --all --repository {at}")]
    return Group(*parts)


def details(profile: Profile) -> RenderableType:
    """One profile: its curve, what batches pay, where every figure comes from."""
    table = Table(*_curve_head(profile), box=None, pad_edge=False)
    for row in _curve(profile):
        table.add_row(*row)
    about = Table.grid(Column(), Column(overflow="fold"), padding=(0, 2))
    for name, text in _facts(profile):
        about.add_row(name, text)
    head = f"{profile.model}/{profile.variant}: {profile.device}, {_threads(profile)}, {profile.host.cpu}, {profile.date}"
    return Group(Text(head, style="bold"), Padding(table, (0, 0, 0, 2)), Padding(about, (0, 0, 0, 2)))


def quantised(made: Made, place: Place) -> RenderableType:
    """What came of quantising: both variants side by side, the verdict, and what to do next."""
    table = Table("", *map(_right, ("p50 ms", "CPU ms", "MiB", "file KiB", "J an item")), "agreement", box=None, pad_edge=False)
    for profile, size in ((made.before, made.bytes_before), (made.after, made.bytes_after)):
        first = profile.latency_ms[0]
        table.add_row(
            profile.variant,
            f"{first.p50:.4g}",
            NONE if first.cpu_ms is None else f"{first.cpu_ms:.4g}",
            NONE if profile.memory_mib is None else f"{profile.memory_mib.value:.4g}",
            f"{size / 1024:.0f}",
            _joules(profile),
            _agreed(profile.agreement),
        )
    verdict = made.said[0].upper() + made.said[1:] + "."
    lines = [verdict]
    if made.after.agreement is not None:
        unseen = " that did not calibrate it" if made.way == "static" else ""
        lines.append(f"Compared: {made.after.agreement.how}; {made.after.agreement.n} samples{unseen}.")
    lines += [f"Note: {note}." for note in made.after.notes]
    if made.document is not None:
        state = "the default now" if made.document.default_variant == made.after.variant else "not the default: --make-default"
        lines.append(f"Kept as {place.folder(made.after.variant)} ({state}).")
    else:
        lines.append("Nothing was kept.")
    return Group(table, Text(""), Text("\n".join(lines)))


def _facts(profile: Profile) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if profile.latency_ms:
        facts.append(("batches that pay", _paying(profile)))
    for name, figure in (("load", profile.load_s), ("memory", profile.memory_mib)):
        if figure is not None:
            facts.append((name, f"{figure.value:.4g} {'s' if name == 'load' else 'MiB'} {figure.kind}: {figure.source}"))
    for name, figure in _energies(profile):
        facts.append((f"energy, {name}", f"{joules_text(figure.value)} {figure.kind}: {figure.source}"))
    if profile.agreement is not None:
        agreement = profile.agreement
        worst = f"worst sample {percent(agreement.worst)}"
        facts.append(("agreement", f"{_agreed(agreement)} with {agreement.reference}, {worst}; {agreement.how}"))
    if profile.samples is not None:
        facts.append(("samples", f"{profile.samples.n} of {profile.samples.source}"))
    return [*facts, *(("note", note) for note in profile.notes)]


def _curve_head(profile: Profile) -> Sequence[Column]:
    if profile.chat:
        return [_right(name) for name in ("answers at once", "answers", "tokens/s", "first token p50 ms", "CPU ms a token")]
    return [_right(name) for name in ("batch", "runs", "p50 ms", "p90 ms", "p99 ms", "CPU ms", "items/s")]


def _curve(profile: Profile) -> Iterable[tuple[str, ...]]:
    for streams in profile.chat:
        figures = (streams.tokens_per_s, streams.ttft_p50_ms, streams.cpu_ms_per_token)
        yield (f"{streams.streams}", f"{streams.n}", *map(_number, figures))
    for point in profile.latency_ms:
        figures = (point.p50, point.p90, point.p99, point.cpu_ms)
        yield (f"{point.batch}", f"{point.n}", *map(_number, figures), _rate(1e3 * point.batch / point.p50))


def _paying(profile: Profile) -> str:
    curve = curve_of(profile)
    sizes = () if curve is None else batching(curve, here=curve.of)
    if sizes:
        return f"{', '.join(map(str, sizes))}, on this device alone"
    return "none: a batch gives less than a tenth more items a second" if len(profile.latency_ms) > 1 else "not known"


def _p50(profile: Profile) -> str:
    if profile.chat:
        return _number(profile.chat[0].ttft_p50_ms)
    return _number(profile.latency_ms[0].p50 if profile.latency_ms else None)


def _joules(profile: Profile) -> str:
    """The figure that counts most: at the plug, else of GPU and CPU together."""
    energies = dict(_energies(profile))
    it = energies.get("IT")
    if it is not None:
        return f"{joules_text(it.value)} {it.kind}"
    if not energies:
        return NONE
    kinds = "assumed" if any(figure.kind == "assumed" for figure in energies.values()) else "measured"
    return f"{joules_text(sum(figure.value for figure in energies.values()))} {kinds}"


def _energies(profile: Profile) -> list[tuple[str, Figure]]:
    joules = profile.joules_per_item
    return [
        (name, figure) for name, figure in (("CPU", joules.cpu), ("GPU", joules.gpu), ("IT", joules.it)) if figure is not None
    ]


def joules_text(value: float) -> str:
    """Joules with the prefix that keeps the number readable."""
    for scale, unit in ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.3g} µJ"


def _agreed(agreement: Agreement | None) -> str:
    return NONE if agreement is None else f"{percent(agreement.score)} {agreement.kind}"


def percent(share: float) -> str:
    """Never rounded up: what is not all is not shown as 100%."""
    return f"{floor(share * 1000) / 10:.1f}%"


def _where(variant: Variant, profile: Profile, cpu: str) -> str:
    """Whether the figures hold for what would run here now."""
    if variant.sha256 is not None and profile.sha256 is not None and variant.sha256 != profile.sha256:
        return "of another file"
    if profile.device == "cpu" and profile.host.cpu != cpu:
        return "of another machine"
    if profile.threads != variant.threads:
        return f"with {_threads(profile)}"
    kinds = " and ".join(sorted({point.kind for point in (*profile.latency_ms, *profile.chat)}))
    return f"{kinds}; ms to first token" if profile.chat else kinds


def _threads(profile: Profile) -> str:
    return f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g}"


def _columns() -> list[Column]:
    """Figures stand on the right, words on the left; the last one may wrap."""
    return [*map(_right, COLUMNS[:3]), _left(COLUMNS[3]), Column(COLUMNS[4], min_width=8)]


def _left(name: str) -> Column:
    return Column(name, no_wrap=True)


def _right(name: str) -> Column:
    return Column(name, justify="right", no_wrap=True)


def _rate(items_per_s: float) -> str:
    return f"{items_per_s:,.0f}" if items_per_s >= 100 else f"{items_per_s:.3g}"
