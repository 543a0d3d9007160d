"""A language model in a process of its own: OpenVINO GenAI with continuous batching, fed over standard input.

Ends when standard input ends, so it never outlives the gateway. `python -m nearhall.drivers.genai_child FILE THREADS CONTEXT`.
"""

from __future__ import annotations

import io
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import openvino_genai as genai

from nearhall.drivers.genai_wire import Ask, Cancel, Fault, Piece, Ready, ToChild, Turn, receive_in_child, send

CACHE_GIB = 1
"""KV cache; 1 GiB holds about 45,000 tokens of a 135-million-parameter model, more than eight full contexts."""
AT_ONCE_MAX = 8
"""Sequences decoded together; on two cores throughput grows up to here (measured: 11, 71, 105 tokens/s at 1, 4, 8)."""
INCOMPLETE = "\ufffd"


@dataclass(slots=True)
class _Answer:
    ask: Ask
    handle: Any
    prompt_tokens: int
    ids: list[int] = field(default_factory=list[int])
    text: str = ""
    """Decoded so far, without an incomplete last character."""
    sent: int = 0
    """Characters of `text` that were sent."""


class Generator:
    """Takes questions and gives pieces, one step of all sequences at a time."""

    def __init__(self, path: str, threads: int, context: int, out: BinaryIO) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GIB
        scheduler.max_num_seqs = AT_ONCE_MAX
        scheduler.enable_prefix_caching = False
        self._pipeline: Any = genai.ContinuousBatchingPipeline(path, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads})
        self._tokenizer: Any = self._pipeline.get_tokenizer()
        self._context = context
        self._out = out
        self._answers: dict[int, _Answer] = {}

    def warm_up(self) -> None:
        """One short answer to nobody: the first compiles kernels and takes ten times as long (measured: 678 ms against 62)."""
        out, self._out = self._out, io.BytesIO()
        self.take(Ask(id=0, messages=[Turn("user", "Hello")], max_tokens=4))
        while self.busy:
            self.step()
        self._out = out

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return bool(self._answers)

    def take(self, message: ToChild) -> None:
        """A question, or a cancellation."""
        if isinstance(message, Cancel):
            answer = self._answers.pop(message.id, None)
            if answer is not None:
                answer.handle.cancel()
            return
        try:
            self._begin(message)
        except Exception as error:  # the library raises RuntimeError for everything
            send(self._out, Fault(message.id, f"the model cannot take this: {_first_line(error)}", of_client=True))

    def step(self) -> None:
        """One token for every sequence under way."""
        self._pipeline.step()
        for answer in list(self._answers.values()):
            self._read(answer)

    def _begin(self, ask: Ask) -> None:
        turns = [{"role": turn.role, "content": turn.content} for turn in ask.messages]
        prompt = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True)
        tokens = int(self._tokenizer.encode(prompt).input_ids.shape[1])
        if tokens + ask.max_tokens > self._context:
            text = f"the prompt has {tokens} tokens and {ask.max_tokens} more are asked for; the context holds {self._context}"
            send(self._out, Fault(ask.id, text, of_client=True))
            return
        config = genai.GenerationConfig()
        config.max_new_tokens = ask.max_tokens
        config.do_sample = ask.temperature > 0
        if ask.temperature > 0:
            config.temperature = ask.temperature
            config.top_p = ask.top_p
            config.rng_seed = ask.seed if ask.seed is not None else int(time.monotonic_ns() % 2**31)
        handle = self._pipeline.add_request(ask.id, prompt, config)
        self._answers[ask.id] = _Answer(ask, handle, tokens)

    def _read(self, answer: _Answer) -> None:
        finish: str | None = None
        reasons: dict[str, str] = {"STOP": "stop", "LENGTH": "length"}
        while answer.handle.can_read():
            for output in answer.handle.read().values():
                answer.ids.extend(output.generated_ids)
                name = output.finish_reason.name
                finish = reasons.get(str(name)) or finish
        status = answer.handle.get_status().name
        if status == "IGNORED":  # the cache cannot hold it: silence would look like an empty answer
            del self._answers[answer.ask.id]
            send(self._out, Fault(answer.ask.id, "the prompt does not fit into the model's cache", of_client=True))
            return
        if status != "RUNNING" and finish is None:
            finish = "stop" if len(answer.ids) < answer.ask.max_tokens else "length"
        text = self._tokenizer.decode(answer.ids) if answer.ids else ""
        answer.text = text if finish is not None else text.rstrip(INCOMPLETE)
        self._send(answer, finish)

    def _send(self, answer: _Answer, finish: str | None) -> None:
        stops = [at for at in (answer.text.find(stop) for stop in answer.ask.stop) if at >= 0]
        if stops:
            answer.text, finish = answer.text[: min(stops)], "stop"
            answer.handle.stop()
        # The end of the text may be the beginning of a stop string: it is held back until that is known.
        held = 0 if finish is not None else max((_overlap(answer.text, stop) for stop in answer.ask.stop), default=0)
        end = max(answer.sent, len(answer.text) - held)
        fresh, answer.sent = answer.text[answer.sent : end], end
        if finish is not None:
            del self._answers[answer.ask.id]
            send(self._out, Piece(answer.ask.id, fresh, finish, answer.prompt_tokens, len(answer.ids)))
        elif fresh:
            send(self._out, Piece(answer.ask.id, fresh))


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of `text` begin `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip() and not line.startswith("Exception from")]
    return lines[-1] if lines else type(error).__name__


def _read_questions(stream: BinaryIO, questions: queue.SimpleQueue[ToChild]) -> None:
    while (message := receive_in_child(stream)) is not None:
        questions.put(message)
    os._exit(0)  # the gateway has gone: nothing here is worth finishing


def main(path: str, threads: int, context: int) -> None:
    """Loads the model, warms it up, and answers until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is for the gateway, which ends this in order
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the library prints must not mix with our messages
    # A process that the library forks closes `sys.stdin` first, and would wait without end for the thread that reads it.
    asked = os.fdopen(os.dup(0), "rb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    questions: queue.SimpleQueue[ToChild] = queue.SimpleQueue()
    threading.Thread(target=_read_questions, args=(asked, questions), daemon=True).start()
    began = time.monotonic()
    try:
        generator = Generator(path, threads, context, out)
        generator.warm_up()
    except Exception as error:  # a file that the library cannot load
        send(out, Fault(0, _first_line(error)))
        return
    send(out, Ready(time.monotonic() - began))
    while True:
        if not generator.busy:
            generator.take(questions.get())
        while True:
            try:
                generator.take(questions.get_nowait())
            except queue.Empty:
                break
        if generator.busy:
            generator.step()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
