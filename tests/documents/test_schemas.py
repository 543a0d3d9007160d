"""The shipped JSON Schemas are those of the models."""

from __future__ import annotations

import json

import pytest

from nearhall.documents.schemas import DOCUMENTS, FOLDER, encoded, json_schema


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_shipped_schema_is_current(name: str):
    assert (FOLDER / f"{name}.v1.json").read_bytes() == encoded(name), "run: python -m nearhall.documents.schemas"


def test_a_schema_names_the_document_and_refuses_unknown_keys():
    schema = json_schema("site")
    assert schema["title"] == "nearhall/site/v1"
    assert schema["additionalProperties"] is False
    assert "class" in schema["properties"]
    assert json.loads(encoded("site")) == schema
