"""A language model is measured by its first tokens, its tokens a second, and the tokens it has in common with another one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from nearhall.cli.profiling.chat import STREAMS, TOKENS, Comparison, chat_steps, measure_chat, measure_chats, measured_streams
from nearhall.cli.profiling.measure import Wish
from nearhall.cli.profiling.place import Place, find_model
from nearhall.cli.profiling.prompts import Prompts
from nearhall.core.errors import InputError, PermanentError
from nearhall.core.evidence import Kind
from nearhall.documents.profile import Profile
from nearhall.ports.runtime import ChatAsk, ChatMessage, ChatPiece, ModelFile
from profiling_rig import chat_model
from talking_rig import Model, tokens_of


class Talker:
    """Answers with as many tokens as are asked for, and notes how many it talks to at once."""

    def __init__(self, pid: int, *, tokens: int | None = None) -> None:
        self.pid = pid
        self.alive = True
        self.at_once = 0
        self.most = 0
        self.asked = 0
        self.closed = False
        self._tokens = tokens

    async def generate(self, ask: ChatAsk) -> AsyncIterator[ChatPiece]:
        self.at_once += 1
        self.asked += 1
        self.most = max(self.most, self.at_once)
        tokens = ask.max_tokens if self._tokens is None else self._tokens
        for number in range(tokens):
            await asyncio.sleep(0)
            last = number + 1 == tokens
            yield ChatPiece(text="word ", finish="length" if last else None, completion_tokens=tokens if last else 0)
        self.at_once -= 1

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("streams", [1, 4, 8])
def test_so_many_are_answered_at_once_and_each_at_least_once(streams: int):
    talker = Talker(0)
    ticks = iter((1.0, 1.0 + 0.001 * TOKENS * max(4, streams)))
    point = asyncio.run(measured_streams(talker, streams, 0.0, lambda: next(ticks)))
    assert (point.streams, talker.most, point.n) == (streams, streams, max(4, streams))
    assert point.cpu_ms_per_token == pytest.approx(1.0)
    assert point.tokens_per_s > 0
    assert point.ttft_p50_ms > 0


def test_a_model_that_gives_no_token_is_said():
    with pytest.raises(PermanentError, match="gave no token"):
        asyncio.run(measured_streams(Talker(0, tokens=0), 1, 0.0, lambda: 0.0))


@pytest.fixture
def place(tmp_path) -> Place:
    chat_model(tmp_path, "talk")
    return find_model(tmp_path, "talk")


def test_the_profile_of_a_language_model(place: Place, own_pid: int):
    talkers: list[Talker] = []

    def opened(file: ModelFile) -> Talker:
        talkers.append(Talker(own_pid))
        return talkers[-1]

    told: list[str] = []
    profile = measure_chat(place, "cpu", 0.0, told.append, opened=opened)
    assert [point.streams for point in profile.chat] == list(STREAMS)
    assert profile.latency_ms == []
    assert profile.memory_mib is not None
    assert profile.memory_mib.value > 0
    assert profile.joules_per_item.cpu is not None
    assert profile.joules_per_item.cpu.kind == "assumed"
    assert talkers[0].closed
    assert told == ["cpu: loading", *(f"cpu: {n} answer{'s' if n > 1 else ''} at once" for n in STREAMS)]


def test_a_process_that_dies_and_a_library_that_is_absent_are_said(place: Place, dead_pid: int):
    with pytest.raises(PermanentError, match="ended while it was measured"):
        measure_chat(place, "cpu", 0.0, lambda _: None, opened=_talker(dead_pid))

    def absent(_file: ModelFile) -> Talker:
        raise ImportError("openvino_genai", name="openvino_genai")

    with pytest.raises(InputError, match=r"nearhall\[llm\]"):
        measure_chat(place, "cpu", 0.0, lambda _: None, opened=absent)


def _talker(pid: int) -> Callable[[ModelFile], Talker]:
    return lambda _file: Talker(pid)


@pytest.fixture
def own_pid() -> int:
    return os.getpid()


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# ---- agreement ------------------------------------------------------------------------------------------------


def counting(said: Sequence[int]) -> int:
    return len(said)


def rounding(said: Sequence[int]) -> int:
    """Every fourth token is another one."""
    return len(said) if len(said) % 4 else 1000


def other_tokenizer(text: str) -> list[int]:
    return [7, *tokens_of(text)]


PROMPTS = Prompts(
    prompts=[[ChatMessage(role="user", content=text)] for text in ("ab", "abcd", "abcdef")],
    source="mine.txt",
    kind=Kind.MEASURED,
    notes=["a word about them"],
)


class House:
    """Opens models by the variant's name, and says in which order."""

    def __init__(self, **models: Model) -> None:
        self.models = models
        self.opened: list[str] = []
        self.told: list[str] = []

    def __call__(self, file: ModelFile) -> Model:
        assert all(model.closed for name, model in self.models.items() if name in self.opened), "two are loaded at once"
        self.opened.append(file.variant)
        return self.models[file.variant]

    def measure(self, place: Place, *names: str, reference: str | None = None) -> list[Profile]:
        wish = Wish(cache=place.repository, seconds=0.0, reference=reference)
        return measure_chats(place, names, wish, PROMPTS, self.told.append, opened=self)


