"""A language model in a process of its own: OpenVINO GenAI with continuous batching, fed over standard input.

Ends when standard input ends, so it never outlives the gateway.
`python -m nearhall.drivers.genai_child FILE THREADS CONTEXT SEQUENCES KV_CACHE_GIB PREFIX_CACHE(0|1)`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai

from nearhall.drivers.genai_text import Speech
from nearhall.drivers.genai_wire import Ask, Cancel, Fault, FromChild, Inbox, Piece, Ready, Stepped, ToChild, Turn, send

STEP_TOKENS = 128
"""Read in one step at most: a prompt of 1,400 tokens kept the others' tokens back for 114 ms at a time, with 256 for 196 ms, and
took as long itself (1.0 s; measured on one core with a 135M model; with 64 it took 1.5 times as long)."""
BLOCK = 32
"""Tokens that the cache gives out together on a CPU; checked while warming up."""
NICE = 10
"""More than the gateway's own, and so a tenth of its weight (Linux, sched/core.c): an answer in 3 ms beside it counts more than a
token a little sooner. It still runs its slice to the end where somebody more urgent wakes; as SCHED_IDLE it does not."""
_REASONS: dict[str, str] = {"STOP": "stop", "LENGTH": "length"}
Tell = Callable[[FromChild], None]


@dataclass(slots=True)
class _Answer:
    ask: Ask
    handle: Any
    prompt_tokens: int
    max_tokens: int
    unread: int
    """Tokens of its prompt that are still to be read, as far as we can tell."""
    speech: Speech
    prompt: list[int]
    """Its tokens, where the pieces tell tokens."""
    told: bool = False
    """Whether its first piece has gone out."""
    tokens_told: int = 0


class Generator:
    """Takes questions and gives pieces, one step of all sequences at a time."""

    def __init__(
        self, path: str, *, threads: int, context: int, sequences: int, cache_gib: int, prefix_cache: bool, tell: Tell
    ) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = cache_gib
        scheduler.max_num_seqs = sequences
        scheduler.max_num_batched_tokens = STEP_TOKENS
        scheduler.dynamic_split_fuse = True
        # A prompt that begins like an earlier one (the same instructions, the same conversation) is read in a quarter of the
        # time; others lose nothing (measured: 590 to 150 ms for 500 tokens; 121 and 122 tokens/s at 8 streams). What is read
        # that way rounds otherwise: a seed may draw another answer than it drew the first time. Greedy answers were the same.
        scheduler.enable_prefix_caching = prefix_cache
        self._pipeline: Any = genai.ContinuousBatchingPipeline(path, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads})
        self._tokenizer: Any = self._pipeline.get_tokenizer()
        self._context = context
        self._tell = tell
        self._answers: dict[int, _Answer] = {}
        self.kv_tokens = 0

    def warm_up(self) -> None:
        """A short answer to nobody: the first compiles kernels and takes ten times as long (measured: 678 ms against 62).

        It also shows how large the cache is: one block of it is so many hundredths.
        """
        tell, self._tell = self._tell, _to_nobody
        self.take(Ask(id=0, messages=[Turn("user", "Hello")], max_tokens=4))
        first = self._answers[0]
        while self.busy:
            self.step()
            share = self._pipeline.get_metrics().cache_usage / 100
            if share > 0 and not self.kv_tokens:
                self.kv_tokens = round(ceil(first.prompt_tokens / BLOCK) / share) * BLOCK
        self._context = min(self._context, self.kv_tokens)
        self._tell = tell

    @property
    def context(self) -> int:
        """Tokens of a prompt and its answer."""
        return self._context

    @property
    def busy(self) -> bool:
        """Whether a step has something to do: an answer, or the freeing of one that was given up."""
        return bool(self._answers) or bool(self._pipeline.has_non_finished_requests())

    def take(self, message: ToChild) -> None:
        """A question, or a cancellation."""
        if isinstance(message, Cancel):
            answer = self._answers.pop(message.id, None)
            if answer is not None:
                answer.handle.cancel()  # the next step frees its cache
            return
        try:
            self._begin(message)
        except Exception as error:  # the library raises RuntimeError for everything
            self._tell(Fault(message.id, f"the model cannot take this: {_first_line(error)}", of_client=True))

    def step(self) -> None:
        """One token for every sequence under way, and some of the prompts."""
        read = self._to_read()
        began = time.monotonic()
        self._pipeline.step()
        took_ms = (time.monotonic() - began) * 1e3
        ended = self._pipeline.has_non_finished_requests()
        kv_tokens = round(self._pipeline.get_metrics().cache_usage / 100 * self.kv_tokens) if ended else 0
        running = len(self._answers)
        pieces, surprised = self._read_all(read)
        prompt_tokens = None if surprised else sum(read.values())
        self._tell(Stepped(pieces, took_ms, running, prompt_tokens, kv_tokens))

    def _begin(self, ask: Ask) -> None:
        ids = self._tokenizer.encode(self._prompt(ask)).input_ids
        prompt: list[int] = [] if ask.begun is None else ids.data[0].tolist()
        if ask.begun:
            ids = openvino.Tensor(np.array([[*prompt, *ask.begun]], dtype=np.int64))
        tokens = int(ids.shape[1])
        room = self._context - tokens
        most = min(ask.max_tokens, room) if ask.shorten else ask.max_tokens
        if not tokens or most > room or most < 1:
            wanted = "an answer" if ask.shorten else f"{ask.max_tokens} more are asked for"
            text = f"the prompt has {tokens} tokens and {wanted}; the context holds {self._context}"
            self._tell(Fault(ask.id, text if tokens else "the prompt has no tokens", of_client=True))
            return
        config = genai.GenerationConfig()
        config.max_new_tokens = most
        config.do_sample = ask.temperature > 0
        if ask.temperature > 0:
            config.temperature = ask.temperature
            config.top_p = ask.top_p
            config.rng_seed = (ask.seed if ask.seed is not None else time.monotonic_ns()) % 2**31
        handle = self._pipeline.add_request(ask.id, ids, config)
        self._answers[ask.id] = _Answer(ask, handle, tokens, most, tokens, Speech(tuple(ask.stop)), prompt)

    def _prompt(self, ask: Ask) -> str:
        if ask.prompt is not None:
            return ask.prompt
        turns = [{"role": turn.role, "content": turn.content} for turn in ask.messages]
        return str(self._tokenizer.apply_chat_template(turns, add_generation_prompt=True))

    def _to_read(self) -> dict[int, int]:
        """Tokens of prompts that the next step reads, by answer: what those that talk leave of it, in order of arrival."""
        room = STEP_TOKENS - sum(1 for answer in self._answers.values() if answer.speech.ids)
        read: dict[int, int] = {}
        for number, answer in self._answers.items():
            if answer.unread and room > 0:
                read[number] = min(answer.unread, room)
                room -= read[number]
        return read

    def _read_all(self, read: dict[int, int]) -> tuple[list[Piece], bool]:
        """The pieces of this step; and whether a prompt was read sooner than we thought, since its beginning was known."""
        surprised = False
        ends: dict[int, str | None] = {}
        for number, answer in list(self._answers.items()):
            spoken = len(answer.speech.ids)
            ends[number] = self._read(answer)
            answer.unread -= read.get(number, 0)
            if not spoken and answer.speech.ids:
                surprised, answer.unread = surprised or answer.unread > 0, 0
        return self._spoken({n: end for n, end in ends.items() if n in self._answers}), surprised

    def _read(self, answer: _Answer) -> str | None:
        """Takes its new tokens; why it ended, if it did. One that the cache cannot hold is refused and forgotten."""
        finish: str | None = None
        while answer.handle.can_read():
            for output in answer.handle.read().values():
                answer.speech.ids.extend(output.generated_ids)
                finish = _REASONS.get(str(output.finish_reason.name)) or finish
        status = answer.handle.get_status().name
        if status == "IGNORED":  # the cache cannot hold it: silence would look like an empty answer
            del self._answers[answer.ask.id]
            self._tell(Fault(answer.ask.id, "the prompt does not fit into the model's cache", of_client=True))
        elif status != "RUNNING" and finish is None:
            finish = "stop" if len(answer.speech.ids) < answer.max_tokens else "length"
        return finish

    def _spoken(self, ends: dict[int, str | None]) -> list[Piece]:
        """What each of the answers says now; all that is new is decoded in one call."""
        windows = {number: self._answers[number].speech.windows() for number in ends}
        wanted = [window for pair in windows.values() for window in pair if window]
        texts = iter(self._tokenizer.decode(wanted) if wanted else ())
        pieces: list[Piece] = []
        for number, finish in ends.items():
            before, after = ("" if not window else str(next(texts)) for window in windows[number])
            piece = self._piece(self._answers[number], before, after, finish)
            if piece is not None:
                pieces.append(piece)
        return pieces

    def _piece(self, answer: _Answer, before: str, after: str, finish: str | None) -> Piece | None:
        text, stopped = answer.speech.hear(before, after, last=finish is not None)
        if stopped:
            finish = "stop"
            answer.handle.stop()
        if finish is not None:
            del self._answers[answer.ask.id]
        said = [] if answer.ask.begun is None else answer.speech.ids[answer.tokens_told :]
        if finish is None and not text and not said:
            return None
        counted = finish is not None or not answer.told
        prompt = [] if answer.tokens_told else answer.prompt
        answer.told = True
        answer.tokens_told += len(said)
        tokens = len(answer.speech.ids)
        counts = (answer.prompt_tokens, tokens) if counted else (0, 0)
        return Piece(answer.ask.id, text, finish, *counts, said, prompt)


def _to_nobody(_message: FromChild) -> None:
    """While warming up."""


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip() and not line.startswith("Exception from")]
    return lines[-1] if lines else type(error).__name__


def _give_way(*, wholly: bool) -> None:
    """From now on the gateway goes first. Not before: loading is waited for. In Linux each thread has its own niceness and class.

    `wholly`: it runs on what all others leave (SCHED_IDLE, see sched(7)), and is interrupted as soon as one of them wakes.
    """
    less = min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE)
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended
            os.setpriority(os.PRIO_PROCESS, int(thread.name), less)
            if wholly:
                os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


def _end_with_the_gateway(asked: int) -> None:
    """Waits until nobody can ask any more, in whatever this process is meanwhile: nothing here is worth finishing then."""
    poll = select.poll()
    poll.register(asked, 0)  # only the hang-up, which is always told
    poll.poll()
    os._exit(0)


def main(path: str, numbers: Sequence[int]) -> None:
    """Loads the model, warms it up, and answers until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is for the gateway, which ends this in order
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the library prints must not mix with our messages
    asked = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # nor may it read what is ours
    threading.Thread(target=_end_with_the_gateway, args=(asked,), daemon=True).start()
    inbox = Inbox(asked)
    began = time.monotonic()

    def tell(message: FromChild) -> None:
        send(out, message)

    threads, context, sequences, cache_gib, prefix_cache, rest = numbers
    try:
        generator = Generator(
            path,
            threads=threads,
            context=context,
            sequences=sequences,
            cache_gib=cache_gib,
            prefix_cache=bool(prefix_cache),
            tell=tell,
        )
        generator.warm_up()
    except Exception as error:  # a file that the library cannot load
        send(out, Fault(0, _first_line(error)))
        return
    _give_way(wholly=bool(rest))
    send(out, Ready(time.monotonic() - began, generator.kv_tokens, generator.context, STEP_TOKENS, BLOCK))
    with suppress(EOFError, BrokenPipeError):
        while True:
            for message in inbox.messages(wait=not generator.busy):
                generator.take(message)
            if generator.busy:
                generator.step()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], [int(text) for text in sys.argv[2:8]])
