"""Nothing that a user can set or see is without words."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_command_option_header_reason_and_metric_has_words(generate: ModuleType):
    pages = generate.pages()
    assert set(pages) == generate.PAGES
    assert "`--seconds`" in pages["commands.md"]


def test_a_header_without_words_is_noticed(generate: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(generate.REQUEST_HEADERS, "RESIDENCY")
    with pytest.raises(generate.UndocumentedError, match="RESIDENCY"):
        generate.headers_page()


def test_every_field_of_the_pilots_contract_is_described():
    contract = ast.parse((ROOT / "tests" / "pilot" / "contract.py").read_text())
    fields = {
        node.value
        for node in ast.walk(contract)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"(sites\[\]|run|counts|totals)\.[a-z0-9_.\[\]]*[a-z0-9_\]]", node.value)
    }
    assert len(fields) > 40
    text = (DOCS / "pilot-json.md").read_text()
    missing = [field for field in sorted(fields) if not any(f"`{name}`" in text for name in _names(field))]
    assert missing == []


def _names(field: str) -> list[str]:
    """A field by its path from its site or its workload on, or the object that is described with all its fields."""
    path = field.removeprefix("sites[].").removeprefix("workloads[].").removeprefix("blocks[].")
    return [path, path.rpartition(".")[0]]


def links_of(page: Path) -> list[Path]:
    """The files of this repository that a page links to."""
    found = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    return [(page.parent / link).resolve() for link in found if "://" not in link]


PAGES = [*ROOT.glob("*.md"), *(p for p in DOCS.rglob("*.md") if "reference" not in p.parts)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path, generate: ModuleType):
    generated = {(DOCS / "reference" / name).resolve() for name in generate.PAGES}
    assert [str(link) for link in links_of(page) if not link.exists() and link not in generated] == []


def test_a_decision_is_complete_and_in_the_list():
    index = (DOCS / "adr" / "index.md").read_text()
    decisions = sorted((DOCS / "adr").glob("0*.md"))
    assert decisions
    for file in decisions:
        text = file.read_text()
        assert f"({file.name})" in index
        assert 20 <= len(text.splitlines()) <= 60, file.name
        assert re.search(r"^Status: (accepted|superseded by \d{4}), \d{4}-\d{2}-\d{2}$", text, re.MULTILINE), file.name
        for part in ("## Context", "## Decision", "## Consequences", "## Alternatives", "## Sources"):
            assert part in text, f"{file.name}: {part}"
