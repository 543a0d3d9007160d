"""What language models are asked while they are compared: the user's prompts, those beside the model, or a few of our own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

from nearhall.core.errors import InputError, Refusal
from nearhall.core.evidence import Kind
from nearhall.documents.profile import Samples
from nearhall.ports.runtime import ChatMessage
from nearhall.wire.openai import decode_chat
from nearhall.wire.openai_params import TokensMax

PROMPTS_MAX = 64
"""Some 4,000 tokens of answers: agreement of 95 % is known to within about one percent, and small models say them in a minute."""
FILE_BYTES_MAX = 16 * 2**20
"""Of one file: a log of requests that is longer is cut to its first prompts by who knows which of them count."""
BESIDE = ("prompts.jsonl", "prompts.txt")
"""In the model's folder, beside model.yaml: taken where no `--data` is given."""
SUFFIXES = (".txt", ".jsonl", ".json")
RIGHT = "a .txt with a prompt a line, a .jsonl with a text or a chat request a line, a .json chat request, or a folder of them"

OURS = (
    "Why does a server need air that moves, and what happens when a fan fails?",
    "Explain to a new colleague what a circuit breaker does, and when it opens.",
    "Write a short story of a lighthouse keeper who counts the ships of a night.",
    "What should be checked before a battery is put into a cabinet? Name some things.",
    "What is the capital of Portugal, and what is the city known for?",
    "A train leaves at 9:40 and arrives at 12:05. How long does it take?",
    "Add 17, 25 and 8, and then take away 13. Show each step.",
    "Write a Python function that says whether a word reads the same backwards.",
    "Write an SQL query that counts the orders of each customer in the last month.",
    "What does the HTTP status 503 mean, and what should a client do about it?",
    "Put into one sentence: The parcel left our store on Monday. It reached the depot on Tuesday. It is on its way to you today.",
    "Is this message friendly or angry? 'I have asked three times now, and nobody has called me back.'",
    "Translate into French: Where is the nearest station, please?",
    "Translate into Spanish: The shop is closed on Sundays.",
    "Erkläre in einfachen Worten, wie ein Regenbogen entsteht.",
    "Explique en deux phrases ce qu'est une pompe à chaleur.",
    "¿Qué diferencia hay entre el tiempo y el clima?",
    "Write a polite e-mail that moves a meeting from Thursday to Friday.",
    "Name three ways to save water in a garden.",
    "A customer wants to give back shoes without a receipt. What do you answer?",
    "List the planets of the solar system in order, as a JSON array of strings.",
    'Take name and date out of this, as JSON: "Ms Okafor will visit the plant on the fourth of March."',
    "What is the difference between a lease and a loan?",
    "Give me a recipe for a soup of carrots and lentils.",
    "How does a vaccine work? Answer for a child of ten.",
    "What are the arguments for and against working from home?",
    "Correct the grammar: 'Me and him goes to the market every days.'",
    "Write four lines of a poem about the first snow.",
    "Which is heavier, a kilogram of feathers or a kilogram of iron, and why?",
    "What should a technician write down after a visit to a site?",
    "Explain the difference between latency and throughput with an example.",
    "Plan a day in a city with two children when it rains.",
)
"""Our own, and nobody's data: questions, sums, code, lists, letters, and some of other languages than English."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What is asked."""

    prompts: Sequence[Sequence[ChatMessage]]
    source: str
    kind: Kind
    """`assumed` for our own: what is asked here may be answered better or worse."""
    notes: Sequence[str] = field(default_factory=tuple[str, ...])

    def samples(self, n: int) -> Samples:
        """The first so many of them, as a profile names them."""
        plain = [[[message.role, message.content] for message in prompt] for prompt in self.prompts[:n]]
        digest = hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode(errors="surrogatepass")).hexdigest()
        return Samples(source=self.source, n=n, sha256=digest, kind=self.kind.value)


def find_prompts(data: Path | None, folder: Path) -> Prompts:
    """The user's, else those in the model's folder, else ours; raises InputError that says what would be right."""
    beside = [folder / name for name in BESIDE if (folder / name).is_file()]
    path = data or next(iter(beside), None)
    if path is None:
        note = f"asked what nearhall asks, which are not your prompts: give --data, or put {BESIDE[0]} beside model.yaml"
        return Prompts(prompts=[_asked(text) for text in OURS], source="nearhall's own prompts", kind=Kind.ASSUMED, notes=[note])
    return from_files(path)


def from_files(path: Path) -> Prompts:
    """The prompts in a file or folder; raises InputError that says what would be right."""
    if not path.exists():
        raise InputError("does not exist", where=str(path), right=RIGHT)
    files = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    found = list(islice((prompt for file in files for prompt in _read(file)), PROMPTS_MAX + 1))
    if not found:
        raise InputError("holds no prompts", where=str(path), right=RIGHT)
    notes = [f"the first {PROMPTS_MAX} prompts were asked"] if len(found) > PROMPTS_MAX else []
    return Prompts(prompts=found[:PROMPTS_MAX], source=str(path), kind=Kind.MEASURED, notes=notes)


def _read(file: Path) -> Iterator[Sequence[ChatMessage]]:
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError("is no file of prompts", where=str(file), right=RIGHT)
    text = _text(file)
    if suffix == ".json":
        yield _request(str(file), text)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield _asked(line.strip()) if suffix == ".txt" else _request(f"{file}, line {number}", line)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
        text = data.decode()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(file), right=RIGHT) from error
    except UnicodeDecodeError as error:
        raise InputError("is no UTF-8 text", where=str(file), right=RIGHT) from error
    if len(data) > FILE_BYTES_MAX:
        raise InputError(f"has more than {FILE_BYTES_MAX >> 20} MiB", where=str(file), right=f"{PROMPTS_MAX} prompts are enough")
    return text


def _request(where: str, text: str) -> Sequence[ChatMessage]:
    """A text, or the messages of an OpenAI chat request; what else it asks for (a temperature, a length) is left aside."""
    try:
        given: Any = json.loads(text)
    except ValueError as error:
        raise InputError("is no JSON", where=where, right='"a text", or {"messages": [...]}') from error
    if isinstance(given, str) and given.strip():
        return _asked(given)
    if not isinstance(given, dict) or "messages" not in given:
        raise InputError("has no messages", where=where, right='{"messages": [{"role": "user", "content": "..."}]}')
    body = json.dumps({"model": "any", "messages": cast("dict[str, Any]", given)["messages"]}).encode()
    try:
        request = decode_chat(body, tokens_max=TokensMax(own=1))
        if request.beyond is not None:
            raise request.beyond.refusal()  # what is measured here is answered by our own runtimes
    except Refusal as error:
        raise InputError(error.message, where=where, right="the messages of a chat request") from error
    return [ChatMessage(role=turn.role, content=turn.content) for turn in request.messages]


def _asked(text: str) -> Sequence[ChatMessage]:
    return [ChatMessage(role="user", content=text)]
