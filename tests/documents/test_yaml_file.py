"""A mistake in a document is one line: what, where, what would be right; all of them at once."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from nearhall.core.errors import InputError
from nearhall.documents.schemas import FOLDER
from nearhall.documents.up import Up, default_pilot
from nearhall.documents.whole_file import write_whole
from nearhall.documents.yaml_file import PATTERNS, dump_document, parse_document, read_document

GOOD = dump_document(default_pilot())


def _refused(text: str) -> str:
    with pytest.raises(InputError) as refused:
        parse_document(text.encode(), Up, name="pilot.yaml")
    return str(refused.value)


def test_what_is_written_reads_back_the_same(tmp_path: Path):
    path = tmp_path / "pilot.yaml"
    write_whole(path, GOOD)
    assert read_document(path, Up) == default_pilot()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("rtt_ms: 40.0", "rtt: 40.0"), "pilot.yaml:6: link.rtt is not known; did you mean 'rtt_ms'?"),
        (("mbps: 50.0", "mbps: -1"), "link.mbps: input should be greater than or equal to 0 (given: -1)"),
        (("kind: video", "kind: vidoe"), "did you mean 'video'? (given: 'vidoe')"),
        (("id: shop-01", "id: Shop 1"), "sites[0].id: wants lower case letters, digits and dashes, at most 31 (given: 'Shop 1')"),
        (("mbps: 50.0", "mbps: 50M"), "link.mbps: wants a number without a unit (given: '50M')"),
        (("sites:", "sites: 3\nold:"), "sites: wants a list; write [3] for one"),
        (("residency: site", "residency: home"), "residency 'home' is not one of: site, any, jurisdiction:XX"),
        (("seed: 1", "seed: 1\nseed: 2"), "seed is given twice"),
        (("schema: nearhall/up/v1", "schema: nearhall/plan/v1"), "schema: wants 'nearhall/up/v1' (given: 'nearhall/plan/v1')"),
        (("id: plant-02", "id: shop-01"), "two sites have the id 'shop-01'"),
    ],
)
def test_a_mistake_is_named_with_its_place(change: tuple[str, str], expected: str):
    text = GOOD.decode()
    assert change[0] in text
    assert expected in _refused(text.replace(*change, 1))


@pytest.mark.parametrize("schema", sorted(FOLDER.glob("*.json")), ids=lambda path: path.name)
def test_no_mistake_is_told_as_an_expression(schema: Path):
    """Each pattern of a document that people write has words in `PATTERNS`."""
    patterns: set[str] = set()

    def gather(node: Any) -> None:
        if isinstance(node, dict):
            found = node.get("pattern")
            if isinstance(found, str):
                patterns.add(found)
            for value in node.values():
                gather(value)
        elif isinstance(node, list):
            for value in node:
                gather(value)

    gather(json.loads(schema.read_bytes()))
    assert patterns <= set(PATTERNS)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("NO", "NO"),
        ("8.03e9", 8.03e9),
        ("12:30", "12:30"),
        ("1_000", 1000),
        ("true", True),
        ("~", None),
        ("2026-09-02", date(2026, 9, 2)),
    ],
)
def test_plain_words_are_read_as_yaml_1_2_reads_them(written: str, meant: object):
    class Anything(BaseModel):
        a: Any

    assert parse_document(f"a: {written}".encode(), Anything, name="x.yaml").a == meant


def test_a_day_that_there_is_not_is_a_line():
    with pytest.raises(InputError, match=r"x\.yaml:1: a: month must be in"):
        parse_document(b"a: 2026-13-45", Up, name="x.yaml")


def test_all_mistakes_come_at_once():
    text = GOOD.decode().replace("rtt_ms: 40.0", "rtt: 40.0", 1).replace("mbps: 50.0", "mbps: -1", 1)
    message = _refused(text)
    assert "link.rtt" in message
    assert "link.mbps" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 5000, "is nested too deep; at most 40 levels"),
        ('a: "b\0"', "is not valid YAML (it holds characters"),
        (
            "a: &a [1, 1]\n" + "".join(f"{c}: &{c} [{', '.join(['*' + chr(ord(c) - 1)] * 9)}]\n" for c in "bcdefghij"),
            "more than 1000000",
        ),
    ],
)
def test_what_would_break_the_reader_is_a_line(text: str, expected: str):
    with pytest.raises(InputError) as caught:
        parse_document(text.encode(), Up, name="x.yaml")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), [("a: [1", "not valid YAML"), ("", "not a mapping"), ("- 1", "not a mapping")])
def test_what_is_no_document_is_refused(text: str, expected: str):
    assert expected in _refused(text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        read_document(tmp_path / "none.yaml", Up)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path):
    path = tmp_path / "kept.json"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "text, not bytes")  # pyright: ignore[reportArgumentType]
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &a [*a]", "bad.yaml:1: holds itself by an alias"),
        ("a: " + "[" * 50 + "]" * 50, "nested too deep; at most 40 levels"),
        ("a: " + "[" * 100_000, "nested too deep; at most 40 levels"),
        ("".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(9)), "more than 1000000 values"),
    ],
    ids=["endless", "deep", "abyss", "bomb"],
)
def test_what_aliases_multiply_is_not_written_out(text: str, told: str):
    with pytest.raises(InputError, match=re.escape(told)):
        parse_document(text.encode(), Up, name="bad.yaml")


def test_aliases_that_spare_words_are_welcome():
    text = GOOD.decode()
    assert "rtt_ms: 40.0" in text
    assert parse_document(text.replace("rtt_ms: 40.0", "rtt_ms: &r 40.0").encode(), Up, name="x.yaml") == default_pilot()
