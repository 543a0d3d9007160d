"""JSON Schemas of the documents that people write, for editors and checkers; generated into `schemas/`, and shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nearhall.documents.catalogue_models import ModelCatalogue
from nearhall.documents.front import FrontDocument
from nearhall.documents.hardware import Catalogue
from nearhall.documents.mapping import MappingDocument
from nearhall.documents.model import ModelDocument
from nearhall.documents.plan import Plan
from nearhall.documents.profile import Profile
from nearhall.documents.serve import ServeDocument
from nearhall.documents.site import SiteDocument
from nearhall.documents.up import Up
from nearhall.documents.whole_file import write_whole

DOCUMENTS: dict[str, type[BaseModel]] = {
    "up": Up,
    "site": SiteDocument,
    "serve": ServeDocument,
    "front": FrontDocument,
    "plan": Plan,
    "model": ModelDocument,
    "profile": Profile,
    "hardware": Catalogue,
    "mapping": MappingDocument,
    "models": ModelCatalogue,
}
"""By the name in `schema: nearhall/<name>/v1`."""
FOLDER = Path(__file__).parent / "schemas"


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one document (draft 2020-12), as its keys are written."""
    schema = DOCUMENTS[name].model_json_schema(by_alias=True)
    return {**schema, "$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"nearhall/{name}/v1"}


def encoded(name: str) -> bytes:
    """The schema as its shipped file holds it."""
    return (json.dumps(json_schema(name), indent=1, ensure_ascii=False) + "\n").encode()


def write_all(folder: Path = FOLDER) -> None:
    """Writes every schema; `python -m nearhall.documents.schemas` does so in the source tree."""
    folder.mkdir(exist_ok=True)
    for name in DOCUMENTS:
        write_whole(folder / f"{name}.v1.json", encoded(name))


if __name__ == "__main__":
    write_all()
