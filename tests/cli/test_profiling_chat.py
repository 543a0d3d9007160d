"""A language model is measured by its first tokens and its tokens a second, alone and with several answers at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from nearhall.cli.profiling.chat import STREAMS, TOKENS, measure_chat, measured_streams
from nearhall.cli.profiling.place import Place, find_model
from nearhall.core.errors import InputError, PermanentError
from nearhall.ports.runtime import ChatAsk, ChatPiece, ModelFile
from profiling_rig import chat_model


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
