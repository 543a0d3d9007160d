"""Vision beside chat: what is answered in its deadline at half of the limit while the chat model never rests.

The chat model is smollm2 of the cache (`nearhall models fetch`); four clients ask it, each again when it has its answer, so it
always has work. Vision is a conv net of about a millisecond, binary v2, Poisson arrivals at half of the limit, deadline 10 ms
from the intended moment of sending. In turn: vision alone, chat alone, both. The gateway is told what a site's would be:
vision has priority 1 and chat 5. Where pinning would leave the server one core, it gets all of them, the light client's too.
Answers are checked before anything is timed. About two minutes.

    python bench/beside_chat.py [--rounds 3] [--seconds 6] [--chats 4] [--disjoint] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.table import Table

from nearhall.cli.roots.bench.built_in import CONV
from nearhall.cli.roots.bench.compare import watched
from nearhall.cli.roots.bench.goals import judge
from nearhall.cli.roots.bench.load import Address, Kind, OpenLoop, ask, connect, open_loop
from nearhall.cli.roots.bench.measured import LIMITS_DIFFER_MAX, WAITED_MAX, quantile
from nearhall.cli.roots.bench.requests import binary_request, http_post
from nearhall.cli.roots.bench.schedule import poisson
from nearhall.cli.roots.bench.script import Script, main
from nearhall.cli.roots.bench.servers import Limit, check, gateway, subjects_of
from nearhall.cli.roots.models import cache_folder
from nearhall.core.errors import InputError, NearhallError, TemporaryError

CHAT = "smollm2"
DEADLINE_MS = 10.0
TOKENS = 32
SHARE = 0.5
LIMIT_S = 0.5
LOAD_S_MAX = 120.0
LATE_MS_MAX = 2.0
WORKLOADS = [
    {"id": "vision", "model": CONV, "slo_ms": DEADLINE_MS, "priority": 1},
    {"id": "chat", "model": CHAT, "slo_ttft_ms": 5000.0, "priority": 5, "chat": True},
]


@dataclass
class Chats:
    """What the chat clients got."""

    tokens: int = 0
    answers: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        """Tokens a second, of all clients."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """The three slices of a round."""

    limit_per_s: float
    alone: OpenLoop
    beside: OpenLoop
    chat_alone: Chats
    chat_beside: Chats
    same: bool
    """Whether the limit was the same before and after, and nobody else ran on its core."""

    @property
    def quiet(self) -> bool:
        """Whether the machine was the same before and after, and the client in time while there was no chat."""
        return self.same and self.alone.client_late_p99_ms <= LATE_MS_MAX


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each slice")
    parser.add_argument("--chats", type=int, default=4, help="clients of the chat model")


def work(script: Script) -> None:
    source = cache_folder(os.environ) / "models" / CHAT
    if not (source / "model.yaml").is_file():
        raise InputError(f"the chat model is not in {source}", where="bench/beside_chat.py", right="nearhall models fetch")
    (script.models / CHAT).symlink_to(source)
    cores = script.loaded_cores()
    limit = Limit(script.file_of(CONV), cores=script.cores.server)
    with gateway(script.models, script.folder, cores=cores, settings={"workloads": WORKLOADS}) as running:
        script.tell("loading the chat model")
        until_chat(running.address)
        (subject,) = subjects_of(running, CONV, limit, ["binary"])
        check(subject, limit)
        subject.one(LIMIT_S)
        request = binary_request(CONV, limit.inputs, limit.names, {"x-nearhall-deadline-ms": f"{DEADLINE_MS:g}"})
        kind = Kind(name="vision", request=request, deadline_ms=DEADLINE_MS)
        rounds = []
        for turn in range(script.options.rounds):
            script.tell(f"round {turn + 1} of {script.options.rounds}")
            rounds.append(one_round(script, limit, running.address, kind, turn))
    show(script, rounds)
    quiet = [one for one in rounds if one.quiet]
    enough = len(quiet) * 2 >= len(rounds) and bool(quiet)
    shares = [100 * one.beside.outcomes[0].in_deadline_share for one in (quiet if enough else rounds)]
    alone = median(one.alone.outcomes[0].in_deadline_share for one in rounds)
    script.verdicts.append(judge("beside_chat", median(shares), headline=enough, note=f"without chat {alone:.1%}"))
    script.data |= {
        "compared_with": "vision alone, and chat alone, in the same rounds",
        "server_cores": sorted(cores),
        "rounds": [plain(one) for one in rounds],
    }


def one_round(script: Script, limit: Limit, address: Address, kind: Kind, turn: int) -> Round:
    seconds, chats = script.options.seconds, script.options.chats
    first = watched(limit.slice, LIMIT_S)
    per_s = 1e3 / first.p50_ms
    arrivals = poisson(SHARE * per_s, seconds, turn)
    alone = open_loop(address, [kind], arrivals, [0] * len(arrivals), seconds)
    with chatting(address, chats) as chat_alone:
        time.sleep(seconds)
    with chatting(address, chats) as chat_beside:
        beside = open_loop(address, [kind], arrivals, [0] * len(arrivals), seconds)
    last = watched(limit.slice, LIMIT_S)
    same = abs(first.p50_ms - last.p50_ms) <= LIMITS_DIFFER_MAX * min(first.p50_ms, last.p50_ms)
    same = same and max(first.waited, last.waited) <= WAITED_MAX
    return Round(limit_per_s=per_s, alone=alone, beside=beside, chat_alone=chat_alone, chat_beside=chat_beside, same=same)


@contextmanager
def chatting(address: Address, count: int) -> Iterator[Chats]:
    """So many clients that ask again and again; tokens are counted until the block ends."""
    found, over, lock = Chats(), threading.Event(), threading.Lock()

    def client(index: int) -> None:
        asked = 0
        while not over.is_set():
            asked += 1
            try:
                with connect(address) as connection:
                    status, _, body = ask(connection, chat_request(f"Client {index}: tell me fact {asked} about the sea."))
            except (NearhallError, OSError) as error:
                status, body = 0, str(error).encode()
            with lock:
                if over.is_set():
                    return
                if status == 200:
                    found.tokens += json.loads(body)["usage"]["completion_tokens"]
                    found.answers += 1
                else:
                    found.failed.append(f"{status} {body[:120].decode(errors='replace')}")
            if status != 200:
                over.wait(0.2)

    threads = [threading.Thread(target=client, args=(index,), daemon=True) for index in range(count)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.seconds = time.perf_counter() - begun
        with lock:
            over.set()
        for thread in threads:
            thread.join(LOAD_S_MAX)


def chat_request(text: str) -> bytes:
    ask_ = {"model": CHAT, "messages": [{"role": "user", "content": text}], "max_completion_tokens": TOKENS}
    return http_post("/v1/chat/completions", json.dumps(ask_).encode(), {"content-type": "application/json"})


def until_chat(address: Address) -> None:
    """Returns once the chat model answers; the answer must have words."""
    last = time.monotonic() + LOAD_S_MAX
    while time.monotonic() < last:
        with connect(address) as connection:
            status, _, body = ask(connection, chat_request("Say hello."))
        if status == 200:
            assert json.loads(body)["choices"][0]["message"]["content"].strip(), body
            return
        time.sleep(0.2)
    raise TemporaryError(f"the chat model did not load within {LOAD_S_MAX:g} s: {body[:200].decode(errors='replace')}")


def show(script: Script, rounds: list[Round]) -> None:
    table = Table(box=None, padding=(0, 1))
    for head in ("vision", "in time", "200", "p50", "p99", "client late", "chat tokens/s", "chat answers", "chat failed"):
        table.add_column(head, justify="left" if head == "vision" else "right", no_wrap=True)
    for name, of, chats in (("alone", "alone", "chat_alone"), ("beside chat", "beside", "chat_beside")):
        loops: list[OpenLoop] = [getattr(one, of) for one in rounds]
        talks: list[Chats] = [getattr(one, chats) for one in rounds]
        outcomes = [loop.outcomes[0] for loop in loops]
        table.add_row(
            name,
            f"{median(one.in_deadline_share for one in outcomes):.1%}",
            f"{median(one.answered / max(1, one.offered) for one in outcomes):.1%}",
            f"{median(quantile(one.latencies_ms, 0.5) for one in outcomes):.2f}",
            f"{median(quantile(one.latencies_ms, 0.99) for one in outcomes):.2f}",
            f"{median(loop.client_late_p99_ms for loop in loops):.2f}",
            f"{median(talk.per_s for talk in talks):.1f}" + (" (alone)" if of == "alone" else ""),
            str(sum(talk.answers for talk in talks)),
            str(sum(len(talk.failed) for talk in talks)),
        )
    script.show(table)
    failed = [line for one in rounds for talk in (one.chat_alone, one.chat_beside) for line in talk.failed]
    if failed:
        script.warnings.append(f"{len(failed)} chats were not answered, the first: {failed[0]}")


def plain(one: Round) -> dict[str, Any]:
    return {
        "limit_per_s": round(one.limit_per_s, 1),
        "quiet": one.quiet,
        "alone": one.alone.outcomes[0].plain(),
        "beside": one.beside.outcomes[0].plain(),
        "client_late_p99_ms": round(one.beside.client_late_p99_ms, 3),
        "chat_tokens_per_s": {"alone": round(one.chat_alone.per_s, 1), "beside": round(one.chat_beside.per_s, 1)},
    }


if __name__ == "__main__":
    main("beside_chat", __doc__ or "", work, options)
