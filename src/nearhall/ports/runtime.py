"""What runs a model. Two kinds: tensors in, tensors out; and chat, tokens out one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nearhall.core.tensor import Tensor, TensorSpec
from nearhall.policy.tokens import Capacity, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One runnable form of a model, as the repository found it: everything a runtime needs to load it."""

    model: str
    version: str
    variant: str
    runtime: str
    """`onnxruntime`, `openvino`, `genai` or `upstream`."""
    path: str
    """The model's file; for `upstream` the base URL."""
    threads: int = 1
    options: dict[str, str] = field(default_factory=dict[str, str])
    """Runtime-specific settings from `model.yaml`, already checked for known names."""


class TensorRuntime(Protocol):
    """A loaded model that maps tensors to tensors. Loading is the driver's constructor; it raises PermanentError.

    One whose `concurrent` is true may be run from several threads at a time; one that says nothing is run from one.
    """

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""
        ...

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives."""
        ...

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> Sequence[Tensor]:
        """Runs once, blocking; called from the lane's own thread. `outputs` empty means all.

        Raises Refusal(BAD_REQUEST) for what the caller did wrong, PermanentError when the runtime is broken.
        """
        ...

    def close(self) -> None:
        """Frees memory and ends child processes; safe to call twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAsk:
    """What to generate. Parameters that the server does not know were refused before this was made."""

    messages: Sequence[ChatMessage]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: Sequence[str] = ()
    prompt: str | None = None
    """Goes on from this text as it stands, without a chat template; `messages` is empty then."""
    shorten: bool = False
    """`max_tokens` is a limit and no wish: it may be less, as the context has room."""
    begun: Sequence[int] | None = None
    """For measuring: tokens, as the model numbers them, that the answer is taken to begin with; then pieces tell their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPiece:
    """A piece of the answer. The last one has `finish` set; the first and the last one have both token counts."""

    text: str
    finish: str | None = None
    """`stop` or `length`; None while the answer goes on."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens: Sequence[int] = ()
    """New since the piece before; with `ChatAsk.begun` alone."""
    prompt: Sequence[int] = ()
    """The tokens of the prompt, with the first of `tokens`."""


class ChatRuntime(Protocol):
    """A loaded language model."""

    @property
    def alive(self) -> bool:
        """False while its process is starting again or has failed."""
        ...

    @property
    def capacity(self) -> Capacity:
        """What it holds, as it said when it was loaded."""
        ...

    def watch(self, heard: Callable[[Step], None]) -> None:
        """Tells of every step from now on, in the event loop that this is called in."""
        ...

    def generate(self, ask: ChatAsk) -> AsyncIterator[ChatPiece]:
        """Yields the answer piece by piece; closing the iterator early cancels the work within a step.

        Raises TemporaryError when the process behind it dies, Refusal(BAD_REQUEST) for a prompt that is too long.
        """
        ...

    async def close(self) -> None:
        """Ends the process behind it; safe to call twice."""
        ...


class UpstreamRuntime(Protocol):
    """Any v2 or OpenAI server behind our admission, residency and metering: requests pass through as they are."""

    @property
    def alive(self) -> bool:
        """Whether the last health check or request reached it."""
        ...

    async def forward(self, request: ForwardRequest) -> ForwardResponse:
        """Sends the request on; raises TemporaryError when the server cannot be reached or breaks off before its head."""
        ...

    async def close(self) -> None:
        """Closes its connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardRequest:
    """A client's request on its way to the hub or to an upstream server."""

    method: str
    path: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    timeout_s: float
    """What is left of the deadline, or the program's own limit."""


@dataclass(slots=True, kw_only=True)
class ForwardResponse:
    """The answer; `body` yields chunks as they come and must be closed (`aclose`)."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: AsyncIterator[bytes]
    link: LinkUse | None = None
    """Filled in when `body` has ended."""


@dataclass(slots=True, kw_only=True)
class LinkUse:
    """Bytes that one exchange put on the link, TLS included, as the kernel counted them on its connection."""

    sent: int = 0
    received: int = 0


class Fallback(Protocol):
    """The hub's gateway, seen from a site's gateway."""

    @property
    def reachable(self) -> bool:
        """Whether the last exchange or probe reached the hub; True before the first."""
        ...

    @property
    def kept_warm_bytes(self) -> int:
        """What health checks have put on the link so far, both ways."""
        ...

    async def forward(self, request: ForwardRequest, *, probe: bool = False) -> ForwardResponse:
        """Sends a request to the hub over a warm connection; probes have connections of their own.

        Raises TemporaryError when the hub cannot be reached or the answer breaks off before its head.
        """
        ...

    async def close(self) -> None:
        """Closes all connections."""
        ...
