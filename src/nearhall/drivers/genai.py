"""OpenVINO GenAI behind `ports.runtime.ChatRuntime`: the model lives in a child process, which may crash alone."""

from __future__ import annotations

import asyncio
import itertools
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from nearhall.core.errors import PermanentError, Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.drivers.genai_wire import FRAME_BYTES_MAX, Ask, Cancel, Fault, Piece, Ready, Turn, receive_in_gateway, send
from nearhall.policy.backoff import crashes_after, restart_wait_s
from nearhall.ports.runtime import ChatAsk, ChatPiece, ModelFile

DEFAULT_CONTEXT = 2048
"""Tokens of prompt and answer together: SmolLM2's; larger models name theirs in `model.yaml`, options.context."""
CONTEXT_LEAST, CONTEXT_MOST = 16, 1 << 20
TOKEN_BYTES_MAX = 128
"""No vocabulary has longer tokens but for runs of spaces: a longer text cannot fit, and is refused before it is tokenised (all
other answers wait meanwhile: 2 MB took 0.8 s)."""
LOAD_S_MAX = 600.0
"""Loading from a slow disk takes minutes; a process that is silent for longer hangs, and is ended."""
STOP_S = 3.0
AT_ONCE = 8
"""`genai_child.AT_ONCE_MAX`, which this module cannot import without the library."""

log = logging.getLogger("nearhall.genai")
_Waiting = tuple[asyncio.AbstractEventLoop, "asyncio.Queue[Piece | Fault]"]


