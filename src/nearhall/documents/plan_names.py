"""What a plan takes from the catalogues: names that they do not have, and wishes that do not suit what they say of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nearhall.core.errors import InputError
from nearhall.documents.catalogue_models import CatalogueModel, ModelCatalogue
from nearhall.documents.hardware import Catalogue
from nearhall.documents.plan_across import Where, mistakes_across, standing_at


def mistakes_with(catalogue: Catalogue, models: ModelCatalogue) -> Callable[[Mapping[str, Any]], Iterator[tuple[Where, str]]]:
    """As `mistakes_across`, with the names of the catalogues too; both as a document's reader takes them."""

    def mistakes(plan: Mapping[str, Any]) -> Iterator[tuple[Where, str]]:
        yield from mistakes_across(plan)
        for where, name in standing_at(plan, ("hardware", "*", "ref")):
            yield from _unknown(where, lambda name=name: catalogue.system(str(name)))
        for where, wish in standing_at(plan, ("workloads", "*", "model")):
            if isinstance(wish, Mapping) and isinstance(name := wish.get("ref"), str):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                yield from _unsuited(where, wish, name, models)  # pyright: ignore[reportUnknownArgumentType]

    return mistakes


def _unknown(where: Where, look_up: Callable[[], object]) -> Iterator[tuple[Where, str]]:
    try:
        look_up()
    except InputError as error:
        yield where, f"{error.what}; {error.right}"


def _unsuited(where: Where, wish: Mapping[str, Any], name: str, models: ModelCatalogue) -> Iterator[tuple[Where, str]]:
    found: list[CatalogueModel] = []
    yield from _unknown((*where, "ref"), lambda: found.append(models.model(name)))
    for model in found:
        if wish.get("kind") in KINDS and wish["kind"] != model.kind:
            yield (
                (*where, "kind"),
                f"{model.id} is of kind {model.kind}, not {wish['kind']}; write {model.kind}, or another ref",
            )
        bits, known = wish.get("bits"), [variant.bits for variant in model.variants]
        if isinstance(bits, int) and bits not in known:
            yield (*where, "bits"), f"{model.id} is not known with {bits} bits; it is with {', '.join(map(str, known))}"


KINDS = ("vision", "speech", "embedding", "llm")
