"""What the gateway adds to a language model: streamed chats over HTTP on this host against the same pipeline in this process.

In this process: OpenVINO GenAI's ContinuousBatchingPipeline with the very SchedulerConfig that the gateway's child uses, the same
threads, chat template and greedy decoding, and text made of each token as it comes. Slices of both are interleaved, so that a
busy host disturbs them alike; only ratios of one run mean anything. Answers are checked first: both must say the same.

    python bench/chat.py [--rounds 5] [--streams 8] [--tokens 64] [--vision] [--json]

`--vision`: also a vision model at half its limit, open loop, with and without chats that saturate the language model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpcore
import numpy as np
import openvino_genai as genai

from nearhall.cli.roots.models import cache_folder
from nearhall.drivers.cpu_quota import cpus_allowed, threads_beside
from nearhall.drivers.genai import GATEWAY_CPUS, KV_CACHE_GIB, SEQUENCES, SPARE
from nearhall.drivers.genai_child import STEP_TOKENS
from nearhall.drivers.genai_text import Speech
from nearhall.wire.chat_events import EventReader

READY_S = 120.0
FIRSTS = 6
"""Chats one after the other in each slice, for the time to the first token."""
VISION_DEADLINE_MS = 10.0
VISION_S = 8.0


@dataclass
class Slice:
    """What one slice of a round measured."""

    first_ms: list[float] = field(default_factory=list)
    tokens_per_s: float = 0.0


class InProcess:
    """The limit: no process, no HTTP, no admission between the caller and the pipeline."""

    def __init__(self, gguf: Path, threads: int) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = KV_CACHE_GIB
        scheduler.max_num_seqs = SEQUENCES + SPARE
        scheduler.max_num_batched_tokens = STEP_TOKENS
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = True
        self.pipeline: Any = genai.ContinuousBatchingPipeline(str(gguf), scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads})
        self.tokenizer: Any = self.pipeline.get_tokenizer()
        self.number = 0

    def chats(self, prompts: list[str], tokens: int) -> tuple[list[str], list[float], float]:
        """Texts, the time of each first text in ms, and the seconds for all."""
        began = time.perf_counter()
        handles, speeches, texts, firsts = [], [], ["" for _ in prompts], [0.0 for _ in prompts]
        for prompt in prompts:
            text = self.tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True)
            config = genai.GenerationConfig()
            config.max_new_tokens = tokens
            self.number += 1
            handles.append(self.pipeline.add_request(self.number, text, config))
            speeches.append(Speech())
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
            for at, (handle, speech) in enumerate(zip(handles, speeches, strict=True)):
                while handle.can_read():
                    for output in handle.read().values():
                        speech.ids.extend(output.generated_ids)
                before, after = (self.tokenizer.decode(ids) if ids else "" for ids in speech.windows())
                said, _ = speech.hear(before, after, last=False)
                if said and not texts[at]:
                    firsts[at] = (time.perf_counter() - began) * 1e3
                texts[at] += said
        took = time.perf_counter() - began
        self.generated = sum(len(speech.ids) for speech in speeches)
        return texts, firsts, took


class Gateway:
    """`nearhall serve`, with a model repository of its own."""

    def __init__(self, folder: Path, models: Path, names: list[str]) -> None:
        repository = folder / "models"
        repository.mkdir()
        for name in names:
            (repository / name).symlink_to(models / name)
        command = [sys.executable, "-m", "nearhall", "serve", "--repository", str(repository), "--http", "0", "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.url = ""
        for line in self.process.stdout:
            self.url = json.loads(line)["url"]
            break

    async def ready(self, pool: httpcore.AsyncConnectionPool, name: str) -> None:
        """Returns once the model answers."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            if (await pool.request("GET", f"{self.url}/v2/models/{name}/ready")).status == 200:
                return
            await asyncio.sleep(0.2)
        raise SystemExit(f"{name} was not ready within {READY_S:g} s")

    def end(self) -> None:
        """Stops it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


async def one_chat(pool: httpcore.AsyncConnectionPool, url: str, prompt: str, tokens: int) -> tuple[str, float, int]:
    """Text, time of its first text in ms, tokens."""
    body = {"model": "smollm2", "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "stream": True}
    body["stream_options"] = {"include_usage": True}
    began = time.perf_counter()
    events, text, first, count = EventReader(), "", 0.0, 0
    async with pool.stream("POST", f"{url}/v1/chat/completions", content=json.dumps(body).encode()) as response:
        assert response.status == 200, await response.aread()
        async for part in response.aiter_stream():
            for event in events.feed(part):
                if event == b"[DONE]":
                    return text, first, count
                said = json.loads(event)
                if said.get("usage"):
                    count = said["usage"]["completion_tokens"]
                for choice in said["choices"]:
                    piece = choice["delta"].get("content") or ""
                    if piece and not text:
                        first = (time.perf_counter() - began) * 1e3
                    text += piece
    raise SystemExit("a stream ended without [DONE]")


async def through_gateway(
    pool: httpcore.AsyncConnectionPool, url: str, prompts: list[str], tokens: int
) -> tuple[list[str], list[float], float, int]:
    """Texts, first texts in ms, seconds for all, and tokens."""
    began = time.perf_counter()
    said = await asyncio.gather(*(one_chat(pool, url, prompt, tokens) for prompt in prompts))
    took = time.perf_counter() - began
    return [text for text, _, _ in said], [first for _, first, _ in said], took, sum(count for _, _, count in said)


def prompts_of(round_: int, count: int) -> list[str]:
    """Different ones in each slice, so that no prefix is known but the template's."""
    subjects = ["snow", "bread", "a river", "a lighthouse", "iron", "bees", "the moon", "a market"]
    return [f"{round_}.{at}: tell me a long story about {subjects[at % len(subjects)]}, please." for at in range(count)]


