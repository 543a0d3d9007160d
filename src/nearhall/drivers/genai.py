"""OpenVINO GenAI behind `ports.runtime.ChatRuntime`: the model lives in a child process, which may crash alone."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from nearhall.core.errors import PermanentError, Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.drivers.cpu_quota import cpus_allowed, threads_beside
from nearhall.drivers.genai_wire import FRAME_BYTES_MAX, Ask, Cancel, Fault, Piece, Ready, Stepped, Turn, receive_in_gateway, send
from nearhall.policy.backoff import crashes_after, restart_wait_s
from nearhall.policy.tokens import Capacity, Step
from nearhall.ports.runtime import ChatAsk, ChatPiece, ModelFile

DEFAULT_CONTEXT = 2048
"""Tokens of prompt and answer together: SmolLM2's; larger models name theirs in `model.yaml`, options.context."""
CONTEXT_LEAST, CONTEXT_MOST = 16, 1 << 20
KV_CACHE_MOST = 1024
TOKEN_BYTES_MAX = 128
"""No vocabulary has longer tokens but for runs of spaces: a longer text cannot fit, and is refused before it is tokenised (all
other answers wait meanwhile: 2 MB took 0.8 s)."""
PIPE_BYTES = 1 << 20
"""Of questions that the process takes in after its step: they must fit, since the event loop writes them."""
LOAD_S_MAX = 600.0
"""Loading from a slow disk takes minutes; a process that is silent for longer hangs, and is ended."""
STOP_S = 3.0
SEQUENCES = 8
"""Decoded together; on two cores throughput grows up to here (measured with a 135M model on one core: 49, 89, 151, 185 tokens/s
at 1, 2, 4, 8)."""
SPARE = 2
"""More, for chats that are more critical than one that talks."""
KV_CACHE_GIB = 1
"""Taken from the system as it is used. 1 GiB holds 78,000 tokens of a 135M model; larger models name theirs in `model.yaml`,
options.kv_cache_gib."""
GATEWAY_CPUS = 1
"""Left to the gateway and the models that run in it, where there are so many."""

log = logging.getLogger("nearhall.genai")
_Waiting = tuple[asyncio.AbstractEventLoop, "asyncio.Queue[Piece | Fault]"]
_Watching = tuple[asyncio.AbstractEventLoop, Callable[[Step], None]]


class GenaiRuntime:
    """One model and its process, started again when it dies."""

    def __init__(self, file: ModelFile, *, takes_the_rest: bool = False) -> None:
        """Starts the process and blocks until the model is loaded and warm; raises PermanentError when it does not load.

        `takes_the_rest`: once it is loaded it runs on what all other processes leave of the cores, and on no more.
        """
        if find_spec("openvino_genai") is None:
            raise ImportError("openvino_genai", name="openvino_genai")
        self._context = _number(file, "context", DEFAULT_CONTEXT, CONTEXT_LEAST, CONTEXT_MOST)
        child = [sys.executable, "-m", "nearhall.drivers.genai_child"]
        threads = threads_beside(GATEWAY_CPUS, cpus_allowed()) if file.threads <= 1 else file.threads
        cache_gib = _number(file, "kv_cache_gib", KV_CACHE_GIB, 1, KV_CACHE_MOST)
        prefix_cache = int(file.options.get("prefix_cache", "on") == "on")
        numbers = (threads, self._context, SEQUENCES + SPARE, cache_gib, prefix_cache, int(takes_the_rest))
        self._command = [*child, file.path, *map(str, numbers)]
        self._lock = threading.Lock()
        self._capacity: Capacity | None = None
        self._watching: _Watching | None = None
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
    def capacity(self) -> Capacity:
        """What the process says that it holds."""
        if self._capacity is None:
            raise RuntimeError("the language model has never been loaded")
        return self._capacity

    def watch(self, heard: Callable[[Step], None]) -> None:
        """Tells of every step from now on, in the event loop that this is called in."""
        self._watching = (asyncio.get_running_loop(), heard)

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
        texts = [message.content for message in ask.messages] if ask.prompt is None else [ask.prompt]
        size = sum(len(text.encode(errors="replace")) for text in texts)
        if size > min(self._context * TOKEN_BYTES_MAX, FRAME_BYTES_MAX // 8):
            text = f"the prompt has {size} bytes, more than fit into the {self._context} tokens that the context holds"
            raise Refusal(Reason.BAD_REQUEST, text)
        number = next(self._ids)
        pieces: asyncio.Queue[Piece | Fault] = asyncio.Queue()
        turns = [Turn(message.role, message.content) for message in ask.messages]
        question = Ask(
            id=number,
            messages=turns,
            max_tokens=ask.max_tokens,
            temperature=ask.temperature,
            top_p=ask.top_p,
            seed=ask.seed,
            stop=list(ask.stop),
            prompt=ask.prompt,
            shorten=ask.shorten,
            begun=None if ask.begun is None else list(ask.begun),
        )
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
                    tokens=piece.tokens,
                    prompt=piece.prompt,
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
        if not self._keeper.is_alive():  # else a process that the child left behind holds the pipe, and closing would wait for it
            _close_pipes(child)

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with suppress(OSError):  # more than this system allows
            fcntl.fcntl(_pipe(child.stdin), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
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
            log.info("the language model is loaded (%.1f s); its cache holds %d tokens", message.load_s, message.kv_tokens)
            self._capacity = Capacity(
                sequences=SEQUENCES,
                spare=SPARE,
                kv_tokens=message.kv_tokens,
                context=message.context,
                step_tokens=message.step_tokens,
                block=message.block,
            )
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
                if isinstance(message, Stepped):
                    self._tell(message)
                    self._hand_over({piece.id: piece for piece in message.pieces})
                elif isinstance(message, Fault):
                    self._hand_over({message.id: message})
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

    def _tell(self, step: Stepped) -> None:
        watching = self._watching
        if watching is not None:
            loop, heard = watching
            said = Step(took_ms=step.took_ms, running=step.running, prompt_tokens=step.prompt_tokens, kv_tokens=step.kv_tokens)
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(heard, said)

    def _hand_over(self, messages: Mapping[int, Piece | Fault]) -> None:
        """One wake of each loop, whatever number of answers the messages are for."""
        with self._lock:
            wanted = [(*self._waiting[number], message) for number, message in messages.items() if number in self._waiting]
        for loop in {loop for loop, _, _ in wanted}:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(_put_all, [(pieces, said) for at, pieces, said in wanted if at is loop])

    def _fail_all(self) -> None:
        with self._lock:
            numbers = list(self._waiting)
        self._hand_over({n: Fault(n, "the language model's process ended while it answered") for n in numbers})


def _put_all(messages: Sequence[tuple[asyncio.Queue[Piece | Fault], Piece | Fault]]) -> None:
    for pieces, message in messages:
        pieces.put_nowait(message)


def _number(file: ModelFile, name: str, default: int, least: int, most: int) -> int:
    """An option of model.yaml; raises PermanentError where it gives no such number."""
    given = file.options.get(name, str(default))
    if not given.isdecimal() or not least <= int(given) <= most:
        raise PermanentError(f"options.{name} is {given!r}; give a whole number from {least} to {most}")
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
