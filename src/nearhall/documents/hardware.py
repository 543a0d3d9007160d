"""The hardware catalogue (`nearhall/hardware/v1`): what servers draw, each figure with its source."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nearhall.core.errors import InputError
from nearhall.documents.yaml_file import parse_document


class System(BaseModel):
    """One server or module."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    name: str
    idle_w: float = Field(gt=0)
    busy_w: float = Field(gt=0)
    power_factor: float = Field(gt=0, le=1)
    supply: Literal["brick", "shared_dc", "server"]
    kind: Literal["measured", "vendor", "standard", "assumed"]
    source: str
    date: str

    @model_validator(mode="after")
    def _busy_is_more(self) -> System:
        if self.busy_w <= self.idle_w:
            message = f"busy_w of {self.id} is not above its idle_w"
            raise ValueError(message)
        return self


class Catalogue(BaseModel):
    """All systems."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["nearhall/hardware/v1"] = Field(alias="schema")
    default: str
    systems: list[System]

    def system(self, name: str) -> System:
        """The system with this id; raises InputError that lists the known ones."""
        for system in self.systems:
            if system.id == name:
                return system
        raise InputError(f"the catalogue has no hardware {name!r}", right=f"one of: {', '.join(s.id for s in self.systems)}")


def load_catalogue() -> Catalogue:
    """The catalogue that ships with nearhall."""
    data = files("nearhall.documents").joinpath("data/hardware.yaml").read_bytes()
    return parse_document(data, Catalogue, name="hardware.yaml")
