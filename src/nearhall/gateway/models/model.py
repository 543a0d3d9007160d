"""One model of this gateway: its variants, and which of them stands for it."""

from __future__ import annotations

from collections.abc import Sequence

from nearhall.core.tensor import TensorSpec
from nearhall.gateway.models.repository import Entry, VariantEntry
from nearhall.gateway.models.variants import Served, State, Tensors, Variant
from nearhall.policy.variant import better
from nearhall.ports.runtime import ModelFile


class Model:
    """One model and its variants. Only `Models` changes it."""

    def __init__(self, entry: Entry, *, pinned: bool = False) -> None:
        self.entry = entry
        self.variants: dict[str, Variant] = {}
        self.several = False
        self.judged = False
        """Whether there is anything to choose from, or a variant that a workload's floor of quality may forbid."""
        self.ranked: list[Variant] = []
        """The best first."""
        self.follow(entry, pinned=pinned)

    def follow(self, entry: Entry, *, pinned: bool) -> list[Variant]:
        """Takes over what the repository says now; returns variants that are no longer in it. What is loaded stays so."""
        self.entry = entry
        before = self.variants
        found = entry.variants or (VariantEntry(file=_no_file(entry), fault=entry.fault),)
        if entry.stateful:
            found = found[:1]  # what it remembers of a client is in one variant, and lost with it
        self.variants = {each.name: before.get(each.name) or Variant(each) for each in found}
        self.default = next(iter(self.variants.values()))
        for each in found:
            variant = self.variants[each.name]
            variant.entry = each
            variant.pinned = variant is self.default and (pinned or entry.pinned or entry.stateful)
            unknown = 1.0 if variant is self.default else 0.0
            variant.quality = unknown if each.quality is None else each.quality
        self.several = len(self.variants) > 1
        self.ranked = sorted(self.variants.values(), key=lambda each: better(each.form()))
        self.judged = self.several or self.default.quality < 1.0
        return [variant for name, variant in before.items() if name not in self.variants]

    @property
    def front(self) -> Variant:
        """The variant that stands for the model: the default one, or while that is not ready another one that is."""
        if self.default.ready or not self.several:
            return self.default
        return next((each for each in self.variants.values() if each.ready), self.default)

    @property
    def ready(self) -> bool:
        """Whether it answers now, by any variant."""
        return self.front.ready

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.front.state

    @property
    def detail(self) -> str:
        """Why it stands there, in words."""
        return self.front.detail

    @property
    def served(self) -> Served | None:
        """What is loaded, of the variant that stands for it."""
        return self.front.served

    @property
    def loaded_s(self) -> float:
        """When it became ready, seconds since 1970 UTC."""
        return self.front.loaded_s

    @property
    def engines(self) -> list[Variant]:
        """The variants by which another server answers."""
        return [variant for variant in self.variants.values() if variant.elsewhere]

    @property
    def openai(self) -> bool:
        """Whether it is asked in OpenAI's words: chats, completions, embeddings."""
        return self.entry.chat or self.entry.embeds

    @property
    def door(self) -> str:
        """Where it is asked, for who came to another door."""
        if self.entry.chat:
            return "ask it at /v1/chat/completions or /v1/completions"
        return "ask it at /v1/embeddings" if self.entry.embeds else f"ask it at /v2/models/{self.entry.name}/infer"

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """As the loaded file says; as documented while it is not loaded."""
        return self.served.inputs if isinstance(self.served, Tensors) else self.entry.inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """The same for outputs."""
        return self.served.outputs if isinstance(self.served, Tensors) else self.entry.outputs


def _no_file(entry: Entry) -> ModelFile:
    """Stands for the file of a model that cannot be loaded."""
    return ModelFile(model=entry.name, version=entry.version, variant="", runtime="", path="")
