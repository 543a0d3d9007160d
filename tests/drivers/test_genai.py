"""The language model's process: several answers at once, cancelled, stopped, killed and back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from nearhall.cli.roots.models import cache_folder
from nearhall.core.errors import PermanentError, Refusal, TemporaryError
from nearhall.drivers.genai import GenaiRuntime
from nearhall.ports.runtime import ChatAsk, ChatMessage, ChatPiece, ModelFile
from waiting import until

GGUF = cache_folder(os.environ) / "models" / "smollm2" / "1" / "cpu" / "SmolLM2-135M-Instruct.Q4_1.gguf"

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(find_spec("openvino_genai") is None, reason="openvino-genai is not installed (extra `llm`)"),
    pytest.mark.skipif(not GGUF.exists(), reason="the chat model is not in the cache; `nearhall models fetch` brings it"),
]


def _file(path: Path = GGUF) -> ModelFile:
    return ModelFile(model="smollm2", version="1", variant="cpu", runtime="genai", path=str(path))


@pytest.fixture(scope="module")
def runtime() -> Iterator[GenaiRuntime]:
    runtime = GenaiRuntime(_file())
    yield runtime
    asyncio.run(runtime.close())


def _ask(text: str, tokens: int = 12, **more: object) -> ChatAsk:
    return ChatAsk(messages=[ChatMessage(role="user", content=text)], max_tokens=tokens, **more)  # pyright: ignore[reportArgumentType]


async def _whole(runtime: GenaiRuntime, ask: ChatAsk) -> list[ChatPiece]:
    return [piece async for piece in runtime.generate(ask)]


def test_an_answer_comes_in_pieces_and_is_counted(runtime: GenaiRuntime):
    pieces = asyncio.run(_whole(runtime, _ask("What is the capital of France?", 24)))
    assert "Paris" in "".join(piece.text for piece in pieces)
    assert len(pieces) > 3
    assert pieces[-1].finish in {"stop", "length"}
    assert pieces[-1].prompt_tokens > 10
    assert 0 < pieces[-1].completion_tokens <= 24


def test_the_length_and_a_stop_string_end_it(runtime: GenaiRuntime):
    short = asyncio.run(_whole(runtime, _ask("Count to one hundred.", 3)))
    assert (short[-1].finish, short[-1].completion_tokens) == ("length", 3)
    stopped = asyncio.run(_whole(runtime, _ask("What is the capital of France?", 24, stop=["Paris"])))
    assert stopped[-1].finish == "stop"
    assert "Paris" not in "".join(piece.text for piece in stopped)


def test_several_are_answered_at_once_and_one_given_up_frees_its_place(runtime: GenaiRuntime):
    async def story() -> None:
        given_up = runtime.generate(_ask("Tell a very long story.", 500))
        await anext(given_up)
        answers = asyncio.gather(*(_whole(runtime, _ask(f"Say {word}.", 6)) for word in ("one", "two", "three")))
        await given_up.aclose()
        assert all(answer[-1].finish for answer in await answers)

    asyncio.run(story())


def test_ctrl_c_at_the_terminal_is_for_the_gateway(runtime: GenaiRuntime):
    """It reaches every process of the terminal; this one goes on until its pipe ends."""
    before = _children()
    for child in before:
        os.kill(child, signal.SIGINT)
    assert asyncio.run(_whole(runtime, _ask("Say yes.", 4)))[-1].finish
    assert _children() == before


def test_a_prompt_beyond_the_context_is_the_clients_fault(runtime: GenaiRuntime):
    with pytest.raises(Refusal, match="context holds 2048"):
        asyncio.run(_whole(runtime, _ask("word " * 3000)))


def test_a_text_that_no_context_holds_is_refused_and_disturbs_nobody(runtime: GenaiRuntime):
    process = runtime.pid
    for size in (1_000_000, 10_000_000):
        with pytest.raises(Refusal, match=r"has \d+ bytes"):
            asyncio.run(_whole(runtime, _ask("\x01" * size)))
    assert (runtime.alive, runtime.pid) == (True, process)
    assert asyncio.run(_whole(runtime, _ask("Say hello.", 4)))[-1].finish


def test_the_same_seed_draws_the_same_answer(runtime: GenaiRuntime):
    def drawn(seed: int) -> str:
        answer = asyncio.run(_whole(runtime, _ask("Tell a joke.", 12, temperature=1.0, seed=seed)))
        return "".join(piece.text for piece in answer)

    assert drawn(7) == drawn(7)
    assert len({drawn(seed) for seed in (7, 8, 9)}) > 1


def test_closed_while_it_starts_again_no_process_is_left():
    before = _children()
    runtime = GenaiRuntime(_file())
    killed = runtime.pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: _children() - before - {killed}, 20, what="the next process")
    asyncio.run(runtime.close())
    until(lambda: _children() == before, 5, what="the end of every process")


def _children() -> set[int]:
    """Processes of ours, those that have ended and were not waited for included."""
    return {child.pid for child in psutil.Process().children()}


@pytest.mark.parametrize("context", ["many", "0", "-5", "99999999999"])
def test_a_context_that_is_no_number_of_tokens_is_told(context: str):
    file = ModelFile(model="m", version="1", variant="cpu", runtime="genai", path=str(GGUF), options={"context": context})
    with pytest.raises(PermanentError, match=r"options\.context"):
        GenaiRuntime(file)


def test_killed_it_fails_what_waits_and_comes_back(runtime: GenaiRuntime):
    async def story() -> None:
        answer = runtime.generate(_ask("Tell a very long story.", 900))
        await anext(answer)
        os.kill(runtime.pid, signal.SIGKILL)
        with pytest.raises(TemporaryError):
            async for _ in answer:
                pass

    asyncio.run(story())
    until(lambda: runtime.alive, 60, what="the process")
    assert asyncio.run(_whole(runtime, _ask("Say hello.", 4)))[-1].finish


def test_a_file_that_is_no_model_is_told(tmp_path: Path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(PermanentError, match="cannot load"):
        GenaiRuntime(_file(broken))
