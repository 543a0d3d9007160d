"""What language models are asked: the user's prompts, those beside the model, else a few of our own, which are said to be so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nearhall.cli.profiling.prompts import FILE_BYTES_MAX, OURS, PROMPTS_MAX, find_prompts, from_files
from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind

CHAT = {
    "model": "any",
    "temperature": 1.7,
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
}


def texts(path: Path) -> list[list[str]]:
    return [[message.content for message in prompt] for prompt in from_files(path).prompts]


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_has_a_prompt_a_line(tmp_path: Path):
    assert texts(put(tmp_path / "a.txt", "What is snow?\n\n  Warum schneit es?  \n")) == [
        ["What is snow?"],
        ["Warum schneit es?"],
    ]


def test_lines_of_json_are_texts_or_chat_requests_and_a_json_is_one_request(tmp_path: Path):
    lines = put(tmp_path / "a.jsonl", f'"two\\nlines"\n{json.dumps(CHAT)}\n')
    assert texts(lines) == [["two\nlines"], ["Be brief.", "Hi"]]
    assert texts(put(tmp_path / "b.json", json.dumps(CHAT, indent=2))) == [["Be brief.", "Hi"]]


def test_a_folder_has_the_prompts_of_all_its_files_in_order(tmp_path: Path):
    put(tmp_path / "b.txt", "second")
    put(tmp_path / "a.txt", "first")
    put(tmp_path / "notes.md", "not one")
    found = from_files(tmp_path)
    assert [prompt[0].content for prompt in found.prompts] == ["first", "second"]
    assert (found.kind, found.source, list(found.notes)) == (Kind.MEASURED, str(tmp_path), [])


def test_more_than_are_needed_are_left_and_it_is_said(tmp_path: Path):
    found = from_files(put(tmp_path / "a.txt", "\n".join(f"prompt {n}" for n in range(PROMPTS_MAX + 5))))
    assert len(found.prompts) == PROMPTS_MAX
    assert found.notes == [f"the first {PROMPTS_MAX} prompts were asked"]
    exactly = from_files(put(tmp_path / "a.txt", "\n".join(f"prompt {n}" for n in range(PROMPTS_MAX))))
    assert (len(exactly.prompts), list(exactly.notes)) == (PROMPTS_MAX, [])


def test_the_users_go_before_those_beside_the_model_and_these_before_ours(tmp_path: Path):
    ours = find_prompts(None, tmp_path)
    assert (len(ours.prompts), ours.kind, ours.source) == (len(OURS), Kind.ASSUMED, "nearhall's own prompts")
    assert "not your prompts: give --data, or put prompts.jsonl beside model.yaml" in ours.notes[0]
    put(tmp_path / "prompts.txt", "beside")
    assert find_prompts(None, tmp_path).source.endswith("prompts.txt")
    put(tmp_path / "prompts.jsonl", '"beside"')
    beside = find_prompts(None, tmp_path)
    assert (beside.source.endswith("prompts.jsonl"), beside.kind) == (True, Kind.MEASURED)
    assert find_prompts(put(tmp_path / "mine.txt", "mine"), tmp_path).source.endswith("mine.txt")


def test_the_same_prompts_have_the_same_hash_wherever_they_lie(tmp_path: Path):
    one, other = from_files(put(tmp_path / "a.txt", "one\ntwo")), from_files(put(tmp_path / "b.jsonl", '"one"\n"two"'))
    assert one.samples(2).sha256 == other.samples(2).sha256
    assert one.samples(2).sha256 != one.samples(1).sha256
    assert (one.samples(1).n, one.samples(1).kind) == (1, "measured")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "\n \n", "holds no prompts"),
        ("a.npz", "x", "is no file of prompts"),
        ("a.jsonl", '"one"\nwhat?', r"a\.jsonl, line 2: is no JSON"),
        ("a.jsonl", '{"prompt": "x"}', "line 1: has no messages"),
        ("a.jsonl", '" "', "has no messages"),
        ("a.json", '{"messages": []}', "messages has 0 entries"),
        ("a.json", '{"messages": [{"role": "tool", "content": "x"}]}', "messages.0..role is 'tool'"),
    ],
)
def test_what_are_no_prompts_is_one_line_that_says_what_would_be_right(tmp_path: Path, name: str, text: str, told: str):
    with pytest.raises(InputError, match=told) as caught:
        from_files(put(tmp_path / name, text))
    assert caught.value.right


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        from_files(tmp_path / "none.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match="holds no prompts"):
        from_files(tmp_path / "folder.txt")
    with pytest.raises(InputError, match="cannot be read"):
        from_files(tmp_path)
    (tmp_path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(InputError, match="is no UTF-8 text"):
        from_files(tmp_path / "latin.txt")
    (tmp_path / "long.txt").write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    with pytest.raises(InputError, match="has more than 16 MiB"):
        from_files(tmp_path / "long.txt")
