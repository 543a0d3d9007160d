"""The language model's process: several answers at once, cancelled, stopped, killed and back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import dropwhile
from pathlib import Path

import psutil
import pytest

from nearhall.cli.roots.gateway import open_runtime
from nearhall.cli.roots.models import cache_folder
from nearhall.core.errors import PermanentError, Refusal, TemporaryError
from nearhall.drivers.genai import GenaiRuntime
from nearhall.policy.cores import Use
from nearhall.policy.tokens import Step
from nearhall.ports.runtime import ChatAsk, ChatMessage, ChatPiece, ModelFile
from waiting import until, until_async

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


def test_it_says_what_it_holds_and_what_each_step_took(runtime: GenaiRuntime):
    capacity = runtime.capacity
    assert capacity.kv_tokens >= (capacity.sequences + capacity.spare) * capacity.context
    steps: list[Step] = []

    async def story() -> None:
        runtime.watch(steps.append)
        answer = await _whole(runtime, _ask(f"{os.getpid()}: what is snow?", 5))
        assert answer[0].prompt_tokens == answer[-1].prompt_tokens > 10
        await until_async(lambda: sum(step.running for step in steps) >= 5)

    asyncio.run(story())
    assert steps[-1].kv_tokens == 0
    # The last step of the test before may be told after its answer: ours begin with a prompt.
    steps = list(dropwhile(lambda step: step.prompt_tokens == 0, [step for step in steps if step.running]))
    assert steps[0].prompt_tokens is None or steps[0].prompt_tokens > 10
    assert [step.prompt_tokens for step in steps[1:]] == [0] * (len(steps) - 1)
    assert all(step.took_ms > 0 and step.running == 1 for step in steps)
    assert all(step.kv_tokens > 0 for step in steps[:-1])


def test_a_chat_that_is_given_up_frees_its_cache_within_one_step(runtime: GenaiRuntime):
    steps: list[Step] = []

    async def story() -> None:
        runtime.watch(steps.append)
        chats = [runtime.generate(_ask(f"Tell a very long story about {thing}.", 400)) for thing in ("snow", "bees", "iron")]
        for chat in chats:
            await anext(chat)
        await until_async(lambda: steps[-1].running == 3)
        held = steps[-1].kv_tokens
        await chats[0].aclose()
        await until_async(lambda: steps[-1].running == 2, what="the child has heard of it")
        first_without = len(steps) - 1
        while len(steps) < first_without + 2:
            await anext(chats[1])
        # A step says what was held when it began; the one that began after it was given up frees it.
        assert steps[first_without + 1].kv_tokens < held
        for chat in chats[1:]:
            await chat.aclose()
        await until_async(lambda: steps[-1].kv_tokens == 0, what="the cache is empty, though nobody asks anything more")

    asyncio.run(story())


def test_a_long_prompt_is_read_in_pieces_between_which_the_others_get_their_tokens(runtime: GenaiRuntime):
    steps: list[Step] = []

    async def story() -> None:
        runtime.watch(steps.append)
        talks = runtime.generate(_ask("Tell a very long story.", 400))
        await anext(talks)
        long = asyncio.create_task(_whole(runtime, _ask(f"{time.monotonic_ns()} " + "snow fell on the old road " * 150, 2)))
        while not long.done():
            await anext(talks)
        await talks.aclose()

    asyncio.run(story())
    reading = [step.prompt_tokens for step in steps if step.running == 2 and step.prompt_tokens]
    assert len(reading) >= 5
    assert max(reading) < runtime.capacity.step_tokens


def test_a_completion_goes_on_from_its_prompt_as_it_stands(runtime: GenaiRuntime):
    pieces = asyncio.run(_whole(runtime, ChatAsk(messages=[], prompt="The capital of France is", max_tokens=3)))
    assert "Paris" in "".join(piece.text for piece in pieces)
    assert pieces[-1].prompt_tokens == 5


def test_an_answer_goes_on_from_tokens_and_tells_its_own(runtime: GenaiRuntime):
    whole = asyncio.run(_whole(runtime, _ask("What is the capital of France?", 24, begun=())))
    tokens = [token for piece in whole for token in piece.tokens]
    prompt = [token for piece in whole for token in piece.prompt]
    assert (len(tokens), len(prompt)) == (whole[-1].completion_tokens, whole[-1].prompt_tokens)
    assert whole[0].prompt, "with the first token"
    same = 0
    for said, token in enumerate(tokens):
        (piece,) = asyncio.run(_whole(runtime, _ask("What is the capital of France?", 1, begun=tokens[:said])))
        assert (len(piece.tokens), list(piece.prompt)) == (1, prompt)
        same += piece.tokens[0] == token
    assert same >= 0.8 * len(tokens), "but for near ties: tokens that are read round otherwise than tokens that were said"
    plain = asyncio.run(_whole(runtime, _ask("What is the capital of France?", 24)))
    assert "Paris" in "".join(piece.text for piece in plain)
    assert not any(piece.tokens or piece.prompt for piece in plain)


def test_a_limit_that_nobody_stated_is_cut_to_the_context(runtime: GenaiRuntime):
    words = "word " * 2000
    with pytest.raises(Refusal, match="context holds 2048"):
        asyncio.run(_whole(runtime, _ask(words, 1000)))
    pieces = asyncio.run(_whole(runtime, _ask(words, 1000, shorten=True)))
    assert pieces[-1].completion_tokens <= 2048 - pieces[-1].prompt_tokens


def test_characters_of_several_tokens_come_whole(runtime: GenaiRuntime):
    ask = ChatAsk(messages=[], prompt="Emoji: 😀 😃 😄 🎉 🚀 😀 😃 😄 🎉 🚀 😀 😃 😄", max_tokens=24)
    said = "".join(piece.text for piece in asyncio.run(_whole(runtime, ask)))
    assert any(ord(character) > 0xFFFF for character in said)
    assert "\ufffd" not in said[:-1]


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

    drawn(7)  # now the prompt is known: what is read from the cache rounds otherwise than what is computed
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


@pytest.mark.parametrize("cache", ["0", "4096", "half"])
def test_a_cache_that_is_no_number_of_gib_is_told(cache: str):
    file = ModelFile(model="m", version="1", variant="cpu", runtime="genai", path=str(GGUF), options={"kv_cache_gib": cache})
    with pytest.raises(PermanentError, match=r"options\.kv_cache_gib"):
        GenaiRuntime(file)


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
    until(lambda: runtime.alive, 100, what="the process")
    assert asyncio.run(_whole(runtime, _ask("Say hello.", 4)))[-1].finish


def _classes(pid: int) -> set[int]:
    return {os.sched_getscheduler(int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()}


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux has SCHED_IDLE")
def test_beside_a_more_critical_model_it_takes_what_is_left_of_the_cores(runtime: GenaiRuntime):
    modest = open_runtime(_file(), [Use(model="faces", rank=1), Use(model="smollm2", rank=5)])
    assert isinstance(modest, GenaiRuntime)
    try:
        assert asyncio.run(_whole(modest, _ask("Say hello.", 4)))[-1].finish
        assert _classes(modest.pid) == {os.SCHED_IDLE}
        assert os.SCHED_IDLE not in _classes(runtime.pid)
    finally:
        asyncio.run(modest.close())


def test_a_file_that_is_no_model_is_told(tmp_path: Path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(PermanentError, match="cannot load"):
        GenaiRuntime(_file(broken))