@pytest.fixture
def house(own_pid: int) -> House:
    return House(
        q8=Model(counting, pid=own_pid),
        q4=Model(rounding, pid=own_pid),
        same=Model(counting, pid=own_pid),
        foreign=Model(counting, pid=own_pid, tokenizer=other_tokenizer),
    )


@pytest.fixture
def several(tmp_path: Path) -> Place:
    chat_model(tmp_path, "talk", "q8", "q4", "same", "foreign")
    return find_model(tmp_path, "talk")


def test_every_variant_is_held_against_the_reference_one_model_loaded_at_a_time(several: Place, house: House):
    found = {each.variant: each for each in house.measure(several, "same", "q4", "q8")}
    assert house.opened == ["q8", "same", "q4"]
    assert all(model.closed for name, model in house.models.items() if name in house.opened)
    q4, same, q8 = found["q4"].agreement, found["same"].agreement, found["q8"]
    assert q4 is not None
    assert same is not None
    assert (same.score, same.worst, same.n, same.positions, same.spread) == (1.0, 1.0, 3, 192, None)
    assert (q4.score, q4.worst, q4.n, q4.positions, q4.kind) == (0.75, 0.75, 3, 192, "measured")
    assert (q4.itself, same.itself) == (1.0, 1.0)
    assert (q4.reference, q4.reference_sha256) == ("q8", hashlib.sha256(b"GGUF q8").hexdigest())
    assert found["q4"].sha256 == hashlib.sha256(b"GGUF q4").hexdigest()
    assert found["q4"].samples == PROMPTS.samples(3)
    assert "a word about them" in found["q4"].notes
    assert (q8.agreement, q8.samples, "a word about them" in q8.notes) == (None, None, False)
    assert len(house.told) == chat_steps(["same", "q4", "q8"], "q8", 3)
    assert "q4: agreement, 2 of 3 prompts" in house.told


def test_one_variant_alone_has_the_reference_answer_first_and_no_more(several: Place, house: House):
    (profile,) = house.measure(several, "q4")
    assert house.opened == ["q8", "q4"]
    assert len(house.models["q8"].asks) == 2 * 3
    assert profile.agreement is not None
    assert profile.agreement.score == 0.75
    assert len(house.told) == chat_steps(["q4"], "q8", 3)


def test_the_reference_alone_is_compared_with_nothing(several: Place, house: House):
    (profile,) = house.measure(several, "q4", reference="q4")
    assert (house.opened, profile.agreement, profile.samples) == (["q4"], None, None)
    assert len(house.told) == chat_steps(["q4"], "q4", 3)


def test_another_tokenizer_leaves_the_quality_as_it_was_told(several: Place, house: House):
    (profile,) = house.measure(several, "foreign")
    assert (profile.agreement, profile.samples) == (None, None)
    assert any("other tokens of the same messages than q8" in note for note in profile.notes)
    assert profile.chat


def test_a_reference_on_another_server_leaves_the_quality_as_it_was_told(tmp_path: Path, house: House):
    chat_model(tmp_path, "far", "remote", "q4", remote="http://127.0.0.1:9")
    (profile,) = house.measure(find_model(tmp_path, "far"), "q4")
    assert (house.opened, profile.agreement) == (["q4"], None)
    assert any("not compared with remote, which runs elsewhere" in note for note in profile.notes)


@pytest.mark.parametrize(("seconds_max", "told"), [(-1.0, "no prompt was answered within"), (1e9, "a word about them")])
def test_a_time_that_suffices_for_no_prompt_gives_no_agreement(several: Place, house: House, seconds_max: float, told: str):
    comparison = Comparison(prompts=PROMPTS, reference="q8", sha256="a" * 64, seconds_max=seconds_max)
    for name in ("q8", "q4"):
        profile = measure_chat(several, name, 0.0, house.told.append, comparison=comparison, opened=house)
    assert (profile.agreement is None) == (seconds_max < 0)
    assert any(told in note for note in profile.notes)


def test_fewer_prompts_than_there_are_is_said(several: Place, house: House):
    comparison = Comparison(prompts=PROMPTS, reference="q8", sha256="a" * 64)
    measure_chat(several, "q8", 0.0, house.told.append, comparison=comparison, opened=house)
    comparison.answers = comparison.answers[:2]
    profile = measure_chat(several, "q4", 0.0, house.told.append, comparison=comparison, opened=house)
    assert profile.agreement is not None
    assert (profile.agreement.n, profile.samples) == (2, PROMPTS.samples(2))
    assert any("was over after 2 of 3 prompts" in note for note in profile.notes)


def test_a_reference_that_cannot_be_asked_is_closed(several: Place, own_pid: int):
    house = House(q8=Model(counting, pid=own_pid, fault=PermanentError("broken")), q4=Model(rounding, pid=own_pid))
    with pytest.raises(PermanentError, match="broken"):
        house.measure(several, "q4")
    assert (house.opened, house.models["q8"].closed) == (["q8"], True)