async def compare(arguments: argparse.Namespace, gateway: Gateway, limit: InProcess) -> dict[str, Any]:
    """All rounds; ratios of medians."""
    here, there = Slice(), Slice()
    rates_here: list[float] = []
    rates_there: list[float] = []
    async with httpcore.AsyncConnectionPool(max_connections=64) as pool:
        await gateway.ready(pool, "smollm2")
        texts, _, _ = limit.chats(prompts_of(0, 3), 24)
        served, _, _, _ = await through_gateway(pool, gateway.url, prompts_of(0, 3), 24)
        # A token at the very end may be an incomplete character, which only the end of a stream shows.
        assert all(b.startswith(a) for a, b in zip(texts, served, strict=True)), (texts, served)
        for round_ in range(1, arguments.rounds + 1):
            for at in range(FIRSTS):
                alone = prompts_of(1000 * round_ + at, 2)
                here.first_ms += limit.chats(alone[:1], 2)[1]
                there.first_ms += (await through_gateway(pool, gateway.url, alone[1:], 2))[1]
            many = prompts_of(round_, 2 * arguments.streams)
            _, _, took = limit.chats(many[: arguments.streams], arguments.tokens)
            rates_here.append(limit.generated / took)
            _, _, took, count = await through_gateway(pool, gateway.url, many[arguments.streams :], arguments.tokens)
            rates_there.append(count / took)
    p95 = [float(np.percentile(one.first_ms, 95)) for one in (here, there)]
    p50 = [statistics.median(one.first_ms) for one in (here, there)]
    rates = [statistics.median(rates_here), statistics.median(rates_there)]
    return {
        "first_token_ms": {
            "n": len(here.first_ms),
            "p50": {"in_process": round(p50[0], 1), "gateway": round(p50[1], 1), "ratio": round(p50[1] / p50[0], 3)},
            "p95": {"in_process": round(p95[0], 1), "gateway": round(p95[1], 1), "ratio": round(p95[1] / p95[0], 3)},
        },
        "tokens_per_s": {
            "streams": arguments.streams,
            "in_process": round(rates[0], 1),
            "gateway": round(rates[1], 1),
            "ratio": round(rates[1] / rates[0], 3),
            "ratio_by_round": [round(b / a, 3) for a, b in zip(rates_here, rates_there, strict=True)],
        },
    }