class GenaiRuntime:
    """One model and its process, started again when it dies."""

    def __init__(self, file: ModelFile) -> None:
        """Starts the process and blocks until the model is loaded and warm; raises PermanentError when it does not load."""
        if find_spec("openvino_genai") is None:
            raise ImportError("openvino_genai", name="openvino_genai")
        self._context = _context(file)
        child = [sys.executable, "-m", "nearhall.drivers.genai_child"]
        self._command = [*child, file.path, str(file.threads), str(self._context)]
        self._lock = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._ids = itertools.count(1)
        self._closed = threading.Event()
        self._alive = False
        self._starting: subprocess.Popen[bytes] | None = None
        self._child = self._start()
        self._alive = True
        self._keeper = threading.Thread(target=self._keep, daemon=True, name=f"genai-{file.model}")
        self._keeper.start()

    @property
    def slots(self) -> int:
        """Answers at once: as many as the process decodes together."""
        return AT_ONCE

    @property
    def alive(self) -> bool:
        """False while its process is starting again or has failed."""
        return self._alive

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    async def generate(self, ask: ChatAsk) -> AsyncGenerator[ChatPiece]:
        """The answer piece by piece; closing the generator cancels the work within a step."""
        size = sum(len(message.content.encode(errors="replace")) for message in ask.messages)
        if size > min(self._context * TOKEN_BYTES_MAX, FRAME_BYTES_MAX // 8):
            text = f"the prompt has {size} bytes, more than fit into the {self._context} tokens that the context holds"
            raise Refusal(Reason.BAD_REQUEST, text)
        number = next(self._ids)
        pieces: asyncio.Queue[Piece | Fault] = asyncio.Queue()
        turns = [Turn(message.role, message.content) for message in ask.messages]
        question = Ask(number, turns, ask.max_tokens, ask.temperature, ask.top_p, ask.seed, list(ask.stop))
        with self._lock:
            self._waiting[number] = (asyncio.get_running_loop(), pieces)
        finished = False
        try:
            self._send(question)
            while not finished:
                piece = await pieces.get()
                finished = isinstance(piece, Fault) or piece.finish is not None
                if isinstance(piece, Fault):
                    raise Refusal(Reason.BAD_REQUEST, piece.text) if piece.of_client else TemporaryError(piece.text)
                yield ChatPiece(
                    text=piece.text,
                    finish=piece.finish,
                    prompt_tokens=piece.prompt_tokens,
                    completion_tokens=piece.completion_tokens,
                )
        finally:
            with self._lock:
                self._waiting.pop(number, None)
            if not finished:
                with suppress(TemporaryError):
                    self._send(Cancel(number))

    async def close(self) -> None:
        """Ends the process."""
        self._closed.set()
        self._alive = False
        child, starting = self._child, self._starting
        if starting is not None:
            starting.kill()
        with suppress(OSError):
            if child.stdin is not None:
                child.stdin.close()
        await asyncio.to_thread(_ended, child)
        await asyncio.to_thread(self._keeper.join, STOP_S)
        _close_pipes(child)

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._starting = child
        if self._closed.is_set():  # `close` may have looked just before
            child.kill()
        hangs = threading.Timer(LOAD_S_MAX, child.kill)
        hangs.daemon = True
        hangs.start()
        message = receive_in_gateway(_pipe(child.stdout))
        hangs.cancel()
        self._starting = None
        if isinstance(message, Ready):
            log.info("the language model is loaded (%.1f s)", message.load_s)
            return child
        _ended(child, seconds=0.5)
        _close_pipes(child)
        why = message.text if isinstance(message, Fault) else "its process ended"
        raise PermanentError(f"OpenVINO GenAI cannot load {self._command[3]}: {why}")

    def _send(self, message: Ask | Cancel) -> None:
        with self._lock:
            try:
                send(_pipe(self._child.stdin), message)
            except (OSError, ValueError) as error:
                raise TemporaryError("the language model's process has gone") from error

    def _keep(self) -> None:
        """Hands pieces to those who wait; starts the process again when it dies."""
        crashes = 0
        while not self._closed.is_set():
            started = time.monotonic()
            while (message := receive_in_gateway(_pipe(self._child.stdout))) is not None:
                if not isinstance(message, Ready):
                    self._hand_over(message.id, message)
            self._alive = False
            self._fail_all()
            if not self._closed.is_set():
                with self._lock:
                    _close_pipes(self._child)
            while not self._closed.is_set():
                crashes, started = crashes_after(crashes, time.monotonic() - started), time.monotonic()
                log.warning("the language model's process ended (exit code %s) and is started again", self._child.wait())
                self._closed.wait(restart_wait_s(crashes))
                try:
                    child = self._start()
                except PermanentError as error:
                    if not self._closed.is_set():
                        log.warning("%s", error)
                    continue
                with self._lock:
                    self._child = child
                if self._closed.is_set():  # it was ready just before `close` looked: nobody else ends it
                    child.kill()
                    child.wait()
                    _close_pipes(child)
                    return
                self._alive = True
                break

    def _hand_over(self, number: int, message: Piece | Fault) -> None:
        with self._lock:
            waiting = self._waiting.get(number)
        if waiting is not None:
            with suppress(RuntimeError):  # the loop was closed
                waiting[0].call_soon_threadsafe(waiting[1].put_nowait, message)

    def _fail_all(self) -> None:
        with self._lock:
            numbers = list(self._waiting)
        for number in numbers:
            self._hand_over(number, Fault(number, "the language model's process ended while it answered"))


def _context(file: ModelFile) -> int:
    """Tokens of prompt and answer together; raises PermanentError where model.yaml gives no number."""
    given = file.options.get("context", str(DEFAULT_CONTEXT))
    if not given.isdecimal() or not CONTEXT_LEAST <= int(given) <= CONTEXT_MOST:
        raise PermanentError(f"options.context is {given!r}; give a number of tokens from {CONTEXT_LEAST} to {CONTEXT_MOST}")
    return int(given)


def _pipe(stream: Any) -> Any:
    if stream is None:
        raise OSError("no pipe")
    return stream


def _close_pipes(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _ended(child: subprocess.Popen[bytes], *, seconds: float = STOP_S) -> None:
    """Waits for the end of the process, and kills it if it does not come."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