async def vision_beside(gateway: Gateway, streams: int) -> dict[str, Any]:
    """Share of vision requests in their deadline at half the limit, without chats and with saturating ones."""
    frame = np.zeros((1, 128, 128, 3), np.float32).tobytes()
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 128, 128, 3], "parameters": {"binary_data_size": len(frame)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = [(b"inference-header-content-length", b"%d" % len(head)), (b"x-nearhall-deadline-ms", b"%g" % VISION_DEADLINE_MS)]
    found: dict[str, Any] = {}
    async with httpcore.AsyncConnectionPool(max_connections=128) as pool:
        await gateway.ready(pool, "faces")
        metadata = json.loads((await pool.request("GET", f"{gateway.url}/v2/models/faces")).content)
        assert metadata["inputs"][0]["shape"][1:] == [128, 128, 3], metadata

        async def one() -> tuple[float, int]:
            began = time.perf_counter()
            answer = await pool.request("POST", f"{gateway.url}/v2/models/faces/infer", content=head + frame, headers=headers)
            return (time.perf_counter() - began) * 1e3, answer.status

        alone = [(await one())[0] for _ in range(200)]
        rate = 0.5 * 1e3 / statistics.median(alone)
        for name, chats in (("vision alone", 0), ("beside chats", streams)):
            stop = threading.Event()

            async def talk(at: int, stop: threading.Event = stop) -> int:
                count = 0
                while not stop.is_set():
                    count += (await one_chat(pool, gateway.url, prompts_of(7000 + count, 8)[at % 8], 64))[2]
                return count

            talking = [asyncio.create_task(talk(at)) for at in range(chats)]
            await asyncio.sleep(1.0 if chats else 0.0)
            took = await _open_loop(one, rate)
            stop.set()
            tokens = sum(await asyncio.gather(*talking))
            good = sum(ms <= VISION_DEADLINE_MS and status == 200 for ms, status in took) / len(took)
            latencies = sorted(ms for ms, status in took if status == 200)
            found[name] = {
                "offered_per_s": round(rate, 1),
                "requests": len(took),
                "in_deadline": round(good, 4),
                "p50_ms": round(statistics.median(latencies), 2),
                "p99_ms": round(float(np.percentile(latencies, 99)), 2),
                "tokens": tokens,
            }
    return found


async def _open_loop(one: Any, rate: float) -> list[tuple[float, int]]:
    """Poisson arrivals for `VISION_S` seconds."""
    draw = np.random.default_rng(5)
    ends = time.perf_counter() + VISION_S
    tasks = []
    due = time.perf_counter()
    while due < ends:
        due += float(draw.exponential(1 / rate))
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one()))
    return list(await asyncio.gather(*tasks))


def told(result: dict[str, Any]) -> str:
    """The result in words."""
    first, rate = result["first_token_ms"], result["tokens_per_s"]
    lines = [
        f"{result['machine']}; language model: {result['threads']} thread(s), compared with {result['compared_with']}",
        *(
            f"first token {name}: {first[name]['gateway']} ms, in process {first[name]['in_process']} ms, {first[name]['ratio']}x"
            for name in ("p50", "p95")
        ),
        f"tokens/s at {rate['streams']} streams: {rate['gateway']}, in process {rate['in_process']}, {rate['ratio']}x",
    ]
    for name, seen in result.get("vision", {}).items():
        lines.append(
            f"{name}: {seen['in_deadline']:.2%} of {seen['requests']} within {VISION_DEADLINE_MS:g} ms "
            f"(p50 {seen['p50_ms']} ms, p99 {seen['p99_ms']} ms; {seen['tokens']} tokens of chats meanwhile)"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--vision", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    models = cache_folder(dict(os.environ)) / "models"
    gguf = next((models / "smollm2").rglob("*.gguf"), None)
    if gguf is None:
        raise SystemExit("the chat model is not in the cache; `nearhall models fetch` brings it")
    threads = threads_beside(GATEWAY_CPUS, cpus_allowed())
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(Path(folder), models, ["smollm2", *(["faces"] if arguments.vision else [])])
        try:
            result: dict[str, Any] = {
                "machine": f"{platform.machine()}, {cpus_allowed():g} CPUs allowed",
                "threads": threads,
                "compared_with": f"the ContinuousBatchingPipeline of openvino_genai {genai.__version__} in this process",
            }
            result |= asyncio.run(compare(arguments, gateway, InProcess(gguf, threads)))
            if arguments.vision:
                result["vision"] = asyncio.run(vision_beside(gateway, arguments.streams))
        finally:
            gateway.end()
    print(json.dumps(result) if arguments.json else told(result))


if __name__ == "__main__":
    main()
